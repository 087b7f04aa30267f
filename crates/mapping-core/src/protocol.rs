//! Which transport a rule is about.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::GrammarError;

/// The transport of a forwarded conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Byte streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        if text.eq_ignore_ascii_case("tcp") {
            Ok(Self::Tcp)
        } else if text.eq_ignore_ascii_case("udp") {
            Ok(Self::Udp)
        } else {
            Err(GrammarError::UnknownProtocol(text.to_owned()))
        }
    }
}
