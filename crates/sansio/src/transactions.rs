//! Which requests are outstanding.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::{Rng, rngs::StdRng};
use stunwire::TransactionId;

use crate::{Deadline, Retransmission, Schedule, Step};

/// The outstanding requests of one machine, each with what the machine wants to remember of it.
///
/// Bounded: [`Transactions::start`] refuses above the limit given at construction and counts it.
/// Ids are drawn from the machine's own generator, so that they are unpredictable to strangers and
/// reproducible in a simulation.
#[derive(Debug)]
pub struct Transactions<T> {
    entries: BTreeMap<TransactionId, Entry<T>>,
    limit: usize,
    refused: u64,
    reason: &'static str,
}

#[derive(Debug)]
struct Entry<T> {
    schedule: Schedule,
    value: T,
}

impl<T> Transactions<T> {
    /// Makes an empty table for at most `limit` requests; `reason` names its deadlines.
    #[must_use]
    pub const fn new(limit: usize, reason: &'static str) -> Self {
        Self {
            entries: BTreeMap::new(),
            limit,
            refused: 0,
            reason,
        }
    }

    /// Draws a transaction id.
    pub fn draw_id(rng: &mut StdRng) -> TransactionId {
        let mut id = [0; 12];
        rng.fill_bytes(&mut id);
        TransactionId::new(id)
    }

    /// Remembers a request that is being sent now. Returns `false`, and counts it, when the table is full.
    pub fn start(
        &mut self,
        id: TransactionId,
        value: T,
        policy: Retransmission,
        now: Instant,
    ) -> bool {
        if self.entries.len() >= self.limit {
            self.refused += 1;
            return false;
        }
        self.entries.insert(
            id,
            Entry {
                schedule: policy.start(now),
                value,
            },
        );
        true
    }

    /// Returns what is remembered of a request, for checking an answer before believing it.
    #[must_use]
    pub fn get(&self, id: &TransactionId) -> Option<&T> {
        self.entries.get(id).map(|entry| &entry.value)
    }

    /// Takes a request out: its answer was checked.
    pub fn take(&mut self, id: &TransactionId) -> Option<T> {
        self.entries.remove(id).map(|entry| entry.value)
    }

    /// Forgets the requests for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|_, entry| keep(&entry.value));
    }

    /// Returns the outstanding requests in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&TransactionId, &T)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.value))
    }

    /// Advances every schedule that is due: calls `retransmit` for each request to send again, and
    /// returns those that were given up.
    pub fn advance(
        &mut self,
        now: Instant,
        mut retransmit: impl FnMut(&TransactionId, &T),
    ) -> Vec<(TransactionId, T)> {
        let mut given_up = Vec::new();
        for (id, entry) in &mut self.entries {
            match entry.schedule.advance(now) {
                Step::Wait => {}
                Step::Retransmit => retransmit(id, &entry.value),
                Step::GiveUp => given_up.push(*id),
            }
        }
        given_up
            .into_iter()
            .filter_map(|id| self.entries.remove(&id).map(|entry| (id, entry.value)))
            .collect()
    }

    /// Returns when [`Transactions::advance`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.entries
            .values()
            .filter_map(|entry| entry.schedule.deadline())
            .min()
            .map(|at| Deadline::new(at, self.reason))
    }

    /// Returns how many requests are outstanding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no request is outstanding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many requests the bound refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
