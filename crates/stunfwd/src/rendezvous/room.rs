//! What the room is known to hold of others, put together from every signaling server.
//!
//! A participant writes one description to all servers it reaches, under one sequence, so that the highest
//! sequence of a key is its newest word wherever it was read. A slot is gone when nobody who answers holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use signal_client::{PublicKey, SlotName, SlotRemove, SlotState};
use tokio::time::Instant;

use super::PlaceId;

/// A slot that signaling has forgotten is taken for removed after this long. A living owner notices too, and
/// writes it again within about a second; five when the outage was long.
const VANISHED_GRACE: Duration = Duration::from_secs(30);
/// A living owner writes every two minutes. One that has not for so long makes room for another key that holds
/// the same slot on another server.
pub(super) const ABANDONED_AFTER: Duration = Duration::from_secs(180);
/// Slots that are remembered; a room holds fewer. Beyond it writes are merely handed on twice.
const SLOTS_MAX: usize = 1024;

/// What a change of the room means for whoever gathers peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This is the slot's present content.
    Written(SlotState),
    /// The slot is gone.
    Removed(SlotName),
}

/// The rooms of all signaling servers as one.
#[derive(Debug, Default)]
pub(super) struct Room {
    slots: BTreeMap<SlotName, Known>,
    /// What the present snapshot of each server has shown so far.
    shown: BTreeMap<PlaceId, BTreeSet<SlotName>>,
    connected: BTreeSet<PlaceId>,
}

/// One slot.
#[derive(Debug)]
struct Known {
    key: PublicKey,
    /// The sequence that was handed on.
    seq: u64,
    written_at: Instant,
    holders: BTreeMap<PlaceId, Holding>,
}

/// What one server holds of a slot.
#[derive(Debug)]
struct Holding {
    /// Without its payload, unless it may be needed later.
    state: SlotState,
    /// When it counts as removed, since the last snapshot lacked it.
    vanishes_at: Option<Instant>,
}

impl Room {
    /// Takes a slot that a server shows.
    pub(super) fn on_slot(
        &mut self,
        place: PlaceId,
        state: SlotState,
        now: Instant,
    ) -> Option<Change> {
        let slot = state.slot;
        let shown = self.shown.entry(place).or_default();
        if shown.len() < SLOTS_MAX {
            shown.insert(slot);
        }
        let written_at = now
            .checked_sub(Duration::from_millis(state.age_ms))
            .unwrap_or(now);
        if !self.slots.contains_key(&slot) && self.slots.len() >= SLOTS_MAX {
            return Some(Change::Written(state));
        }
        let is_new = !self.slots.contains_key(&slot);
        let known = self.slots.entry(slot).or_insert_with(|| Known {
            key: state.key,
            seq: state.seq,
            written_at,
            holders: BTreeMap::new(),
        });
        known.holders.insert(place, Holding::of(&state));
        let is_news = is_new
            || if state.key == known.key {
                state.seq != known.seq && known.newest() == Some(state.seq)
            } else {
                known.newest().is_none() || now > known.written_at + ABANDONED_AFTER
            };
        // What a server says of the age of an old write is no sign of life: a living owner raises the sequence.
        if !is_news {
            return None;
        }
        known.hand_on(&state, written_at);
        Some(Change::Written(state))
    }

    /// A server says that a slot is gone. The owner's word for it takes with it what other servers hold that is
    /// not newer: he may not have reached them. Without it the server speaks of itself alone.
    pub(super) fn on_removed(
        &mut self,
        place: PlaceId,
        slot: SlotName,
        removal: Option<SlotRemove>,
    ) -> Option<Change> {
        let known = self.slots.get_mut(&slot)?;
        if known.holders.remove(&place).is_none() && removal.is_none() {
            return None;
        }
        if let Some(removal) = removal {
            known.holders.retain(|_, holding| {
                holding.state.key != removal.key || holding.state.seq > removal.seq
            });
        }
        self.settle(slot)
    }

    /// A server answers: its snapshot begins.
    pub(super) fn begin_snapshot(&mut self, place: PlaceId) {
        self.connected.insert(place);
        self.shown.insert(place, BTreeSet::new());
    }

    /// The snapshot is whole: the server has forgotten what it lacks.
    pub(super) fn end_snapshot(&mut self, place: PlaceId, now: Instant) {
        let shown = self.shown.remove(&place).unwrap_or_default();
        for (slot, known) in &mut self.slots {
            if shown.contains(slot) {
                continue;
            }
            if let Some(holding) = known.holders.get_mut(&place) {
                holding.vanishes_at.get_or_insert(now + VANISHED_GRACE);
            }
        }
    }

    /// A server does not answer any more; what it held last is remembered.
    pub(super) fn on_disconnected(&mut self, place: PlaceId) {
        self.connected.remove(&place);
    }

    /// Returns when [`Room::take_vanished`] has something to do.
    pub(super) fn next_vanished(&self) -> Option<Instant> {
        let holdings = self.slots.values().flat_map(|known| known.holders.values());
        holdings.filter_map(|holding| holding.vanishes_at).min()
    }

    /// Takes out what was forgotten and not written again in time.
    pub(super) fn take_vanished(&mut self, now: Instant) -> Vec<Change> {
        let mut touched = Vec::new();
        for (slot, known) in &mut self.slots {
            let is_due = |holding: &Holding| holding.vanishes_at.is_some_and(|at| at <= now);
            if known.holders.values().any(is_due) {
                known.holders.retain(|_, holding| !is_due(holding));
                touched.push(*slot);
            }
        }
        touched
            .into_iter()
            .filter_map(|slot| self.settle(slot))
            .collect()
    }

    /// Something of the slot went: is it still there, and whose is it?
    fn settle(&mut self, slot: SlotName) -> Option<Change> {
        let known = self.slots.get_mut(&slot)?;
        let anybody_answers = !self.connected.is_empty();
        let counts = |place: &PlaceId| !anybody_answers || self.connected.contains(place);
        let holders = known.holders.iter();
        let mut counted = holders
            .filter(|(place, _)| counts(place))
            .map(|(_, it)| &it.state);
        if counted.clone().any(|state| state.key == known.key) {
            return None;
        }
        if let Some(other) = counted.next().cloned() {
            let written_at = known.written_at;
            known.hand_on(&other, written_at);
            return Some(Change::Written(other));
        }
        self.slots.remove(&slot);
        Some(Change::Removed(slot))
    }
}

impl Known {
    /// The highest sequence that any server holds of the key that was handed on.
    fn newest(&self) -> Option<u64> {
        let states = self.holders.values().map(|holding| &holding.state);
        states
            .filter(|state| state.key == self.key)
            .map(|state| state.seq)
            .max()
    }

    fn hand_on(&mut self, state: &SlotState, written_at: Instant) {
        self.key = state.key;
        self.seq = state.seq;
        self.written_at = written_at;
    }
}

impl Holding {
    /// Only the server's slot may change its owner, and then needs what another server holds.
    fn of(state: &SlotState) -> Self {
        let mut state = state.clone();
        if !state.slot.is_server() {
            state.payload = Vec::new();
        }
        Self {
            state,
            vanishes_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_client::{Identity, Signature};

    use super::*;

    const A: PlaceId = PlaceId(0);
    const B: PlaceId = PlaceId(1);

    fn client(seed: u8, seq: u64) -> SlotState {
        let key = Identity::from_seed([seed; 32]).public_key();
        state(SlotName::client(&key), key, seq)
    }

    fn server(seed: u8, seq: u64) -> SlotState {
        let key = Identity::from_seed([seed; 32]).public_key();
        state(SlotName::server(), key, seq)
    }

    fn state(slot: SlotName, key: PublicKey, seq: u64) -> SlotState {
        SlotState {
            slot,
            key,
            seq,
            payload: vec![1],
            signature: Signature([0; 64]),
            age_ms: 0,
        }
    }

    fn removal(seed: u8, seq: u64) -> Option<SlotRemove> {
        let key = Identity::from_seed([seed; 32]).public_key();
        let signature = Signature([0; 64]);
        Some(SlotRemove {
            key,
            seq,
            signature,
        })
    }

    fn written(state: &SlotState) -> Option<Change> {
        Some(Change::Written(state.clone()))
    }

    #[test]
    fn a_slot_that_signaling_forgot_is_removed_unless_its_owner_writes_it_again() {
        let (mut room, now) = (Room::default(), Instant::now());
        let (dead, alive) = (client(1, 1), client(2, 1));
        room.begin_snapshot(A);
        assert_eq!(room.on_slot(A, dead.clone(), now), written(&dead));
        assert_eq!(room.on_slot(A, alive.clone(), now), written(&alive));
        room.end_snapshot(A, now);
        assert_eq!(room.next_vanished(), None);

        room.on_disconnected(A);
        room.begin_snapshot(A);
        room.end_snapshot(A, now);
        assert_eq!(
            room.on_slot(A, client(2, 2), now),
            written(&client(2, 2)),
            "its owner is alive"
        );
        let due = room.next_vanished().unwrap();
        assert_eq!(due, now + VANISHED_GRACE);
        assert_eq!(room.take_vanished(due), [Change::Removed(dead.slot)]);
        assert_eq!(room.next_vanished(), None);
        assert_eq!(
            room.on_slot(A, dead.clone(), now),
            written(&dead),
            "it may come back"
        );
    }

    #[test]
    fn a_snapshot_that_repeats_everything_hands_on_nothing_twice() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.on_slot(A, client(1, 1), now).is_some());
        room.begin_snapshot(A);
        assert_eq!(room.on_slot(A, client(1, 1), now), None);
        room.end_snapshot(A, now);
        assert_eq!(room.next_vanished(), None);
    }

    #[test]
    fn what_two_servers_show_is_handed_on_once_and_the_newest_counts() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.on_slot(A, client(1, 5), now).is_some());
        assert_eq!(room.on_slot(B, client(1, 5), now), None);
        assert!(room.on_slot(B, client(1, 6), now).is_some());
        assert_eq!(room.on_slot(A, client(1, 5), now), None, "older");
        assert_eq!(room.on_slot(A, client(1, 6), now), None, "known");
    }

    #[test]
    fn a_sequence_that_began_anew_counts_when_no_server_holds_a_higher_one() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.on_slot(A, client(1, 9), now).is_some());
        assert!(room.on_slot(A, client(1, 2), now).is_some());
    }

    #[test]
    fn a_slot_stays_while_one_server_that_answers_has_a_newer_write_of_it() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.begin_snapshot(A);
        room.begin_snapshot(B);
        room.on_slot(A, client(1, 5), now);
        room.on_slot(B, client(1, 6), now);
        let slot = client(1, 1).slot;
        assert_eq!(room.on_removed(A, slot, None), None, "it expired there");
        assert_eq!(room.on_removed(B, slot, None), Some(Change::Removed(slot)));
    }

    #[test]
    fn one_servers_word_alone_removes_nothing_that_another_shows() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.begin_snapshot(A);
        room.begin_snapshot(B);
        room.on_slot(A, client(1, 5), now);
        room.on_slot(B, client(1, 5), now);
        assert_eq!(room.on_removed(A, client(1, 1).slot, None), None);
        let earlier = removal(1, 4);
        room.on_slot(A, client(1, 5), now);
        assert_eq!(room.on_removed(A, client(1, 1).slot, earlier), None);
    }

    #[test]
    fn a_removal_outweighs_a_server_that_its_owner_could_not_reach() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.begin_snapshot(A);
        room.begin_snapshot(B);
        room.on_slot(A, client(1, 5), now);
        room.on_slot(B, client(1, 5), now);
        let slot = client(1, 1).slot;
        assert_eq!(
            room.on_removed(A, slot, removal(1, 6)),
            Some(Change::Removed(slot))
        );
        assert_eq!(room.on_removed(B, slot, None), None);
    }

    #[test]
    fn a_server_that_is_away_does_not_keep_a_slot() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.begin_snapshot(A);
        room.begin_snapshot(B);
        room.on_slot(A, client(1, 5), now);
        room.on_slot(B, client(1, 6), now);
        room.on_disconnected(B);
        let slot = client(1, 1).slot;
        assert_eq!(room.on_removed(A, slot, None), Some(Change::Removed(slot)));
    }

    #[test]
    fn two_servers_with_different_owners_do_not_flap() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.begin_snapshot(A);
        room.begin_snapshot(B);
        assert!(room.on_slot(A, server(1, 5), now).is_some());
        assert_eq!(room.on_slot(B, server(2, 50), now), None);
        let refreshed = now + Duration::from_secs(120);
        assert!(room.on_slot(A, server(1, 6), refreshed).is_some());
        assert_eq!(room.on_slot(B, server(2, 51), refreshed), None);
        assert_eq!(
            room.on_removed(A, SlotName::server(), None),
            written(&server(2, 51)),
            "the first one stopped"
        );
    }

    #[test]
    fn an_old_write_that_is_shown_again_as_new_keeps_nobody_out() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.on_slot(A, server(1, 5), now).is_some());
        let later = now + ABANDONED_AFTER + Duration::from_secs(1);
        assert_eq!(room.on_slot(A, server(1, 5), later), None, "of age 0");
        assert!(room.on_slot(B, server(2, 9), later).is_some());
    }

    #[test]
    fn an_owner_that_has_not_written_for_long_makes_room_for_another() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(room.on_slot(A, server(1, 5), now).is_some());
        let later = now + ABANDONED_AFTER + Duration::from_secs(1);
        assert!(room.on_slot(B, server(2, 1), later).is_some());
    }
}
