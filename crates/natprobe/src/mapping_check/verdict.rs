//! What a check of a port mapping can find.

use std::fmt;
use std::net::IpAddr;

/// What a [`crate::MappingCheck`] has found. Exactly one comes, as its only event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingVerdict {
    /// A packet from an address that we never wrote to arrived through it.
    Verified,
    /// It does not lead to us.
    Refuted {
        /// Why.
        reason: Refutation,
    },
    /// It cannot be told.
    Undecided {
        /// Why not.
        reason: Indecision,
    },
}

/// Why a port mapping is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refutation {
    /// The gateway's external address is not the one that the internet sees: there is another NAT, or it lies.
    OtherAddress {
        /// What the gateway says.
        claimed: IpAddr,
        /// What the STUN server sees.
        seen: IpAddr,
    },
    /// Nothing that was sent there arrived, while ordinary answers came.
    Unreachable,
}

/// Why a port mapping can be neither verified nor refuted; of several servers the one that came farthest tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Indecision {
    /// There is no STUN server of the address family.
    NoServer,
    /// No STUN server answers.
    NoAnswer,
    /// No STUN server answers to another port (RESPONSE-PORT; RFC 5780, section 7.5).
    NotSupported,
    /// No server can answer from a port that nothing was sent to. Where the external port is that of the NAT's own
    /// binding, this is open for the server anyway; where it is not, the binding may stand in the way of its answer
    /// (Linux drops a flow whose way back is taken).
    NoStranger,
    /// Too much is lost for silence to mean anything.
    TooMuchLoss,
}

impl fmt::Display for Refutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherAddress { claimed, seen } => write!(
                f,
                "the gateway says that its address is {claimed}, but the internet sees {seen}: \
                 there is another NAT behind it, or it lies"
            ),
            Self::Unreachable => f.write_str("nothing that was sent there arrived"),
        }
    }
}

impl fmt::Display for Indecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "there is no STUN server to ask",
            Self::NoAnswer => "no STUN server answers",
            Self::NotSupported => "no STUN server answers to another port",
            Self::NoStranger => "no STUN server can answer from a port that nothing was sent to",
            Self::TooMuchLoss => "too many packets are lost",
        })
    }
}
