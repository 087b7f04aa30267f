//! Our side of the room: publish what we are, learn who else is there.
//!
//! Signaling may be away, forget everything or hold an old write of ours; none of that is a failure. The
//! description is published whole whenever it changes, whenever the room has lost it, and every two
//! minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use signal_client::{
    PublicKey, PublishError, RequestError, RoomClient, RoomKeys, SlotName, SlotState, SlotStore,
    WatchEvent,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::resolve::{self, Servers};

/// A waiting peer writes its slot again this often, so that it does not expire.
const REPUBLISH: Duration = Duration::from_secs(120);
/// Changes of the description within this time become one write.
const GATHERING: Duration = Duration::from_millis(20);
/// First pause after a write that failed; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Upper bound of the pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Servers and credentials are asked for again this often; credentials live for hours.
const INFO_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a clean stop waits for the slot to be removed: the whole stop should take less than two seconds.
const REMOVE_TIMEOUT: Duration = Duration::from_millis(1500);
/// A slot that signaling has forgotten is taken for removed after this long. A living owner notices too, and
/// writes it again within about a second; five when the outage was long.
const VANISHED_GRACE: Duration = Duration::from_secs(30);
/// Slots whose last write is remembered; a room holds fewer. Beyond it writes are merely handed on twice.
const SLOTS_MAX: usize = 1024;

/// What the room tells the driver.
#[derive(Debug)]
pub(crate) enum RoomEvent {
    /// These servers are to gather with.
    Servers(Servers),
    /// Somebody's slot was opened: it comes from a holder of the room secret.
    Opened {
        slot: SlotName,
        key: PublicKey,
        plaintext: Vec<u8>,
    },
    /// A slot is gone.
    Removed { slot: SlotName },
    /// Signaling answers.
    Reachable,
    /// Signaling does not answer, or refuses; the text is for a person.
    Unreachable(String),
    /// The room holds our description.
    Published,
    /// Signaling answers, but refuses our description; the text is for a person.
    Refused(String),
    /// A later run with our key has taken our place; the text is for a person.
    Replaced(String),
}

/// What the room held of ours when the watch last began, or since it was removed.
#[derive(Clone, Copy, Debug, Default)]
struct OwnSlot {
    /// How often the watch has begun.
    watches: u64,
    /// The sequence of our slot; `None` when it is not there.
    seq: Option<u64>,
    /// Another run with our key writes it.
    replaced: bool,
}

/// How far our own writes are, so that those of another run with our key can be told from them.
#[derive(Debug, Default)]
struct OwnWrites {
    /// The sequence of the last write that was tried; 0 before the first.
    tried: AtomicU64,
    /// Whether any was accepted: until then the slot may hold what an earlier run wrote.
    accepted: AtomicBool,
}

impl OwnWrites {
    fn is_another_runs(&self, seq: u64) -> bool {
        self.accepted.load(Ordering::Relaxed) && seq > self.tried.load(Ordering::Relaxed)
    }
}

/// What a rendezvous needs to know.
pub(crate) struct Rendezvous {
    pub(crate) client: RoomClient,
    pub(crate) keys: Arc<RoomKeys>,
    pub(crate) slot: SlotName,
    pub(crate) stun: Vec<String>,
    pub(crate) events_tx: mpsc::Sender<RoomEvent>,
    /// The plaintext to publish; `None` until the driver has one.
    pub(crate) description_rx: watch::Receiver<Option<Vec<u8>>>,
}

impl Rendezvous {
    /// Runs until `shutdown`, then removes our slot.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self {
            client,
            keys,
            slot,
            stun,
            events_tx,
            description_rx,
        } = self;
        let (watch_tx, watch_rx) = mpsc::channel(64);
        let (own_slot_tx, own_slot_rx) = watch::channel(OwnSlot::default());
        let news_rx = own_slot_rx.clone();
        let own_writes = Arc::new(OwnWrites::default());
        let publisher = Publisher {
            own_writes: own_writes.clone(),
            client: client.clone(),
            keys: keys.clone(),
            slot,
            events_tx: events_tx.clone(),
            description_rx,
            own_slot_rx,
            seq: 0,
        };
        let reader = Reader {
            own_writes,
            keys,
            own: slot,
            events_tx: events_tx.clone(),
            own_slot_tx,
        };
        let cancel = shutdown.clone();
        tokio::join!(
            async {
                tokio::select! {
                    () = SlotStore::watch(&client, watch_tx, cancel) => {}
                    () = shutdown.cancelled() => {}
                }
            },
            reader.run(watch_rx),
            publisher.run(shutdown.clone()),
            async {
                tokio::select! {
                    () = ask_for_servers(&client, &stun, &events_tx, news_rx) => {}
                    () = shutdown.cancelled() => {}
                }
            },
        );
    }
}

/// Asks which servers there are until somebody answers, again before credentials end, and again whenever the
/// watch has begun anew: a signaling server that was restarted may have another secret for its relay.
async fn ask_for_servers(
    client: &RoomClient,
    stun: &[String],
    events_tx: &mpsc::Sender<RoomEvent>,
    mut news_rx: watch::Receiver<OwnSlot>,
) {
    let mut pause = RETRY_MIN;
    loop {
        let asked_in = news_rx.borrow().watches;
        let is_known = match client.info().await {
            Ok(info) => {
                pause = RETRY_MIN;
                let servers = resolve::servers(stun, &info).await;
                let unresolved =
                    servers.stun.is_empty() || servers.relays.is_empty() != info.turn.is_empty();
                if events_tx.send(RoomEvent::Servers(servers)).await.is_err() {
                    return;
                }
                !unresolved
            }
            Err(error) => {
                debug!(%error, "signaling does not say which servers there are");
                false
            }
        };
        // The first watch begins beside the first question: no news to one that was answered.
        let (wait, answered) = if is_known {
            (INFO_INTERVAL, asked_in.max(1))
        } else {
            (pause, asked_in)
        };
        pause = (pause * 2).min(RETRY_MAX);
        tokio::select! {
            () = sleep(wait) => {}
            again = watch_began(&mut news_rx, answered) => {
                if !again {
                    return;
                }
                pause = RETRY_MIN;
            }
        }
    }
}

/// Waits for a watch after the one of that number; `false` when there will be none.
async fn watch_began(news_rx: &mut watch::Receiver<OwnSlot>, after: u64) -> bool {
    news_rx.wait_for(|own| own.watches > after).await.is_ok()
}

/// Opens what others wrote.
struct Reader {
    own_writes: Arc<OwnWrites>,
    keys: Arc<RoomKeys>,
    own: SlotName,
    events_tx: mpsc::Sender<RoomEvent>,
    own_slot_tx: watch::Sender<OwnSlot>,
}

impl Reader {
    async fn run(self, mut watch_rx: mpsc::Receiver<WatchEvent>) {
        let mut slots = Slots::default();
        loop {
            let vanished_at = slots.next_vanished();
            let event = tokio::select! {
                event = watch_rx.recv() => event,
                () = sleep_until_some(vanished_at) => {
                    for slot in slots.take_vanished(Instant::now()) {
                        if !self.tell(RoomEvent::Removed { slot }).await {
                            return;
                        }
                    }
                    continue;
                }
            };
            let Some(event) = event else { return };
            let goes_on = match event {
                WatchEvent::Slot(state) if state.slot == self.own => self.own_slot(&state).await,
                WatchEvent::Slot(state) if !slots.is_news(&state) => true,
                WatchEvent::Slot(state) => self.open(state).await,
                WatchEvent::Removed { slot } if slot == self.own => {
                    self.own_slot_tx.send_modify(|own| {
                        own.seq = None;
                        own.replaced = false;
                    });
                    true
                }
                WatchEvent::Removed { slot } => {
                    slots.remove(slot);
                    self.tell(RoomEvent::Removed { slot }).await
                }
                WatchEvent::Connected => {
                    slots.begin_snapshot();
                    true
                }
                WatchEvent::Ready { own_seq } => {
                    slots.end_snapshot(Instant::now());
                    self.own_slot_tx.send_modify(|own| {
                        own.watches += 1;
                        own.seq = own_seq;
                        own.replaced &= own_seq.is_some();
                    });
                    self.tell(RoomEvent::Reachable).await
                }
                WatchEvent::Disconnected { reason } => {
                    self.tell(RoomEvent::Unreachable(reason)).await
                }
                _ => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Somebody wrote our slot: we did, or a later run with our key, to which the room belongs from now on.
    async fn own_slot(&self, state: &SlotState) -> bool {
        if !self.own_writes.is_another_runs(state.seq) || self.own_slot_tx.borrow().replaced {
            return true;
        }
        self.own_slot_tx.send_modify(|own| own.replaced = true);
        let text = format!(
            "another program with this identity (key {}) has taken this one's place in the room; stop \
             one of them, or give them state directories of their own",
            state.key.short()
        );
        self.tell(RoomEvent::Replaced(text)).await
    }

    /// Returns whether anybody listens.
    async fn tell(&self, event: RoomEvent) -> bool {
        self.events_tx.send(event).await.is_ok()
    }

    async fn open(&self, state: SlotState) -> bool {
        let SlotState {
            slot,
            key,
            seq,
            payload,
            ..
        } = state;
        match self.keys.open(slot, seq, &payload) {
            Ok(plaintext) => {
                let opened = RoomEvent::Opened {
                    slot,
                    key,
                    plaintext,
                };
                self.tell(opened).await
            }
            Err(error) => {
                warn!(slot = %slot, %error, "a slot of this room does not open with our room secret");
                true
            }
        }
    }
}

/// What the room is known to hold of others.
#[derive(Debug, Default)]
struct Slots {
    /// What was last handed on of each slot: a snapshot after a reconnect repeats everything.
    handed_on: BTreeMap<SlotName, (PublicKey, u64)>,
    /// What the present snapshot has shown so far.
    shown: BTreeSet<SlotName>,
    /// What the last snapshot lacked, and when it counts as removed.
    vanished: BTreeMap<SlotName, Instant>,
}

impl Slots {
    /// Takes note of a slot; returns whether it is to be handed on.
    fn is_news(&mut self, state: &SlotState) -> bool {
        self.vanished.remove(&state.slot);
        if self.shown.len() < SLOTS_MAX {
            self.shown.insert(state.slot);
        }
        let write = (state.key, state.seq);
        if self.handed_on.get(&state.slot) == Some(&write) {
            return false;
        }
        if self.handed_on.len() < SLOTS_MAX || self.handed_on.contains_key(&state.slot) {
            self.handed_on.insert(state.slot, write);
        }
        true
    }

    fn remove(&mut self, slot: SlotName) {
        self.handed_on.remove(&slot);
        self.vanished.remove(&slot);
    }

    fn begin_snapshot(&mut self) {
        self.shown.clear();
    }

    /// The snapshot is whole: signaling has forgotten what it lacks.
    fn end_snapshot(&mut self, now: Instant) {
        let due = now + VANISHED_GRACE;
        for slot in self.handed_on.keys() {
            if !self.shown.contains(slot) {
                self.vanished.entry(*slot).or_insert(due);
            }
        }
    }

    fn next_vanished(&self) -> Option<Instant> {
        self.vanished.values().min().copied()
    }

    /// Takes out what was not written again in time.
    fn take_vanished(&mut self, now: Instant) -> Vec<SlotName> {
        let due = self.vanished.iter().filter(|(_, at)| **at <= now);
        let due: Vec<_> = due.map(|(slot, _)| *slot).collect();
        for slot in &due {
            self.remove(*slot);
        }
        due
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Keeps our own slot written.
struct Publisher {
    own_writes: Arc<OwnWrites>,
    client: RoomClient,
    keys: Arc<RoomKeys>,
    slot: SlotName,
    events_tx: mpsc::Sender<RoomEvent>,
    description_rx: watch::Receiver<Option<Vec<u8>>>,
    own_slot_rx: watch::Receiver<OwnSlot>,
    seq: u64,
}

impl Publisher {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut republish_at = Instant::now() + REPUBLISH;
        loop {
            let due = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                changed = self.description_rx.changed() => changed.is_ok(),
                is_lost = lost_slot(&mut self.own_slot_rx, self.seq) => {
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
            if self.own_slot_rx.borrow().replaced {
                republish_at = Instant::now() + REPUBLISH;
                continue;
            }
            sleep(GATHERING).await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.publish_until_accepted() => {}
            }
            let jitter = rand::rng().random_range(0.9..1.1);
            republish_at = Instant::now() + REPUBLISH.mul_f64(jitter);
        }
        if self.seq > 0 {
            let _ = timeout(REMOVE_TIMEOUT, self.client.remove(self.seq + 1)).await;
        }
    }

    async fn publish_until_accepted(&mut self) {
        let mut pause = RETRY_MIN;
        // Once is a restart of ours; again and again is a store that is wrong, which must not be asked in a
        // busy loop.
        let mut was_stale = false;
        loop {
            let Some(plaintext) = self.description_rx.borrow_and_update().clone() else {
                return;
            };
            self.own_slot_rx.mark_unchanged();
            self.seq += 1;
            let sealed = self.keys.seal(self.slot, self.seq, &plaintext);
            self.own_writes.tried.store(self.seq, Ordering::Relaxed);
            let Err(error) = self.client.publish(self.seq, sealed).await else {
                self.own_writes.accepted.store(true, Ordering::Relaxed);
                let _ = self.events_tx.send(RoomEvent::Published).await;
                return;
            };
            match error {
                PublishError::Stale { current_seq } => {
                    debug!(
                        current_seq,
                        "the slot remembers a later write of ours: going on from there"
                    );
                    self.seq = self.seq.max(current_seq);
                    if !std::mem::replace(&mut was_stale, true) {
                        continue;
                    }
                }
                PublishError::Taken { key, age } => {
                    let text = format!(
                        "another server (key {}) holds this room, last heard {} s ago; stop it, or give \
                         this one a room of its own",
                        key.short(),
                        age.as_secs()
                    );
                    let _ = self.events_tx.send(RoomEvent::Refused(text)).await;
                }
                PublishError::Request(RequestError::Unauthorized) => {
                    let text = RequestError::Unauthorized.to_string();
                    let _ = self.events_tx.send(RoomEvent::Unreachable(text)).await;
                }
                PublishError::Request(RequestError::Unreachable(error)) => {
                    debug!(%error, "the description could not be published");
                }
                PublishError::Request(error) => {
                    if let RequestError::Limited { retry_after } = error {
                        pause = pause.max(retry_after);
                    }
                    let text = format!("signaling does not take our description: {error}");
                    let _ = self.events_tx.send(RoomEvent::Refused(text)).await;
                }
                _ => debug!("the description could not be published"),
            }
            self.wait(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// A watch that has begun anew without our slot is news, and so is the end of the server that held it.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            is_lost = lost_slot(&mut self.own_slot_rx, self.seq) => {
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
    use signal_client::{Identity, Signature};

    use super::*;

    #[test]
    fn a_write_of_another_run_is_told_from_our_own_and_from_an_earlier_runs() {
        let writes = OwnWrites::default();
        assert!(!writes.is_another_runs(57), "left behind by an earlier run");
        writes.tried.store(58, Ordering::Relaxed);
        writes.accepted.store(true, Ordering::Relaxed);
        assert!(!writes.is_another_runs(58), "our own, come back");
        writes.tried.store(59, Ordering::Relaxed);
        assert!(!writes.is_another_runs(59), "our own, not answered yet");
        assert!(writes.is_another_runs(60));
    }

    fn written(seed: u8, seq: u64) -> SlotState {
        let key = Identity::from_seed([seed; 32]).public_key();
        SlotState {
            slot: SlotName::client(&key),
            key,
            seq,
            payload: Vec::new(),
            signature: Signature([0; 64]),
            age_ms: 0,
        }
    }

    #[test]
    fn a_slot_that_signaling_forgot_is_removed_unless_its_owner_writes_it_again() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        let (dead, alive) = (written(1, 1), written(2, 1));
        slots.begin_snapshot();
        assert!(slots.is_news(&dead) && slots.is_news(&alive));
        slots.end_snapshot(now);
        assert_eq!(slots.next_vanished(), None);

        slots.begin_snapshot();
        slots.end_snapshot(now);
        assert!(slots.is_news(&written(2, 2)));
        let due = slots.next_vanished().unwrap();
        assert_eq!(due, now + VANISHED_GRACE);
        assert_eq!(slots.take_vanished(due), [dead.slot]);
        assert_eq!(slots.next_vanished(), None);
        assert!(slots.is_news(&dead), "it may come back");
    }

    #[test]
    fn a_snapshot_that_repeats_everything_hands_on_nothing_twice() {
        let mut slots = Slots::default();
        assert!(slots.is_news(&written(1, 1)));
        slots.begin_snapshot();
        assert!(!slots.is_news(&written(1, 1)));
        slots.end_snapshot(Instant::now());
        assert_eq!(slots.next_vanished(), None);
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
}
