//! What goes over the wire between a participant and the signaling server, and what is signed in it.
//!
//! Bodies are JSON with camel-case names. Keys, signatures and the rendezvous id are lower-case
//! hexadecimal text, payloads are base64 (RFC 4648, section 4, with padding), ages are milliseconds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Identity, PublicKey, RendezvousId, Signature, SlotName};

/// The version of the room API, as in its path.
pub const PROTOCOL_VERSION: u32 = 1;
/// The largest sealed payload of a slot, in bytes: a description with a hundred candidates takes about 8 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// The highest sequence, 2^53 - 1: what every JSON library reads exactly. An owner that writes twice a second
/// for a million years does not get there.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// What a write's signature begins with, so that it means nothing anywhere else.
const WRITE_CONTEXT: &[u8] = b"stunfwd-slot/1\0";
/// The same for a removal, so that a write is never replayed as one.
const REMOVE_CONTEXT: &[u8] = b"stunfwd-slot-remove/1\0";

/// The body of `PUT /v1/rooms/{rendezvous}/slots/{slot}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotWrite {
    /// Who writes, and owns the slot from the first write on.
    pub key: PublicKey,
    /// Higher than that of every write before.
    pub seq: u64,
    /// The sealed description, at most [`PAYLOAD_BYTES_MAX`] bytes.
    #[serde(with = "base64_text")]
    pub payload: Vec<u8>,
    /// `key`'s signature over the place, the sequence and the payload.
    pub signature: Signature,
}

impl SlotWrite {
    /// Makes and signs a write.
    #[must_use]
    pub fn sign(
        identity: &Identity,
        rendezvous: RendezvousId,
        slot: SlotName,
        seq: u64,
        payload: Vec<u8>,
    ) -> Self {
        let signature = identity.sign(&signed_write(rendezvous, slot, seq, &payload));
        Self {
            key: identity.public_key(),
            seq,
            payload,
            signature,
        }
    }

    /// Tells whether `key` signed this write for this room and slot, and may own the slot.
    #[must_use]
    pub fn verify(&self, rendezvous: RendezvousId, slot: SlotName) -> bool {
        slot.may_belong_to(&self.key)
            && self.key.verify(
                &signed_write(rendezvous, slot, self.seq, &self.payload),
                &self.signature,
            )
    }
}

/// The answer to an accepted write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedBody {
    /// The sequence that the slot now has.
    pub seq: u64,
}

/// The body of `DELETE /v1/rooms/{rendezvous}/slots/{slot}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRemove {
    /// The owner.
    pub key: PublicKey,
    /// At least that of the last write.
    pub seq: u64,
    /// `key`'s signature over the place and the sequence.
    pub signature: Signature,
}

impl SlotRemove {
    /// Makes and signs a removal.
    #[must_use]
    pub fn sign(identity: &Identity, rendezvous: RendezvousId, slot: SlotName, seq: u64) -> Self {
        let signature = identity.sign(&signed_remove(rendezvous, slot, seq));
        Self {
            key: identity.public_key(),
            seq,
            signature,
        }
    }

    /// Tells whether `key` signed this removal for this room and slot.
    #[must_use]
    pub fn verify(&self, rendezvous: RendezvousId, slot: SlotName) -> bool {
        self.key
            .verify(&signed_remove(rendezvous, slot, self.seq), &self.signature)
    }
}

/// A slot as its watchers see it: data of the event `slot`, element of [`SlotsBody`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotState {
    /// Which slot.
    pub slot: SlotName,
    /// Its owner.
    pub key: PublicKey,
    /// The sequence of its last write.
    pub seq: u64,
    /// The sealed description.
    #[serde(with = "base64_text")]
    pub payload: Vec<u8>,
    /// The owner's signature of that write, so that a reader need not believe the store.
    pub signature: Signature,
    /// Milliseconds since that write.
    pub age_ms: u64,
}

impl SlotState {
    /// Tells whether the slot's owner wrote this for this room.
    #[must_use]
    pub fn verify(&self, rendezvous: RendezvousId) -> bool {
        self.slot.may_belong_to(&self.key)
            && self.key.verify(
                &signed_write(rendezvous, self.slot, self.seq, &self.payload),
                &self.signature,
            )
    }
}

/// The answer to `GET /v1/rooms/{rendezvous}/slots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsBody {
    /// Every slot of the room, by name.
    pub slots: Vec<SlotState>,
}

/// Data of the event `removed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedSlot {
    /// The slot that is no more.
    pub slot: SlotName,
    /// The owner's word for it; `None` when the slot expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<SlotRemove>,
}

/// The answer to `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The version of the program.
    pub version: String,
    /// The STUN servers, `host:port`, the primary address first.
    #[serde(default)]
    pub stun: Vec<String>,
    /// The TURN servers.
    #[serde(default)]
    pub turn: Vec<TurnServer>,
}

/// A TURN server with credentials that end by themselves.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnServer {
    /// `turn:host:port?transport=udp` or `…=tcp` (RFC 7065).
    pub url: String,
    /// The expiry in Unix seconds, a colon and a random name, as coturn's `use-auth-secret` has it.
    pub username: String,
    /// The HMAC that goes with it.
    pub credential: String,
    /// When the credentials end, in Unix seconds.
    pub expires_at_unix: u64,
}

impl std::fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServer")
            .field("url", &self.url)
            .field("expires_at_unix", &self.expires_at_unix)
            .finish_non_exhaustive()
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What went wrong, for a program.
    pub error: ErrorCode,
    /// The same for a person.
    #[serde(default)]
    pub message: String,
    /// With `stale` and `taken`: the current sequence of the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// With `stale` and `taken`: the owner of the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
    /// With `stale` and `taken`: milliseconds since the owner's last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// 400: it is not what PROTOCOL.md describes.
    Malformed,
    /// 401: the access token is missing or wrong.
    Unauthorized,
    /// 403: the signature does not verify, or the key may not own that slot.
    Forbidden,
    /// 404: there is no such path, or no such slot to remove.
    NotFound,
    /// 405: the path knows other methods.
    MethodNotAllowed,
    /// 408: the request took too long to arrive.
    Timeout,
    /// 409: the slot has a higher sequence.
    Stale,
    /// 409: the slot belongs to another key, whose owner was there lately.
    Taken,
    /// 413: the payload or the body is too large.
    TooLarge,
    /// 429: too many requests from this address.
    Limited,
    /// 503: no place for another room, slot or watcher.
    Full,
    /// 500: the server is at fault.
    Internal,
    /// Anything a later version may say.
    #[serde(other)]
    Unknown,
}

fn signed_write(rendezvous: RendezvousId, slot: SlotName, seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut message = signed_place(WRITE_CONTEXT, rendezvous, slot, seq);
    message.extend_from_slice(&Sha256::digest(payload));
    message
}

fn signed_remove(rendezvous: RendezvousId, slot: SlotName, seq: u64) -> Vec<u8> {
    signed_place(REMOVE_CONTEXT, rendezvous, slot, seq)
}

fn signed_place(context: &[u8], rendezvous: RendezvousId, slot: SlotName, seq: u64) -> Vec<u8> {
    let mut message = context.to_vec();
    message.extend_from_slice(&rendezvous.0);
    slot.encode_prefixed(&mut message);
    message.extend_from_slice(&seq.to_be_bytes());
    message
}

/// Byte strings as base64 text.
mod base64_text {
    use std::borrow::Cow;

    use data_encoding::BASE64;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("payload is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RendezvousId = RendezvousId([3; 32]);

    #[test]
    fn a_write_verifies_in_its_own_place_only() {
        let identity = Identity::from_seed([1; 32]);
        let slot = SlotName::client(&identity.public_key());
        let write = SlotWrite::sign(&identity, ROOM, slot, 5, b"payload".to_vec());
        assert!(write.verify(ROOM, slot));
        assert!(!write.verify(RendezvousId([4; 32]), slot));
        assert!(!write.verify(ROOM, SlotName::server()));
        assert!(
            !SlotWrite {
                seq: 6,
                ..write.clone()
            }
            .verify(ROOM, slot)
        );
        assert!(
            !SlotWrite {
                payload: b"paylaod".to_vec(),
                ..write
            }
            .verify(ROOM, slot)
        );
    }

    #[test]
    fn a_key_cannot_write_the_slot_of_another_client() {
        let (one, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let slot = SlotName::client(&other.public_key());
        assert!(!SlotWrite::sign(&one, ROOM, slot, 1, Vec::new()).verify(ROOM, slot));
    }

    #[test]
    fn a_write_is_never_a_removal() {
        let identity = Identity::from_seed([1; 32]);
        let removal = SlotRemove::sign(&identity, ROOM, SlotName::server(), 5);
        assert!(removal.verify(ROOM, SlotName::server()));
        let write = SlotWrite::sign(&identity, ROOM, SlotName::server(), 5, Vec::new());
        assert!(
            !SlotRemove {
                signature: write.signature,
                ..removal
            }
            .verify(ROOM, SlotName::server())
        );
    }

    #[test]
    fn the_json_form_of_protocol_1_never_changes() {
        let identity = Identity::from_seed([1; 32]);
        let write = SlotWrite::sign(&identity, ROOM, SlotName::server(), 5, b"hi".to_vec());
        let json = serde_json::to_string(&write).unwrap();
        let expected = format!(
            r#"{{"key":"{}","seq":5,"payload":"aGk=","signature":"{}"}}"#,
            identity.public_key(),
            write.signature
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<SlotWrite>(&json).unwrap(), write);
    }

    #[test]
    fn an_error_of_a_later_version_is_still_an_error() {
        let body: ErrorBody = serde_json::from_str(r#"{"error":"moon-phase"}"#).unwrap();
        assert_eq!(body.error, ErrorCode::Unknown);
    }
}
