//! Situations and what is said in each, word by word.

use super::*;
use crate::description::Side;
use crate::traversal::{LedgerEntry, Outcome, Strategy};

const EIM: &str = "endpoint-independent";
const APDM: &str = "address-and-port-dependent";
const APDF: &str = "address-and-port-dependent";

/// An end behind a NAT, on port 5000 (ingress) or 41000 (egress).
fn end(side: Side, mapping: &str, filtering: &str) -> End {
    End {
        nat: NatSummary {
            mapping: mapping.to_owned(),
            filtering: filtering.to_owned(),
            udp: Some(true),
            ports: "random".to_owned(),
            ..NatSummary::default()
        },
        relays_only: false,
        has_v4: true,
        has_v6: false,
        is_translated: true,
        port: Some(match side {
            Side::Ingress => 5000,
            Side::Egress => 41000,
        }),
        seen: Seen::Nothing,
    }
}

/// Two ends behind ordinary home routers.
fn homes() -> (End, End) {
    (end(Side::Ingress, EIM, APDF), end(Side::Egress, EIM, APDF))
}

fn entry(strategy: Strategy, sent: u32, arrived: Option<u32>, outcome: Outcome) -> LedgerEntry {
    LedgerEntry {
        strategy,
        rounds: 1,
        sockets: 0,
        planned: 16,
        sent,
        arrived,
        answered: 0,
        outcome,
    }
}

fn judge(ends: &(End, End), ledger: &[LedgerEntry]) -> Diagnosis {
    Diagnosis::of(&ends.0, &ends.1, false, ledger)
}

fn said(ends: &(End, End)) -> String {
    judge(ends, &[]).to_string()
}

/// Changes one end or the other in the same way.
fn with(mut ends: (End, End), change: Ends, how: impl Fn(&mut End)) -> (End, End) {
    if change != Ends::Egress {
        how(&mut ends.0);
    }
    if change != Ends::Ingress {
        how(&mut ends.1);
    }
    ends
}

#[test]
fn what_a_person_has_configured_comes_first() {
    let change = |end: &mut End| end.relays_only = true;
    let cases = [
        (
            Ends::Ingress,
            "the client is configured with `direct: false`; without that on the client a direct path may \
             work",
        ),
        (
            Ends::Egress,
            "the server is configured with `direct: false`; without that on the server a direct path may \
             work",
        ),
        (
            Ends::Both,
            "client and server are configured with `direct: false`; without that on both ends a direct \
             path may work",
        ),
    ];
    for (ends, expected) in cases {
        assert_eq!(said(&with(homes(), ends, change)), expected);
    }
}

#[test]
fn blocked_udp_is_said_of_the_right_network() {
    let change = |end: &mut End| end.nat.udp = Some(false);
    let cases = [
        (
            Ends::Ingress,
            "UDP is blocked on the client's network; allow outgoing UDP on the client's network for a \
             direct path",
        ),
        (
            Ends::Egress,
            "UDP is blocked on the server's network; allow outgoing UDP on the server's network for a \
             direct path",
        ),
        (
            Ends::Both,
            "UDP is blocked on the networks of both ends; allow outgoing UDP on the networks of both ends \
             for a direct path",
        ),
    ];
    for (ends, expected) in cases {
        let blocked = with(homes(), ends, change);
        assert_eq!(judge(&blocked, &[]).cause, Cause::UdpBlocked(ends));
        assert_eq!(said(&blocked), expected);
    }
}

#[test]
fn one_end_with_ipv6_only_and_one_without_it_have_no_family_in_common() {
    let mut ends = homes();
    ends.0.has_v4 = false;
    ends.0.has_v6 = true;
    ends.0.nat.ipv6 = Some(true);
    ends.1.nat.ipv6 = Some(false);
    assert_eq!(
        said(&ends),
        "the client can be reached over IPv6 only, and the server over IPv4 only; use IPv6 on the \
         server's network for a direct path"
    );
    ends.1.has_v6 = true;
    ends.1.nat.ipv6 = Some(true);
    assert_eq!(judge(&ends, &[]).cause, Cause::NothingArrives);
}

#[test]
fn what_was_seen_of_packets_counts_more_than_what_nats_should_do() {
    let narrow = with(homes(), Ends::Ingress, |end| end.seen = Seen::Narrow);
    assert_eq!(
        said(&narrow),
        "small packets pass between client and server, and packets of 1200 bytes do not; a VPN or tunnel \
         on the way with a larger MTU, or none, would give a direct path"
    );
    let one_way = with(homes(), Ends::Egress, |end| end.seen = Seen::Arrives);
    assert_eq!(
        said(&one_way),
        "direct packets pass in one direction only: they arrive at the server, and nothing comes back to \
         the client; enable UPnP on the client's router, or open UDP 5000 there, for a direct path"
    );
    let both = with(homes(), Ends::Both, |end| end.seen = Seen::Arrives);
    assert_eq!(judge(&both, &[]).cause, Cause::NothingArrives);
}

#[test]
fn a_nat_that_was_not_examined_yet_is_no_reason_yet() {
    let change = |end: &mut End| end.nat = NatSummary::default();
    let cases = [
        (
            Ends::Ingress,
            "the client's NAT is still being examined; direct paths are being tried",
        ),
        (
            Ends::Both,
            "both NATs are still being examined; direct paths are being tried",
        ),
    ];
    for (ends, expected) in cases {
        assert_eq!(said(&with(homes(), ends, change)), expected);
    }
    let early = Diagnosis::of(&homes().0, &homes().1, true, &[]);
    assert_eq!(
        early.to_string(),
        "direct paths are being tried; none has answered yet"
    );
}

#[test]
fn two_nats_with_random_ports_are_told_apart_from_two_that_count() {
    let random = (
        end(Side::Ingress, APDM, APDF),
        end(Side::Egress, APDM, APDF),
    );
    assert_eq!(
        said(&random),
        "both NATs pick a new port for every destination, and these ports cannot be foreseen; enable UPnP \
         on the server's router, or open UDP 41000 there, for a direct path"
    );
    let counting = with(random, Ends::Both, |end| {
        end.nat.ports = "sequential".to_owned()
    });
    assert_eq!(
        said(&counting),
        "both NATs pick a new port for every destination, one after the other; the port is being \
         searched for; enable UPnP on the server's router, or open UDP 41000 there, for a direct path"
    );
    let half = with(counting, Ends::Ingress, |end| {
        end.nat.ports = "random".to_owned()
    });
    assert_eq!(judge(&half, &[]).cause, Cause::BothUnpredictable);
}

#[test]
fn what_became_of_a_search_is_told() {
    use Strategy::{Birthday, Plain, Predicted};
    let ends = (end(Side::Ingress, APDM, APDF), end(Side::Egress, EIM, APDF));
    let none = entry(Plain, 99, Some(0), Outcome::Failed);
    let refused = entry(Birthday, 0, None, Outcome::NoSockets);
    let lost = entry(Birthday, 2048, Some(0), Outcome::Failed);
    let shut = entry(Birthday, 2048, Some(3), Outcome::Failed);
    let running = entry(Predicted, 0, None, Outcome::Running);
    let cases: [(&[LedgerEntry], &str); 6] = [
        (&[none], "the port is being searched for"),
        (&[running], "the port is being searched for"),
        (
            &[refused],
            "the port was not searched for, as too few sockets or packets are allowed",
        ),
        (
            &[refused, lost],
            "the port was searched for, and no probe arrived",
        ),
        (
            &[lost, running],
            "the port was searched for, and no probe arrived",
        ),
        (
            &[lost, shut],
            "the port was searched for, and probes arrived but no answer came back",
        ),
    ];
    for (ledger, expected) in cases {
        let said = judge(&ends, ledger).to_string();
        assert_eq!(
            said,
            format!(
                "the client's NAT picks a new port for every destination and the server's filters by port; \
                 {expected}; enable UPnP on the server's router, or open UDP 41000 there, for a direct path"
            )
        );
    }
}

#[test]
fn a_nat_per_destination_is_no_obstacle_to_one_that_lets_its_address_in() {
    for filtering in ["endpoint-independent", "address-dependent"] {
        let ends = (
            end(Side::Ingress, APDM, APDF),
            end(Side::Egress, EIM, filtering),
        );
        assert_eq!(
            judge(&ends, &[]).cause,
            Cause::NothingArrives,
            "{filtering}"
        );
    }
    let unknown = (end(Side::Ingress, EIM, ""), end(Side::Egress, APDM, ""));
    let cause = judge(&unknown, &[]).cause;
    let picks = Side::Egress;
    assert_eq!(
        cause,
        Cause::PortUnknown {
            picks,
            tried: Tried::Running
        }
    );
}

#[test]
fn addresses_that_change_are_named() {
    let pooled = with(homes(), Ends::Ingress, |end| end.nat.pooled = Some(true));
    assert_eq!(
        said(&pooled),
        "the client's NAT uses several public addresses in turn, so that none is right for a direct path; \
         enable UPnP on the server's router, or open UDP 41000 there, for a direct path"
    );
    let at_server = with(homes(), Ends::Egress, |end| end.nat.pooled = Some(true));
    let at = Side::Ingress;
    let port = Some(5000);
    let remedy = judge(&at_server, &[]).remedy;
    assert_eq!(remedy, Some(Remedy::EnablePortMapping { at, port }));
}

#[test]
fn the_cheapest_change_is_named() {
    let set = |ends: Ends, how: fn(&mut End)| with(homes(), ends, how);
    let cases = [
        (
            set(Ends::Egress, |end| {
                end.nat.port_mapping = "present".to_owned()
            }),
            "enable UPnP on the client's router, or open UDP 5000 there, for a direct path",
        ),
        (
            set(Ends::Both, |end| {
                end.nat.port_mapping = "refuted".to_owned()
            }),
            "open UDP 41000 on the server's router for a direct path",
        ),
        (
            set(Ends::Ingress, |end| end.is_translated = false),
            "open UDP 5000 in the client's firewall for a direct path",
        ),
        (
            set(Ends::Egress, |end| end.nat.double_nat = Some(true)),
            "enable UPnP on the client's router, or open UDP 5000 there, for a direct path",
        ),
        (
            set(Ends::Both, |end| end.nat.double_nat = Some(true)),
            "ask the provider of either network for a public address, or use IPv6 on both, for a direct \
             path",
        ),
        (
            with(
                set(Ends::Both, |end| end.nat.double_nat = Some(true)),
                Ends::Egress,
                |end| end.nat.ipv6 = Some(true),
            ),
            "use IPv6 on the client's network, or ask the provider of either for a public address, for a \
             direct path",
        ),
        (
            set(Ends::Egress, |end| end.port = None),
            "enable UPnP on the server's router, or open a UDP port there, for a direct path",
        ),
    ];
    for (ends, expected) in cases {
        let said = said(&ends);
        let begin = "direct packets are sent by both ends and none arrives: a firewall between them stops \
                     them; ";
        assert_eq!(said, format!("{begin}{expected}"));
    }
}

#[test]
fn without_any_path_the_policy_is_named_too() {
    let cases = [
        (Policy::Any, "no relay leads to the peer; because"),
        (Policy::RelayOnly, "no relay leads to the peer, and because"),
        (
            Policy::DirectOnly,
            "the server is configured with `direct: \"require\"`, which allows no relay; because",
        ),
    ];
    for (policy, expected) in cases {
        assert_eq!(why_unreached(policy, Ends::Egress, "because"), expected);
    }
}
