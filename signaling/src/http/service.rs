//! The rooms behind a lock, with the clock and the queues of the watchers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use signal_client::{PublicKey, RendezvousId, SlotName, SlotRemove};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::address_class::AddressClass;
use crate::rooms::{Refusal, RoomEvent, RoomLimits, RoomStats, Rooms, SlotView, WatcherId, Write};

/// Events that a watcher may lag behind. Above it the watch ends, and the next begins with a snapshot.
const QUEUE_MAX: usize = 256;

/// The rooms of this process, for any number of tasks.
#[derive(Debug)]
pub(crate) struct RoomService {
    inner: Mutex<Inner>,
    /// Woken when the next deadline may have come nearer.
    deadline_moved: Notify,
}

#[derive(Debug)]
struct Inner {
    rooms: Rooms,
    queues: BTreeMap<WatcherId, mpsc::Sender<RoomEvent>>,
}

/// A watch; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    service: Arc<RoomService>,
    id: WatcherId,
    events_rx: mpsc::Receiver<RoomEvent>,
}

impl RoomService {
    pub(crate) fn new(limits: RoomLimits) -> Arc<Self> {
        let inner = Inner {
            rooms: Rooms::new(limits),
            queues: BTreeMap::new(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            deadline_moved: Notify::new(),
        })
    }

    pub(crate) fn publish(
        &self,
        room: RendezvousId,
        slot: SlotName,
        write: Write,
    ) -> Result<u64, Refusal> {
        let published = self.with_rooms(|rooms, now| rooms.publish(room, slot, write, now));
        self.deadline_moved.notify_one();
        published
    }

    pub(crate) fn remove(
        &self,
        room: RendezvousId,
        slot: SlotName,
        removal: SlotRemove,
    ) -> Result<(), Refusal> {
        self.with_rooms(|rooms, now| rooms.remove(room, slot, removal, now))
    }

    pub(crate) fn snapshot(&self, room: RendezvousId) -> Vec<SlotView> {
        self.with_rooms(|rooms, now| rooms.snapshot(room, now))
    }

    pub(crate) fn stats(&self) -> RoomStats {
        self.with_rooms(|rooms, _| rooms.stats())
    }

    /// Begins a watch: the room as it is, and what changes from then on.
    pub(crate) fn open_watch(
        self: &Arc<Self>,
        room: RendezvousId,
        address: AddressClass,
        owner: Option<(SlotName, PublicKey)>,
    ) -> Result<(Watch, Vec<SlotView>), Refusal> {
        let mut inner = self.lock();
        let (id, snapshot) = inner.rooms.open_watch(room, address, owner, clock())?;
        let (events_tx, events_rx) = mpsc::channel(QUEUE_MAX);
        inner.queues.insert(id, events_tx);
        drop(inner);
        Ok((
            Watch {
                service: Arc::clone(self),
                id,
                events_rx,
            },
            snapshot,
        ))
    }

    /// Removes what expires, until cancelled.
    pub(crate) async fn run_expiry(&self, cancel: CancellationToken) {
        loop {
            let deadline = self.with_rooms(|rooms, now| {
                rooms.handle_timeout(now);
                rooms.poll_timeout()
            });
            let wait = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.deadline_moved.notified() => {}
                () = wait => {}
            }
        }
    }

    fn with_rooms<T>(&self, command: impl FnOnce(&mut Rooms, Instant) -> T) -> T {
        let mut inner = self.lock();
        let outcome = command(&mut inner.rooms, clock());
        inner.deliver();
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in `Rooms` is left half done by a panic but the one room it was about.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn deliver(&mut self) {
        while let Some((id, event)) = self.rooms.poll_notification() {
            let Some(queue) = self.queues.get(&id) else {
                continue;
            };
            if queue.try_send(event).is_err() {
                debug!(?id, "a watcher does not keep up: its watch ends");
                self.queues.remove(&id);
            }
        }
    }
}

impl Watch {
    /// Returns the next change; `None` when the watcher did not keep up.
    pub(crate) async fn next(&mut self) -> Option<RoomEvent> {
        self.events_rx.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.service.lock();
        inner.queues.remove(&self.id);
        inner.rooms.close_watch(self.id, clock());
    }
}

/// The clock of the HTTP side, which a test may pause.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
