//! The participant's view of a store of slots, whatever carries it.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Info, PublicKey, SlotName, SlotRemove, SlotState};

/// A store of slots as one participant sees it: its own slot to write, the whole room to watch.
pub trait SlotStore: Send + Sync + 'static {
    /// Writes the participant's own slot. `payload` is sealed and at most
    /// [`PAYLOAD_BYTES_MAX`](crate::PAYLOAD_BYTES_MAX) long; `seq` is higher than any before.
    fn publish(
        &self,
        seq: u64,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<Published, PublishError>> + Send;

    /// Removes the participant's own slot; `seq` is at least that of the last write. A slot that does not
    /// exist is a success.
    fn remove(&self, seq: u64) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Asks what the operator offers: STUN and TURN servers.
    fn info(&self) -> impl Future<Output = Result<Info, RequestError>> + Send;

    /// Watches the room until `cancel` is cancelled or nobody receives: a snapshot, then every change,
    /// reconnecting for ever.
    fn watch(
        &self,
        watch_tx: mpsc::Sender<WatchEvent>,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}

/// What happened in the room or to the connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The store answered; a snapshot follows.
    Connected,
    /// A slot exists or was written; its signature has been verified.
    Slot(SlotState),
    /// A slot is no more: removed by its owner, or expired.
    Removed {
        /// Which.
        slot: SlotName,
        /// The owner's word for it, which has been verified; `None` when there is only the store's.
        removal: Option<SlotRemove>,
    },
    /// The snapshot is complete: slots not named since [`WatchEvent::Connected`] do not exist.
    Ready {
        /// The sequence of our own slot; `None` when it is missing or belongs to another key, so that it
        /// must be published again.
        own_seq: Option<u64>,
    },
    /// The connection ended; it is dialled again by itself.
    Disconnected {
        /// Why, for a person.
        reason: String,
    },
}

/// A write that the store has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The sequence that the slot now has.
    pub seq: u64,
}

/// Why a write was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The slot has this or a higher sequence already: go on from there.
    #[error("the slot already has sequence {current_seq}")]
    Stale {
        /// The current sequence.
        current_seq: u64,
    },
    /// The slot belongs to another participant that was there within the last 30 s.
    #[error("the room has another server (key {}, last heard of {} s ago)", .key.short(), .age.as_secs())]
    Taken {
        /// The owner.
        key: PublicKey,
        /// The time since the owner's last write.
        age: Duration,
    },
    /// As for any request.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why a request was not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The access token is missing or wrong.
    #[error("the signaling server refuses the access token (`accessToken`)")]
    Unauthorized,
    /// Too many requests, or no place; try again later.
    #[error("the signaling server asks to wait {} s", .retry_after.as_secs())]
    Limited {
        /// How long the server asks to wait.
        retry_after: Duration,
    },
    /// No answer, or one from something in between.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The server understood and refuses, or is not a signaling server of ours.
    #[error("the signaling server refused with status {status}: {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
}

/// Why no answer came, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signaling is unreachable: {reason}")]
pub struct Unreachable {
    pub(crate) reason: String,
}

/// Why a client could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The URL is not one of a signaling server.
    #[error("signaling URL `{url}`: {problem}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The access token holds bytes that no HTTP header can carry.
    #[error("the access token holds a character that HTTP cannot carry")]
    AccessToken,
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// What the library says.
        reason: String,
    },
}
