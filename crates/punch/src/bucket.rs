//! So many at once, and one more in each interval.

use std::time::{Duration, Instant};

/// A token bucket, full at first.
#[derive(Debug)]
pub(crate) struct Bucket {
    size: u32,
    interval: Duration,
    left: u32,
    /// When one was added last; `None` while nobody has taken any.
    refilled: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(size: u32, interval: Duration) -> Self {
        Self {
            size,
            interval,
            left: size,
            refilled: None,
        }
    }

    /// Takes one out; `false` when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let refilled = *self.refilled.get_or_insert(now);
        let elapsed = now.saturating_duration_since(refilled);
        let intervals = elapsed.as_millis() / self.interval.as_millis();
        let earned = u32::try_from(intervals).unwrap_or(self.size);
        if self.left.saturating_add(earned) >= self.size {
            self.left = self.size;
            self.refilled = Some(now);
        } else {
            self.left += earned;
            self.refilled = Some(refilled + self.interval * earned);
        }
        let is_granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_granted
    }
}
