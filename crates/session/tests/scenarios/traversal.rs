//! What hard NATs need beside plain checks, and what it costs.

use std::time::Duration;

use session::{Outcome, PathKind, Policy, Side, Strategy};

use crate::world::{Filtering, Happening, NatKind, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const RANDOM: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const COUNTING: NatKind = NatKind::Counting(1);
const COUNTING_BY_TWO: NatKind = NatKind::Counting(2);
const FIREWALL: NatKind = NatKind::Firewall;
const SECOND: Duration = Duration::from_secs(1);

/// The limits of DESIGN §5, which no run may pass.
const SOCKETS_MAX: usize = 256;
const BINDINGS_A_MINUTE_MAX: usize = 1_200;
/// 500 probes, and what checks and answers come to.
const PACKETS_A_SECOND_MAX: usize = 700;

/// Runs until host 0 has chosen a direct path; returns when.
fn time_to_direct(
    seed: u8,
    ingress: NatKind,
    egress: NatKind,
    limit: Duration,
) -> Option<Duration> {
    let mut world = World::pair(seed, ingress, egress);
    let took = world.run_until(limit, |world| {
        world.chosen_kind(0) == Some(PathKind::Direct)
    });
    assert_cheap(&world);
    took
}

fn assert_cheap(world: &World) {
    for (index, host) in world.hosts.iter().enumerate() {
        // A survey of our ports may run beside a round.
        assert!(host.extra_most <= SOCKETS_MAX + 16, "{}", host.extra_most);
        let bindings = world.bindings_a_minute(host.config.site);
        assert!(
            bindings <= BINDINGS_A_MINUTE_MAX + 200,
            "{bindings} bindings"
        );
        for other in 0..world.hosts.len() {
            let packets = world.packets_a_second(index, world.public_ip(other));
            assert!(
                packets <= PACKETS_A_SECOND_MAX,
                "{packets} packets a second"
            );
        }
    }
}

/// Plays many seeds; returns how many became direct in time, and their median.
fn score(seeds: u8, ingress: NatKind, egress: NatKind, limit: Duration) -> (usize, Duration) {
    let mut times: Vec<_> = (0..seeds)
        .filter_map(|seed| time_to_direct(seed, ingress, egress, limit))
        .collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!(
        "{ingress:?} x {egress:?}: {}/{seeds} within {limit:?}, median {median:?}, worst {:?}",
        times.len(),
        times.last()
    );
    (times.len(), median)
}

#[test]
fn a_nat_that_counts_meets_whatever_stays_put_within_two_seconds() {
    for counting in [COUNTING, COUNTING_BY_TWO, NatKind::Counting(-1)] {
        for steady in [PORT_RESTRICTED, FIREWALL] {
            for (ingress, egress) in [(counting, steady), (steady, counting)] {
                let (direct, median) = score(10, ingress, egress, 4 * SECOND);
                assert_eq!(direct, 10);
                assert!(median < 2 * SECOND, "{median:?}");
            }
        }
    }
}

#[test]
fn a_random_nat_meets_whatever_stays_put_by_chance() {
    for steady in [PORT_RESTRICTED, FIREWALL] {
        for (ingress, egress) in [(RANDOM, steady), (steady, RANDOM)] {
            let (direct, median) = score(25, ingress, egress, 8 * SECOND);
            assert!(direct >= 24, "{direct}");
            assert!(median < 3 * SECOND, "{median:?}");
        }
    }
}

#[test]
fn a_block_costs_few_sockets() {
    for size in [128, 512, 2_048] {
        let mut world = World::pair(3, NatKind::Block(size), PORT_RESTRICTED);
        let took = world.run_until(6 * SECOND, |world| {
            world.chosen_kind(0) == Some(PathKind::Direct)
        });
        world.run(2 * SECOND);
        let host = &world.hosts[0];
        let most = host.extra_most;
        println!(
            "block of {size}: {took:?}, {most} sockets at once, {:?}",
            host.worked
        );
        assert!(took.is_some());
        assert!(most <= 64 + 16, "{most}");
        assert_eq!(host.worked.last(), Some(&Strategy::Block));
    }
}

#[test]
fn two_nats_that_count_meet_in_paired_windows() {
    for (ingress, egress) in [
        (COUNTING, COUNTING),
        (COUNTING, COUNTING_BY_TWO),
        (COUNTING_BY_TWO, COUNTING_BY_TWO),
    ] {
        let (direct, median) = score(20, ingress, egress, 10 * SECOND);
        assert!(direct >= 19, "{direct}");
        assert!(median < 5 * SECOND, "{median:?}");
    }
}

#[test]
fn the_socket_that_won_stays_open_and_the_others_are_closed() {
    let mut world = World::pair(5, RANDOM, PORT_RESTRICTED);
    world.run(20 * SECOND);
    let view = world.chosen(0).unwrap();
    assert_eq!((view.kind, view.via()), (PathKind::Direct, "birthday"));
    let host = &world.hosts[0];
    assert!((1..=4).contains(&host.extra.len()), "{:?}", host.extra);
    assert!(host.extra.contains(&view.local.port()));
    let entry = host.node.ledger(*host.chosen.keys().next().unwrap());
    let worked = entry.iter().find(|it| it.strategy == Strategy::Birthday);
    assert_eq!(worked.unwrap().outcome, Outcome::Worked);
    // Quiet for minutes: the path's checks hold the binding of its socket.
    world.run(300 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    let drops = world.hosts[0].times(|it| matches!(it, Happening::Dropped(..)));
    assert_eq!(drops.len(), 0, "{:?}", world.hosts[0].log);

    // The path dies: its socket is closed in the end, and another round finds another one.
    let before = world.chosen(0).unwrap().local;
    world.restart_nat(0);
    world.hosts[0].is_chatty = true;
    let again = world.run_until(60 * SECOND, |world| {
        world
            .chosen(0)
            .is_some_and(|view| view.kind == PathKind::Direct && view.local != before)
    });
    println!("after the NAT's restart direct again in {again:?}");
    assert!(again.is_some());
    world.run(120 * SECOND);
    assert!(
        world.hosts[0].extra.len() <= 4,
        "{:?}",
        world.hosts[0].extra
    );
    assert!(!world.hosts[0].extra.contains(&before.port()));
}

#[test]
fn of_many_sockets_that_won_the_one_in_use_is_kept() {
    // A small block: nearly every probe finds a socket, and many have won before the ends have settled on one.
    for (ingress, egress) in [
        (PORT_RESTRICTED, NatKind::Block(128)),
        (NatKind::Block(128), PORT_RESTRICTED),
    ] {
        for seed in 0..10 {
            let mut world = World::pair(seed, ingress, egress);
            world.run(20 * SECOND);
            assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
            let host = &world.hosts[0];
            let mut kinds = Vec::new();
            for (_, happening) in &host.log {
                if let Happening::Chosen(path) = happening {
                    kinds.push(host.views[path].kind);
                }
            }
            assert_eq!(
                kinds,
                [PathKind::Relay, PathKind::Direct],
                "{ingress:?} x {egress:?}, seed {seed}: {:?}",
                world.hosts[0].log
            );
        }
    }
}

#[test]
fn first_bytes_do_not_wait_for_it() {
    let mut world = World::pair(7, RANDOM, PORT_RESTRICTED);
    let took = world
        .run_until(5 * SECOND, |world| world.chosen(0).is_some())
        .unwrap();
    assert!(took <= Duration::from_millis(400), "{took:?}");
    assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
}

#[test]
fn without_a_relay_notes_take_the_way_through_signaling() {
    for (ingress, egress) in [(RANDOM, PORT_RESTRICTED), (FIREWALL, COUNTING)] {
        let mut world = World::new(8);
        world.home(ingress, Side::Ingress, Policy::DirectOnly);
        world.home(egress, Side::Egress, Policy::DirectOnly);
        let took = world.run_until(20 * SECOND, |world| world.chosen(0).is_some());
        println!("{ingress:?} x {egress:?} without a relay: {took:?}");
        assert!(took.is_some());
        assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
        assert_cheap(&world);
    }
}

#[test]
fn a_server_without_a_relay_speaks_to_many_clients_in_one_slot() {
    let mut world = World::new(12);
    world.home(PORT_RESTRICTED, Side::Egress, Policy::DirectOnly);
    for _ in 0..6 {
        world.home(COUNTING, Side::Ingress, Policy::DirectOnly);
    }
    let took = world.run_until(60 * SECOND, |world| {
        (1..7).all(|index| world.chosen_kind(index) == Some(PathKind::Direct))
    });
    println!("six clients without a relay: {took:?}");
    assert!(took.is_some());
    let slot = world.hosts[0].published.clone().unwrap();
    let notes = String::from_utf8(slot)
        .unwrap()
        .matches("\"counter\"")
        .count();
    assert!((1..=8).contains(&notes), "{notes} notes");
}

#[test]
fn two_random_nats_are_left_alone() {
    let mut world = World::pair(9, RANDOM, RANDOM);
    world.run(120 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
    for host in &world.hosts {
        assert!(host.extra.is_empty());
        assert!(host.extra_most <= 16, "nothing but the survey of ports");
    }
    let bindings = world.bindings_a_minute(0);
    assert!(bindings < 100, "{bindings}");
}

#[test]
fn a_server_plays_with_its_clients_one_after_the_other() {
    let mut world = World::new(10);
    world.home(PORT_RESTRICTED, Side::Egress, Policy::Any);
    for _ in 0..4 {
        world.home(RANDOM, Side::Ingress, Policy::Any);
    }
    let clients = 1..5;
    let took = world.run_until(60 * SECOND, |world| {
        clients
            .clone()
            .all(|index| world.chosen_kind(index) == Some(PathKind::Direct))
    });
    println!("four clients behind random NATs: {took:?}");
    assert!(took.is_some_and(|it| it < 30 * SECOND), "{took:?}");
    assert_cheap(&world);
    let packets: usize = (1..5)
        .map(|it| world.packets_a_second(0, world.public_ip(it)))
        .max()
        .unwrap();
    assert!(packets <= PACKETS_A_SECOND_MAX);
}

#[test]
fn loss_costs_rounds_and_not_the_path() {
    for (ingress, egress, seconds) in [
        (COUNTING, PORT_RESTRICTED, 20),
        (PORT_RESTRICTED, RANDOM, 40),
        (COUNTING, COUNTING, 40),
    ] {
        let mut direct = 0;
        for seed in 0..5 {
            let mut world = World::pair(seed, ingress, egress);
            world.loss_percent = 10;
            let took = world.run_until(seconds * SECOND, |world| {
                world.chosen_kind(0) == Some(PathKind::Direct)
            });
            println!("{ingress:?} x {egress:?} at 10 % loss: {took:?}");
            direct += u32::from(took.is_some());
            assert_cheap(&world);
        }
        assert_eq!(direct, 5, "{ingress:?} {egress:?}");
    }
}

#[test]
fn a_peer_that_restarts_in_the_middle_leaves_no_socket_behind() {
    let mut world = World::pair(11, RANDOM, PORT_RESTRICTED);
    world.run_until(10 * SECOND, |world| world.hosts[0].extra.len() == 256);
    assert_eq!(world.hosts[0].extra.len(), 256);
    let peer = world.hosts[0].peers.values().next().copied().unwrap();
    world.hosts[0].node.remove_peer(peer);
    world.run(SECOND / 10);
    assert_eq!(world.hosts[0].extra.len(), 0);
}
