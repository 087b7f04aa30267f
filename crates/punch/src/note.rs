//! Words from one layer above to the other, over a pair that works: which notes wait for their acknowledgement.
//!
//! A note is a binding request with one more attribute, retransmitted until it is answered. One note per pair is on
//! its way at a time, so that notes of one pair arrive in their order and an acknowledgement is that of the
//! oldest.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::{Retransmission, Transactions};
use stunwire::TransactionId;

use crate::PairId;

/// The longest note, in bytes: with the longest ufrags the request still fits into a packet that every path
/// carries.
pub const NOTE_MAX: usize = 600;

/// Notes that wait, those on their way included; what two ladders have to say in a round is less.
const NOTES_MAX: usize = 16;
/// Notes of the peer that are remembered, so that a recorded one has no effect when it comes again after the
/// admission has forgotten it.
const SEEN_MAX: usize = 256;
/// Twice the round trip of the pair, within these bounds: below the least a busy machine answers late, above
/// the greatest nobody waits.
const RTO_MIN: Duration = Duration::from_millis(100);
const RTO_MAX: Duration = Duration::from_secs(1);
/// At 20 % loss each way all nine are lost once in 10,000 times.
const SENDS: u32 = 9;

/// A note as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct SentNote {
    pub(crate) pair: PairId,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// The notes of one agent, in both directions.
#[derive(Debug)]
pub(crate) struct Notes {
    on_their_way: Transactions<SentNote>,
    waiting: BTreeMap<PairId, VecDeque<Vec<u8>>>,
    seen: VecDeque<TransactionId>,
}

impl Notes {
    pub(crate) const fn new() -> Self {
        Self {
            on_their_way: Transactions::new(NOTES_MAX, "punch: note unanswered"),
            waiting: BTreeMap::new(),
            seen: VecDeque::new(),
        }
    }

    /// Takes a note to be sent; refuses one too many.
    pub(crate) fn push(&mut self, pair: PairId, note: Vec<u8>) -> bool {
        let waiting: usize = self.waiting.values().map(VecDeque::len).sum();
        let has_room = waiting + self.on_their_way.len() < NOTES_MAX;
        if has_room {
            self.waiting.entry(pair).or_default().push_back(note);
        }
        has_room
    }

    /// Takes out the next note of a pair, unless one of its notes is on its way.
    pub(crate) fn next(&mut self, pair: PairId) -> Option<Vec<u8>> {
        if self.on_their_way.iter().any(|(_, sent)| sent.pair == pair) {
            return None;
        }
        let waiting = self.waiting.get_mut(&pair)?;
        let note = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&pair);
        }
        note
    }

    /// Remembers a note that is being sent; `rtt` is that of its pair.
    pub(crate) fn start(
        &mut self,
        id: TransactionId,
        note: SentNote,
        rtt: Option<Duration>,
        now: Instant,
    ) {
        let rto = rtt.map_or(RTO_MIN, |rtt| (2 * rtt).clamp(RTO_MIN, RTO_MAX));
        let policy = Retransmission {
            rto,
            rto_max: 4 * rto,
            sends: SENDS,
            last_wait: 4 * rto,
        };
        // `push` has made sure that there is room.
        let _ = self.on_their_way.start(id, note, policy, now);
    }

    pub(crate) fn get(&self, id: &TransactionId) -> Option<&SentNote> {
        self.on_their_way.get(id)
    }

    pub(crate) fn take(&mut self, id: &TransactionId) -> Option<SentNote> {
        self.on_their_way.take(id)
    }

    /// Returns what is to be sent again, and the pairs of the notes that were given up.
    pub(crate) fn advance(&mut self, now: Instant) -> (Vec<SentNote>, Vec<PairId>) {
        let mut again = Vec::new();
        let given_up = self
            .on_their_way
            .advance(now, |_, note| again.push(note.clone()));
        (
            again,
            given_up.into_iter().map(|(_, note)| note.pair).collect(),
        )
    }

    /// Forgets the notes of a pair; returns how many there were.
    pub(crate) fn forget(&mut self, pair: PairId) -> usize {
        let before = self.on_their_way.len();
        self.on_their_way.retain(|note| note.pair != pair);
        let waiting = self.waiting.remove(&pair);
        before - self.on_their_way.len() + waiting.map_or(0, |notes| notes.len())
    }

    /// Returns whether a note of the peer is new, and remembers it.
    pub(crate) fn is_new(&mut self, id: TransactionId) -> bool {
        if self.seen.contains(&id) {
            return false;
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
        true
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.on_their_way.poll_timeout().map(|deadline| deadline.at)
    }
}
