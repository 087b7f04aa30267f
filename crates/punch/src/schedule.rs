//! When the next check of a pair is due, and with which TTL.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};

use crate::AgentConfig;
use crate::width::REPEAT_INTERVAL;

/// Between two openers: three fit into the default phase of 150 ms, which was measured to be enough
/// (facts/lab.md, early-packet clash); one alone might be lost.
const OPENER_INTERVAL: Duration = Duration::from_millis(50);
/// While a hole is likely to open: the other side's mapping exists within a round trip, and of twenty
/// checks at 20 % loss one surely arrives.
const BRISK_INTERVAL: Duration = Duration::from_millis(100);
/// Nearly all successes come at the first tries (facts/protocols.md §10).
const BRISK_PHASE: Duration = Duration::from_secs(2);
/// For a peer whose description reached it late.
const STEADY_INTERVAL: Duration = Duration::from_millis(500);
const STEADY_PHASE: Duration = Duration::from_secs(10);
/// How often the first full-size check is repeated in quick succession: one answer more than before is needed, and
/// at 20 % loss each way one try in three fails. Four tries within 60 ms make that one in sixty, so that loss
/// costs a path next to nothing; a round trip of less than 20 ms needs no repetition.
const REPEATS: u8 = 3;
/// Afterwards each wait is twice the one before: NATs change their minds, so attempts never stop.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);
/// One packet a minute and pair costs nobody anything.
const SLOW_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Doublings of the time until a pair is made brisk again: to about a minute, as long as the slowest wait.
const REVIVALS_MAX: u32 = 5;
/// Of the slow waits, in percent each way, so that thousands of pairs do not beat in time.
const JITTER_PERCENT: u32 = 20;

/// The check schedule of one pair: openers, brisk, steady, slow; for ever.
#[derive(Clone, Debug)]
pub(crate) struct CheckSchedule {
    /// When the first check was sent; phases count from here, so that a pair that had to wait for its
    /// turn still opens first.
    started: Option<Instant>,
    due: Instant,
    slow_interval: Duration,
    /// How often a pair that had become slow was made brisk again.
    revivals: u32,
    opener: bool,
    repeats: u8,
    /// The brisk phase is left out.
    calm: bool,
}

impl CheckSchedule {
    pub(crate) const fn new(now: Instant, opener: bool) -> Self {
        Self {
            started: None,
            due: now,
            slow_interval: SLOW_INTERVAL,
            revivals: 0,
            opener,
            repeats: 0,
            calm: false,
        }
    }

    /// The schedule of a pair that was only heard: the peer's own checks are brisk, and each of them triggers one.
    /// Brisk ones of ours beside those would double the packets where the addresses never end.
    pub(crate) const fn calm(now: Instant) -> Self {
        let mut schedule = Self::new(now, false);
        schedule.calm = true;
        schedule
    }

    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Returns the TTL of a scheduled check sent now.
    pub(crate) fn ttl(&self, config: &AgentConfig, now: Instant) -> Option<u8> {
        (self.opener && self.elapsed(now) < config.low_ttl_phase).then_some(config.low_ttl)
    }

    /// A check was sent: the next one is due an interval from now, however late this one was.
    pub(crate) fn advance(&mut self, config: &AgentConfig, rng: &mut StdRng, now: Instant) {
        self.started.get_or_insert(now);
        let elapsed = self.elapsed(now);
        let wait = if self.repeats > 0 {
            self.repeats -= 1;
            REPEAT_INTERVAL
        } else if self.opener && elapsed < config.low_ttl_phase {
            OPENER_INTERVAL.min(config.low_ttl_phase - elapsed)
        } else if elapsed < BRISK_PHASE && !self.calm {
            BRISK_INTERVAL
        } else if elapsed < STEADY_PHASE {
            STEADY_INTERVAL
        } else {
            let wait = jittered(self.slow_interval, rng);
            self.slow_interval = (self.slow_interval * 2).min(SLOW_INTERVAL_MAX);
            wait
        };
        self.due = now + wait;
    }

    /// The peer was heard on this pair: our NAT lets it in, so openers are over, and a pair that had
    /// become slow is brisk again. Each time that takes longer, or two ends that hear each other and whose answers
    /// never fit would keep each other brisk for ever.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.opener = false;
        if self.elapsed(now) >= BRISK_PHASE * 2_u32.pow(self.revivals) {
            self.revivals = (self.revivals + 1).min(REVIVALS_MAX);
            self.started = Some(now);
            self.slow_interval = SLOW_INTERVAL;
            self.due = self.due.min(now + BRISK_INTERVAL);
        }
    }

    /// A small check was answered: full-size ones follow at `due` and thrice after that, then briskly.
    pub(crate) fn hurry(&mut self, due: Instant, now: Instant) {
        self.hear(now);
        self.calm = false;
        self.started.get_or_insert(now);
        self.due = due;
        self.repeats = REPEATS;
    }

    /// Returns whether the next check is one of those that follow a proven round trip.
    pub(crate) const fn repeats(&self) -> bool {
        self.repeats > 0
    }

    fn elapsed(&self, now: Instant) -> Duration {
        self.started.map_or(Duration::ZERO, |started| {
            now.saturating_duration_since(started)
        })
    }
}

fn jittered(interval: Duration, rng: &mut StdRng) -> Duration {
    interval * rng.random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT) / 100
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn sends(opener: bool, until: Duration) -> Vec<(u128, Option<u8>)> {
        let config = AgentConfig::default();
        let mut rng = StdRng::from_seed([7; 32]);
        let epoch = Instant::now();
        let mut schedule = CheckSchedule::new(epoch, opener);
        let mut sends = Vec::new();
        while schedule.due() - epoch < until {
            let now = schedule.due();
            sends.push(((now - epoch).as_millis(), schedule.ttl(&config, now)));
            schedule.advance(&config, &mut rng, now);
        }
        sends
    }

    #[test]
    fn three_openers_come_before_the_first_full_check_at_150_ms() {
        let low = Some(2);
        assert_eq!(
            sends(true, Duration::from_millis(400)),
            [
                (0, low),
                (50, low),
                (100, low),
                (150, None),
                (250, None),
                (350, None)
            ]
        );
    }

    #[test]
    fn without_an_opener_every_check_has_full_ttl_from_the_start() {
        assert_eq!(
            sends(false, Duration::from_millis(250)),
            [(0, None), (100, None), (200, None)]
        );
    }

    #[test]
    fn checks_become_rarer_but_never_stop() {
        let sends = sends(false, Duration::from_secs(3600));
        let gaps: Vec<u128> = sends.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert_eq!(gaps[5], 100);
        assert!(sends.iter().zip(&gaps).all(|((at, _), gap)| match at {
            0..2_000 => *gap == 100,
            2_000..10_000 => *gap == 500,
            _ => (4_000..=72_000).contains(gap),
        }));
        let last = *gaps.last().unwrap();
        assert!((48_000..=72_000).contains(&last), "{last}");
        assert!(
            gaps.iter().rev().take(10).any(|gap| *gap != last),
            "no jitter"
        );
    }

    #[test]
    fn a_slow_pair_that_is_heard_becomes_brisk() {
        let config = AgentConfig::default();
        let mut rng = StdRng::from_seed([7; 32]);
        let epoch = Instant::now();
        let mut schedule = CheckSchedule::new(epoch, true);
        schedule.advance(&config, &mut rng, epoch);
        let later = epoch + Duration::from_secs(100);
        schedule.advance(&config, &mut rng, later);
        assert!(schedule.due() >= later + Duration::from_secs(4));
        schedule.hear(later);
        assert_eq!(schedule.due(), later + BRISK_INTERVAL);
        assert_eq!(schedule.ttl(&config, later), None);
    }
}
