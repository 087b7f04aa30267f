//! How long to wait before the watch is dialled again.

use std::time::{Duration, Instant};

use rand::RngExt;

/// The first wait of an outage: a server that restarts is back in less than a second.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait during the first minute, so that a restarted server has everybody's slots within
/// about a second. With the jitter it stays within the second that DESIGN §3 promises.
const SOON_MAX: Duration = Duration::from_millis(830);
/// How long an outage counts as short.
const SOON_FOR: Duration = Duration::from_secs(60);
/// The longest wait afterwards.
const LATER_MAX: Duration = Duration::from_secs(5);
/// A connection must have lasted this long to count as the end of an outage; one that is accepted and
/// closed at once, again and again, does not.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// The waits of one outage after another.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    attempts: u32,
}

impl Backoff {
    /// Returns how long to wait after a connection that was ready for `lasted` (`None`: never) ended at `now`.
    pub(crate) fn next_wait(&mut self, lasted: Option<Duration>, now: Instant) -> Duration {
        if lasted.is_some_and(|lasted| lasted >= STEADY_AFTER) {
            self.outage = None;
        }
        let outage = self.outage.get_or_insert(Outage {
            since: now,
            attempts: 0,
        });
        let soon = now.saturating_duration_since(outage.since) < SOON_FOR;
        let doubled = FIRST.saturating_mul(1 << outage.attempts.min(10));
        outage.attempts = outage.attempts.saturating_add(1);
        let wait = doubled.min(if soon { SOON_MAX } else { LATER_MAX });
        wait.mul_f64(rand::rng().random_range(0.8..1.2))
    }

    /// Forgets the outage: news from outside make the next attempt worth it.
    pub(crate) fn reset(&mut self) {
        self.outage = None;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "one arbitrary epoch")]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_a_second_for_a_minute_and_six_seconds_afterwards() {
        let epoch = Instant::now();
        let mut backoff = Backoff::default();
        let first = backoff.next_wait(None, epoch);
        assert!(first <= FIRST.mul_f64(1.2), "{first:?}");
        for second in 1..60 {
            let wait = backoff.next_wait(None, epoch + Duration::from_secs(second));
            assert!(wait <= Duration::from_secs(1), "{wait:?} at {second} s");
        }
        let later = backoff.next_wait(None, epoch + Duration::from_secs(61));
        assert!(
            later > Duration::from_secs(1) && later <= LATER_MAX.mul_f64(1.2),
            "{later:?}"
        );
    }

    #[test]
    fn only_a_steady_connection_ends_an_outage() {
        let epoch = Instant::now();
        let mut backoff = Backoff::default();
        let late = epoch + Duration::from_secs(100);
        for attempt in 0..8 {
            backoff.next_wait(None, epoch + Duration::from_secs(attempt));
        }
        assert!(backoff.next_wait(Some(Duration::from_secs(1)), late) > Duration::from_secs(1));
        assert!(backoff.next_wait(Some(STEADY_AFTER), late) < Duration::from_secs(1));
    }
}
