//! Our side of the room: publish what we are, learn who else is there.
//!
//! Signaling may be away, forget everything or hold an old write of ours; none of that is a failure. The
//! description is published whole whenever it changes, whenever the room has lost it, and every two
//! minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use signal_client::{
    PublicKey, PublishError, RequestError, RoomClient, RoomKeys, SlotName, SlotState, SlotStore,
    WatchEvent,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

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
/// How long a clean stop waits for the slot to be removed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Another server holds the room.
    Taken(String),
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
        let (missing_tx, missing_rx) = watch::channel(0_u64);
        let publisher = Publisher {
            client: client.clone(),
            keys: keys.clone(),
            slot,
            events_tx: events_tx.clone(),
            description_rx,
            missing_rx,
            seq: 0,
        };
        let reader = Reader {
            keys,
            own: slot,
            events_tx: events_tx.clone(),
            missing_tx,
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
                    () = ask_for_servers(&client, &stun, &events_tx) => {}
                    () = shutdown.cancelled() => {}
                }
            },
        );
    }
}

/// Asks which servers there are until somebody answers, and again before credentials end.
async fn ask_for_servers(
    client: &RoomClient,
    stun: &[String],
    events_tx: &mpsc::Sender<RoomEvent>,
) {
    let mut pause = RETRY_MIN;
    loop {
        match client.info().await {
            Ok(info) => {
                pause = RETRY_MIN;
                let servers = resolve::servers(stun, &info).await;
                let unresolved = servers.stun.is_empty();
                if events_tx.send(RoomEvent::Servers(servers)).await.is_err() {
                    return;
                }
                sleep(if unresolved { RETRY_MAX } else { INFO_INTERVAL }).await;
            }
            Err(error) => {
                debug!(%error, "signaling does not say which servers there are");
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Opens what others wrote.
struct Reader {
    keys: Arc<RoomKeys>,
    own: SlotName,
    events_tx: mpsc::Sender<RoomEvent>,
    missing_tx: watch::Sender<u64>,
}

impl Reader {
    async fn run(self, mut watch_rx: mpsc::Receiver<WatchEvent>) {
        // What was last handed on of each slot: a snapshot after a reconnect repeats everything.
        let mut handed_on: BTreeMap<SlotName, (PublicKey, u64)> = BTreeMap::new();
        while let Some(event) = watch_rx.recv().await {
            let sent = match event {
                WatchEvent::Slot(state) if state.slot != self.own => {
                    if handed_on.get(&state.slot) == Some(&(state.key, state.seq)) {
                        continue;
                    }
                    handed_on.insert(state.slot, (state.key, state.seq));
                    self.open(state).await
                }
                WatchEvent::Removed { slot } => {
                    handed_on.remove(&slot);
                    self.events_tx
                        .send(RoomEvent::Removed { slot })
                        .await
                        .is_ok()
                }
                WatchEvent::Ready { own_seq } => {
                    if own_seq.is_none() {
                        self.missing_tx.send_modify(|count| *count += 1);
                    }
                    self.events_tx.send(RoomEvent::Reachable).await.is_ok()
                }
                WatchEvent::Disconnected { reason } => self
                    .events_tx
                    .send(RoomEvent::Unreachable(reason))
                    .await
                    .is_ok(),
                WatchEvent::Connected | WatchEvent::Slot(_) | _ => true,
            };
            if !sent {
                return;
            }
        }
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
                self.events_tx.send(opened).await.is_ok()
            }
            Err(error) => {
                warn!(slot = %slot, %error, "a slot of this room does not open with our room secret");
                true
            }
        }
    }
}

/// Keeps our own slot written.
struct Publisher {
    client: RoomClient,
    keys: Arc<RoomKeys>,
    slot: SlotName,
    events_tx: mpsc::Sender<RoomEvent>,
    description_rx: watch::Receiver<Option<Vec<u8>>>,
    missing_rx: watch::Receiver<u64>,
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
                changed = self.missing_rx.changed() => {
                    if changed.is_err() {
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
            self.missing_rx.mark_unchanged();
            self.seq += 1;
            let sealed = self.keys.seal(self.slot, self.seq, &plaintext);
            let Err(error) = self.client.publish(self.seq, sealed).await else {
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
                    let _ = self.events_tx.send(RoomEvent::Taken(text)).await;
                }
                PublishError::Request(RequestError::Unauthorized) => {
                    let text = RequestError::Unauthorized.to_string();
                    let _ = self.events_tx.send(RoomEvent::Unreachable(text)).await;
                }
                PublishError::Request(RequestError::Limited { retry_after }) => {
                    pause = pause.max(retry_after);
                }
                PublishError::Request(other) => {
                    debug!(error = %other, "the description could not be published");
                }
                _ => debug!("the description could not be published"),
            }
            self.wait(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// A reconnected watch that misses our slot is news: signaling is back.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.missing_rx.changed() => info!("signaling is back"),
        }
    }
}
