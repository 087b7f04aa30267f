//! How a NAT chooses ports, judged from samples: pure functions for everybody who has some.

use std::net::{IpAddr, SocketAddr};

use crate::{Pooling, PortAllocation};

/// The largest step between two mappings that still counts as a sequence. EasyTier uses 15; other users' flows
/// take ports in between.
const STEP_MAX: i32 = 16;

/// With so few mappings the steps must be smaller: by chance two steps up in a block of 128 ports are each at most
/// 16 in one of 70 cases, at most 4 in one of 1,000.
const STEP_MAX_OF_FEW: i32 = 4;

/// How many mappings make a pattern: two steps.
const PATTERN_MIN: usize = 3;

/// How many mappings may contain one leap, since a sequence ends somewhere and begins elsewhere.
const LEAP_MIN: usize = 4;

/// A step that is a leap, no member of a block: the largest block that carriers use, see [`BLOCK_SIZES`].
const LEAP: i32 = 4096;

/// How many mappings make a block. Three in a row near each other may be a sequence that others have used.
const BLOCK_MIN: usize = 4;

/// Port blocks that carrier-grade NATs are known to use, per subscriber (Juniper 128 and 256 by default).
const BLOCK_SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

/// The others that are known: TNSR.
const ROUND_SIZES: [u32; 2] = [1000, 2000];

/// Blocks begin here: the well-known ports are left out.
const BLOCKS_FROM: u32 = 1024;

/// The smallest range from which a NAT without blocks draws: Linux' own, 32768–60999.
const RANGE_MIN: f64 = 28_232.0;

/// How likely it may be that ports of such a range lie so close together by chance.
const WRONG_MAX: f64 = 0.001;

/// So many mappings with one address make it unlikely that a NAT chooses among two at random: one in 128.
const PAIRED_MIN: usize = 8;

/// One mapping that a NAT has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSample {
    /// The port of the local socket.
    pub local: u16,
    /// The public port.
    pub mapped: u16,
}

/// Judges how a NAT chooses ports, from samples in the order in which the mappings were made.
///
/// They are best taken from fresh sockets ([`crate::Sampler`]), eight or more for a block. Samples of one socket
/// tell something only where each destination sees another port. `Unknown` is the answer to too few.
#[must_use]
pub fn infer_allocation(samples: &[PortSample]) -> PortAllocation {
    let samples = distinct(samples);
    if samples.is_empty() {
        return PortAllocation::Unknown;
    }
    if is_preserving(&samples) {
        return PortAllocation::Preserving;
    }
    // A socket that talks to several destinations keeps its port for the first of them alone.
    let moved: Vec<u16> = samples
        .iter()
        .filter(|sample| sample.mapped != sample.local)
        .map(|sample| sample.mapped)
        .collect();
    if moved.len() < PATTERN_MIN {
        return PortAllocation::Unknown;
    }
    if let Some(stride) = stride(&moved) {
        return PortAllocation::Sequential { stride };
    }
    match block(&moved) {
        Tightness::Block { first, last } => PortAllocation::Block { first, last },
        Tightness::TooFew => PortAllocation::Unknown,
        Tightness::Wide => PortAllocation::Random,
    }
}

/// Judges the pooling (RFC 4787, REQ-2) from the public addresses of different mappings of one host. `None` when
/// they are too few.
#[must_use]
pub fn infer_pooling(mapped: &[SocketAddr]) -> Option<Pooling> {
    let mut distinct: Vec<SocketAddr> = Vec::new();
    for address in mapped {
        if !distinct.contains(address) {
            distinct.push(*address);
        }
    }
    let first: IpAddr = distinct.first()?.ip();
    let same_family = |ip: IpAddr| ip.is_ipv4() == first.is_ipv4();
    if distinct
        .iter()
        .any(|address| address.ip() != first && same_family(address.ip()))
    {
        return Some(Pooling::Arbitrary);
    }
    (distinct.len() >= PAIRED_MIN).then_some(Pooling::Paired)
}

/// Leaves each mapping once: destinations that share one tell nothing new.
fn distinct(samples: &[PortSample]) -> Vec<PortSample> {
    let mut distinct: Vec<PortSample> = Vec::new();
    for sample in samples {
        if !distinct.contains(sample) {
            distinct.push(*sample);
        }
    }
    distinct
}

/// Most sockets have kept their port; the others had to give way to somebody else's.
fn is_preserving(samples: &[PortSample]) -> bool {
    let mut locals: Vec<u16> = samples.iter().map(|sample| sample.local).collect();
    locals.sort_unstable();
    locals.dedup();
    let kept = samples
        .iter()
        .filter(|sample| sample.mapped == sample.local)
        .count();
    kept == samples.len() || (locals.len() == samples.len() && kept * 4 >= samples.len() * 3)
}

/// Returns the step of a sequence, if it is one.
fn stride(ports: &[u16]) -> Option<i32> {
    let step_max = if ports.len() < LEAP_MIN {
        STEP_MAX_OF_FEW
    } else {
        STEP_MAX
    };
    let steps: Vec<i32> = ports
        .windows(2)
        .map(|pair| i32::from(pair[1]) - i32::from(pair[0]))
        .collect();
    let small: Vec<i32> = steps
        .iter()
        .copied()
        .filter(|step| step.abs() <= step_max)
        .collect();
    let leaps = steps.iter().filter(|step| step.abs() > LEAP).count();
    let leaps_allowed = usize::from(ports.len() >= LEAP_MIN);
    if small.len() + leaps != steps.len() || leaps > leaps_allowed {
        return None;
    }
    let up = small.iter().all(|step| *step > 0);
    let down = small.iter().all(|step| *step < 0);
    if !up && !down {
        return None;
    }
    // Others take whole strides.
    let stride = small.iter().fold(0, |gcd, step| common(gcd, step.abs()));
    Some(if up { stride } else { -stride })
}

const fn common(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { common(b, a % b) }
}

/// How close together ports lie.
enum Tightness {
    Block {
        first: u16,
        last: u16,
    },
    /// Close, but so would be a sequence with gaps.
    TooFew,
    Wide,
}

fn block(ports: &[u16]) -> Tightness {
    let (Some(low), Some(high)) = (ports.iter().min(), ports.iter().max()) else {
        return Tightness::Wide;
    };
    let (low, high) = (u32::from(*low), u32::from(*high));
    let span = high - low;
    if by_chance(ports.len(), span) > WRONG_MAX {
        return Tightness::Wide;
    }
    // Fewer than four tell nothing; neither do those that follow each other more closely than chance lets them.
    let count = u32::try_from(ports.len()).unwrap_or(u32::MAX);
    if ports.len() < BLOCK_MIN || span < count * 4 {
        return Tightness::TooFew;
    }
    // The smallest that fits is the likeliest. Round ones overlap with the others, and come where those fit badly.
    let tight = |size: &u32| *size <= 2 * (span + 1);
    let window = BLOCK_SIZES
        .iter()
        .filter(|size| tight(size))
        .chain(&ROUND_SIZES)
        .chain(&BLOCK_SIZES)
        .find_map(|size| aligned_window(low, high, *size))
        .unwrap_or_else(|| estimated_window(low, high, count));
    let port = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    Tightness::Block {
        first: port(window.0),
        last: port(window.1),
    }
}

/// How likely `count` ports of the smallest range lie within `span`: n·x^(n−1), an upper bound.
fn by_chance(count: usize, span: u32) -> f64 {
    let share = f64::from(span) / RANGE_MIN;
    if share >= 1.0 {
        return 1.0;
    }
    (1..count).fold(
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
        |p, _| p * share,
    )
}

/// Returns the window of a size that holds both, with windows laid from [`BLOCKS_FROM`].
fn aligned_window(low: u32, high: u32, size: u32) -> Option<(u32, u32)> {
    let first = low.checked_sub(BLOCKS_FROM)? / size * size + BLOCKS_FROM;
    let last = (first + size - 1).min(u32::from(u16::MAX));
    // A window that is far larger than what was seen is none that was seen.
    (high <= last && size <= 4 * (high - low + 1)).then_some((first, last))
}

/// The span of n uniform samples is (n−1)/(n+1) of their range, which lies evenly around them.
fn estimated_window(low: u32, high: u32, count: u32) -> (u32, u32) {
    let margin = (high - low) / count.saturating_sub(1).max(1);
    (
        low.saturating_sub(margin).max(1),
        (high + margin).min(u32::from(u16::MAX)),
    )
}

#[cfg(test)]
mod tests;
