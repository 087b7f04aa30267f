//! What strangers send, what bounds hold, and what must be the same every time.

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use session::{Description, Hex, PathKind, PeerId, RelayStreamId};

use crate::world::{Filtering, NatKind, RelayBox, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_sixty_fifth_peer_is_refused_and_counted() {
    let mut world = World::pair(31, PORT_RESTRICTED, PORT_RESTRICTED);
    world.run(SECOND);
    let bytes = world.hosts[0].node.description().encode();
    let mut description = Description::decode(&bytes).unwrap();
    let now = world.now;
    let node = &mut world.hosts[1].node;
    for number in 1..64_u8 {
        description.instance = Hex([number; 16]);
        assert!(node.set_peer(PeerId(1000 + u64::from(number)), description.clone(), now));
    }
    description.instance = Hex([99; 16]);
    assert!(!node.set_peer(PeerId(2000), description.clone(), now));
    assert_eq!(node.stats().peers_refused, 1);
    assert!(node.peer_description(PeerId(2000)).is_none());
    node.remove_peer(PeerId(1001));
    assert!(
        node.set_peer(PeerId(2000), description, now),
        "there is room again"
    );
    world.run(5 * SECOND);
}

#[test]
fn garbage_and_altered_packets_change_nothing() {
    let mut world = World::pair(32, PORT_RESTRICTED, PORT_RESTRICTED);
    world.run(2 * SECOND);
    let mut rng = StdRng::from_seed([5; 32]);
    let captured: Vec<Vec<u8>> = world
        .hosts
        .iter()
        .flat_map(|host| host.sent.iter().map(|it| it.2.clone()))
        .collect();
    let paths: Vec<_> = world.hosts.iter().map(|host| host.routes.clone()).collect();
    for round in 0..20_000_u32 {
        let mut payload = captured[rng.random_range(0..captured.len())].clone();
        if round % 4 == 0 {
            payload = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut payload);
        } else {
            let at = rng.random_range(0..payload.len());
            payload[at] ^= 1 << rng.random_range(0..8);
        }
        let index = usize::from(rng.random::<bool>());
        let from = if rng.random() {
            RelayBox::address()
        } else {
            std::net::SocketAddr::from(([198, 51, 100, rng.random()], rng.random()))
        };
        world.deliver(index, from, &payload);
        let (stream, now) = (RelayStreamId(rng.random_range(0..3)), world.now);
        world.hosts[index]
            .node
            .handle_relay_frame(stream, &payload, now);
    }
    world.run(5 * SECOND);
    for (host, before) in world.hosts.iter().zip(paths) {
        assert!(
            before.keys().all(|path| host.routes.contains_key(path)),
            "a path was lost"
        );
        let strange = host
            .views
            .values()
            .any(|view| view.remote.ip().to_string().starts_with("198.51.100."));
        assert!(!strange, "a stranger has a path");
    }
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    assert!(world.hosts[0].node.stats().datagrams_unclaimed > 100);
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let sent = |seed: u8| {
        let mut world = World::pair(seed, PORT_RESTRICTED, PORT_RESTRICTED);
        world.loss_percent = 10;
        world.hosts[0].is_chatty = true;
        world.run(30 * SECOND);
        let packets: Vec<_> = world
            .hosts
            .into_iter()
            .flat_map(|host| host.sent.into_iter())
            .collect();
        packets
    };
    let first = sent(33);
    assert!(first.len() > 500);
    assert!(first == sent(33), "two runs differ");
    assert!(first != sent(34), "the seed has no effect");
}

#[test]
fn no_machine_wakes_without_need() {
    let kinds = [
        PORT_RESTRICTED,
        NatKind::UdpBlocked,
        NatKind::Symmetric(Filtering::AddressAndPort),
    ];
    for ingress in kinds {
        for egress in kinds {
            let mut world = World::pair(35, ingress, egress);
            world.run(60 * SECOND);
            for host in &world.hosts {
                let most = host.wakes.values().max().unwrap();
                // A volley has 500 probes a second, 2 ms apart.
                assert!(*most < 700, "{most} calls in one second");
                let late: u32 = host.wakes.range(30..).map(|(_, calls)| calls).sum();
                assert!(
                    late < 30 * 10,
                    "{late} calls in 30 quiet seconds, {ingress:?} {egress:?}"
                );
            }
        }
    }
}

#[test]
fn a_description_that_repeats_itself_causes_no_storm() {
    let mut world = World::pair(36, PORT_RESTRICTED, PORT_RESTRICTED);
    world.run(15 * SECOND);
    let bytes = world.hosts[1].node.description().encode();
    let before = world.hosts[0].sent.len();
    for _ in 0..100 {
        let (elapsed, now) = (world.elapsed(), world.now);
        world.hosts[0].on_description(&bytes, elapsed, now);
        world.run(Duration::from_millis(10));
    }
    let sent = world.hosts[0].sent.len() - before;
    assert!(sent < 40, "{sent} packets");
}
