//! Which pair is checked next, and when.

use std::cmp::Reverse;
use std::time::Instant;

use super::Checklist;
use crate::{CandidatePair, PairId, PairState};

impl Checklist {
    /// Returns when the next scheduled check is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.unvalidated().map(|pair| pair.schedule.due()).min()
    }

    /// Returns the pair whose turn it is, if a check is due.
    ///
    /// Pairs whose round trip has just been proven come first, since a path is a packet away; there are few, and
    /// each has four such checks. Then pairs never checked, by priority, a relayed one after each other one so
    /// that the relay is there within a round trip; then who is due longest, so that nobody starves.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<PairId> {
        let due = || self.unvalidated().filter(|pair| pair.schedule.due() <= now);
        if let Some(proven) = due()
            .filter(|pair| pair.schedule.repeats())
            .min_by_key(|pair| (pair.schedule.due(), pair.id))
        {
            return Some(proven.id);
        }
        let waiting = |relayed: bool| {
            due()
                .filter(|pair| pair.state == PairState::Waiting && pair.is_relayed() == relayed)
                .max_by_key(|pair| (pair.priority, Reverse(pair.id)))
        };
        let other_class = !self.last_was_relayed;
        let waiting = waiting(other_class).or_else(|| waiting(!other_class));
        if let Some((id, relayed)) = waiting.map(|pair| (pair.id, pair.is_relayed())) {
            self.last_was_relayed = relayed;
            return Some(id);
        }
        due()
            .min_by_key(|pair| (pair.schedule.due(), Reverse(pair.priority), pair.id))
            .map(|pair| pair.id)
    }

    fn unvalidated(&self) -> impl Iterator<Item = &CandidatePair> {
        self.pairs.values().filter(|pair| !pair.is_validated())
    }
}
