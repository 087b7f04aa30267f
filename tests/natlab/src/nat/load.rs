//! What a box has to bear: packets, new bindings, and their rates.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What the inside hosts together have asked of a box since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Packets to the outside.
    pub packets: u64,
    /// Bindings that were made.
    pub bindings: u64,
    /// Most packets to the outside within any second.
    pub packets_per_second_max: usize,
    /// Most new bindings within any minute.
    pub bindings_per_minute_max: usize,
    /// Packets that were dropped because a limit of the box was reached.
    pub over_limit: u64,
}

impl Load {
    /// Returns the worse of two boxes that the same packets pass.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            packets: self.packets.max(other.packets),
            bindings: self.bindings.max(other.bindings),
            packets_per_second_max: self
                .packets_per_second_max
                .max(other.packets_per_second_max),
            bindings_per_minute_max: self
                .bindings_per_minute_max
                .max(other.bindings_per_minute_max),
            over_limit: self.over_limit.max(other.over_limit),
        }
    }

    /// Returns what two boxes side by side bear: the sums, and for the rates the worse one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bindings: self.bindings + other.bindings,
            packets_per_second_max: self
                .packets_per_second_max
                .max(other.packets_per_second_max),
            bindings_per_minute_max: self
                .bindings_per_minute_max
                .max(other.bindings_per_minute_max),
            over_limit: self.over_limit + other.over_limit,
        }
    }
}

/// Counts, with the windows that rates are taken over.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) load: Load,
    last_second: VecDeque<Instant>,
    last_minute: VecDeque<Instant>,
}

impl Meter {
    /// Returns how many packets were sent within the second before `now`.
    pub(super) fn packets_in_last_second(&mut self, now: Instant) -> usize {
        forget(&mut self.last_second, SECOND, now);
        self.last_second.len()
    }

    pub(super) fn packet(&mut self, now: Instant) {
        self.load.packets += 1;
        self.last_second.push_back(now);
        let in_second = self.packets_in_last_second(now);
        self.load.packets_per_second_max = self.load.packets_per_second_max.max(in_second);
    }

    pub(super) fn binding(&mut self, now: Instant) {
        self.load.bindings += 1;
        self.last_minute.push_back(now);
        forget(&mut self.last_minute, MINUTE, now);
        let in_minute = self.last_minute.len();
        self.load.bindings_per_minute_max = self.load.bindings_per_minute_max.max(in_minute);
    }
}

fn forget(window: &mut VecDeque<Instant>, length: Duration, now: Instant) {
    while window.front().is_some_and(|at| *at + length <= now) {
        window.pop_front();
    }
}
