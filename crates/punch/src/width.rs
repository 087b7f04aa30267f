//! Which sizes pass: from the first small answer to the first full-size one, or to the judgement that none comes.
//!
//! Checks begin small, because most of them go to addresses that never answer. A small answer proves the round
//! trip; from then on full-size checks decide. Every third check of a proven pair stays small, and carries the
//! judgement: when it is answered although eight full-size checks sent before it were not, size is what
//! makes the difference. That holds for any round trip, and random loss does not look like it: at 20 % each
//! way eight in a row are lost once in 3,500 times, and one answer later takes it back.

use std::time::{Duration, Instant};

/// Full-size checks that must be lost before a small one is answered.
const NARROW_AFTER: u32 = 8;
/// Of so many checks of a proven pair one is small.
const SMALL_EVERY: u32 = 3;
/// So many small checks in a row unanswered: the round trip is not proven any more (at 20 % loss each way that
/// happens to a good pair once in 450 times, and costs it a round trip).
const SMALL_LOST_MAX: u32 = 6;
/// A full-size check sent less than this before serves as the first one: see [`Width::prove`].
pub(crate) const REPEAT_INTERVAL: Duration = Duration::from_millis(20);

/// How long a check and its answer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// No longer than it has to be: some 100 bytes.
    Small,
    /// [`AgentConfig::full_size`](crate::AgentConfig::full_size).
    Full,
}

/// What a small answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing new.
    Nothing,
    /// The round trip is proven: full-size checks are next.
    Proven,
    /// Full-size checks are lost, and small ones are not.
    Narrow,
}

/// What the checks of one pair have shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Width {
    proven: bool,
    /// Since the round trip was proven.
    full_sent: u32,
    last_full: Option<Instant>,
    /// Since the last small answer.
    small_unanswered: u32,
    turn: u32,
}

impl Width {
    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Full-size checks sent without an answer: what a small check remembers (see [`Width::small_answered`]).
    pub(crate) const fn full_sent(&self) -> u32 {
        self.full_sent
    }

    /// Returns the size of the next scheduled check.
    pub(crate) fn scheduled_size(&mut self, repeats: bool) -> Size {
        if self.proven && self.small_unanswered >= SMALL_LOST_MAX {
            *self = Self::default();
        }
        if !self.proven {
            return Size::Small;
        }
        if repeats {
            return Size::Full;
        }
        self.turn += 1;
        if self.turn.is_multiple_of(SMALL_EVERY) {
            Size::Small
        } else {
            Size::Full
        }
    }

    /// Notes that a check was sent.
    pub(crate) fn sent(&mut self, size: Size, now: Instant) {
        match size {
            Size::Small if self.proven => self.small_unanswered += 1,
            Size::Small => {}
            Size::Full => {
                self.full_sent += 1;
                self.last_full = Some(now);
            }
        }
    }

    /// Judges the answer to a small check before which `full_sent` full-size ones had been sent; none of those
    /// was answered, or the pair would be validated.
    pub(crate) fn small_answered(&mut self, full_sent: u32) -> Finding {
        self.small_unanswered = 0;
        if !self.proven {
            return Finding::Proven;
        }
        if full_sent >= NARROW_AFTER {
            Finding::Narrow
        } else {
            Finding::Nothing
        }
    }

    /// The round trip is proven. Returns when the first full-size check is due: now, unless one is on its way
    /// already.
    pub(crate) fn prove(&mut self, now: Instant) -> Instant {
        self.proven = true;
        self.full_sent = 0;
        self.last_full
            .map_or(now, |last| (last + REPEAT_INTERVAL).max(now))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    #[test]
    fn a_proven_pair_sends_two_full_checks_and_then_a_small_one() {
        let mut width = Width::default();
        assert_eq!(width.scheduled_size(false), Size::Small);
        assert_eq!(width.small_answered(0), Finding::Proven);
        let now = Instant::now();
        assert_eq!(width.prove(now), now);
        let sizes: Vec<_> = (0..6).map(|_| width.scheduled_size(false)).collect();
        use Size::{Full, Small};
        assert_eq!(sizes, [Full, Full, Small, Full, Full, Small]);
    }

    #[test]
    fn eight_lost_full_checks_before_an_answered_small_one_make_it_narrow() {
        let now = Instant::now();
        let mut width = Width::default();
        width.prove(now);
        for _ in 0..7 {
            width.sent(Size::Full, now);
        }
        assert_eq!(width.small_answered(width.full_sent()), Finding::Nothing);
        width.sent(Size::Full, now);
        assert_eq!(width.small_answered(width.full_sent()), Finding::Narrow);
    }

    #[test]
    fn a_round_trip_must_be_proven_anew_after_six_lost_small_checks() {
        let now = Instant::now();
        let mut width = Width::default();
        width.prove(now);
        for _ in 0..6 {
            assert!(width.is_proven());
            width.sent(Size::Small, now);
        }
        assert_eq!(width.scheduled_size(false), Size::Small);
        assert!(!width.is_proven());
    }

    #[test]
    fn a_full_check_already_on_its_way_is_not_repeated_at_once() {
        let now = Instant::now();
        let mut width = Width::default();
        width.sent(Size::Full, now);
        let proven = now + Duration::from_millis(5);
        assert_eq!(width.prove(proven), now + REPEAT_INTERVAL);
        assert_eq!(
            width.prove(now + Duration::from_secs(1)),
            now + Duration::from_secs(1)
        );
    }
}
