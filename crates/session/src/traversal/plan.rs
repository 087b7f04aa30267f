//! Which strategy, by what is known of both NATs: pure judgement.

use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngExt, rngs::StdRng};

use super::Strategy;
use super::budget::{PROBES_PER_ROUND_MAX, SOCKETS_MAX};
use super::note::{Anchored, Order, Part};
use super::profile::{Filtering, Mapping, Ports, Profile};

/// Plain checks have this long alone: three openers and four full checks, in which nearly every pair that can
/// do without us has met.
const PLAIN_ALONE: Duration = Duration::from_millis(600);
/// Where by both ends' word plain checks must succeed, they have longer.
const PLAIN_LIKELY: Duration = Duration::from_secs(3);
/// After this a NAT of which nothing is known is taken for one that stays put: a round costs little, and
/// whoever knows better declines.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(4);

/// What is to be done beside the plain checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing would help, or nothing is needed.
    Nothing,
    /// Something is not known yet.
    Wait,
    /// A round, in which we have this part, once plain checks have had their time.
    Play { part: Part, after: Duration },
}

/// Judges by both profiles, `waited` after checking began.
pub(crate) fn plan(ours: &Profile, theirs: &Profile, waited: Duration) -> Plan {
    if ours.udp == Some(false) || theirs.udp == Some(false) {
        return Plan::Nothing;
    }
    let is_late = waited >= PATIENCE_UNKNOWN;
    match (ours.mapping, theirs.mapping) {
        (Mapping::PerDestination, Mapping::PerDestination) => both(ours.ports, theirs.ports),
        (Mapping::PerDestination, Mapping::Unknown)
        | (Mapping::Unknown, Mapping::PerDestination)
        | (Mapping::Unknown, Mapping::Unknown)
            if !is_late =>
        {
            Plan::Wait
        }
        (Mapping::PerDestination, Mapping::Stable | Mapping::Unknown) => {
            if ours.ports == Ports::Unknown && !is_late {
                return Plan::Wait;
            }
            one_sided(Part::Anchor, theirs.filtering)
        }
        (Mapping::Stable | Mapping::Unknown, Mapping::PerDestination) => {
            one_sided(Part::Scout, ours.filtering)
        }
        (Mapping::Stable, Mapping::Unknown) | (Mapping::Unknown, Mapping::Stable) if !is_late => {
            Plan::Wait
        }
        (Mapping::Stable | Mapping::Unknown, Mapping::Stable | Mapping::Unknown) => Plan::Nothing,
    }
}

/// Two NATs that map per destination meet only where both can be predicted: with k random ports on each side
/// the chance is k² in four thousand million.
fn both(ours: Ports, theirs: Ports) -> Plan {
    match (ours, theirs) {
        (Ports::Sequential { .. }, Ports::Sequential { .. }) => Plan::Play {
            part: Part::Both,
            after: PLAIN_ALONE,
        },
        (Ports::Unknown, Ports::Unknown | Ports::Sequential { .. })
        | (Ports::Sequential { .. }, Ports::Unknown) => Plan::Wait,
        _ => Plan::Nothing,
    }
}

const fn one_sided(part: Part, filtering_of_the_scout: Filtering) -> Plan {
    let after = match filtering_of_the_scout {
        // The anchor's checks get through, and the scout answers what it sees.
        Filtering::Lenient => PLAIN_LIKELY,
        Filtering::ByPort | Filtering::Unknown => PLAIN_ALONE,
    };
    Plan::Play { part, after }
}

/// A block larger than this is worked like no block at all: 64 sockets and 2,048 probes still meet in it with
/// 99.9 %.
const BLOCK_MAX: u16 = 16_384;
/// After so many failed predictions in a row chance is tried too: the NAT is too busy to be predicted.
const PREDICTIONS_MAX: u32 = 6;
/// The same for blocks, which are exact when they are right.
const BLOCKS_MAX: u32 = 2;

/// How an anchor with these ports plays after `failures` rounds that failed in a row.
pub(crate) const fn strategy_for(ports: Ports, failures: u32) -> Strategy {
    match ports {
        Ports::Preserving | Ports::Sequential { .. } => {
            if failures >= PREDICTIONS_MAX && failures.is_multiple_of(3) {
                Strategy::Birthday
            } else {
                Strategy::Predicted
            }
        }
        Ports::Block { first, last } if last - first < BLOCK_MAX => {
            if failures >= BLOCKS_MAX && failures.is_multiple_of(2) {
                Strategy::Birthday
            } else {
                Strategy::Block
            }
        }
        Ports::Block { .. } | Ports::Random | Ports::Unknown => Strategy::Birthday,
    }
}

/// Sockets that tell where the sequence is: one before the anchors, one after.
pub(crate) const SAMPLES: u16 = 2;
/// The least window, contiguous whatever the stride (facts/lab.md: 15 of 15 against a host that opens 50 flows
/// a second, where a window that multiplies the stride fails).
pub(crate) const WINDOW: u16 = 16;
/// The widest one: a NAT that gave more than this away meanwhile is too busy.
const WINDOW_MAX: u16 = 64;
/// Ports below are never given out by a NAT that keeps RFC 4787, REQ-3.
const PORT_MIN: u16 = 1024;

/// Returns how many sockets an anchor opens.
pub(crate) fn sockets_for(strategy: Strategy, ports: Ports) -> u16 {
    match (strategy, ports) {
        (Strategy::Predicted, Ports::Sequential { stride }) => {
            let anchors = (WINDOW / stride.unsigned_abs().max(1)).clamp(1, 4);
            anchors + SAMPLES
        }
        (Strategy::Predicted, _) => 4 + SAMPLES,
        // facts/nat-population.md, section 4: 98 % and more with as many probes; here the whole block is probed.
        (Strategy::Block, Ports::Block { first, last }) => match last - first {
            0..=127 => 16,
            128..=511 => 32,
            _ => 64,
        },
        _ => SOCKETS_MAX,
    }
}

/// Returns where the sockets between two samples are; a sample is missing when its answer was lost.
pub(crate) fn predicted_ranges(
    before: Option<u16>,
    after: Option<u16>,
    stride: i16,
) -> Vec<(u16, u16)> {
    let forward = stride >= 0;
    let Some(before) = before else {
        return after.map_or_else(Vec::new, |after| contiguous(after, !forward, WINDOW));
    };
    let distance = |to: u16| {
        if forward {
            to.wrapping_sub(before)
        } else {
            before.wrapping_sub(to)
        }
    };
    // What lies between the samples is exact; a sample that was sent again came late, and says nothing.
    let exact = after.map(distance).filter(|it| *it <= WINDOW_MAX);
    let count = exact.map_or(WINDOW, |it| it.max(WINDOW));
    contiguous(before, forward, count)
}

/// The `count` ports next to `from`, which is not among them; a sequence that has come to its end begins anew.
fn contiguous(from: u16, forward: bool, count: u16) -> Vec<(u16, u16)> {
    if forward {
        let room = u16::MAX - from;
        if room >= count {
            return vec![(from + 1, from + count)];
        }
        let mut ranges = vec![(PORT_MIN, PORT_MIN + (count - room) - 1)];
        if room > 0 {
            ranges.insert(0, (from + 1, u16::MAX));
        }
        return ranges;
    }
    let room = from.saturating_sub(PORT_MIN);
    if room >= count {
        return vec![(from - count, from - 1)];
    }
    let mut ranges = vec![(u16::MAX - (count - room) + 1, u16::MAX)];
    if room > 0 {
        ranges.insert(0, (PORT_MIN, from - 1));
    }
    ranges
}

/// The ports of a sequence, beginning with `first`.
pub(crate) fn sequence(first: u16, stride: i16, count: u8) -> impl Iterator<Item = u16> {
    (0..i32::from(count)).filter_map(move |step| {
        let port = i32::from(first) + step * i32::from(stride);
        u16::try_from(port).ok().filter(|port| *port > 0)
    })
}

/// Returns the whole range of ports that are worth probing at random.
pub(crate) const fn all_ports() -> (u16, u16) {
    (PORT_MIN, u16::MAX)
}

/// Returns the ports that a scout probes, without repetition and within the budget of a round.
pub(crate) fn ports_to_probe(anchored: &Anchored, rng: &mut StdRng) -> Vec<u16> {
    let limit = usize::from(anchored.probes_max.min(PROBES_PER_ROUND_MAX));
    let mut ports: Vec<u16> = Vec::new();
    for (first, last) in &anchored.ranges {
        ports.extend(*first..=*last);
    }
    ports.sort_unstable();
    ports.dedup();
    match anchored.order {
        Order::AsListed => {
            // Sorting lost the order, which only matters when not all fit. A prediction names no more, and is probed
            // twice: a whole round's probes are not to be had that way.
            ports.truncate(limit.min(usize::from(WINDOW_MAX)));
        }
        Order::Random => {
            let drawn = ports.partial_shuffle(rng, limit).0.to_vec();
            ports = drawn;
        }
    }
    ports
}

/// Returns a wait, 25 % longer or shorter than asked: peers that failed together do not return together.
pub(crate) fn jittered(wait: Duration, rng: &mut StdRng) -> Duration {
    wait * rng.random_range(75..=125) / 100
}
