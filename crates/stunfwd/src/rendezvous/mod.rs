//! Our side of the room: publish what we are, learn who else is there.
//!
//! We are present at every signaling server that is configured, all at once, so that two peers with the same
//! list meet whichever of the servers are up or reachable for both, and a dead one costs nothing. Signaling may
//! be away, forget everything or hold an old write of ours; none of that is a failure. The description is
//! published whole whenever it changes, whenever a room has lost it, and every two minutes.
//!
//! * `publisher`: our slot, kept written on one server; `room`: what the rooms of all servers hold together;
//! * `reader`: opens it; `supplies`: which STUN servers and relays there are.

mod publisher;
mod reader;
mod room;
mod supplies;

use std::sync::Arc;
use std::time::Duration;

use signal_client::{PublicKey, RequestError, RoomClient, RoomKeys, SlotName, SlotStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::publisher::{Ledger, OwnSlot, OwnWrites, Publisher};
use self::reader::{Reader, WatchedPlace};
use self::supplies::{Offer, ask_for_servers};
use crate::clock;
use crate::resolve::{Directory, Servers};

/// First pause after a request that failed; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Upper bound of the pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Names a signaling server: its position in the configured list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceId(pub(crate) usize);

/// A signaling server.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) client: RoomClient,
    /// The user named one of the original's PHP scripts: its origin may be a signaling server of ours.
    pub(crate) is_script: bool,
}

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
    /// A signaling server answers.
    Reachable { place: PlaceId },
    /// A signaling server does not answer, or refuses; the text is for a person.
    Unreachable { place: PlaceId, text: String },
    /// The room there holds our description.
    Published { place: PlaceId },
    /// It answers, but refuses our description; the text is for a person.
    Refused { place: PlaceId, text: String },
    /// A later run with our key has taken our place; the text is for a person.
    Replaced(String),
}

/// What a rendezvous needs to know.
pub(crate) struct Rendezvous {
    pub(crate) places: Vec<Place>,
    pub(crate) keys: Arc<RoomKeys>,
    pub(crate) slot: SlotName,
    /// The key that owns it.
    pub(crate) key: PublicKey,
    /// Where STUN servers and relays come from.
    pub(crate) directory: Directory,
    pub(crate) events_tx: mpsc::Sender<RoomEvent>,
    /// The plaintext to publish; `None` until the driver has one.
    pub(crate) description_rx: watch::Receiver<Option<Vec<u8>>>,
    /// Changes when a relay has refused its credentials: newer ones are asked for at once.
    pub(crate) renewals_rx: watch::Receiver<u64>,
}

impl Rendezvous {
    /// Runs until `shutdown`, then removes our slot everywhere.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self {
            places,
            keys,
            slot,
            key,
            directory,
            events_tx,
            description_rx,
            renewals_rx,
        } = self;
        let (offers_tx, offers_rx) = watch::channel(vec![Offer::default(); places.len()]);
        let offers_tx = Arc::new(offers_tx);
        let ledger = Arc::new(Ledger::new(clock::unix_millis()));
        let (watch_tx, watch_rx) = mpsc::channel(64);
        let mut watched = Vec::new();
        let mut tasks = JoinSet::new();
        for (index, place) in places.into_iter().enumerate() {
            let id = PlaceId(index);
            let (own_slot_tx, own_slot_rx) = watch::channel(OwnSlot::default());
            let own_writes = Arc::new(OwnWrites::new(ledger.clone()));
            watched.push(WatchedPlace::new(own_writes.clone(), own_slot_tx));
            let publisher = Publisher {
                place: id,
                own_writes,
                client: place.client.clone(),
                keys: keys.clone(),
                slot,
                events_tx: events_tx.clone(),
                description_rx: description_rx.clone(),
                own_slot_rx: own_slot_rx.clone(),
                written: 0,
            };
            let presence = Presence {
                id,
                place,
                publisher,
                watch_tx: watch_tx.clone(),
                news_rx: own_slot_rx,
                offers_tx: offers_tx.clone(),
                renewals_rx: renewals_rx.clone(),
            };
            tasks.spawn(presence.run(shutdown.clone()));
        }
        drop(watch_tx);
        let reader = Reader::new(keys, slot, key, events_tx.clone(), watched);
        tokio::join!(
            reader.run(watch_rx),
            async {
                tokio::select! {
                    () = directory.run(offers_rx, events_tx) => {}
                    () = shutdown.cancelled() => {}
                }
            },
            async { while tasks.join_next().await.is_some() {} },
        );
    }
}

/// Our presence at one signaling server.
struct Presence {
    id: PlaceId,
    place: Place,
    publisher: Publisher,
    watch_tx: mpsc::Sender<(PlaceId, signal_client::WatchEvent)>,
    news_rx: watch::Receiver<OwnSlot>,
    offers_tx: Arc<watch::Sender<Vec<Offer>>>,
    renewals_rx: watch::Receiver<u64>,
}

impl Presence {
    async fn run(self, shutdown: CancellationToken) {
        let Self {
            id,
            place,
            publisher,
            watch_tx,
            news_rx,
            offers_tx,
            renewals_rx,
        } = self;
        if place.is_script {
            tokio::select! {
                () = until_it_is_ours(id, &place.client, &publisher.events_tx) => {}
                () = shutdown.cancelled() => return,
            }
        }
        let (events_tx, mut events_rx) = mpsc::channel(64);
        let cancel = shutdown.clone();
        let client = &place.client;
        tokio::join!(
            async {
                tokio::select! {
                    () = SlotStore::watch(client, events_tx, cancel) => {}
                    () = shutdown.cancelled() => {}
                }
            },
            async {
                while let Some(event) = events_rx.recv().await {
                    if watch_tx.send((id, event)).await.is_err() {
                        return;
                    }
                }
            },
            publisher.run(shutdown.clone()),
            async {
                tokio::select! {
                    () = ask_for_servers(id, client, &offers_tx, news_rx, renewals_rx) => {}
                    () = shutdown.cancelled() => {}
                }
            },
        );
    }
}

/// Waits until the origin of a PHP script answers as a signaling server of ours.
async fn until_it_is_ours(
    place: PlaceId,
    client: &RoomClient,
    events_tx: &mpsc::Sender<RoomEvent>,
) {
    let mut pause = RETRY_MIN;
    loop {
        let text = match client.info().await {
            Ok(_) | Err(RequestError::Unauthorized | RequestError::Limited { .. }) => return,
            Err(RequestError::Rejected { .. }) => {
                pause = RETRY_MAX;
                "this is the original's PHP script, which this version does not speak yet; run \
                 stunfwd-signaling there, or name one that runs elsewhere"
                    .to_owned()
            }
            Err(error) => error.to_string(),
        };
        let unreachable = RoomEvent::Unreachable { place, text };
        if events_tx.send(unreachable).await.is_err() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}
