//! How two stunfwd processes find each other: what they say to signaling, and how nobody else reads it.
//!
//! The life of a participant:
//!
//! 1. [`RoomKeys::derive`] turns the shared secret into the [`RendezvousId`], which is all that signaling
//!    ever sees of the room, and into the keys that seal the payloads and prove the room to the peer.
//! 2. Every process has an [`Identity`], whose public key owns its slot. A [`SlotName`] is `server`, or
//!    `client-` and a digest of the key.
//! 3. A participant seals its whole description ([`RoomKeys::seal`]) and publishes it with a sequence
//!    number; the write is signed ([`SlotWrite`]). A stale sequence is answered with the current one.
//! 4. It watches the room: a snapshot first, then every change, over a connection that is dialled anew for
//!    ever ([`WatchEvent`]). When signaling has lost its memory, [`WatchEvent::Ready`] says so, and the
//!    owner publishes again.
//!
//! [`SlotStore`] is the participant's view of any store; [`RoomClient`] is the one over HTTP. The same wire
//! types serve the signaling server. `signaling/PROTOCOL.md` has the protocol byte by byte.
//!
//! ```
//! use mapping_core::RoomId;
//! use signal_client::{Identity, RoomKeys, SlotName};
//!
//! let room = RoomId::new("correct horse battery staple".to_owned()).unwrap();
//! let keys = RoomKeys::derive(&room);
//! let identity = Identity::generate();
//! let slot = SlotName::client(&identity.public_key());
//!
//! let sealed = keys.seal(slot, 7, b"where I can be reached");
//! assert_eq!(keys.open(slot, 7, &sealed).unwrap(), b"where I can be reached");
//! assert!(keys.open(slot, 8, &sealed).is_err(), "nothing can be moved or rolled back");
//! ```

mod backoff;
mod hex_text;
mod http;
mod identity;
mod keys;
mod sealing;
mod slot_name;
mod sse;
mod store;
mod tls;
mod watch;
mod wire;

pub use hex_text::HexError;
pub use http::{Redial, RoomClient};
pub use identity::{Identity, PublicKey, Signature};
pub use keys::{RendezvousId, RoomKeys};
pub use sealing::{OpenError, SEALED_OVERHEAD_BYTES};
pub use slot_name::{SlotName, SlotNameError};
pub use sse::{SseError, SseEvent, SseParser};
pub use store::{
    PublishError, Published, RequestError, SignalError, SlotStore, Unreachable, WatchEvent,
};
pub use tls::{http_tls_config, server_tls_config};
pub use wire::{
    ErrorBody, ErrorCode, Info, PAYLOAD_BYTES_MAX, PROTOCOL_VERSION, PublishedBody, RemovedSlot,
    SEQ_MAX, SlotRemove, SlotState, SlotWrite, SlotsBody, TurnServer,
};
