//! Lossy links, many seeds.

use std::time::Duration;

use session::PathKind;

use crate::world::{Filtering, NatKind, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SYMMETRIC: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const BLOCKED: NatKind = NatKind::UdpBlocked;
const SECOND: Duration = Duration::from_secs(1);

/// Runs one pair and returns when its first path was chosen and when its best one.
fn run(seed: u8, kinds: [NatKind; 2], loss_percent: u32, best: PathKind) -> (Duration, Duration) {
    let mut world = World::pair(seed, kinds[0], kinds[1]);
    world.loss_percent = loss_percent;
    let first = world.run_until(30 * SECOND, |world| world.chosen(0).is_some());
    let first = first.unwrap_or_else(|| panic!("SEED={seed} {kinds:?}: no path at all"));
    let rest = world.run_until(30 * SECOND, |world| world.chosen_kind(0) == Some(best));
    let rest = rest.unwrap_or_else(|| panic!("SEED={seed} {kinds:?}: never {best}"));
    world.run(2 * SECOND);
    for host in &world.hosts {
        assert_eq!(host.orphans, 0, "SEED={seed} {kinds:?}: dialled too early");
    }
    (first, first + rest)
}

/// Runs many seeds; prints and returns the median and the worst time to the best path.
fn survey(kinds: [NatKind; 2], loss_percent: u32, best: PathKind) -> (Duration, Duration) {
    let mut firsts = Vec::new();
    let mut bests = Vec::new();
    for seed in 0..40 {
        let (first, best) = run(seed, kinds, loss_percent, best);
        firsts.push(first);
        bests.push(best);
    }
    firsts.sort();
    bests.sort();
    println!(
        "{kinds:?} at {loss_percent} %: first path {:?} (worst {:?}), {best} {:?} (worst {:?})",
        firsts[20], firsts[39], bests[20], bests[39]
    );
    (bests[20], bests[39])
}

#[test]
fn a_direct_path_is_found_at_five_percent_loss() {
    let (median, worst) = survey([PORT_RESTRICTED, PORT_RESTRICTED], 5, PathKind::Direct);
    assert!(
        median < SECOND && worst < 3 * SECOND,
        "{median:?} {worst:?}"
    );
}

#[test]
fn a_direct_path_is_found_at_twenty_percent_loss() {
    let (median, worst) = survey([PORT_RESTRICTED, PORT_RESTRICTED], 20, PathKind::Direct);
    assert!(
        median < SECOND && worst < 8 * SECOND,
        "{median:?} {worst:?}"
    );
}

#[test]
fn a_relayed_path_is_found_at_twenty_percent_loss() {
    let (median, worst) = survey([SYMMETRIC, SYMMETRIC], 20, PathKind::Relay);
    assert!(
        median < 2 * SECOND && worst < 12 * SECOND,
        "{median:?} {worst:?}"
    );
    let (median, worst) = survey([BLOCKED, PORT_RESTRICTED], 20, PathKind::Relay);
    assert!(
        median < 3 * SECOND && worst < 12 * SECOND,
        "{median:?} {worst:?}"
    );
}

#[test]
fn a_path_in_use_survives_twenty_percent_loss() {
    for seed in 0..10 {
        let mut world = World::pair(seed, PORT_RESTRICTED, PORT_RESTRICTED);
        world.loss_percent = 20;
        world.hosts[0].is_chatty = true;
        world.run(20 * SECOND);
        let path = world.hosts[0].chosen.clone();
        assert_eq!(world.chosen_kind(0), Some(PathKind::Direct), "SEED={seed}");
        world.run(120 * SECOND);
        assert_eq!(
            world.hosts[0].chosen, path,
            "SEED={seed}: a living path was left"
        );
    }
}
