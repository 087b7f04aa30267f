//! Opens what others wrote, wherever it was read.

use std::sync::Arc;

use session::Description;
use signal_client::{PublicKey, RoomKeys, SlotName, SlotState, WatchEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use super::publisher::{OwnSlot, OwnWrites};
use super::room::{ABANDONED_AFTER, Change, Room};
use super::{PlaceId, RoomEvent};
use crate::clock::until;

/// What the reader knows of one signaling server.
pub(super) struct WatchedPlace {
    own_writes: Arc<OwnWrites>,
    own_slot_tx: watch::Sender<OwnSlot>,
    /// It answers, and its present snapshot is whole.
    answers: bool,
    /// Its room shows our slot as written by another run with our key.
    shows_another: bool,
    /// Who has our slot there.
    owner: Option<Owner>,
    /// The present snapshot has shown our slot.
    shown: bool,
}

/// Who has our slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A run with our key.
    Us,
    /// Another member of the room, whose sequence rose last at that time: the server's slot may be anybody's.
    Another {
        key: PublicKey,
        seq: u64,
        risen_at: Instant,
    },
}

impl WatchedPlace {
    pub(super) const fn new(
        own_writes: Arc<OwnWrites>,
        own_slot_tx: watch::Sender<OwnSlot>,
    ) -> Self {
        Self {
            own_writes,
            own_slot_tx,
            answers: false,
            shows_another: false,
            owner: None,
            shown: false,
        }
    }
}

/// Opens what others wrote.
pub(super) struct Reader {
    keys: Arc<RoomKeys>,
    own: SlotName,
    own_key: PublicKey,
    events_tx: mpsc::Sender<RoomEvent>,
    places: Vec<WatchedPlace>,
    room: Room,
    replaced: bool,
}

/// Nobody listens any more.
struct Deaf;

impl Reader {
    pub(super) fn new(
        keys: Arc<RoomKeys>,
        own: SlotName,
        own_key: PublicKey,
        events_tx: mpsc::Sender<RoomEvent>,
        places: Vec<WatchedPlace>,
    ) -> Self {
        Self {
            keys,
            own,
            own_key,
            events_tx,
            places,
            room: Room::default(),
            replaced: false,
        }
    }

    /// Runs until no server is watched any more, or nobody listens.
    pub(super) async fn run(mut self, mut watch_rx: mpsc::Receiver<(PlaceId, WatchEvent)>) {
        loop {
            let vanished_at = self.room.next_vanished();
            let handled = tokio::select! {
                event = watch_rx.recv() => match event {
                    Some((place, event)) => self.on_event(place, event).await,
                    None => return,
                },
                () = until(vanished_at.map(Instant::into_std)) => {
                    let changes = self.room.take_vanished(Instant::now());
                    self.hand_on(changes).await
                }
            };
            if handled.is_err() {
                return;
            }
        }
    }

    async fn on_event(&mut self, place: PlaceId, event: WatchEvent) -> Result<(), Deaf> {
        match event {
            WatchEvent::Slot(state) if state.slot == self.own => {
                self.on_own_slot(place, &state).await
            }
            WatchEvent::Slot(state) => {
                if !self.is_vouched_for(&state) {
                    return Ok(());
                }
                let change = self.room.on_slot(place, state, Instant::now());
                self.hand_on(change).await
            }
            WatchEvent::Removed { slot, .. } if slot == self.own => {
                self.set_owner(place, None);
                self.show_another(place, false).await?;
                self.own_slot(place, |own| own.seq = None);
                Ok(())
            }
            WatchEvent::Removed { slot, removal } => {
                let change = self.room.on_removed(place, slot, removal);
                self.hand_on(change).await
            }
            WatchEvent::Connected => {
                if let Some(it) = self.places.get_mut(place.0) {
                    it.shown = false;
                }
                self.room.begin_snapshot(place);
                Ok(())
            }
            WatchEvent::Ready { own_seq } => {
                self.room.end_snapshot(place, Instant::now());
                self.set_answers(place, true);
                if self.places.get(place.0).is_some_and(|it| !it.shown) {
                    self.set_owner(place, None);
                }
                if own_seq.is_none() {
                    self.show_another(place, false).await?;
                }
                self.judge_replaced().await?;
                self.own_slot(place, |own| {
                    own.watches += 1;
                    own.seq = own_seq;
                });
                self.tell(RoomEvent::Reachable { place }).await
            }
            WatchEvent::Disconnected { reason } => {
                self.set_answers(place, false);
                self.judge_replaced().await?;
                self.room.on_disconnected(place);
                let text = reason;
                self.tell(RoomEvent::Unreachable { place, text }).await
            }
            _ => Ok(()),
        }
    }

    fn set_answers(&mut self, place: PlaceId, answers: bool) {
        if let Some(it) = self.places.get_mut(place.0) {
            it.answers = answers;
        }
        self.judge_taken();
    }

    fn set_owner(&mut self, place: PlaceId, owner: Option<Owner>) {
        if let Some(it) = self.places.get_mut(place.0) {
            it.owner = owner;
            it.shown = true;
        }
        self.judge_taken();
    }

    /// A room has one server, also where one of its signaling servers has forgotten it: who is refused by one
    /// does not take the place on another. A life is a sequence that rises, which no signaling server can feign.
    fn judge_taken(&self) {
        for (index, place) in self.places.iter().enumerate() {
            let lives_elsewhere = |(other, it): (usize, &WatchedPlace)| match it.owner {
                Some(Owner::Another { risen_at, .. }) if it.answers && other != index => {
                    Some(risen_at + ABANDONED_AFTER)
                }
                Some(Owner::Another { .. } | Owner::Us) | None => None,
            };
            let elsewhere = self.places.iter().enumerate();
            let until = elsewhere.filter_map(lives_elsewhere).max();
            let until = until.filter(|_| place.owner.is_none());
            place.own_slot_tx.send_if_modified(|own| {
                let before = std::mem::replace(&mut own.taken_elsewhere_until, until);
                before.is_some() && until.is_none()
            });
        }
    }

    fn own_slot(&self, place: PlaceId, change: impl FnOnce(&mut OwnSlot)) {
        if let Some(it) = self.places.get(place.0) {
            it.own_slot_tx.send_modify(change);
        }
    }

    /// Somebody wrote our slot: we did, or a later run with our key, to which the room belongs from now on.
    ///
    /// The server's slot may be another key's: whoever runs a signaling server can write it under a key of his
    /// own, so that it says nothing about us but that it is not ours there. The next write is told whose it is.
    async fn on_own_slot(&mut self, place: PlaceId, state: &SlotState) -> Result<(), Deaf> {
        self.set_owner(place, self.owner_of(place, state));
        if state.key != self.own_key {
            self.show_another(place, false).await?;
            self.own_slot(place, |own| own.seq = None);
            return Ok(());
        }
        let Some(it) = self.places.get(place.0) else {
            return Ok(());
        };
        let is_another = it.own_writes.is_another_runs(state.seq);
        if !is_another {
            it.own_slot_tx.send_if_modified(|own| {
                own.signed = own.signed.max(state.seq);
                false
            });
        }
        self.show_another(place, is_another).await
    }

    fn owner_of(&self, place: PlaceId, state: &SlotState) -> Option<Owner> {
        if state.key == self.own_key {
            return Some(Owner::Us);
        }
        let before = self.places.get(place.0)?.owner;
        let is_known = matches!(
            before,
            Some(Owner::Another { key, seq, .. }) if key == state.key && seq >= state.seq
        );
        if is_known {
            return before;
        }
        self.is_vouched_for(state).then(|| Owner::Another {
            key: state.key,
            seq: state.seq,
            risen_at: Instant::now(),
        })
    }

    async fn show_another(&mut self, place: PlaceId, shows_another: bool) -> Result<(), Deaf> {
        if let Some(it) = self.places.get_mut(place.0) {
            it.shows_another = shows_another;
        }
        self.judge_replaced().await
    }

    /// Tells when another run has the room.
    async fn judge_replaced(&mut self) -> Result<(), Deaf> {
        if !self.is_newly_replaced() {
            return Ok(());
        }
        let text = format!(
            "another program with this identity (key {}) has taken this one's place in the room; stop \
             one of them, or give them state directories of their own",
            self.own_key.short()
        );
        self.tell(RoomEvent::Replaced(text)).await
    }

    /// Has another run the room, as those who answer see it? While nobody answers it is as it was. Returns
    /// whether that is news.
    fn is_newly_replaced(&mut self) -> bool {
        let mut answering = self.places.iter().filter(|it| it.answers).peekable();
        if answering.peek().is_none() {
            return false;
        }
        let replaced = answering.any(|it| it.shows_another);
        if replaced == self.replaced {
            return false;
        }
        self.replaced = replaced;
        for it in &self.places {
            it.own_slot_tx.send_if_modified(|own| {
                own.replaced = replaced;
                !replaced
            });
        }
        replaced
    }

    /// Returns whether a slot was written by a member of the room, under the key that signed it. A server can
    /// make slots under keys of its own, and move what others sealed into them; those must not stand in the way
    /// of what another server shows.
    fn is_vouched_for(&self, state: &SlotState) -> bool {
        let SlotState { slot, key, seq, .. } = *state;
        match self.keys.open(slot, seq, &state.payload) {
            Ok(plaintext) => match Description::decode(&plaintext) {
                Ok(description) if description.identity.0 == key.0 => true,
                Ok(_) => {
                    warn!(%slot, "a slot of this room holds the description of another key");
                    false
                }
                Err(error) => {
                    warn!(%slot, %error, "a description in this room cannot be used");
                    false
                }
            },
            Err(error) => {
                warn!(%slot, %error, "a slot of this room does not open with our room secret");
                false
            }
        }
    }

    async fn hand_on(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), Deaf> {
        for change in changes {
            match change {
                Change::Written(state) => self.open(state).await?,
                Change::Removed(slot) => {
                    self.tell(RoomEvent::Removed { slot }).await?;
                }
            }
        }
        Ok(())
    }

    async fn tell(&self, event: RoomEvent) -> Result<(), Deaf> {
        self.events_tx.send(event).await.map_err(|_| Deaf)
    }

    async fn open(&mut self, state: SlotState) -> Result<(), Deaf> {
        let SlotState {
            slot,
            key,
            seq,
            payload,
            ..
        } = state;
        let Ok(plaintext) = self.keys.open(slot, seq, &payload) else {
            return Ok(());
        };
        let opened = RoomEvent::Opened {
            slot,
            key,
            plaintext,
        };
        self.tell(opened).await
    }
}

#[cfg(test)]
mod tests {
    use session::{Hex, NatSummary, Side};
    use signal_client::{Identity, Signature};

    use super::super::publisher::Ledger;
    use super::*;

    const A: PlaceId = PlaceId(0);
    const B: PlaceId = PlaceId(1);

    struct World {
        reader: Reader,
        events_rx: mpsc::Receiver<RoomEvent>,
        own_slots: Vec<watch::Receiver<OwnSlot>>,
    }

    fn key(seed: u8) -> PublicKey {
        Identity::from_seed([seed; 32]).public_key()
    }

    /// The reader of the server with key 1, which has written sequence 100 to both signaling servers.
    fn server_of_two() -> World {
        let room = mapping_core::RoomId::new("a room for tests of readers".to_owned()).unwrap();
        let (events_tx, events_rx) = mpsc::channel(64);
        let ledger = Arc::new(Ledger::new(100));
        let mut places = Vec::new();
        let mut own_slots = Vec::new();
        for _ in 0..2 {
            let (own_slot_tx, own_slot_rx) = watch::channel(OwnSlot::default());
            let own_writes = Arc::new(OwnWrites::new(ledger.clone()));
            own_writes.note_accepted();
            places.push(WatchedPlace::new(own_writes, own_slot_tx));
            own_slots.push(own_slot_rx);
        }
        let keys = Arc::new(RoomKeys::derive(&room));
        World {
            reader: Reader::new(keys, SlotName::server(), key(1), events_tx, places),
            events_rx,
            own_slots,
        }
    }

    impl World {
        /// What a place that answers shows of our slot.
        async fn snapshot(&mut self, place: PlaceId, own: Option<SlotState>) {
            let own_seq = own.as_ref().map(|state| state.seq);
            let slot = own.map(WatchEvent::Slot);
            let events = [Some(WatchEvent::Connected), slot];
            for event in events.into_iter().flatten() {
                self.take(place, event).await;
            }
            self.take(place, WatchEvent::Ready { own_seq }).await;
        }

        async fn disconnect(&mut self, place: PlaceId) {
            let reason = "gone".to_owned();
            self.take(place, WatchEvent::Disconnected { reason }).await;
        }

        async fn take(&mut self, place: PlaceId, event: WatchEvent) {
            assert!(self.reader.on_event(place, event).await.is_ok());
        }

        /// How often the driver was told that another run has the room.
        fn replacements(&mut self) -> usize {
            let events = std::iter::from_fn(|| self.events_rx.try_recv().ok());
            events
                .filter(|event| matches!(event, RoomEvent::Replaced(_)))
                .count()
        }

        fn is_replaced(&self) -> bool {
            self.own_slots.iter().all(|own| own.borrow().replaced)
        }

        /// A slot whose payload was sealed for it by a member of the room that names `author` as its key.
        fn sealed(&self, slot: SlotName, owner: u8, author: u8, seq: u64) -> SlotState {
            let description = Description {
                versions: (1, 1),
                role: Side::Egress,
                instance: Hex([1; 16]),
                identity: Hex(key(author).0),
                nonce: Hex([2; 16]),
                answers: Vec::new(),
                ufrag: String::new(),
                pwd: String::new(),
                candidates: Vec::new(),
                nat: NatSummary::default(),
                notes: Vec::new(),
            };
            let payload = self.reader.keys.seal(slot, seq, &description.encode());
            state(slot, owner, seq, payload)
        }
    }

    fn own(owner: u8, seq: u64) -> Option<SlotState> {
        Some(state(SlotName::server(), owner, seq, vec![1]))
    }

    fn state(slot: SlotName, owner: u8, seq: u64, payload: Vec<u8>) -> SlotState {
        SlotState {
            slot,
            key: key(owner),
            seq,
            payload,
            signature: Signature([0; 64]),
            age_ms: 0,
        }
    }

    #[tokio::test]
    async fn a_later_run_with_our_key_replaces_us_whenever_a_server_that_answers_shows_it() {
        let mut world = server_of_two();
        world.snapshot(A, own(1, 100)).await;
        world.snapshot(B, own(1, 100)).await;
        assert_eq!(world.replacements(), 0);
        world.take(A, WatchEvent::Slot(own(1, 200).unwrap())).await;
        assert_eq!(world.replacements(), 1);
        assert!(world.is_replaced());

        world.disconnect(A).await;
        assert!(!world.is_replaced(), "the one that answers shows ours");
        world.snapshot(A, own(1, 200)).await;
        assert_eq!(world.replacements(), 1, "it is told again");
        assert!(world.is_replaced());

        world.disconnect(B).await;
        world.disconnect(A).await;
        assert!(world.is_replaced(), "nobody says otherwise");
        world.snapshot(A, None).await;
        assert!(!world.is_replaced());
    }

    #[tokio::test]
    async fn a_server_slot_of_another_key_is_no_later_run_of_ours() {
        let mut world = server_of_two();
        world.snapshot(A, own(1, 100)).await;
        world.snapshot(B, own(1, 100)).await;
        world.take(A, WatchEvent::Slot(own(9, 5000).unwrap())).await;
        assert_eq!(world.replacements(), 0);
        assert!(!world.is_replaced());
        assert_eq!(
            world.own_slots[0].borrow().seq,
            None,
            "it is not ours there"
        );
        assert_eq!(world.own_slots[0].borrow().signed, 100);
        assert_eq!(world.own_slots[1].borrow().seq, Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_another_server_lives_in_is_not_taken_where_it_was_forgotten() {
        let mut world = server_of_two();
        world.snapshot(B, None).await;
        let until = |world: &World| world.own_slots[1].borrow().taken_elsewhere_until;
        let alive = |world: &World, seq| world.sealed(SlotName::server(), 9, 9, seq);

        let moved = world.sealed(SlotName::server(), 9, 1, 500);
        world.snapshot(A, Some(moved)).await;
        assert_eq!(until(&world), None, "no member of the room wrote that");

        let state = alive(&world, 501);
        world.snapshot(A, Some(state.clone())).await;
        let first = Instant::now() + ABANDONED_AFTER;
        assert_eq!(until(&world), Some(first));
        assert_eq!(
            world.own_slots[0].borrow().taken_elsewhere_until,
            None,
            "whether it is free there is for that server to say"
        );

        tokio::time::advance(ABANDONED_AFTER / 2).await;
        world.snapshot(A, Some(state)).await;
        assert_eq!(until(&world), Some(first), "the same write is no life");
        let state = alive(&world, 502);
        world.take(A, WatchEvent::Slot(state)).await;
        assert_eq!(until(&world), Some(Instant::now() + ABANDONED_AFTER));

        world.own_slots[1].mark_unchanged();
        world.snapshot(A, None).await;
        assert_eq!(until(&world), None);
        assert!(world.own_slots[1].has_changed().unwrap());
    }

    #[tokio::test]
    async fn what_no_member_of_the_room_wrote_stands_in_nobodys_way() {
        let mut world = server_of_two();
        let slot = SlotName::client(&key(7));
        world.reader.own = SlotName::client(&key(1));
        let forged = state(SlotName::server(), 9, 5000, vec![7; 60]);
        let moved = SlotState {
            key: key(9),
            ..world.sealed(SlotName::server(), 2, 2, 5000)
        };
        let real = world.sealed(SlotName::server(), 2, 2, 100);
        let client = world.sealed(slot, 7, 7, 100);
        for (place, state) in [(A, forged), (A, moved), (B, real), (B, client)] {
            world.take(place, WatchEvent::Slot(state)).await;
        }
        let events = std::iter::from_fn(|| world.events_rx.try_recv().ok());
        let opened: Vec<_> = events
            .filter_map(|event| {
                let RoomEvent::Opened { slot, key, .. } = event else {
                    return None;
                };
                Some((slot, key))
            })
            .collect();
        assert_eq!(opened, [(SlotName::server(), key(2)), (slot, key(7))]);
    }
}
