//! Our own slot, kept written on one signaling server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use signal_client::{PublishError, RequestError, RoomClient, RoomKeys, SlotName, SlotStore};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{PlaceId, RETRY_MAX, RETRY_MIN, RoomEvent};

/// A waiting peer writes its slot again this often, so that it does not expire.
const REPUBLISH: Duration = Duration::from_secs(120);
/// Changes of the description within this time become one write.
const GATHERING: Duration = Duration::from_millis(20);
/// How long a clean stop waits for the slot to be removed: the whole stop should take less than two seconds.
const REMOVE_TIMEOUT: Duration = Duration::from_millis(1500);

/// What the room held of ours when the watch last began, or since it was removed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnSlot {
    /// How often the watch has begun.
    pub(super) watches: u64,
    /// The sequence of our slot; `None` when it is not there.
    pub(super) seq: Option<u64>,
    /// The highest sequence that was seen there under our signature, of this run or an earlier one: ours to go on
    /// from. A later run's is not.
    pub(super) signed: u64,
    /// Another run with our key has the room.
    pub(super) replaced: bool,
    /// The slot is free there, but another participant lives in it elsewhere: not to be written before then.
    pub(super) taken_elsewhere_until: Option<Instant>,
}

/// The sequence of our writes, one for all servers: the same description has the same sequence everywhere, a
/// later one a higher one, so that readers of different servers agree on which is the newest.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<Entry>);

#[derive(Debug)]
struct Entry {
    seq: u64,
    plaintext: Vec<u8>,
}

impl Ledger {
    /// Begins after `start`, which is the time in milliseconds: a later run is above an earlier one even on a
    /// server that the later one cannot ask. A clock that is wrong costs a round trip, as servers refuse a
    /// stale sequence and show the present one.
    pub(super) const fn new(start: u64) -> Self {
        Self(Mutex::new(Entry {
            seq: start,
            plaintext: Vec::new(),
        }))
    }

    /// Returns the present description and the sequence to write it with on a server whose last write of ours
    /// was `written`; `None` when there is no description yet.
    ///
    /// `written` must be our own doing, proven by our signature where a server says it: one that could raise the
    /// sequence by its word alone would use it up for all the others.
    fn next(
        &self,
        description_rx: &mut watch::Receiver<Option<Vec<u8>>>,
        written: u64,
    ) -> Option<(u64, Vec<u8>)> {
        let mut entry = self.entry();
        let plaintext = description_rx.borrow_and_update().clone()?;
        if entry.plaintext != plaintext || entry.seq <= written {
            entry.seq = entry.seq.max(written) + 1;
            entry.plaintext.clone_from(&plaintext);
        }
        Some((entry.seq, plaintext))
    }

    /// Returns the highest sequence that was tried anywhere.
    fn tried(&self) -> u64 {
        self.entry().seq
    }

    fn entry(&self) -> std::sync::MutexGuard<'_, Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far our own writes to one server are, so that those of another run with our key can be told from them.
#[derive(Debug)]
pub(super) struct OwnWrites {
    ledger: Arc<Ledger>,
    /// Whether any was accepted there: until then the slot may hold what an earlier run wrote.
    accepted: AtomicBool,
}

impl OwnWrites {
    pub(super) const fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            accepted: AtomicBool::new(false),
        }
    }

    /// The server took a write of ours.
    pub(super) fn note_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_another_runs(&self, seq: u64) -> bool {
        self.accepted.load(Ordering::Relaxed) && seq > self.ledger.tried()
    }
}

/// Keeps our own slot written.
pub(super) struct Publisher<S = RoomClient> {
    pub(super) place: PlaceId,
    pub(super) own_writes: Arc<OwnWrites>,
    pub(super) client: S,
    pub(super) keys: Arc<RoomKeys>,
    pub(super) slot: SlotName,
    pub(super) events_tx: mpsc::Sender<RoomEvent>,
    pub(super) description_rx: watch::Receiver<Option<Vec<u8>>>,
    pub(super) own_slot_rx: watch::Receiver<OwnSlot>,
    /// The sequence of our last write here; 0 before the first.
    pub(super) written: u64,
}

impl<S: SlotStore> Publisher<S> {
    /// Runs until `shutdown`, then removes the slot.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut republish_at = Instant::now() + REPUBLISH;
        loop {
            let due = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                changed = self.description_rx.changed() => changed.is_ok(),
                is_lost = lost_slot(&mut self.own_slot_rx, self.written) => {
                    if !is_lost {
                        break;
                    }
                    debug!("the room does not hold our description: writing it again");
                    true
                }
                () = sleep_until(republish_at) => true,
            };
            if !due {
                break;
            }
            if let Some(until) = self.rests_until() {
                republish_at = until;
                continue;
            }
            sleep(GATHERING).await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.publish_until_accepted() => {}
            }
            let jitter = rand::rng().random_range(0.9..1.1);
            let next = Instant::now() + REPUBLISH.mul_f64(jitter);
            republish_at = self.rests_until().unwrap_or(next);
        }
        if self.written > 0 {
            let removal = self.own_writes.ledger.tried() + 1;
            let _ = timeout(REMOVE_TIMEOUT, self.client.remove(removal)).await;
        }
    }

    /// Returns until when the room is somebody else's, if it is.
    fn rests_until(&self) -> Option<Instant> {
        let own = *self.own_slot_rx.borrow();
        let now = Instant::now();
        if own.replaced {
            return Some(now + REPUBLISH);
        }
        own.taken_elsewhere_until.filter(|until| *until > now)
    }

    async fn publish_until_accepted(&mut self) {
        let mut pause = RETRY_MIN;
        loop {
            let own = *self.own_slot_rx.borrow_and_update();
            if self.rests_until().is_some() {
                return;
            }
            let ledger = &self.own_writes.ledger;
            let next = ledger.next(&mut self.description_rx, self.written.max(own.signed));
            let Some((seq, plaintext)) = next else {
                return;
            };
            self.written = seq;
            let sealed = self.keys.seal(self.slot, seq, &plaintext);
            let Err(error) = self.client.publish(seq, sealed).await else {
                self.own_writes.note_accepted();
                if !self.own_slot_rx.borrow().replaced {
                    self.tell(RoomEvent::Published { place: self.place }).await;
                }
                return;
            };
            if let PublishError::Stale { current_seq } = error {
                debug!(
                    current_seq,
                    "the slot remembers a later write of ours: going on once the watch shows it"
                );
            } else {
                pause = pause.max(self.report(error).await);
            }
            self.wait(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Tells why a write was not accepted; returns how long the server asks to wait.
    async fn report(&self, error: PublishError) -> Duration {
        let place = self.place;
        let mut patience = Duration::ZERO;
        let event = match error {
            PublishError::Taken { key, age } => {
                let text = format!(
                    "another server (key {}) holds this room, last heard {} s ago; stop it, or give \
                     this one a room of its own",
                    key.short(),
                    age.as_secs()
                );
                RoomEvent::Refused { place, text }
            }
            PublishError::Request(RequestError::Unauthorized) => RoomEvent::Unreachable {
                place,
                text: RequestError::Unauthorized.to_string(),
            },
            PublishError::Request(RequestError::Unreachable(error)) => {
                debug!(%error, "the description could not be published");
                return patience;
            }
            PublishError::Request(error) => {
                if let RequestError::Limited { retry_after } = error {
                    patience = retry_after;
                }
                let text = format!("signaling does not take our description: {error}");
                RoomEvent::Refused { place, text }
            }
            PublishError::Stale { .. } | _ => {
                debug!("the description could not be published");
                return patience;
            }
        };
        self.tell(event).await;
        patience
    }

    async fn tell(&self, event: RoomEvent) {
        let _ = self.events_tx.send(event).await;
    }

    /// A watch that has begun anew without our slot is news, and so is the end of the server that held it.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            is_lost = lost_slot(&mut self.own_slot_rx, self.written) => {
                if is_lost {
                    debug!("signaling has news: publishing at once");
                } else {
                    sleep(pause).await;
                }
            }
        }
    }
}

/// Waits until the room is seen to hold another write of ours than the last, or none; `false` when nobody
/// looks any more.
async fn lost_slot(own_slot_rx: &mut watch::Receiver<OwnSlot>, seq: u64) -> bool {
    loop {
        if own_slot_rx.changed().await.is_err() {
            return false;
        }
        if own_slot_rx.borrow_and_update().seq != Some(seq) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_client::{Info, Published, SEQ_MAX, WatchEvent};

    use super::*;

    #[test]
    fn a_write_of_another_run_is_told_from_our_own_and_from_an_earlier_runs() {
        let (_tx, mut rx) = watch::channel(Some(vec![1]));
        let ledger = Arc::new(Ledger::new(57));
        let writes = OwnWrites::new(ledger.clone());
        assert!(!writes.is_another_runs(60), "left behind by an earlier run");
        assert_eq!(ledger.next(&mut rx, 0), Some((58, vec![1])));
        writes.note_accepted();
        assert!(!writes.is_another_runs(58), "our own, come back");
        assert_eq!(ledger.next(&mut rx, 58), Some((59, vec![1])));
        assert!(!writes.is_another_runs(59), "our own, not answered yet");
        assert!(writes.is_another_runs(60));
        let elsewhere = OwnWrites::new(ledger);
        assert!(!elsewhere.is_another_runs(60), "nothing was accepted there");
    }

    #[test]
    fn one_description_has_one_sequence_on_all_servers_and_a_later_one_a_higher_one() {
        let (tx, mut rx) = watch::channel(None);
        let ledger = Ledger::new(10);
        assert_eq!(ledger.next(&mut rx, 0), None, "nothing to say yet");
        tx.send_replace(Some(vec![1]));
        assert_eq!(ledger.next(&mut rx, 0), Some((11, vec![1])));
        assert_eq!(ledger.next(&mut rx, 0), Some((11, vec![1])), "a second one");
        assert_eq!(ledger.next(&mut rx, 11), Some((12, vec![1])), "again");
        tx.send_replace(Some(vec![2]));
        assert_eq!(ledger.next(&mut rx, 11), Some((13, vec![2])));
        assert_eq!(
            ledger.next(&mut rx, 40),
            Some((41, vec![2])),
            "an earlier run's clock was ahead"
        );
        assert_eq!(ledger.next(&mut rx, 3), Some((41, vec![2])), "elsewhere");
    }

    #[tokio::test]
    async fn our_slot_counts_as_lost_when_the_room_shows_an_older_write_or_none() {
        let (tx, mut rx) = watch::channel(OwnSlot::default());
        let lost = async |rx: &mut watch::Receiver<OwnSlot>| {
            timeout(Duration::ZERO, lost_slot(rx, 5)).await
        };
        tx.send_modify(|own| own.seq = Some(5));
        assert!(lost(&mut rx).await.is_err());
        tx.send_modify(|own| own.seq = Some(4));
        assert_eq!(lost(&mut rx).await, Ok(true));
        tx.send_modify(|own| own.seq = None);
        assert_eq!(lost(&mut rx).await, Ok(true));
        drop(tx);
        assert_eq!(lost(&mut rx).await, Ok(false));
    }

    /// A server that answers every write with the same refusal, or takes it.
    struct Store {
        stale: Option<u64>,
        tried_tx: mpsc::Sender<u64>,
    }

    impl SlotStore for Store {
        async fn publish(&self, seq: u64, _: Vec<u8>) -> Result<Published, PublishError> {
            self.tried_tx.send(seq).await.unwrap();
            tokio::task::yield_now().await;
            match self.stale {
                Some(current_seq) if seq <= current_seq => Err(PublishError::Stale { current_seq }),
                _ => Ok(Published { seq }),
            }
        }

        async fn remove(&self, _: u64) -> Result<(), PublishError> {
            Ok(())
        }

        async fn info(&self) -> Result<Info, RequestError> {
            unreachable!("nobody asks")
        }

        async fn watch(&self, _: mpsc::Sender<WatchEvent>, _: CancellationToken) {}
    }

    struct World {
        publisher: Publisher<Store>,
        tried_rx: mpsc::Receiver<u64>,
        events_rx: mpsc::Receiver<RoomEvent>,
        own_slot_tx: watch::Sender<OwnSlot>,
        _description_tx: watch::Sender<Option<Vec<u8>>>,
    }

    /// A publisher with something to say, after sequence 10, on a server that remembers sequence `stale`.
    fn publisher(stale: Option<u64>) -> World {
        let (tried_tx, tried_rx) = mpsc::channel(64);
        let (events_tx, events_rx) = mpsc::channel(64);
        let (own_slot_tx, own_slot_rx) = watch::channel(OwnSlot::default());
        let (description_tx, description_rx) = watch::channel(Some(vec![1]));
        let room = mapping_core::RoomId::new("a room for tests of publishers".to_owned()).unwrap();
        let publisher = Publisher {
            place: PlaceId(0),
            own_writes: Arc::new(OwnWrites::new(Arc::new(Ledger::new(10)))),
            client: Store { stale, tried_tx },
            keys: Arc::new(RoomKeys::derive(&room)),
            slot: SlotName::server(),
            events_tx,
            description_rx,
            own_slot_rx,
            written: 0,
        };
        World {
            publisher,
            tried_rx,
            events_rx,
            own_slot_tx,
            _description_tx: description_tx,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_cannot_use_up_our_sequence_by_its_word_alone() {
        let mut world = publisher(Some(SEQ_MAX - 1));
        let ledger = world.publisher.own_writes.ledger.clone();
        let publishing = timeout(
            Duration::from_secs(60),
            world.publisher.publish_until_accepted(),
        );
        assert!(publishing.await.is_err(), "it never takes it");
        assert!(ledger.tried() < 100, "{}", ledger.tried());
        assert!(world.tried_rx.len() > 3, "it is asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_write_of_an_earlier_run_is_gone_on_from_at_once_when_it_is_shown() {
        let mut world = publisher(Some(5000));
        let began = Instant::now();
        let show = async {
            assert_eq!(world.tried_rx.recv().await, Some(11));
            world.own_slot_tx.send_modify(|own| {
                own.signed = 5000;
                own.seq = Some(5000);
            });
        };
        tokio::join!(world.publisher.publish_until_accepted(), show);
        assert_eq!(world.tried_rx.recv().await, Some(5001));
        assert!(began.elapsed() < RETRY_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_taken_elsewhere_is_written_only_when_nothing_was_heard_of_its_owner() {
        let mut world = publisher(None);
        let began = Instant::now();
        let until = began + Duration::from_secs(180);
        world
            .own_slot_tx
            .send_modify(|own| own.taken_elsewhere_until = Some(until));
        let stop = CancellationToken::new();
        tokio::select! {
            () = world.publisher.run(stop.clone()) => unreachable!("nobody stops it"),
            seq = world.tried_rx.recv() => assert_eq!(seq, Some(11)),
        }
        assert!(began.elapsed() >= Duration::from_secs(180));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_was_replaced_writes_nothing_and_does_not_say_that_it_is_in_the_room() {
        let mut world = publisher(Some(5000));
        let replace = async {
            assert_eq!(world.tried_rx.recv().await, Some(11));
            world.own_slot_tx.send_modify(|own| {
                own.signed = 5000;
                own.replaced = true;
            });
        };
        tokio::join!(world.publisher.publish_until_accepted(), replace);
        assert!(world.tried_rx.is_empty());

        let mut world = publisher(None);
        let replace = async {
            world.tried_rx.recv().await.unwrap();
            world.own_slot_tx.send_modify(|own| own.replaced = true);
        };
        tokio::join!(world.publisher.publish_until_accepted(), replace);
        assert!(world.events_rx.is_empty());
    }
}
