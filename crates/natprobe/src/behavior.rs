//! The words for what a NAT does (RFC 4787, section 4 and 5; RFC 3489, section 5).

use std::fmt;

/// How the public address of one socket depends on whom it talks to (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingBehavior {
    /// It does not: what a STUN server sees, everybody sees.
    EndpointIndependent,
    /// Every IP address sees another.
    AddressDependent,
    /// Every IP address and port sees another. Also what is reported when only servers with one port were
    /// there to tell that it is not endpoint-independent: the more cautious of the two.
    AddressAndPortDependent,
    /// It was not observed.
    #[default]
    Unknown,
}

/// Who may answer (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilteringBehavior {
    /// Everybody.
    EndpointIndependent,
    /// An IP address that was written to.
    AddressDependent,
    /// An IP address and port that was written to.
    AddressAndPortDependent,
    /// It was not observed.
    #[default]
    Unknown,
}

/// How public ports are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortAllocation {
    /// The local port is kept where it is free.
    Preserving,
    /// One after the other. Other users' flows take ports in between.
    Sequential {
        /// The step from one mapping to the next; negative where ports count down, never 0.
        stride: i32,
    },
    /// Anywhere in a small range, as carriers give it to a subscriber (RFC 6888, section 4).
    Block {
        /// The lowest port of the range, as far as it can be told from samples.
        first: u16,
        /// The highest.
        last: u16,
    },
    /// Without a pattern that was seen.
    Random,
    /// It was not observed.
    #[default]
    Unknown,
}

/// How several public addresses of a NAT are given to one host (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pooling {
    /// All mappings of a host have one address; so have those of a NAT that has no more than one.
    Paired,
    /// Different mappings of one host have different addresses.
    Arbitrary,
}

/// The words of RFC 3489, section 5, for people; a poor summary of the behaviours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatType {
    /// The local address is the public one; there may still be a firewall.
    NoNat,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    RestrictedCone,
    /// Endpoint-independent mapping, address-and-port-dependent filtering.
    PortRestrictedCone,
    /// Any other mapping.
    Symmetric,
    /// No server answers.
    UdpBlocked,
    /// Too little was observed.
    Unknown,
}

impl fmt::Display for MappingBehavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for FilteringBehavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for PortAllocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preserving => "preserving",
            Self::Sequential { .. } => "sequential",
            // The words are those of the published status; the range is told beside them.
            Self::Block { .. } | Self::Random => "random",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paired => "paired",
            Self::Arbitrary => "arbitrary",
        })
    }
}

impl fmt::Display for NatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNat => "No NAT",
            Self::FullCone => "Full Cone NAT",
            Self::RestrictedCone => "Restricted Cone NAT",
            Self::PortRestrictedCone => "Port Restricted Cone NAT",
            Self::Symmetric => "Symmetric NAT",
            Self::UdpBlocked => "UDP Blocked",
            Self::Unknown => "Unknown",
        })
    }
}
