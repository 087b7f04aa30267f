//! What a NAT does, as far as it matters for traversing it: of either end, from wherever it is known.

use std::net::SocketAddr;

use natprobe::{FilteringBehavior, MappingBehavior, PortAllocation, Report};

use crate::description::NatSummary;

/// How the public address of one socket depends on the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mapping {
    #[default]
    Unknown,
    /// It does not.
    Stable,
    /// Another one for every destination, whether address or address and port.
    PerDestination,
}

/// Who may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Filtering {
    #[default]
    Unknown,
    /// Everybody, or every port of an address that was written to: an unknown port gets through.
    Lenient,
    /// Only ports that were written to.
    ByPort,
}

/// How public ports are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ports {
    #[default]
    Unknown,
    /// The local port is kept.
    Preserving,
    /// Each a stride after the one before.
    Sequential { stride: i16 },
    /// Anywhere in a block.
    Block { first: u16, last: u16 },
    /// Anywhere.
    Random,
}

/// What is known of one end's NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) ports: Ports,
    /// Whether UDP passes at all; `None` while unknown.
    pub(crate) udp: Option<bool>,
}

/// A stride beyond this is no sequence that a window could follow.
const STRIDE_MAX: i16 = 16;

impl Ports {
    pub(crate) fn of(allocation: &PortAllocation) -> Self {
        match *allocation {
            PortAllocation::Preserving => Self::Preserving,
            PortAllocation::Sequential { stride } => Self::sequential(stride),
            PortAllocation::Block { first, last } => Self::block(first, last),
            PortAllocation::Random => Self::Random,
            PortAllocation::Unknown => Self::Unknown,
        }
    }

    pub(crate) fn sequential(stride: i32) -> Self {
        i16::try_from(stride)
            .ok()
            .filter(|stride| *stride != 0 && stride.abs() <= STRIDE_MAX)
            .map_or(Self::Random, |stride| Self::Sequential { stride })
    }

    /// Larger blocks are worked like no block at all: see `plan`.
    pub(crate) const fn block(first: u16, last: u16) -> Self {
        if first == 0 || first > last {
            Self::Random
        } else {
            Self::Block { first, last }
        }
    }
}

impl Profile {
    /// Our own, by what was probed.
    pub(crate) fn of_report(report: &Report) -> Self {
        Self {
            mapping: match report.mapping {
                MappingBehavior::EndpointIndependent => Mapping::Stable,
                MappingBehavior::AddressDependent | MappingBehavior::AddressAndPortDependent => {
                    Mapping::PerDestination
                }
                MappingBehavior::Unknown => Mapping::Unknown,
            },
            filtering: match report.filtering {
                FilteringBehavior::EndpointIndependent | FilteringBehavior::AddressDependent => {
                    Filtering::Lenient
                }
                FilteringBehavior::AddressAndPortDependent => Filtering::ByPort,
                FilteringBehavior::Unknown => Filtering::Unknown,
            },
            ports: Ports::of(&report.ports),
            udp: Some(report.udp),
        }
    }

    /// The peer's, by its own word; words that are not known say nothing.
    pub(crate) fn of_summary(summary: &NatSummary) -> Self {
        Self {
            mapping: match summary.mapping.as_str() {
                "endpoint-independent" => Mapping::Stable,
                "address-dependent" | "address-and-port-dependent" => Mapping::PerDestination,
                _ => Mapping::Unknown,
            },
            filtering: match summary.filtering.as_str() {
                "endpoint-independent" | "address-dependent" => Filtering::Lenient,
                "address-and-port-dependent" => Filtering::ByPort,
                _ => Filtering::Unknown,
            },
            ports: match (summary.ports.as_str(), summary.port_range) {
                ("preserving", _) => Ports::Preserving,
                ("sequential", _) => summary
                    .port_stride
                    .map_or(Ports::Unknown, Ports::sequential),
                ("random", Some((first, last))) => Ports::block(first, last),
                ("random", None) => Ports::Random,
                _ => Ports::Unknown,
            },
            udp: summary.udp,
        }
    }

    /// The same NAT, of which fresh sockets have shown how it allots ports.
    pub(crate) fn with_ports(self, allocation: &PortAllocation) -> Self {
        Self {
            ports: Ports::of(allocation),
            ..self
        }
    }

    /// Takes what another source knows where this one knows nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            mapping: match self.mapping {
                Mapping::Unknown => other.mapping,
                known @ (Mapping::Stable | Mapping::PerDestination) => known,
            },
            filtering: match self.filtering {
                Filtering::Unknown => other.filtering,
                known @ (Filtering::Lenient | Filtering::ByPort) => known,
            },
            ports: match self.ports {
                Ports::Unknown => other.ports,
                known @ (Ports::Preserving
                | Ports::Sequential { .. }
                | Ports::Block { .. }
                | Ports::Random) => known,
            },
            udp: self.udp.or(other.udp),
        }
    }

    /// Two servers, or a server and the peer, saw one socket at one address under different ports: the NAT maps
    /// per destination, and that is known long before its filtering is.
    pub(crate) fn or_seen_at(mut self, seen: &[SocketAddr]) -> Self {
        let differs = |a: &SocketAddr| {
            seen.iter()
                .any(|b| a.ip() == b.ip() && a.port() != b.port())
        };
        if self.mapping == Mapping::Unknown && seen.iter().any(differs) {
            self.mapping = Mapping::PerDestination;
            self.udp = Some(true);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_a_later_version_say_nothing() {
        let summary = NatSummary {
            mapping: "by-moon-phase".into(),
            filtering: "address-dependent".into(),
            ports: "sequential".into(),
            port_stride: Some(100_000),
            ..NatSummary::default()
        };
        let profile = Profile::of_summary(&summary);
        assert_eq!(profile.mapping, Mapping::Unknown);
        assert_eq!(profile.filtering, Filtering::Lenient);
        assert_eq!(profile.ports, Ports::Random, "nobody follows such a stride");
    }

    #[test]
    fn two_ports_of_one_address_are_a_mapping_per_destination_and_two_addresses_are_not() {
        let seen = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap());
        let unknown = Profile::default();
        let two_ports = unknown.or_seen_at(&seen(["203.0.113.1:5", "203.0.113.1:6"]));
        assert_eq!(two_ports.mapping, Mapping::PerDestination);
        let two_addresses = unknown.or_seen_at(&seen(["203.0.113.1:5", "203.0.113.2:6"]));
        assert_eq!(two_addresses.mapping, Mapping::Unknown);
        let known = Profile {
            mapping: Mapping::Stable,
            ..unknown
        };
        let judged = known.or_seen_at(&seen(["203.0.113.1:5", "203.0.113.1:6"]));
        assert_eq!(judged.mapping, Mapping::Stable, "the prober knows better");
    }
}
