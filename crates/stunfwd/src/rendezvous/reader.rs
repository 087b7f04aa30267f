//! Opens what others wrote, wherever it was read.

use std::sync::Arc;

use signal_client::{RoomKeys, SlotName, SlotState, WatchEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::publisher::{OwnSlot, OwnWrites};
use super::room::{Change, Room};
use super::{PlaceId, RoomEvent};

/// What the reader knows of one signaling server.
pub(super) struct WatchedPlace {
    own_writes: Arc<OwnWrites>,
    own_slot_tx: watch::Sender<OwnSlot>,
    connected: bool,
    /// Its room shows our slot as written by another run with our key.
    shows_another: bool,
}

impl WatchedPlace {
    pub(super) const fn new(
        own_writes: Arc<OwnWrites>,
        own_slot_tx: watch::Sender<OwnSlot>,
    ) -> Self {
        Self {
            own_writes,
            own_slot_tx,
            connected: false,
            shows_another: false,
        }
    }
}

/// Opens what others wrote.
pub(super) struct Reader {
    keys: Arc<RoomKeys>,
    own: SlotName,
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
        events_tx: mpsc::Sender<RoomEvent>,
        places: Vec<WatchedPlace>,
    ) -> Self {
        Self {
            keys,
            own,
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
                () = sleep_until_some(vanished_at) => {
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
                let change = self.room.on_slot(place, state, Instant::now());
                self.hand_on(change).await
            }
            WatchEvent::Removed { slot } if slot == self.own => {
                self.on_own_slot_missing(place);
                self.own_slot(place, |own| own.seq = None);
                Ok(())
            }
            WatchEvent::Removed { slot } => {
                let change = self.room.on_removed(place, slot);
                self.hand_on(change).await
            }
            WatchEvent::Connected => {
                self.set_connected(place, true);
                self.room.begin_snapshot(place);
                Ok(())
            }
            WatchEvent::Ready { own_seq } => {
                self.room.end_snapshot(place, Instant::now());
                if own_seq.is_none() {
                    self.on_own_slot_missing(place);
                }
                self.own_slot(place, |own| {
                    own.watches += 1;
                    own.seq = own_seq;
                });
                self.tell(RoomEvent::Reachable { place }).await
            }
            WatchEvent::Disconnected { reason } => {
                self.set_connected(place, false);
                self.room.on_disconnected(place);
                let text = reason;
                self.tell(RoomEvent::Unreachable { place, text }).await
            }
            _ => Ok(()),
        }
    }

    fn set_connected(&mut self, place: PlaceId, connected: bool) {
        if let Some(it) = self.places.get_mut(place.0) {
            it.connected = connected;
        }
        self.judge_replaced();
    }

    fn own_slot(&self, place: PlaceId, change: impl FnOnce(&mut OwnSlot)) {
        if let Some(it) = self.places.get(place.0) {
            it.own_slot_tx.send_modify(change);
        }
    }

    /// Somebody wrote our slot: we did, or a later run with our key, to which the room belongs from now on.
    async fn on_own_slot(&mut self, place: PlaceId, state: &SlotState) -> Result<(), Deaf> {
        let Some(it) = self.places.get_mut(place.0) else {
            return Ok(());
        };
        if !it.own_writes.is_another_runs(state.seq) {
            return Ok(());
        }
        it.shows_another = true;
        if !self.judge_replaced() {
            return Ok(());
        }
        let text = format!(
            "another program with this identity (key {}) has taken this one's place in the room; stop \
             one of them, or give them state directories of their own",
            state.key.short()
        );
        self.tell(RoomEvent::Replaced(text)).await
    }

    fn on_own_slot_missing(&mut self, place: PlaceId) {
        if let Some(it) = self.places.get_mut(place.0) {
            it.shows_another = false;
        }
        self.judge_replaced();
    }

    /// Has another run the room, as those who answer see it? Returns whether that is news.
    fn judge_replaced(&mut self) -> bool {
        let anybody_answers = self.places.iter().any(|it| it.connected);
        let replaced = self
            .places
            .iter()
            .any(|it| it.shows_another && (it.connected || !anybody_answers));
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
        match self.keys.open(slot, seq, &payload) {
            Ok(plaintext) => {
                self.tell(RoomEvent::Opened {
                    slot,
                    key,
                    plaintext,
                })
                .await
            }
            Err(error) => {
                warn!(slot = %slot, %error, "a slot of this room does not open with our room secret");
                Ok(())
            }
        }
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
