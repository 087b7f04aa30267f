//! Port mappings that are there, and such that are not.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::{
    FilteringBehavior as F, Indecision, MappingBehavior as M, MappingCheck, MappingVerdict, Prober,
    Refutation,
};

use crate::model::{
    FILTERINGS, INSIDE, Kind, Nat, OUTSIDE, PRIMARY, Ports, SECOND, Server, World, full, other,
    seed, single,
};

const VERIFIED: MappingVerdict = MappingVerdict::Verified;
const UNREACHABLE: MappingVerdict = MappingVerdict::Refuted {
    reason: Refutation::Unreachable,
};

#[test]
fn what_is_there_is_verified_and_what_is_not_is_refuted() {
    for filtering in FILTERINGS {
        for honest in [true, false] {
            for server in [full(), two_ports()] {
                let mut world = checking(honest, 6881, filtering, vec![server], 1);
                let (at, verdict) = run(&mut world);
                assert_eq!(verdict, if honest { VERIFIED } else { UNREACHABLE });
                assert!(at < Duration::from_millis(1500), "{at:?}");
            }
            // Its silence may be the NAT's doing.
            let mut world = checking(honest, 6881, filtering, vec![one_port()], 1);
            let silent = undecided(Indecision::NoStranger);
            assert_eq!(run(&mut world).1, if honest { VERIFIED } else { silent });
        }
    }
}

#[test]
fn a_mapping_of_the_port_that_the_nat_would_give_anyway_is_told_from_its_open_filter() {
    for server in [full(), two_ports()] {
        for honest in [true, false] {
            let mut world = checking(
                honest,
                5000,
                F::AddressAndPortDependent,
                vec![server.clone()],
                2,
            );
            let expected = if honest { VERIFIED } else { UNREACHABLE };
            assert_eq!(run(&mut world).1, expected, "{server:?}");
        }
    }
}

#[test]
fn that_holds_after_a_prober_has_asked_everybody() {
    for honest in [true, false] {
        let mut nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
        nat.ports = Ports::Preserving;
        let mut probed: World<Prober> = World::new(nat, vec![full()], 3);
        probed.run_to_verdict();
        let mut nat = probed.nat;
        if honest {
            nat.forwards.insert(5000, inside());
        }
        let mut world = World::around(nat, vec![full()], 3, |now| {
            check(&[full()], external(5000), now)
        });
        let expected = if honest { VERIFIED } else { UNREACHABLE };
        assert_eq!(run(&mut world).1, expected);
    }
}

#[test]
fn a_server_with_one_port_cannot_tell_about_the_nats_own() {
    for honest in [true, false] {
        let mut world = checking(
            honest,
            5000,
            F::AddressAndPortDependent,
            vec![one_port()],
            4,
        );
        assert_eq!(run(&mut world).1, undecided(Indecision::NoStranger));
        // Another one can.
        let servers = vec![one_port(), Server::new(SECOND, Kind::TwoPorts(4000))];
        let mut world = checking(honest, 5000, F::AddressAndPortDependent, servers, 4);
        let expected = if honest { VERIFIED } else { UNREACHABLE };
        assert_eq!(run(&mut world).1, expected);
    }
}

#[test]
fn behind_address_dependent_filtering_the_servers_other_port_proves_nothing() {
    let mut nat = Nat::new(M::EndpointIndependent, F::AddressDependent);
    nat.ports = Ports::Preserving;
    let mut world = World::around(nat, vec![full()], 5, |now| {
        check(&[full()], external(5000), now).behind(F::AddressDependent)
    });
    assert_eq!(run(&mut world).1, undecided(Indecision::NoStranger));
}

#[test]
fn a_server_that_ignores_what_it_is_asked_proves_nothing() {
    let ignorant = Server::new(PRIMARY, Kind::Ignorant(other()));
    let old = Server::new(PRIMARY, Kind::Old(other()));
    for server in [ignorant, old, single(PRIMARY)] {
        for (honest, port) in [(true, 6881), (false, 6881), (true, 5000), (false, 5000)] {
            let filtering = F::EndpointIndependent;
            let mut world = checking(honest, port, filtering, vec![server.clone()], 6);
            let verdict = run(&mut world).1;
            assert_eq!(
                verdict,
                undecided(Indecision::NotSupported),
                "{server:?} {port}"
            );
        }
    }
}

#[test]
fn an_address_that_the_internet_does_not_see_is_refuted() {
    let claimed = "100.64.0.7:6881".parse::<SocketAddr>().unwrap();
    let nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    let mut world = World::around(nat.clone(), vec![full()], 7, |now| {
        check(&[full()], claimed, now)
    });
    let (at, verdict) = run(&mut world);
    let reason = Refutation::OtherAddress {
        claimed: claimed.ip(),
        seen: OUTSIDE.parse().unwrap(),
    };
    assert_eq!(verdict, MappingVerdict::Refuted { reason });
    assert_eq!(at, Duration::from_millis(40));
    // Known before anything is sent.
    let mut world = World::around(nat, vec![full()], 7, |now| {
        let servers = vec![PRIMARY.parse().unwrap()];
        MappingCheck::new(servers, inside(), claimed, Some(external(1)), seed(7), now)
    });
    assert_eq!(run(&mut world), (Duration::ZERO, verdict));
    assert!(world.sent.is_empty());
}

#[test]
fn silence_of_the_servers_decides_nothing() {
    let servers = || vec![full(), single(SECOND)];
    let mut world = checking(true, 6881, F::AddressAndPortDependent, servers(), 8);
    world.blocked = true;
    assert_eq!(run(&mut world).1, undecided(Indecision::NoAnswer));
    let mut world = checking(true, 6881, F::AddressAndPortDependent, vec![], 8);
    assert_eq!(run(&mut world).1, undecided(Indecision::NoServer));
    // A first server that is dead costs a moment.
    let servers = vec![Server::new(SECOND, Kind::Dead), full()];
    let mut world = checking(true, 6881, F::AddressAndPortDependent, servers, 8);
    let (at, verdict) = run(&mut world);
    assert_eq!(verdict, VERIFIED);
    assert!(at < Duration::from_secs(3), "{at:?}");
}

#[test]
fn at_thirty_percent_loss_no_verdict_is_wrong() {
    for (honest, port) in [(true, 6881), (false, 6881), (true, 5000), (false, 5000)] {
        let (mut wrong, mut decided) = (0, 0);
        for number in 0..1000 {
            let filtering = F::AddressAndPortDependent;
            let mut world = checking(honest, port, filtering, vec![full()], number);
            world.loss_percent = 30;
            match run(&mut world).1 {
                MappingVerdict::Undecided { .. } => {}
                verdict @ (MappingVerdict::Verified | MappingVerdict::Refuted { .. }) => {
                    decided += 1;
                    wrong += u32::from((verdict == VERIFIED) != honest);
                }
            }
        }
        assert!(
            wrong <= 10 && decided >= 900,
            "{honest} {port}: {wrong} wrong of {decided}"
        );
    }
}

fn checking(
    honest: bool,
    port: u16,
    filtering: F,
    servers: Vec<Server>,
    number: u32,
) -> World<MappingCheck> {
    let mut nat = Nat::new(M::EndpointIndependent, filtering);
    nat.ports = Ports::Preserving;
    if honest {
        nat.forwards.insert(port, inside());
    }
    let addresses = servers.iter().map(|server| server.address).collect();
    World::around(nat, servers, number, |now| {
        MappingCheck::new(addresses, inside(), external(port), None, seed(number), now)
    })
}

fn check(servers: &[Server], external: SocketAddr, now: std::time::Instant) -> MappingCheck {
    let servers = servers.iter().map(|server| server.address).collect();
    MappingCheck::new(servers, inside(), external, None, seed(9), now)
}

fn run(world: &mut World<MappingCheck>) -> (Duration, MappingVerdict) {
    world.run_to_end();
    assert_eq!(world.events.len(), 1, "exactly one verdict");
    assert_eq!(world.machine.verdict(), Some(world.events[0].1));
    world.events[0]
}

fn undecided(reason: Indecision) -> MappingVerdict {
    MappingVerdict::Undecided { reason }
}

fn inside() -> SocketAddr {
    INSIDE.parse().expect("an address")
}

fn external(port: u16) -> SocketAddr {
    SocketAddr::new(OUTSIDE.parse().expect("an address"), port)
}

fn two_ports() -> Server {
    Server::new(PRIMARY, Kind::TwoPorts(4000))
}

fn one_port() -> Server {
    Server::new(PRIMARY, Kind::OnePort)
}
