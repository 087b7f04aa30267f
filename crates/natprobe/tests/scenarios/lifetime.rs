//! How long the model's NATs keep a binding.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::{
    FilteringBehavior as F, LifetimeEvent, LifetimeReport, LifetimeSearch, MappingBehavior as M,
};

use crate::model::{
    Kind, MAPPINGS, Nat, PRIMARY, Ports, SECOND, Server, World, full, seed, single,
};

const FOREVER: Duration = Duration::from_secs(310);

#[test]
fn the_idle_lifetime_is_found_between_two_waits() {
    for mapping in MAPPINGS {
        for (truth, alive, gone) in [(30, 28, 33), (60, 57, 65), (120, 115, 130), (180, 170, 190)] {
            for refreshed_inbound in [true, false] {
                let mut nat = nat(mapping, Ports::Preserving);
                nat.idle = Some(secs(truth));
                nat.refreshed_inbound = refreshed_inbound;
                let (at, report) = search(nat, full(), 0, 1);
                assert_eq!(report.idle_alive, Some(secs(alive)), "{report:?}");
                assert_eq!(report.idle_gone, Some(secs(gone)), "{report:?}");
                assert_eq!(report.absolute, None);
                assert!(report.absolute_watched.unwrap() >= secs(150));
                assert!(at <= secs(gone.max(165) + 10), "{at:?}");
            }
        }
    }
}

#[test]
fn bindings_that_live_longer_than_the_search_are_said_to() {
    let (at, report) = search(nat(M::EndpointIndependent, Ports::Random), full(), 0, 2);
    assert_eq!((report.idle_alive, report.idle_gone), (Some(FOREVER), None));
    assert!(at < FOREVER + secs(10), "{at:?}");
}

#[test]
fn an_end_at_an_age_is_told_from_idleness() {
    for (idle, server) in [(None, full()), (Some(30), full()), (None, single(PRIMARY))] {
        let mut nat = nat(M::EndpointIndependent, Ports::Random);
        nat.absolute = Some(secs(60));
        nat.idle = idle.map(secs);
        let report = search(nat, server, 0, 3).1;
        let absolute = report.absolute.unwrap();
        assert!((secs(60)..=secs(66)).contains(&absolute), "{absolute:?}");
        assert_eq!(report.absolute_watched, None);
        let expected = match idle {
            Some(_) => (Some(secs(28)), Some(secs(33))),
            None => (Some(secs(57)), None),
        };
        assert_eq!(
            (report.idle_alive, report.idle_gone),
            expected,
            "{report:?}"
        );
    }
}

#[test]
fn a_server_that_cannot_knock_leaves_it_to_the_public_address() {
    for kind in [
        Kind::Single,
        Kind::Ignorant("192.0.2.2:3479".parse().unwrap()),
    ] {
        let mut nat = nat(M::AddressAndPortDependent, Ports::Random);
        nat.idle = Some(secs(30));
        let report = search(nat, Server::new(PRIMARY, kind), 0, 4).1;
        let found = (report.idle_alive, report.idle_gone);
        assert_eq!(found, (Some(secs(28)), Some(secs(33))), "{report:?}");
    }
}

#[test]
fn behind_a_nat_that_keeps_ports_such_a_server_tells_nothing() {
    let mut nat = nat(M::EndpointIndependent, Ports::Preserving);
    nat.idle = Some(secs(30));
    let report = search(nat, single(PRIMARY), 0, 5).1;
    let nothing = LifetimeReport {
        evidence: report.evidence.clone(),
        ..LifetimeReport::default()
    };
    assert_eq!(report, nothing);
    assert!(report.evidence.iter().any(|it| it.contains("keeps ports")));
}

#[test]
fn four_sockets_search_coarsely_and_silence_ends_it() {
    let mut short = nat(M::EndpointIndependent, Ports::Random);
    short.idle = Some(secs(30));
    let mut world = searching(short, vec![full()], 4, 6);
    world.run_to_end();
    let found = report(&world);
    assert_eq!((found.idle_alive, found.idle_gone), (None, Some(FOREVER)));
    let dead = || {
        vec![
            Server::new(PRIMARY, Kind::Dead),
            Server::new(SECOND, Kind::Dead),
        ]
    };
    let mut world = searching(nat(M::EndpointIndependent, Ports::Random), dead(), 20, 6);
    world.run_to_end();
    assert!(world.now - world.epoch < secs(10));
    assert_eq!(report(&world).evidence, ["No server answered."]);
    let mut world = searching(
        nat(M::EndpointIndependent, Ports::Random),
        vec![full()],
        0,
        6,
    );
    world.run_to_end();
    assert_eq!(report(&world).idle_alive, None);
}

#[test]
fn at_thirty_percent_loss_a_thousand_searches_are_right() {
    let mut wrong = 0;
    for number in 0..1000 {
        let mut nat = nat(M::EndpointIndependent, Ports::Random);
        nat.idle = Some(secs(30));
        let report = search(nat, full(), 30, number).1;
        // An answer that came in the second try moves a wait by a moment, so that it may lie one step aside.
        let right = report.idle_alive.is_none_or(|alive| alive < secs(30))
            && report.idle_gone.is_none_or(|gone| gone > secs(30))
            && report.absolute.is_none();
        wrong += u32::from(!right);
    }
    assert!(wrong <= 10, "{wrong} of 1000 are wrong");
}

#[test]
fn each_wait_is_told_as_it_ends() {
    let mut nat = nat(M::EndpointIndependent, Ports::Random);
    nat.idle = Some(secs(20));
    let mut world = searching(nat, vec![full()], LifetimeSearch::SOCKETS, 7);
    world.run_to_end();
    let waited: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| {
            let LifetimeEvent::Waited { idle, alive } = event else {
                return None;
            };
            Some((idle.as_secs(), *alive))
        })
        .collect();
    assert_eq!(waited, [(10, true), (15, true), (19, true), (22, false)]);
}

fn nat(mapping: M, ports: Ports) -> Nat {
    let mut nat = Nat::new(mapping, F::AddressAndPortDependent);
    nat.ports = ports;
    nat
}

fn search(nat: Nat, server: Server, loss_percent: u32, number: u32) -> (Duration, LifetimeReport) {
    let mut world = searching(nat, vec![server], LifetimeSearch::SOCKETS, number);
    world.loss_percent = loss_percent;
    world.run_to_end();
    let at = world.events.last().expect("an end").0;
    (at, report(&world))
}

fn searching(nat: Nat, servers: Vec<Server>, sockets: usize, number: u32) -> World<LifetimeSearch> {
    let addresses = servers.iter().map(|server| server.address).collect();
    let sockets = (5000..)
        .take(sockets)
        .map(|port| SocketAddr::from(([10, 0, 0, 2], port)))
        .collect();
    World::around(nat, servers, number, |now| {
        LifetimeSearch::new(addresses, sockets, FOREVER, seed(number), now)
    })
}

fn report(world: &World<LifetimeSearch>) -> LifetimeReport {
    let Some((_, LifetimeEvent::Finished(report))) = world.events.last() else {
        panic!("no end: {:?}", world.events);
    };
    report.clone()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
