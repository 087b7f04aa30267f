//! Which end of the tunnel.

use std::fmt;

/// The two ends. People know them as client and server; inside, five other things bear those names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Listens for the user's connections: the client.
    Ingress,
    /// Dials the services: the server.
    Egress,
}

impl Side {
    /// Returns the word that people use: `client` or `server`.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Ingress => "client",
            Self::Egress => "server",
        }
    }

    /// Returns the opposite end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Prints [`Side::role`].
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role())
    }
}
