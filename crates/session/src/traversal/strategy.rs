//! The ways to a direct path, by name.

use std::fmt;
use std::str::FromStr;

/// A way to a direct path, the cheapest first. Prints as `plain`, `port-mapped`, `ipv6`, `predicted`, `block`
/// or `birthday`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Simultaneous checks between known addresses, and peer-reflexive ones.
    Plain,
    /// An address that a gateway was asked to map (PCP, NAT-PMP, UPnP IGD).
    PortMapped,
    /// IPv6, where nothing is translated.
    Ipv6,
    /// The next ports of a NAT that allots them in sequence.
    Predicted,
    /// The ports of the block that a carrier's NAT allots to one subscriber.
    Block,
    /// Many sockets and many random ports.
    Birthday,
}

/// Every strategy, in order.
const ALL: [Strategy; 6] = [
    Strategy::Plain,
    Strategy::PortMapped,
    Strategy::Ipv6,
    Strategy::Predicted,
    Strategy::Block,
    Strategy::Birthday,
];

/// The text names no strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no strategy")]
pub struct ParseStrategyError(pub String);

impl Strategy {
    /// Returns its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::PortMapped => "port-mapped",
            Self::Ipv6 => "ipv6",
            Self::Predicted => "predicted",
            Self::Block => "block",
            Self::Birthday => "birthday",
        }
    }

    /// Returns whether it needs the ladder: extra sockets, probes of guessed ports.
    #[must_use]
    pub const fn is_aggressive(self) -> bool {
        matches!(self, Self::Predicted | Self::Block | Self::Birthday)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Strategy {
    type Err = ParseStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ALL.into_iter()
            .find(|strategy| strategy.as_str() == text)
            .ok_or_else(|| ParseStrategyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_is_read_back_from_its_word() {
        for strategy in ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        let unknown = "luck".parse::<Strategy>();
        assert_eq!(unknown, Err(ParseStrategyError("luck".to_owned())));
    }
}
