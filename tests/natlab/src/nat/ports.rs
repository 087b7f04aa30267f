//! Which outside port the next binding gets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};

use crate::behavior::PortAllocation;

/// Below lie the ports that servers use.
const LOWEST: u16 = 1024;
/// Where counting begins, as in the kernel laboratory.
const FIRST_OF_SEQUENCE: u16 = 40_000;
/// A box with this many misses in a row is full.
const TRIES_MAX: u32 = 1_000;
/// Blocks of one inside host; Juniper's default (facts/nat-population.md, section 2).
const BLOCKS_MAX: usize = 8;
/// Flows of others that are caught up with at once: the sequence has gone round long before.
const CATCH_UP_MAX: u32 = 65_536;

/// Who asks for a port, and when.
pub(super) struct Request {
    pub(super) inside: IpAddr,
    pub(super) port: u16,
    pub(super) other_flows: u16,
    pub(super) now: Instant,
}

/// The memory of an allocator.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
    /// When somebody else behind the box opens the next flow.
    next_other: Option<Instant>,
    /// First ports of the blocks of each inside host, the one in use last.
    blocks: BTreeMap<IpAddr, Vec<u16>>,
}

impl Ports {
    pub(super) const fn new() -> Self {
        Self {
            next: FIRST_OF_SEQUENCE,
            next_other: None,
            blocks: BTreeMap::new(),
        }
    }

    /// Draws a free port; `None` when the box is full.
    pub(super) fn draw(
        &mut self,
        allocation: PortAllocation,
        request: &Request,
        is_free: impl Fn(u16) -> bool,
        rng: &mut StdRng,
    ) -> Option<u16> {
        match allocation {
            PortAllocation::Preserving if is_free(request.port) => Some(request.port),
            PortAllocation::Preserving | PortAllocation::Random => random(is_free, rng),
            PortAllocation::Sequential { stride } => {
                self.count_others(stride, request, rng);
                (0..TRIES_MAX)
                    .map(|_| self.count(stride))
                    .find(|port| is_free(*port))
            }
            PortAllocation::Block { size } => {
                self.draw_in_block(size, request.inside, is_free, rng)
            }
        }
    }

    fn count(&mut self, stride: u16) -> u16 {
        let port = self.next;
        self.next = port.checked_add(stride.max(1)).unwrap_or(FIRST_OF_SEQUENCE);
        port
    }

    /// Others have taken ports since the last look, at times without a pattern.
    fn count_others(&mut self, stride: u16, request: &Request, rng: &mut StdRng) {
        if request.other_flows == 0 {
            return;
        }
        let mut gap = || {
            // Of a Poisson process; the logarithm of nothing is avoided.
            let chance = rng.random_range(f64::EPSILON..1.0);
            Duration::from_secs_f64(-chance.ln() / f64::from(request.other_flows))
        };
        let mut next = self.next_other.unwrap_or_else(|| request.now + gap());
        let mut caught_up = 0;
        while next <= request.now && caught_up < CATCH_UP_MAX {
            next += gap();
            caught_up += 1;
            self.next = self
                .next
                .checked_add(stride.max(1))
                .unwrap_or(FIRST_OF_SEQUENCE);
        }
        self.next_other = Some(next.max(request.now));
    }

    fn draw_in_block(
        &mut self,
        size: u16,
        inside: IpAddr,
        is_free: impl Fn(u16) -> bool,
        rng: &mut StdRng,
    ) -> Option<u16> {
        let size = size.max(1);
        let held = self.blocks.get(&inside).and_then(|blocks| blocks.last());
        let in_use = held.and_then(|first| find_in_block(*first, size, &is_free, rng));
        if in_use.is_some() {
            return in_use;
        }
        let first = self.grant(size, inside, rng)?;
        find_in_block(first, size, &is_free, rng)
    }

    /// Gives an inside host one block more that nobody has.
    fn grant(&mut self, size: u16, inside: IpAddr, rng: &mut StdRng) -> Option<u16> {
        if self
            .blocks
            .get(&inside)
            .is_some_and(|it| it.len() >= BLOCKS_MAX)
        {
            return None;
        }
        let count = (u16::MAX - LOWEST) / size;
        let taken = |first| self.blocks.values().any(|blocks| blocks.contains(&first));
        let first = (0..TRIES_MAX)
            .map(|_| LOWEST + rng.random_range(0..count.max(1)) * size)
            .find(|first| !taken(*first))?;
        self.blocks.entry(inside).or_default().push(first);
        Some(first)
    }
}

/// Draws a free port, uniformly.
pub(super) fn random(is_free: impl Fn(u16) -> bool, rng: &mut StdRng) -> Option<u16> {
    (0..TRIES_MAX)
        .map(|_| rng.random_range(LOWEST..=u16::MAX))
        .find(|port| is_free(*port))
}

/// Draws a free port of a block; a full one is known by looking at all of it.
fn find_in_block(
    first: u16,
    size: u16,
    is_free: &impl Fn(u16) -> bool,
    rng: &mut StdRng,
) -> Option<u16> {
    let begin = rng.random_range(0..size);
    let at = |offset: u16| first + (offset % size);
    let lucky = at(begin);
    if is_free(lucky) {
        return Some(lucky);
    }
    // From another place each time, so that free ports behind a long row of taken ones are not favoured much.
    let begin = u32::from(rng.random_range(0..size));
    (0..u32::from(size))
        .map(|step| first + u16::try_from((begin + step) % u32::from(size)).unwrap_or_default())
        .find(|port| is_free(*port))
}
