//! Which checks wait for their answer.
//!
//! Every check is a transaction of its own and is never retransmitted, so that an answer tells the round
//! trip exactly; their lifetimes are all equal, so that age orders them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stunwire::TransactionId;

use crate::PairId;
use crate::width::Size;

/// 3 s of checks at the default pacing are 600; the rest is for triggered and commanded ones.
const OUTSTANDING_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct SentCheck {
    pub(crate) pair: PairId,
    pub(crate) sent_at: Instant,
    /// The layer above asked for it and is told how it ends.
    pub(crate) commanded: bool,
    /// The layer above asked whether small packets pass.
    pub(crate) commanded_small: bool,
    pub(crate) size: Size,
    /// How many full-size checks of its pair had been sent before, unanswered.
    pub(crate) full_sent: u32,
}

#[derive(Debug)]
pub(crate) struct Outstanding {
    checks: BTreeMap<TransactionId, SentCheck>,
    by_age: BTreeSet<(Instant, TransactionId)>,
    /// The commanded checks that nobody was told about yet: the only ones worth waking up for.
    awaited: BTreeSet<(Instant, TransactionId)>,
    lifetime: Duration,
}

impl Outstanding {
    pub(crate) const fn new(lifetime: Duration) -> Self {
        Self {
            checks: BTreeMap::new(),
            by_age: BTreeSet::new(),
            awaited: BTreeSet::new(),
            lifetime,
        }
    }

    /// Remembers a check. Returns the oldest one when it had to be forgotten for it.
    pub(crate) fn insert(
        &mut self,
        id: TransactionId,
        check: SentCheck,
    ) -> Option<(TransactionId, SentCheck)> {
        let forgotten = if self.checks.len() >= OUTSTANDING_MAX {
            self.by_age.first().map(|&(_, oldest)| oldest)
        } else {
            None
        };
        let forgotten = forgotten.and_then(|oldest| Some((oldest, self.take(&oldest)?)));
        self.checks.insert(id, check);
        self.by_age.insert((check.sent_at, id));
        if check.commanded {
            self.awaited.insert((check.sent_at, id));
        }
        forgotten
    }

    pub(crate) fn get(&self, id: &TransactionId) -> Option<SentCheck> {
        self.checks.get(id).copied()
    }

    pub(crate) fn take(&mut self, id: &TransactionId) -> Option<SentCheck> {
        let check = self.checks.remove(id)?;
        self.by_age.remove(&(check.sent_at, *id));
        self.awaited.remove(&(check.sent_at, *id));
        Some(check)
    }

    /// A newer commanded check took over: this one may still be answered, but nobody waits for it.
    pub(crate) fn supersede(&mut self, id: &TransactionId) {
        if let Some(check) = self.checks.get(id) {
            self.awaited.remove(&(check.sent_at, *id));
        }
    }

    /// Takes out one check whose lifetime has passed.
    pub(crate) fn expire_one(&mut self, now: Instant) -> Option<(TransactionId, SentCheck)> {
        let &(sent_at, id) = self.by_age.first()?;
        if sent_at + self.lifetime > now {
            return None;
        }
        self.take(&id).map(|check| (id, check))
    }

    /// Returns when a commanded check is to be reported unanswered.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.awaited
            .first()
            .map(|&(sent_at, _)| sent_at + self.lifetime)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    fn id(number: u32) -> TransactionId {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        TransactionId::new(bytes)
    }

    #[test]
    fn the_oldest_check_is_forgotten_when_too_many_are_outstanding() {
        let epoch = Instant::now();
        let mut outstanding = Outstanding::new(Duration::from_secs(3));
        for number in 0..=OUTSTANDING_MAX as u32 {
            let sent_at = epoch + Duration::from_millis(u64::from(number));
            let check = SentCheck {
                pair: PairId(1),
                sent_at,
                commanded: false,
                commanded_small: false,
                size: Size::Small,
                full_sent: 0,
            };
            let forgotten = outstanding.insert(id(number), check);
            assert_eq!(forgotten.is_some(), number == OUTSTANDING_MAX as u32);
        }
        assert!(outstanding.get(&id(0)).is_none());
        assert!(outstanding.get(&id(1)).is_some());
        assert_eq!(outstanding.by_age.len(), OUTSTANDING_MAX);
    }

    #[test]
    fn only_commanded_checks_wake_the_machine() {
        let epoch = Instant::now();
        let mut outstanding = Outstanding::new(Duration::from_secs(3));
        let check = SentCheck {
            pair: PairId(1),
            sent_at: epoch,
            commanded: false,
            commanded_small: false,
            size: Size::Small,
            full_sent: 0,
        };
        outstanding.insert(id(1), check);
        assert_eq!(outstanding.deadline(), None);
        outstanding.insert(
            id(2),
            SentCheck {
                commanded: true,
                ..check
            },
        );
        assert_eq!(outstanding.deadline(), Some(epoch + Duration::from_secs(3)));
        outstanding.supersede(&id(2));
        assert_eq!(outstanding.deadline(), None);
        assert!(outstanding.get(&id(2)).is_some());
        assert!(
            outstanding
                .expire_one(epoch + Duration::from_millis(2999))
                .is_none()
        );
        assert!(
            outstanding
                .expire_one(epoch + Duration::from_secs(3))
                .is_some()
        );
    }
}
