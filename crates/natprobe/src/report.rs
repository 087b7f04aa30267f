//! What was found out.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{
    FilteringBehavior, MappingBehavior, NatType, Pooling, PortAllocation, PortSample, explain,
    infer_allocation, infer_pooling,
};

/// A verdict on the NATs in front of one socket. The default says that nothing was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How the public address depends on the destination.
    pub mapping: MappingBehavior,
    /// Who may answer.
    pub filtering: FilteringBehavior,
    /// Whether an address is translated; `None` when nothing answered.
    pub behind_nat: Option<bool>,
    /// Server-reflexive addresses, without repetition, in the order they were seen.
    pub reflexive: Vec<SocketAddr>,
    /// Whether a packet to our own public address comes back; `None` when it could not be observed.
    pub hairpin: Option<bool>,
    /// How public ports are chosen.
    pub ports: PortAllocation,
    /// How several public addresses are given out; `None` with too few mappings to tell.
    pub pooling: Option<Pooling>,
    /// Whether a gateway rewrites addresses in payloads (RFC 5780, section 3.6): MAPPED-ADDRESS differs from
    /// XOR-MAPPED-ADDRESS. `None` when no server sent both.
    pub alg: Option<bool>,
    /// Whether any server answered.
    pub udp: bool,
    /// How far the verdicts can be relied upon.
    pub confidence: Confidence,
    /// Why the verdicts are what they are: sentences for a person, in the order of the fields.
    pub evidence: Vec<String>,
    /// What each server said.
    pub servers: Vec<ServerResult>,
}

/// How far the verdicts of a [`Report`] can be relied upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confidence {
    /// In [`Report::mapping`].
    pub mapping: Certainty,
    /// In [`Report::filtering`].
    pub filtering: Certainty,
    /// In [`Report::ports`].
    pub ports: Certainty,
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// It is unknown, or rests on a single observation.
    #[default]
    Low,
    /// It follows from what was observed, which something else could explain too.
    Medium,
    /// Everything that was observed agrees, and nothing that matters is missing.
    High,
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// What one server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResult {
    /// The server, as configured.
    pub server: SocketAddr,
    /// Round trip; `None` when it did not answer, or only to a repeated request.
    pub rtt: Option<Duration>,
    /// The address it sees.
    pub reflexive: Option<SocketAddr>,
}

impl Report {
    /// Returns the word of RFC 3489 for it.
    #[must_use]
    pub const fn nat_type(&self) -> NatType {
        if !self.udp {
            return NatType::UdpBlocked;
        }
        match (self.behind_nat, self.mapping, self.filtering) {
            (None, _, _) => NatType::Unknown,
            (Some(false), _, _) => NatType::NoNat,
            (Some(true), MappingBehavior::Unknown, _) => NatType::Unknown,
            (
                Some(true),
                MappingBehavior::AddressDependent | MappingBehavior::AddressAndPortDependent,
                _,
            ) => NatType::Symmetric,
            (Some(true), MappingBehavior::EndpointIndependent, filtering) => match filtering {
                FilteringBehavior::EndpointIndependent => NatType::FullCone,
                FilteringBehavior::AddressDependent => NatType::RestrictedCone,
                FilteringBehavior::AddressAndPortDependent => NatType::PortRestrictedCone,
                FilteringBehavior::Unknown => NatType::Unknown,
            },
        }
    }

    /// Adds what fresh sockets showed ([`crate::Sampler::mappings`]), in the order in which they were asked: how ports
    /// are chosen and whether public addresses are pooled, which one socket cannot tell behind most NATs.
    pub fn add_samples(&mut self, mappings: &[(SocketAddr, SocketAddr)]) {
        let samples: Vec<PortSample> = mappings
            .iter()
            .map(|(socket, mapped)| PortSample {
                local: socket.port(),
                mapped: mapped.port(),
            })
            .collect();
        let ports = infer_allocation(&samples);
        if ports != PortAllocation::Unknown {
            self.ports = ports;
            self.confidence.ports = explain::ports_certainty(ports, samples.len());
            let count = samples.len();
            let sentence = explain::ports(ports);
            self.evidence
                .push(format!("Of {count} fresh sockets: {sentence}"));
        }
        let mapped: Vec<SocketAddr> = mappings.iter().map(|(_, mapped)| *mapped).collect();
        let pooling = infer_pooling(&mapped);
        if self.pooling != Some(Pooling::Arbitrary) && pooling.is_some() {
            self.pooling = pooling;
            self.evidence.extend(explain::pooling(pooling));
        }
    }

    /// Returns whether another report says something else, round trips and the reasons apart.
    #[must_use]
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        let without_times = |report: &Self| {
            let mut report = report.clone();
            report.evidence.clear();
            report.confidence = Confidence::default();
            report
                .servers
                .iter_mut()
                .for_each(|server| server.rtt = None);
            report
        };
        without_times(self) != without_times(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_rfc_3489_follow_from_the_behaviours() {
        use FilteringBehavior as F;
        use MappingBehavior as M;
        let cases = [
            (false, None, M::Unknown, F::Unknown, "UDP Blocked"),
            (true, None, M::Unknown, F::Unknown, "Unknown"),
            (
                true,
                Some(false),
                M::EndpointIndependent,
                F::AddressAndPortDependent,
                "No NAT",
            ),
            (
                true,
                Some(true),
                M::EndpointIndependent,
                F::EndpointIndependent,
                "Full Cone NAT",
            ),
            (
                true,
                Some(true),
                M::EndpointIndependent,
                F::AddressDependent,
                "Restricted Cone NAT",
            ),
            (
                true,
                Some(true),
                M::EndpointIndependent,
                F::AddressAndPortDependent,
                "Port Restricted Cone NAT",
            ),
            (
                true,
                Some(true),
                M::EndpointIndependent,
                F::Unknown,
                "Unknown",
            ),
            (
                true,
                Some(true),
                M::AddressDependent,
                F::EndpointIndependent,
                "Symmetric NAT",
            ),
            (
                true,
                Some(true),
                M::AddressAndPortDependent,
                F::Unknown,
                "Symmetric NAT",
            ),
            (
                true,
                Some(true),
                M::Unknown,
                F::EndpointIndependent,
                "Unknown",
            ),
        ];
        for (udp, behind_nat, mapping, filtering, expected) in cases {
            let report = Report {
                mapping,
                filtering,
                behind_nat,
                udp,
                ..Report::default()
            };
            assert_eq!(report.nat_type().to_string(), expected);
        }
    }
}
