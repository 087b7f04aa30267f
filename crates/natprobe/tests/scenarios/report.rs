//! What else a report tells, when, and why.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::{
    Certainty, Event, FilteringBehavior as F, MappingBehavior as M, NatType, Pooling,
    PortAllocation, Report,
};

use crate::model::{
    FILTERINGS, Kind, MAPPINGS, Nat, ONE_WAY, PRIMARY, Ports, SECOND, Server, World, full, other,
    primary, single,
};

#[test]
fn two_servers_tell_the_mapping_two_round_trips_after_the_start() {
    for mapping in MAPPINGS {
        let nat = Nat::new(mapping, F::AddressAndPortDependent);
        let mut world = World::new(nat, vec![full(), single(SECOND)], 31);
        let (classified, report) = world.run_to_verdict();
        let (at, early) = mapping_known(&world).remove(0);
        assert_eq!(at, ONE_WAY * 4);
        assert!(classified > at);
        let is_independent = mapping == M::EndpointIndependent;
        assert_eq!(early.mapping == M::EndpointIndependent, is_independent);
        assert_eq!(early.filtering, F::Unknown);
        assert_eq!(report.mapping, mapping);
    }
}

#[test]
fn one_server_tells_the_mapping_before_the_rest_where_nothing_is_filtered() {
    let mut nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    nat.hairpin = false;
    let mut world = World::new(nat, vec![full()], 32);
    let (classified, _) = world.run_to_verdict();
    let (at, _) = mapping_known(&world).remove(0);
    assert!(at < Duration::from_millis(200), "{at:?}");
    assert!(
        classified > Duration::from_millis(500),
        "the hairpin takes its time"
    );
}

#[test]
fn who_cannot_wait_is_told_what_is_known_so_far() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![full(), single(SECOND)], 32);
    assert_eq!(world.machine.report_so_far(), None);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.machine.report(), None);
    let report = world.machine.report_so_far().unwrap();
    assert_eq!(
        (report.mapping, report.filtering),
        (M::EndpointIndependent, F::Unknown)
    );
    assert!(report.udp);
    let verdict = world.run_to_verdict().1;
    assert_eq!(world.machine.report_so_far(), Some(verdict));
    world.blocked = true;
    world.run_for(Duration::from_secs(60));
    assert!(!world.machine.report_so_far().unwrap().udp);
}

#[test]
fn the_servers_other_port_is_never_written_to() {
    let port_changed = SocketAddr::new(primary().ip(), other().port());
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut world = World::new(Nat::new(mapping, filtering), vec![full()], 33);
            world.run_for(Duration::from_secs(60));
            let mut sent = world.sent.iter();
            assert!(sent.all(|(_, transmit)| transmit.destination != port_changed));
        }
    }
}

#[test]
fn a_gateway_that_rewrites_addresses_inside_of_packets_is_noticed_and_not_believed() {
    for alg in [true, false] {
        let mut nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
        nat.alg = alg;
        let mut world = World::new(nat, vec![full()], 34);
        let report = world.run_to_verdict().1;
        assert_eq!(report.alg, Some(alg));
        assert_eq!(report.nat_type(), NatType::PortRestrictedCone);
        assert_eq!(
            report.evidence.iter().any(|it| it.contains("rewrites")),
            alg
        );
    }
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![single(PRIMARY)], 34);
    assert_eq!(world.run_to_verdict().1.alg, None, "nobody sent both");
}

#[test]
fn a_pool_shows_in_one_report_only_when_it_is_arbitrary() {
    for (pooling, expected) in [
        (Pooling::Arbitrary, Some(Pooling::Arbitrary)),
        (Pooling::Paired, None),
    ] {
        let mut nat = Nat::new(M::AddressAndPortDependent, F::AddressAndPortDependent);
        nat.public = (9..60)
            .map(|last| SocketAddr::from(([203, 0, 113, last], 0)).ip())
            .collect();
        nat.pooling = pooling;
        let mut world = World::new(nat, vec![full(), single(SECOND)], 35);
        let report = world.run_to_verdict().1;
        assert_eq!(report.pooling, expected);
        assert_eq!(report.mapping, M::AddressAndPortDependent);
    }
}

#[test]
fn an_ipv6_firewall_is_filtering_without_translation() {
    let local = "[2001:db8:1::2]:5000";
    let server = Server::new(
        "[2001:db8::1]:3478",
        Kind::Full("[2001:db8::2]:3479".parse().unwrap()),
    );
    for filtering in FILTERINGS {
        let mut firewall = Nat::new(M::EndpointIndependent, filtering);
        firewall.public = vec!["2001:db8:1::2".parse().unwrap()];
        firewall.ports = Ports::Preserving;
        let servers = vec![server.clone(), single(SECOND)];
        let mut world = World::with_local(firewall, servers, 36, local, Vec::new());
        let (at, report) = world.run_to_verdict();
        assert_eq!(
            (report.behind_nat, report.filtering),
            (Some(false), filtering)
        );
        assert_eq!(report.nat_type(), NatType::NoNat);
        assert_eq!(report.mapping, M::EndpointIndependent);
        assert_eq!(report.reflexive, [local.parse().unwrap()]);
        assert!(at <= Duration::from_secs(2), "{at:?}");
        // The IPv4 server is not for this socket.
        assert_eq!(report.servers.len(), 1);
    }
}

#[test]
fn a_public_host_needs_one_server_to_know_its_mapping() {
    let mut firewall = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    firewall.ports = Ports::Preserving;
    let servers = vec![single(PRIMARY)];
    let mut world = World::with_local(firewall, servers, 37, "203.0.113.9:5000", Vec::new());
    let report = world.run_to_verdict().1;
    assert_eq!(report.mapping, M::EndpointIndependent);
    assert_eq!(
        (report.filtering, report.nat_type()),
        (F::Unknown, NatType::NoNat)
    );
    assert_eq!(report.confidence.mapping, Certainty::Medium);
}

#[test]
fn addresses_that_are_translated_with_ipv6_are_a_nat_too() {
    let server = Server::new(
        "[2001:db8::1]:3478",
        Kind::Full("[2001:db8::2]:3479".parse().unwrap()),
    );
    let mut nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    nat.public = vec!["2001:db8:1::2".parse().unwrap()];
    nat.ports = Ports::Preserving;
    let mut world = World::with_local(nat, vec![server], 37, "[fd00::2]:5000", Vec::new());
    let report = world.run_to_verdict().1;
    assert_eq!(report.nat_type(), NatType::PortRestrictedCone);
    assert_eq!(report.ports, PortAllocation::Preserving);
}

#[test]
fn a_clean_network_makes_sure_and_each_verdict_has_its_sentence() {
    for (mapping, words) in [
        (M::EndpointIndependent, "does not depend on the destination"),
        (
            M::AddressDependent,
            "two ports of one IP address see the same",
        ),
        (
            M::AddressAndPortDependent,
            "Two ports of one IP address see different",
        ),
    ] {
        let nat = Nat::new(mapping, F::AddressAndPortDependent);
        let mut world = World::new(nat, vec![full()], 38);
        let report = world.run_to_verdict().1;
        assert_eq!(report.confidence.mapping, Certainty::High);
        assert_eq!(report.confidence.filtering, Certainty::High);
        let says = |words: &str| report.evidence.iter().any(|it| it.contains(words));
        assert!(says(words), "{:?}", report.evidence);
        assert!(says(
            "No answer came through from 192.0.2.2:3479 or 192.0.2.1:3479"
        ));
        assert!(says("while 8 of 8 ordinary requests were answered"));
    }
}

#[test]
fn what_is_not_known_is_said_with_its_reason() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat.clone(), vec![single(PRIMARY), single(SECOND)], 39);
    let report = world.run_to_verdict().1;
    assert_eq!(report.confidence.mapping, Certainty::Medium);
    assert_eq!(report.confidence.filtering, Certainty::Low);
    let says = |report: &Report, words: &str| report.evidence.iter().any(|it| it.contains(words));
    assert!(says(&report, "No server has a second address"));
    let servers = vec![Server::new(PRIMARY, Kind::Ignorant(other()))];
    let report = World::new(nat.clone(), servers, 39).run_to_verdict().1;
    assert!(says(&report, "does not answer from another address"));
    let mut world = World::new(nat, vec![single(PRIMARY), single(SECOND)], 39);
    world.blocked = true;
    let report = world.run_to_verdict().1;
    assert_eq!(report.evidence, ["None of 2 servers answered over UDP."]);
}

fn mapping_known(world: &World<natprobe::Prober>) -> Vec<(Duration, Report)> {
    world
        .events
        .iter()
        .filter_map(|(at, event)| {
            let Event::MappingKnown(report) = event else {
                return None;
            };
            Some((*at, report.clone()))
        })
        .collect()
}
