//! How often a key failed to prove the room, and how long it must wait. Each SPAKE2 run is one guess of the room.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::identity::PublicKey;

/// Runs that may fail before the first wait: a person mistypes a room, both ends restart at once.
const FREE_FAILURES: u32 = 5;

/// The first wait; it doubles with every further failure.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// The longest wait. A run that a restart or a lost path interrupted cannot be told from a guess (whoever guesses
/// leaves without a word too), so that a rightful peer on a bad network meets this bound and must not be locked
/// out by it. It need not be longer: a key came here out of a description that the room's key opened, or belongs to
/// one whose owner was there, and half a guess per second is nothing beside a room of 128 bits.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The most keys remembered; each had to stand in an opened description to fail at all.
const KEYS_MAX: usize = 1024;

/// Failed proofs per key. A run counts from its beginning, since its other end may learn the answer and leave.
#[derive(Debug, Default)]
pub struct Failures {
    keys: BTreeMap<PublicKey, Record>,
    total: u64,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    not_before: Instant,
}

impl Failures {
    /// Whether `key` may begin a run now; if so the run counts as failed until [`Self::succeeded`] says otherwise.
    pub fn begin(&mut self, key: &PublicKey, now: Instant) -> bool {
        if let Some(record) = self.keys.get(key)
            && now < record.not_before
        {
            return false;
        }
        if !self.keys.contains_key(key) && self.keys.len() >= KEYS_MAX {
            self.forget_one();
        }
        self.total += 1;
        let record = self.keys.entry(*key).or_insert(Record {
            failures: 0,
            not_before: now,
        });
        record.failures = record.failures.saturating_add(1);
        record.not_before = now + wait_after(record.failures);
        true
    }

    /// The run that `key` began ended well: it starts from zero again.
    pub fn succeeded(&mut self, key: &PublicKey) {
        self.keys.remove(key);
        // Each success ends one run, also when another one of the key has cleared the record before.
        self.total = self.total.saturating_sub(1);
    }

    /// Runs that were begun and did not end well, over all keys. Those under way are among them.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The one that waits the least loses the least by being forgotten.
    fn forget_one(&mut self) {
        let least = self
            .keys
            .iter()
            .min_by_key(|(_, record)| record.failures)
            .map(|(key, _)| *key);
        if let Some(key) = least {
            self.keys.remove(&key);
        }
    }
}

fn wait_after(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(FREE_FAILURES) else {
        return Duration::ZERO;
    };
    WAIT_FIRST
        .saturating_mul(1 << doublings.min(16))
        .min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_runs_are_free_and_no_rightful_peer_ever_waits_longer_than_two_seconds() {
        let mut failures = Failures::default();
        let mut now = tokio::time::Instant::now().into_std();
        let key = [1; 32];
        for _ in 0..5 {
            assert!(failures.begin(&key, now));
        }
        for wait_secs in [1, 2, 2, 2] {
            assert!(!failures.begin(&key, now + Duration::from_millis(wait_secs * 1000 - 1)));
            now += Duration::from_secs(wait_secs);
            assert!(failures.begin(&key, now));
        }
        for _ in 0..40 {
            now += WAIT_MAX;
            assert!(failures.begin(&key, now));
        }
        assert!(!failures.begin(&key, now + WAIT_MAX - Duration::from_millis(1)));
        assert!(failures.begin(&[2; 32], now), "another key does not wait");
    }

    #[test]
    fn a_success_clears_what_came_before() {
        let mut failures = Failures::default();
        let now = tokio::time::Instant::now().into_std();
        for _ in 0..20 {
            assert!(failures.begin(&[1; 32], now));
            failures.succeeded(&[1; 32]);
        }
        assert_eq!(failures.total(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_worst() {
        let mut failures = Failures::default();
        let now = tokio::time::Instant::now().into_std();
        for _ in 0..5 {
            failures.begin(&[0xff; 32], now);
        }
        for number in 0..3000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            assert!(failures.begin(&key, now));
        }
        assert_eq!(failures.keys.len(), 1024);
        assert!(!failures.begin(&[0xff; 32], now));
    }
}
