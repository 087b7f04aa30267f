//! A prober behind every kind of NAT, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{
    FILTERINGS, INSIDE, Kind, MAPPINGS, Nat, PRIMARY, Ports, SECOND, Server, World, full, other,
    primary, single,
};
use natprobe::{
    Event, FilteringBehavior as F, MappingBehavior as M, NatType, PortAllocation, Report,
};
use sansio::Handled;
use stunwire::{Class, Message, MessageBuilder};

#[test]
fn every_nat_is_classified_within_two_seconds() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut world = World::new(Nat::new(mapping, filtering), vec![full()], 1);
            let (at, report) = world.run_to_verdict();
            assert_eq!((report.mapping, report.filtering), (mapping, filtering));
            assert_eq!(report.behind_nat, Some(true));
            assert!(report.udp);
            assert!(
                at <= Duration::from_secs(2),
                "{mapping} {filtering} took {at:?}"
            );
            assert_eq!(report.servers[0].rtt, Some(crate::model::ONE_WAY * 2));
            let (first, event) = &world.events[0];
            assert_eq!(*first, crate::model::ONE_WAY * 2);
            let address = report.servers[0].reflexive.unwrap();
            assert_eq!(
                *event,
                Event::Reflexive {
                    server: primary(),
                    address
                }
            );
            world.run_for(Duration::from_secs(120));
            assert_eq!(
                world.verdicts().len(),
                1,
                "the verdict changed without a reason"
            );
        }
    }
}

#[test]
fn a_server_of_rfc_3489_is_enough() {
    for filtering in FILTERINGS {
        let nat = Nat::new(M::EndpointIndependent, filtering);
        let mut world = World::new(nat, vec![Server::new(PRIMARY, Kind::Old(other()))], 2);
        let (_, report) = world.run_to_verdict();
        assert_eq!(
            (report.mapping, report.filtering),
            (M::EndpointIndependent, filtering)
        );
    }
}

#[test]
fn several_servers_with_one_address_tell_the_mapping_and_not_the_filtering() {
    let servers = || vec![single(PRIMARY), single(SECOND)];
    for (mapping, nat_type) in [
        (M::EndpointIndependent, NatType::Unknown),
        (M::AddressDependent, NatType::Symmetric),
        (M::AddressAndPortDependent, NatType::Symmetric),
    ] {
        let nat = Nat::new(mapping, F::EndpointIndependent);
        let mut world = World::new(nat, servers(), 3);
        let (at, report) = world.run_to_verdict();
        assert_eq!(
            report.mapping == M::EndpointIndependent,
            mapping == M::EndpointIndependent
        );
        assert_eq!(report.filtering, F::Unknown);
        assert_eq!(report.nat_type(), nat_type);
        assert!(at <= Duration::from_secs(1), "{at:?}");
    }
}

#[test]
fn one_server_with_one_address_tells_the_reflexive_address_alone() {
    let nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    let mut world = World::new(nat, vec![single(PRIMARY)], 4);
    let (_, report) = world.run_to_verdict();
    assert_eq!((report.mapping, report.filtering), (M::Unknown, F::Unknown));
    assert_eq!((report.behind_nat, report.reflexive.len()), (Some(true), 1));
}

#[test]
fn a_server_that_ignores_change_request_tells_no_filtering() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let servers = vec![
        Server::new(PRIMARY, Kind::Ignorant(other())),
        single(SECOND),
    ];
    let mut world = World::new(nat, servers, 5);
    let (_, report) = world.run_to_verdict();
    assert_eq!(
        (report.mapping, report.filtering),
        (M::EndpointIndependent, F::Unknown)
    );
}

#[test]
fn another_server_takes_over_from_one_that_does_not_do_what_it_promised() {
    let alternate = "198.51.100.2:3479".parse().unwrap();
    for filtering in FILTERINGS {
        let nat = Nat::new(M::EndpointIndependent, filtering);
        let servers = vec![
            Server::new(PRIMARY, Kind::Ignorant(other())),
            Server::new(SECOND, Kind::Full(alternate)),
        ];
        let mut world = World::new(nat, servers, 5);
        world.run_for(Duration::from_secs(5));
        assert_eq!(last(&world).filtering, filtering);
        assert!(
            world
                .verdicts()
                .iter()
                .all(|(_, report)| { [filtering, F::Unknown].contains(&report.filtering) })
        );
    }
}

#[test]
fn an_alternate_address_where_nobody_is_proves_no_filtering() {
    let nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    let servers = vec![
        Server::new(PRIMARY, Kind::DeadAlternate(other())),
        single(SECOND),
    ];
    let mut world = World::new(nat, servers, 6);
    let (_, report) = world.run_to_verdict();
    assert_eq!(
        (report.mapping, report.filtering),
        (M::EndpointIndependent, F::Unknown)
    );
}

#[test]
fn a_servers_own_alternate_in_the_list_does_not_open_the_filter() {
    for order in [[PRIMARY, "192.0.2.2:3478"], ["192.0.2.2:3478", PRIMARY]] {
        for filtering in FILTERINGS {
            let nat = Nat::new(M::EndpointIndependent, filtering);
            let servers = order.map(|address| {
                let ip = if address == PRIMARY {
                    [192, 0, 2, 2]
                } else {
                    [192, 0, 2, 1]
                };
                Server::new(address, Kind::Full(SocketAddr::from((ip, 3479))))
            });
            let mut world = World::new(nat, servers.to_vec(), 7);
            let (_, report) = world.run_to_verdict();
            assert_eq!(report.filtering, filtering, "{order:?}");
            assert!(
                report
                    .servers
                    .iter()
                    .all(|server| server.reflexive.is_some())
            );
        }
    }
}

#[test]
fn a_first_server_that_is_dead_costs_a_moment() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressDependent);
    let mut world = World::new(nat, vec![Server::new(SECOND, Kind::Dead), full()], 8);
    let (at, report) = world.run_to_verdict();
    assert_eq!(report.nat_type(), NatType::RestrictedCone);
    assert!(at <= Duration::from_millis(2500), "{at:?}");
    assert_eq!(
        (report.servers[0].rtt, report.servers[0].reflexive),
        (None, None)
    );
}

#[test]
fn silence_of_all_servers_is_reported_and_its_end_too() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![full(), single(SECOND)], 9);
    world.blocked = true;
    let (at, report) = world.run_to_verdict();
    assert_eq!(at, Duration::from_secs(3));
    assert_eq!(report.nat_type().to_string(), "UDP Blocked");
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.verdicts().len(), 1);
    world.blocked = false;
    world.run_for(Duration::from_secs(20));
    let last = world.verdicts().pop().unwrap().1;
    assert_eq!(last.nat_type(), NatType::PortRestrictedCone);
}

#[test]
fn an_outage_does_not_forge_the_filtering_of_a_binding_that_survives_it() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![full()], 10);
    let before = world.run_to_verdict().1;
    world.blocked = true;
    world.run_for(Duration::from_secs(40));
    assert_eq!(last(&world).nat_type(), NatType::UdpBlocked);
    world.blocked = false;
    world.run_for(Duration::from_secs(30));
    assert_eq!(last(&world).filtering, before.filtering);
    assert_eq!(last(&world).reflexive, before.reflexive);
}

#[test]
fn another_nat_is_noticed_by_the_keepalive_and_classified_anew() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![full()], 11);
    let before = world.run_to_verdict().1;
    world.nat = Nat::new(M::AddressDependent, F::EndpointIndependent);
    world.nat.public = vec!["203.0.113.77".parse().unwrap()];
    world.run_for(Duration::from_secs(20));
    let after = last(&world);
    assert_eq!(
        (after.mapping, after.filtering),
        (M::AddressDependent, F::EndpointIndependent)
    );
    assert!(
        after
            .reflexive
            .iter()
            .all(|address| !before.reflexive.contains(address))
    );
    assert_eq!(world.machine.stats().binding_changes, 1);
}

#[test]
fn a_rebooted_nat_gives_another_address_and_the_same_verdict() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressDependent);
    let mut world = World::new(nat, vec![full()], 12);
    let before = world.run_to_verdict().1;
    world.nat.forget();
    world.run_for(Duration::from_secs(20));
    let after = last(&world);
    assert_ne!(after.reflexive, before.reflexive);
    assert_eq!(
        (after.mapping, after.filtering),
        (before.mapping, before.filtering)
    );
    let address = after.reflexive[0];
    assert!(world.events.iter().any(|(_, event)| *event
        == Event::Reflexive {
            server: primary(),
            address
        }));
}

#[test]
fn refresh_asks_at_once() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressDependent);
    let mut world = World::new(nat, vec![full()], 13);
    world.run_to_verdict();
    world.nat.forget();
    world.machine.refresh(world.now);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.verdicts().len(), 2);
}

#[test]
fn a_public_host_behind_a_firewall_has_no_nat_and_the_filtering_of_the_firewall() {
    for (local, interfaces) in [
        ("203.0.113.9:5000", Vec::new()),
        ("0.0.0.0:5000", vec!["203.0.113.9".parse().unwrap()]),
    ] {
        for filtering in FILTERINGS {
            let mut firewall = Nat::new(M::EndpointIndependent, filtering);
            firewall.ports = Ports::Preserving;
            let mut world =
                World::with_local(firewall, vec![full()], 14, local, interfaces.clone());
            let (_, report) = world.run_to_verdict();
            assert_eq!(report.nat_type(), NatType::NoNat);
            assert_eq!(
                (report.behind_nat, report.filtering),
                (Some(false), filtering)
            );
            assert_eq!(
                (report.hairpin, report.ports),
                (None, PortAllocation::Preserving)
            );
        }
    }
}

#[test]
fn hairpinning_is_told_where_it_can_be() {
    for filtering in FILTERINGS {
        for hairpin in [true, false] {
            let mut nat = Nat::new(M::EndpointIndependent, filtering);
            nat.hairpin = hairpin;
            let mut world = World::new(nat, vec![full()], 15);
            let (at, report) = world.run_to_verdict();
            assert_eq!(report.hairpin, Some(hairpin), "{filtering}");
            assert!(at <= Duration::from_secs(2), "{at:?}");
        }
    }
    let mut nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    nat.hairpin = true;
    let mut world = World::new(nat, vec![single(PRIMARY), single(SECOND)], 15);
    assert_eq!(world.run_to_verdict().1.hairpin, Some(true));
}

#[test]
fn the_ports_pattern_is_told() {
    for (mapping, ports, expected) in [
        (
            M::EndpointIndependent,
            Ports::Preserving,
            PortAllocation::Preserving,
        ),
        (
            M::EndpointIndependent,
            Ports::Random,
            PortAllocation::Unknown,
        ),
        (
            M::AddressAndPortDependent,
            Ports::Sequential { stride: 1 },
            PortAllocation::Sequential { stride: 1 },
        ),
        (
            M::AddressAndPortDependent,
            Ports::Random,
            PortAllocation::Random,
        ),
    ] {
        let mut nat = Nat::new(mapping, F::AddressAndPortDependent);
        nat.ports = ports;
        let mut world = World::new(nat, vec![full()], 16);
        assert_eq!(
            world.run_to_verdict().1.ports,
            expected,
            "{mapping} {ports:?}"
        );
    }
}

#[test]
fn a_quiet_prober_asks_one_server_once_an_interval() {
    let nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    let mut world = World::new(nat, vec![full(), single(SECOND)], 17);
    let (verdict, _) = world.run_to_verdict();
    let before = world.sent.len();
    world.run_for(Duration::from_secs(151));
    let later = &world.sent[before..];
    assert_eq!(later.len(), 10);
    assert!(
        later
            .iter()
            .all(|(_, transmit)| transmit.destination == primary())
    );
    assert_eq!(later[0].0, verdict + Duration::from_secs(15));
}

#[test]
fn strangers_are_left_alone_and_forged_answers_counted() {
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::new(nat, vec![full()], 18);
    world.drain();
    let request = world.sent[0].1.payload.clone();
    let request = Message::decode(&request).unwrap();
    let mut buffer = [0; 64];
    let forged = MessageBuilder::answer(&mut buffer, &request, Class::SuccessResponse)
        .and_then(|builder| {
            let address = "6.6.6.6:666".parse().unwrap();
            builder.attribute(&stunwire::attributes::XorMappedAddress(address))
        })
        .unwrap()
        .finish();
    let stranger = "198.51.100.66:3478".parse().unwrap();
    assert_eq!(world.inject(stranger, b"not STUN at all"), Handled::NotMine);
    assert_eq!(world.inject(stranger, request.as_bytes()), Handled::NotMine);
    assert_eq!(world.inject(stranger, forged), Handled::Consumed);
    assert_eq!(world.machine.stats().foreign_answers, 1);
    let (_, report) = world.run_to_verdict();
    assert_eq!(report.nat_type(), NatType::PortRestrictedCone);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let nat = Nat::new(M::AddressDependent, F::AddressDependent);
        let mut world = World::new(nat, vec![full(), single(SECOND)], seed);
        world.loss_percent = 10;
        world.run_for(Duration::from_secs(60));
        world.sent
    };
    assert_eq!(run(19), run(19));
    assert_ne!(run(19), run(20));
}

#[test]
fn without_servers_nothing_happens() {
    let nat = Nat::new(M::EndpointIndependent, F::EndpointIndependent);
    let mut world = World::new(nat.clone(), Vec::new(), 21);
    world.run_for(Duration::from_secs(60));
    assert!(world.sent.is_empty() && world.events.is_empty());
    let mut world = World::new(
        nat,
        vec![Server::new("[2001:db8::1]:3478", Kind::Single)],
        21,
    );
    world.run_for(Duration::from_secs(60));
    assert!(world.sent.is_empty(), "{INSIDE} cannot send to IPv6");
}

fn last(world: &World<natprobe::Prober>) -> Report {
    world.verdicts().pop().expect("a verdict").1
}
