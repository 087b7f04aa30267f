//! A path called direct is direct: what passes small packets only, or one direction only, or nothing, is not
//! taken, or is left, and is named.

use std::time::Duration;

use session::{Cause, DropCause, PathId, PathKind, PeerId, Policy, Remedy, Side};

use crate::world::{Filtering, Happening, NatKind, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SECOND: Duration = Duration::from_secs(1);
/// From data being outstanding to the last moment on a path that does not carry it.
const LEFT_WITHIN: Duration = Duration::from_secs(3);
/// Between the size of a check and that of a data packet.
const BYTES: usize = 1000;

/// A pair that talks over a direct path, the client alone, the server alone, or both.
fn talking(seed: u8, talkers: &[usize]) -> World {
    let mut world = World::pair(seed, PORT_RESTRICTED, PORT_RESTRICTED);
    world.run(12 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    for talker in talkers {
        world.hosts[*talker].is_chatty = true;
    }
    world.run(2 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    world
}

fn chosen(world: &World) -> PathId {
    *world.hosts[0].chosen.values().next().unwrap()
}

/// Waits until the direct path is left; returns how long that took and what the client named as the cause.
fn left(world: &mut World) -> (Duration, DropCause) {
    let path = chosen(world);
    let took = world.run_until(10 * SECOND, |world| {
        world.chosen_kind(0) == Some(PathKind::Relay)
    });
    (took.expect("never left"), cause_at(world, 0, path).unwrap())
}

/// What happened at both ends since the talking began.
fn tail(world: &World) -> String {
    let log = |host: usize| {
        let log = world.hosts[host].log.iter();
        log.filter(|(at, _)| *at > 14 * SECOND).collect::<Vec<_>>()
    };
    format!("{:?}\n{:?}", log(0), log(1))
}

fn cause_at(world: &World, host: usize, path: PathId) -> Option<DropCause> {
    let mut causes = world.hosts[host]
        .log
        .iter()
        .rev()
        .filter_map(|(_, happening)| {
            if let Happening::Dropped(dropped, cause) = happening {
                return (*dropped == path).then_some(*cause);
            }
            None
        });
    causes.next()
}

/// Both ends' judgement, which must be the same.
fn judged(world: &World) -> Cause {
    let judge = |host: usize| {
        let peer: PeerId = *world.hosts[host].peers.values().next().unwrap();
        world.hosts[host].node.diagnosis(peer).unwrap()
    };
    assert_eq!(judge(0), judge(1), "the ends disagree");
    judge(0).cause
}

#[test]
fn a_path_that_passes_small_packets_only_is_never_taken_and_is_named() {
    for directions in [&[(0, 1)][..], &[(1, 0)], &[(0, 1), (1, 0)]] {
        let mut world = World::pair(41, PORT_RESTRICTED, PORT_RESTRICTED);
        for (from, to) in directions {
            world.limit_size(*from, *to, BYTES);
        }
        world.run(30 * SECOND);
        let host = &world.hosts[0];
        let taken = host.log.iter().any(|(_, happening)| {
            matches!(happening, Happening::Chosen(path) if host.views[path].kind != PathKind::Relay)
        });
        assert!(!taken, "{directions:?}");
        assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
        assert_eq!(judged(&world), Cause::SmallPacketsOnly, "{directions:?}");
        world.mend();
        let direct = world.run_until(120 * SECOND, |world| {
            world.chosen_kind(0) == Some(PathKind::Direct)
        });
        assert!(
            direct.is_some(),
            "{directions:?}: mended, and never tried again"
        );
    }
}

#[test]
fn a_path_that_begins_to_swallow_large_packets_is_left_and_named() {
    for (directions, talkers) in [
        (&[(0, 1)][..], &[0][..]),
        (&[(0, 1), (1, 0)], &[0]),
        (&[(1, 0)], &[1]),
        (&[(0, 1), (1, 0)], &[1]),
    ] {
        let mut world = talking(42, talkers);
        for (from, to) in directions {
            world.limit_size(*from, *to, BYTES);
        }
        let (took, cause) = left(&mut world);
        println!("large packets swallowed {directions:?}, {talkers:?} talk: left after {took:?}");
        assert!(
            took <= LEFT_WITHIN,
            "{directions:?} {talkers:?}: {took:?}\n{}",
            tail(&world)
        );
        assert_eq!(
            cause,
            DropCause::SmallPacketsOnly,
            "{directions:?} {talkers:?}"
        );
        for after in [SECOND, 4 * SECOND, 20 * SECOND] {
            world.run(after);
            assert_eq!(
                judged(&world),
                Cause::SmallPacketsOnly,
                "{directions:?}, {after:?} later"
            );
        }
    }
}

#[test]
fn a_path_that_passes_one_direction_only_is_left_and_named() {
    for (from, to) in [(0, 1), (1, 0)] {
        for talkers in [&[0][..], &[1], &[0, 1]] {
            let mut world = talking(43, talkers);
            let path = chosen(&world);
            let theirs = world.hosts[0].matches[&path];
            world.cut_one_way(from, to);
            let (took, ours) = left(&mut world);
            println!(
                "nothing from {from} to {to}, {talkers:?} talk: left after {took:?}, {ours:?}"
            );
            assert!(took <= LEFT_WITHIN, "{from} to {to}, {talkers:?}: {took:?}");
            // The end without data outstanding keeps its path for a minute, and only then asks again.
            world.run(120 * SECOND);
            // Who hears the other and is not answered can tell; who hears nothing cannot.
            let said = [Some(ours), cause_at(&world, 1, theirs)];
            if talkers.contains(&1) {
                assert!(said.contains(&Some(DropCause::OneDirection)), "{said:?}");
            }
            let arrives_at = if from == 0 {
                Side::Ingress
            } else {
                Side::Egress
            };
            assert_eq!(judged(&world), Cause::OneDirection { arrives_at });
        }
    }
}

#[test]
fn a_path_that_dies_silently_is_left_whoever_has_data_outstanding() {
    for talkers in [&[0][..], &[1], &[0, 1]] {
        let mut world = talking(44, talkers);
        world.cut(0, Some(1));
        let (took, cause) = left(&mut world);
        println!("nothing passes, {talkers:?} talk: left after {took:?}");
        assert!(took <= LEFT_WITHIN, "{talkers:?}: {took:?}");
        assert_eq!(cause, DropCause::Silent);
        world.run(30 * SECOND);
        assert_eq!(judged(&world), Cause::NothingArrives);
    }
}

#[test]
fn without_a_standby_the_server_leaves_a_path_on_which_it_is_not_heard() {
    for directions in [&[(0, 1), (1, 0)][..], &[(0, 1)], &[(1, 0)]] {
        let mut world = World::new(45);
        world.home(PORT_RESTRICTED, Side::Ingress, Policy::DirectOnly);
        world.home(PORT_RESTRICTED, Side::Egress, Policy::DirectOnly);
        world.run(12 * SECOND);
        let path = chosen(&world);
        let theirs = world.hosts[0].matches[&path];
        world.hosts[1].is_chatty = true;
        world.run(2 * SECOND);
        assert!(world.hosts[1].routes.contains_key(&theirs));
        for (from, to) in directions {
            world.cut_one_way(*from, *to);
        }
        let gone = |world: &World| cause_at(world, 1, theirs).is_some();
        let took = world.run_until(10 * SECOND, gone);
        println!("{directions:?} cut, no standby: the server leaves after {took:?}");
        assert!(took.is_some_and(|took| took <= LEFT_WITHIN), "{took:?}");
    }
}

#[test]
fn a_path_that_both_use_is_not_left_for_twenty_percent_of_loss() {
    for seed in 0..10 {
        let mut world = talking(seed, &[0, 1]);
        let path = chosen(&world);
        world.loss_percent = 20;
        world.run(120 * SECOND);
        assert_eq!(chosen(&world), path, "SEED={seed}: a living path was left");
    }
}

#[test]
fn the_change_that_would_help_names_the_port_of_the_server() {
    let mut world = World::pair(
        46,
        NatKind::Symmetric(Filtering::AddressAndPort),
        PORT_RESTRICTED,
    );
    world.run(12 * SECOND);
    let peer = *world.hosts[0].peers.values().next().unwrap();
    let diagnosis = world.hosts[0].node.diagnosis(peer).unwrap();
    let port = Some(crate::world::PORT);
    let at = Side::Egress;
    assert_eq!(
        diagnosis.remedy,
        Some(Remedy::EnablePortMapping { at, port })
    );
    assert!(matches!(
        diagnosis.cause,
        Cause::PortUnknown {
            picks: Side::Ingress,
            ..
        }
    ));
}
