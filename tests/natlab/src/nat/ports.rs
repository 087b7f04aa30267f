//! Which outside port the next binding gets.

use rand::{RngExt, rngs::StdRng};

use crate::behavior::PortAllocation;

/// Below lie the ports that servers use.
const LOWEST: u16 = 1024;
/// Where counting begins, as in the kernel laboratory.
const FIRST_OF_SEQUENCE: u16 = 40_000;
/// A box with this many misses in a row is full.
const TRIES_MAX: u32 = 1_000;

/// The memory of an allocator.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
}

impl Ports {
    pub(super) const fn new() -> Self {
        Self {
            next: FIRST_OF_SEQUENCE,
        }
    }

    /// Draws a free port; `None` when the box is full.
    pub(super) fn draw(
        &mut self,
        allocation: PortAllocation,
        inside_port: u16,
        is_free: impl Fn(u16) -> bool,
        rng: &mut StdRng,
    ) -> Option<u16> {
        match allocation {
            PortAllocation::Preserving if is_free(inside_port) => Some(inside_port),
            PortAllocation::Preserving | PortAllocation::Random => random(is_free, rng),
            PortAllocation::Sequential { stride } => (0..TRIES_MAX)
                .map(|_| self.count(stride))
                .find(|port| is_free(*port)),
        }
    }

    fn count(&mut self, stride: u16) -> u16 {
        let port = self.next;
        self.next = port.checked_add(stride.max(1)).unwrap_or(FIRST_OF_SEQUENCE);
        port
    }
}

/// Draws a free port, uniformly.
pub(super) fn random(is_free: impl Fn(u16) -> bool, rng: &mut StdRng) -> Option<u16> {
    (0..TRIES_MAX)
        .map(|_| rng.random_range(LOWEST..=u16::MAX))
        .find(|port| is_free(*port))
}
