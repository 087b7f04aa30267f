//! What the evidence means: pure functions, no state.

use std::net::SocketAddr;

use crate::evidence::{Evidence, LocalAddresses};
use crate::{FilteringBehavior, MappingBehavior, PortAllocation, PortSample, infer_allocation};

/// Judges the mapping (RFC 5780, section 4.3) from what each destination saw.
pub(crate) fn classify_mapping(evidence: &Evidence) -> MappingBehavior {
    let seen: Vec<_> = evidence.observations().collect();
    let pairs = || {
        seen.iter()
            .enumerate()
            .flat_map(|(i, a)| seen[..i].iter().map(move |b| (a, b)))
    };
    let other_port = |((a, _), (b, _)): &(&Pair, &Pair)| a.ip() == b.ip();
    let same_mapping = |((_, a), (_, b)): &(&Pair, &Pair)| a == b;

    if calm(evidence).is_some() {
        return MappingBehavior::EndpointIndependent;
    }
    if pairs().any(|pair| other_port(&pair) && !same_mapping(&pair)) {
        return MappingBehavior::AddressAndPortDependent;
    }
    let mut other_address = pairs().filter(|pair| !other_port(pair)).peekable();
    if other_address.peek().is_none() {
        return MappingBehavior::Unknown;
    }
    if other_address.all(|pair| same_mapping(&pair)) {
        return MappingBehavior::EndpointIndependent;
    }
    if pairs().any(|pair| other_port(&pair)) {
        return MappingBehavior::AddressDependent;
    }
    MappingBehavior::AddressAndPortDependent
}

/// Returns the one address that all destinations of at least two machines saw, leaving out those from which the
/// filtering test had packets sent to us: equal answers end the mapping test (RFC 5780, section 4.3).
///
/// What was left out may have seen another one on a router without a WAN firewall. Its connection tracking confirmed
/// the packets that came before we wrote there, and a flow that collides with such an entry gets another port
/// whatever the mapping is.
pub(crate) fn calm(evidence: &Evidence) -> Option<SocketAddr> {
    let test = evidence.filtering.as_ref()?;
    let mut calm = evidence
        .observations()
        .filter(|(address, _)| *address != test.both_changed && *address != test.port_changed);
    let (first, mapped) = calm.next()?;
    let mut elsewhere = false;
    for (address, other) in calm {
        if other != mapped {
            return None;
        }
        elsewhere |= address.ip() != first.ip();
    }
    elsewhere.then_some(mapped)
}

/// Judges the filtering (RFC 5780, section 4.4). Silence counts only when ordinary answers came meanwhile and
/// the other address and port answers when it is asked.
///
/// The server's other port on its own address is taken to answer where the same port on the other address does: it is
/// never written to, so that there remains one address from which nothing but a port mapping lets packets in
/// ([`crate::MappingCheck`]).
pub(crate) fn classify_filtering(evidence: &Evidence) -> FilteringBehavior {
    let Some(test) = &evidence.filtering else {
        return FilteringBehavior::Unknown;
    };
    if test.unsupported {
        return FilteringBehavior::Unknown;
    }
    if test.both_answered {
        return FilteringBehavior::EndpointIndependent;
    }
    if !test.silence_counts || evidence.mapped(test.both_changed).is_none() {
        return FilteringBehavior::Unknown;
    }
    if test.port_answered {
        return FilteringBehavior::AddressDependent;
    }
    FilteringBehavior::AddressAndPortDependent
}

/// Judges whether addresses are translated.
pub(crate) fn classify_nat(evidence: &Evidence, local: &LocalAddresses) -> Option<bool> {
    let mut seen = evidence.observations().peekable();
    seen.peek()?;
    Some(seen.any(|(_, mapped)| !local.contain(mapped)))
}

/// Judges hairpinning: only where the mapping is endpoint-independent does a packet to our own public address
/// have a filter that is open to it, so that its absence means something.
pub(crate) fn classify_hairpin(
    evidence: &Evidence,
    mapping: MappingBehavior,
    behind_nat: Option<bool>,
) -> Option<bool> {
    if behind_nat != Some(true) {
        return None;
    }
    if evidence.hairpinned {
        return Some(true);
    }
    let silence_counts =
        evidence.hairpin_silence_counts && mapping == MappingBehavior::EndpointIndependent;
    silence_counts.then_some(false)
}

/// Judges how ports are chosen, from the ports in the order of their mappings.
pub(crate) fn classify_ports(evidence: &Evidence, local_port: u16) -> PortAllocation {
    let sample = |mapped: SocketAddr| PortSample {
        local: local_port,
        mapped: mapped.port(),
    };
    let samples: Vec<PortSample> = match calm(evidence) {
        Some(mapped) => vec![sample(mapped)],
        None => evidence
            .observations()
            .map(|(_, mapped)| sample(mapped))
            .collect(),
    };
    infer_allocation(&samples)
}

type Pair = (SocketAddr, SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::FilteringEvidence;

    const P: &str = "192.0.2.1:3478";
    const PORT: &str = "192.0.2.1:3479";
    const IP: &str = "192.0.2.2:3478";
    const BOTH: &str = "192.0.2.2:3479";

    #[test]
    fn the_mapping_follows_from_what_the_destinations_saw() {
        use MappingBehavior as M;
        let cases: [(&[(&str, u16)], M); 9] = [
            (&[], M::Unknown),
            (&[(P, 1)], M::Unknown),
            (&[(P, 1), (PORT, 1)], M::Unknown),
            (&[(P, 1), (IP, 1)], M::EndpointIndependent),
            (
                &[(P, 1), (IP, 1), (BOTH, 1), (PORT, 1)],
                M::EndpointIndependent,
            ),
            (
                &[(P, 1), (IP, 2), (BOTH, 2), (PORT, 1)],
                M::AddressDependent,
            ),
            (&[(P, 1), (IP, 2), (BOTH, 3)], M::AddressAndPortDependent),
            (&[(P, 1), (PORT, 2)], M::AddressAndPortDependent),
            (&[(P, 1), (IP, 2)], M::AddressAndPortDependent),
        ];
        for (seen, expected) in cases {
            assert_eq!(classify_mapping(&evidence(seen)), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_packet_of_the_filtering_test_that_came_too_early_does_not_make_a_nat_symmetric() {
        let seen: &[(&str, u16)] = &[(P, 1), (IP, 1), (BOTH, 7000), (PORT, 900)];
        let mut evidence = evidence(seen);
        let ports = |evidence: &Evidence| classify_ports(evidence, 1);
        assert_eq!(
            classify_mapping(&evidence),
            MappingBehavior::AddressAndPortDependent
        );
        assert_eq!(ports(&evidence), PortAllocation::Unknown);
        evidence.filtering = Some(silent_test());
        assert_eq!(
            classify_mapping(&evidence),
            MappingBehavior::EndpointIndependent
        );
        assert_eq!(ports(&evidence), PortAllocation::Preserving);
    }

    #[test]
    fn a_symmetric_nat_stays_one_whatever_the_filtering_test_sent() {
        use MappingBehavior as M;
        let cases: [(&[(&str, u16)], M); 3] = [
            (
                &[(P, 1), (IP, 2), (BOTH, 3), (PORT, 4)],
                M::AddressAndPortDependent,
            ),
            (
                &[(P, 1), (IP, 2), (BOTH, 2), (PORT, 1)],
                M::AddressDependent,
            ),
            (&[(P, 1), (BOTH, 1)], M::EndpointIndependent),
        ];
        for (seen, expected) in cases {
            let mut evidence = evidence(seen);
            evidence.filtering = Some(silent_test());
            assert_eq!(classify_mapping(&evidence), expected, "{seen:?}");
        }
    }

    #[test]
    fn the_filtering_follows_from_who_could_answer() {
        use FilteringBehavior as F;
        let all: &[(&str, u16)] = &[(P, 1), (PORT, 1), (BOTH, 1)];
        // Test II, test III, unsupported, silence counts.
        let cases = [
            (all, [true, true, false, false], F::EndpointIndependent),
            (all, [true, false, false, true], F::EndpointIndependent),
            (all, [false, true, false, true], F::AddressDependent),
            (all, [false, false, false, true], F::AddressAndPortDependent),
            (all, [false, true, false, false], F::Unknown),
            (all, [false, false, false, false], F::Unknown),
            (all, [false, false, true, true], F::Unknown),
            (&all[..2], [false, true, false, true], F::Unknown),
            (&all[..2], [false, false, false, true], F::Unknown),
            (
                &[all[0], all[2]],
                [false, false, false, true],
                F::AddressAndPortDependent,
            ),
            (
                &[all[0], all[2]],
                [false, true, false, true],
                F::AddressDependent,
            ),
        ];
        for (seen, [both_answered, port_answered, unsupported, silence_counts], expected) in cases {
            let mut evidence = evidence(seen);
            evidence.filtering = Some(FilteringEvidence {
                both_answered,
                port_answered,
                unsupported,
                silence_counts,
                ..silent_test()
            });
            assert_eq!(
                classify_filtering(&evidence),
                expected,
                "{seen:?} {evidence:?}"
            );
        }
        assert_eq!(classify_filtering(&evidence(all)), F::Unknown);
    }

    #[test]
    fn ports_are_judged_in_the_order_in_which_their_mappings_were_made() {
        use PortAllocation as A;
        let cases: [(&[(&str, u16)], A); 4] = [
            (&[], A::Unknown),
            (&[(P, 5000), (IP, 5000)], A::Preserving),
            (
                &[(P, 6000), (IP, 6001), (BOTH, 6003)],
                A::Sequential { stride: 1 },
            ),
            (&[(P, 6000), (IP, 9001), (BOTH, 6002)], A::Random),
        ];
        for (seen, expected) in cases {
            assert_eq!(classify_ports(&evidence(seen), 5000), expected, "{seen:?}");
        }
    }

    #[test]
    fn there_is_no_nat_when_the_local_address_is_seen() {
        let mut local = LocalAddresses {
            socket: "203.0.113.9:5000".parse().unwrap(),
            interfaces: Vec::new(),
        };
        assert_eq!(classify_nat(&evidence(&[]), &local), None);
        assert_eq!(classify_nat(&evidence(&[(P, 5000)]), &local), Some(false));
        assert_eq!(classify_nat(&evidence(&[(P, 5001)]), &local), Some(true));
        local.socket = "0.0.0.0:5000".parse().unwrap();
        assert_eq!(classify_nat(&evidence(&[(P, 5000)]), &local), Some(true));
        local.interfaces = vec!["203.0.113.9".parse().unwrap()];
        assert_eq!(classify_nat(&evidence(&[(P, 5000)]), &local), Some(false));
    }

    #[test]
    fn a_missing_hairpin_counts_only_with_endpoint_independent_mapping() {
        use MappingBehavior as M;
        let mut evidence = evidence(&[]);
        evidence.hairpin_silence_counts = true;
        let hairpin = |evidence: &Evidence, mapping, nat| classify_hairpin(evidence, mapping, nat);
        assert_eq!(
            hairpin(&evidence, M::EndpointIndependent, Some(true)),
            Some(false)
        );
        assert_eq!(hairpin(&evidence, M::AddressDependent, Some(true)), None);
        assert_eq!(
            hairpin(&evidence, M::EndpointIndependent, Some(false)),
            None
        );
        evidence.hairpinned = true;
        assert_eq!(
            hairpin(&evidence, M::AddressDependent, Some(true)),
            Some(true)
        );
    }

    fn evidence(seen: &[(&str, u16)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (address, port) in seen {
            let address = address.parse().unwrap();
            evidence.touch(address);
            evidence.observe(address, SocketAddr::from(([203, 0, 113, 9], *port)));
        }
        evidence
    }

    fn silent_test() -> FilteringEvidence {
        FilteringEvidence {
            server: P.parse().unwrap(),
            both_changed: BOTH.parse().unwrap(),
            port_changed: PORT.parse().unwrap(),
            both_answered: false,
            port_answered: false,
            unsupported: false,
            silence_counts: true,
            rounds: 6,
            controls_answered: 6,
        }
    }
}
