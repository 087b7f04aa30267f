//! Has the gateway lost what it promised? Its count of seconds says so.

use std::time::Duration;

use tokio::time::Instant;

/// The gateway's count when it was last heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    secs: u32,
    at: Instant,
}

impl Epoch {
    /// Notes a count.
    pub(crate) const fn new(secs: u32, at: Instant) -> Self {
        Self { secs, at }
    }

    /// Returns whether a later count continues this one (RFC 6887 §8.5, which is stricter than RFC 6886 §3.6).
    ///
    /// It does not when the gateway was restarted, and not when this machine slept and its clock with it: a lease may
    /// have run out meanwhile. Either way it is asked for again.
    pub(crate) fn continues(self, later_secs: u32, now: Instant) -> bool {
        if later_secs.saturating_add(1) < self.secs {
            return false;
        }
        let ours = now.duration_since(self.at);
        let theirs = Duration::from_secs(u64::from(later_secs.saturating_sub(self.secs)));
        let slack = Duration::from_secs(2);
        ours + slack >= theirs - theirs / 16 && theirs + slack >= ours - ours / 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_count_that_went_back_stood_still_or_jumped_is_a_lost_state() {
        let now = Instant::now();
        let epoch = Epoch::new(1000, now);
        let after = |secs| now + Duration::from_secs(secs);
        for (count, secs) in [(1000, 0), (1060, 60), (1058, 60), (999, 1), (1062, 60)] {
            assert!(
                epoch.continues(count, after(secs)),
                "{count} after {secs} s"
            );
        }
        for (count, secs) in [(5, 60), (1000, 60), (8200, 60), (998, 0)] {
            assert!(
                !epoch.continues(count, after(secs)),
                "{count} after {secs} s"
            );
        }
    }
}
