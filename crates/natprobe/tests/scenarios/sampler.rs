//! Fresh sockets in front of every way to choose ports.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::{
    FilteringBehavior as F, MappingBehavior as M, Pooling, PortAllocation, Report, Sampler,
    SamplerEvent,
};

use crate::model::{
    Kind, MAPPINGS, Nat, Ports, SECOND, Server, World, full, primary, seed, single,
};

const PATTERNS: [(Ports, PortAllocation); 5] = [
    (Ports::Preserving, PortAllocation::Preserving),
    (
        Ports::Sequential { stride: 1 },
        PortAllocation::Sequential { stride: 1 },
    ),
    (
        Ports::Sequential { stride: -3 },
        PortAllocation::Sequential { stride: -3 },
    ),
    (
        Ports::Block {
            first: 2048,
            last: 2175,
        },
        PortAllocation::Block {
            first: 2048,
            last: 2175,
        },
    ),
    (Ports::Random, PortAllocation::Random),
];

#[test]
fn ten_fresh_sockets_show_the_pattern_at_once_whatever_the_mapping() {
    for mapping in MAPPINGS {
        for (ports, expected) in PATTERNS {
            let mut world = sampling(ports, mapping, vec![full()], 10, 1);
            world.run_to_end();
            assert_eq!(world.machine.allocation(), expected, "{mapping}");
            assert_eq!(world.machine.pooling(), Some(Pooling::Paired));
            let (at, last) = world.events.last().unwrap();
            assert_eq!(*last, SamplerEvent::Finished);
            assert!(*at <= Duration::from_millis(150), "{at:?}");
            assert_eq!((world.events.len(), world.sent.len()), (11, 10));
            assert!(world.machine.is_finished());
        }
    }
}

#[test]
fn sockets_are_sampled_in_their_order_as_they_come() {
    let mapping = M::AddressAndPortDependent;
    let mut world = sampling(Ports::Sequential { stride: 1 }, mapping, vec![full()], 4, 2);
    world.run_to_end();
    for (index, (at, event)) in world.events.iter().take(4).enumerate() {
        let index = u16::try_from(index).unwrap();
        let socket = socket(index);
        let mapped = SocketAddr::from(([203, 0, 113, 9], 20_001 + index));
        assert_eq!(*event, SamplerEvent::Sampled { socket, mapped });
        assert_eq!(*at, Duration::from_millis(40 + 10 * u64::from(index)));
    }
}

#[test]
fn at_thirty_percent_loss_the_pattern_is_right_or_unknown() {
    for (ports, expected) in PATTERNS {
        let (mut wrong, mut known) = (0, 0);
        for number in 0..1000 {
            let mapping = M::AddressAndPortDependent;
            let mut world = sampling(ports, mapping, vec![full()], 10, number);
            world.loss_percent = 30;
            world.run_to_end();
            let told = world.machine.allocation();
            let is_right = match (told, expected) {
                // How well a block is measured is tested where it is inferred.
                (PortAllocation::Block { .. }, PortAllocation::Block { .. }) => true,
                (told, expected) => told == expected,
            };
            known += u32::from(is_right);
            wrong += u32::from(!is_right && told != PortAllocation::Unknown);
        }
        assert!(
            wrong <= 10 && known >= 980,
            "{ports:?}: {wrong} wrong, {known} right"
        );
    }
}

#[test]
fn other_peoples_flows_do_not_hide_a_sequence() {
    for (crowd, stride) in [(1, 1), (5, 2)] {
        let mapping = M::AddressAndPortDependent;
        let mut world = sampling(Ports::Sequential { stride }, mapping, vec![full()], 8, 4);
        world.crowd = crowd;
        world.run_to_end();
        let PortAllocation::Sequential { stride: told } = world.machine.allocation() else {
            panic!("no sequence with {crowd} flows between ours");
        };
        // What others take regularly looks like a longer stride.
        assert_eq!(told, stride * i32::try_from(crowd + 1).unwrap());
    }
}

#[test]
fn a_pool_shows_when_fresh_sockets_get_different_addresses() {
    let nat = |pooling| {
        let mut nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
        nat.public.push("203.0.113.10".parse().unwrap());
        nat.pooling = pooling;
        nat
    };
    for pooling in [Pooling::Arbitrary, Pooling::Paired] {
        let mut world = World::around(nat(pooling), vec![full()], 5, |now| {
            Sampler::new(vec![primary()], (0..10).map(socket).collect(), seed(5), now)
        });
        world.run_to_end();
        assert_eq!(world.machine.pooling(), Some(pooling));
        let mut report = Report::default();
        report.add_samples(&world.machine.mappings().collect::<Vec<_>>());
        assert_eq!(
            (report.pooling, report.ports),
            (Some(pooling), PortAllocation::Random)
        );
        assert_eq!(report.evidence.len(), 2);
    }
}

#[test]
fn a_silent_server_costs_a_second_and_silence_of_all_two() {
    let servers = || vec![Server::new(SECOND, Kind::Dead), single("192.0.2.1:3478")];
    let mut world = sampling(Ports::Random, M::EndpointIndependent, servers(), 3, 6);
    world.run_to_end();
    assert_eq!(world.machine.samples().len(), 3);
    assert!(world.events[0].0 < Duration::from_millis(1100));
    let mut world = sampling(Ports::Random, M::EndpointIndependent, servers(), 3, 6);
    world.blocked = true;
    world.run_to_end();
    let finished = (Duration::from_secs(2), SamplerEvent::Finished);
    assert_eq!(world.events, [finished]);
}

#[test]
fn without_servers_or_sockets_it_has_finished() {
    let mut world = sampling(Ports::Random, M::EndpointIndependent, vec![], 3, 7);
    world.run_to_end();
    assert_eq!(world.events, [(Duration::ZERO, SamplerEvent::Finished)]);
    let mut world = sampling(Ports::Random, M::EndpointIndependent, vec![full()], 0, 7);
    world.run_to_end();
    assert_eq!(world.events, [(Duration::ZERO, SamplerEvent::Finished)]);
}

fn sampling(
    ports: Ports,
    mapping: M,
    servers: Vec<Server>,
    sockets: u16,
    number: u32,
) -> World<Sampler> {
    let mut nat = Nat::new(mapping, F::AddressAndPortDependent);
    nat.ports = ports;
    let addresses = servers.iter().map(|server| server.address).collect();
    let sockets = (0..sockets).map(socket).collect();
    World::around(nat, servers, number, |now| {
        Sampler::new(addresses, sockets, seed(number), now)
    })
}

fn socket(index: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 5000 + 7 * index))
}
