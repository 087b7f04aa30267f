//! The envelope that signaling cannot open.
//!
//! A sealed payload is `version (1) ‖ nonce (24) ‖ ciphertext and tag`, XChaCha20-Poly1305 under the seal
//! key of the room with a random nonce. The additional data binds it to its place: `version ‖ rendezvous id
//! (32) ‖ length of the slot's name (1) ‖ slot's name ‖ sequence (8, big endian)`. So whoever runs the
//! store can neither read it, nor move it to another room or slot, nor present an old one as a newer one.
//!
//! It does not bind it to the key that signed the write: whoever runs the store can sign a copy with a key of
//! his own. So the content names its author's key, and a reader compares it with the slot's
//! ([`SlotState::key`](crate::SlotState)) before it believes that this key belongs to the room.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use rand::Rng;

use crate::{RoomKeys, SlotName};

/// The version of the envelope; the first byte of every sealed payload.
const VERSION: u8 = 1;
/// XChaCha20's nonce: long enough to be random for ever.
const NONCE_LEN: usize = 24;
/// Poly1305's tag.
const TAG_LEN: usize = 16;
/// How much longer a sealed payload is than its content, in bytes.
pub const SEALED_OVERHEAD_BYTES: usize = 1 + NONCE_LEN + TAG_LEN;

/// Why a sealed payload did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is shorter than an empty envelope.
    #[error("sealed payload of {len} bytes is shorter than {SEALED_OVERHEAD_BYTES}")]
    Truncated {
        /// Its length in bytes.
        len: usize,
    },
    /// It was sealed by another version of the protocol.
    #[error("sealed payload has version {found}, this program speaks {VERSION}")]
    Version {
        /// The version it names.
        found: u8,
    },
    /// It was sealed for another room, slot or sequence, or altered.
    #[error("sealed payload was not made for this room, slot and sequence")]
    Forged,
}

impl RoomKeys {
    /// Seals `plaintext` for one slot and sequence.
    #[must_use]
    pub fn seal(&self, slot: SlotName, seq: u64, plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        self.seal_with_nonce(slot, seq, plaintext, nonce)
    }

    /// Opens what [`RoomKeys::seal`] made for the same room, slot and sequence.
    ///
    /// # Errors
    /// When it was made for anything else, or by a version that this program does not speak.
    pub fn open(&self, slot: SlotName, seq: u64, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let truncated = OpenError::Truncated { len: sealed.len() };
        let (&version, rest) = sealed.split_first().ok_or(truncated)?;
        if version != VERSION {
            return Err(OpenError::Version { found: version });
        }
        if sealed.len() < SEALED_OVERHEAD_BYTES {
            return Err(truncated);
        }
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(truncated)?;
        let aad = self.additional_data(slot, seq);
        self.cipher()
            .decrypt(
                &XNonce::from(*nonce),
                Payload {
                    msg: ciphertext,
                    aad: &aad,
                },
            )
            .map_err(|_| OpenError::Forged)
    }

    fn seal_with_nonce(
        &self,
        slot: SlotName,
        seq: u64,
        plaintext: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Vec<u8> {
        let aad = self.additional_data(slot, seq);
        let ciphertext = self
            .cipher()
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: plaintext,
                    aad: &aad,
                },
            )
            .expect("a payload is far below XChaCha20's limit of 256 GiB");
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.seal_key()))
    }

    fn additional_data(&self, slot: SlotName, seq: u64) -> Vec<u8> {
        let mut aad = vec![VERSION];
        aad.extend_from_slice(&self.rendezvous().0);
        slot.encode_prefixed(&mut aad);
        aad.extend_from_slice(&seq.to_be_bytes());
        aad
    }
}

#[cfg(test)]
mod tests {
    use mapping_core::RoomId;

    use super::*;
    use crate::PublicKey;

    #[test]
    fn what_was_sealed_opens_in_its_own_place_only() {
        let keys = RoomKeys::derive(&RoomId::new("sealing".to_owned()).unwrap());
        let slot = SlotName::client(&PublicKey([7; 32]));
        let sealed = keys.seal(slot, 3, b"description");
        assert_eq!(sealed.len(), b"description".len() + SEALED_OVERHEAD_BYTES);
        assert_eq!(keys.open(slot, 3, &sealed), Ok(b"description".to_vec()));
        assert_eq!(keys.open(slot, 4, &sealed), Err(OpenError::Forged));
        assert_eq!(
            keys.open(SlotName::server(), 3, &sealed),
            Err(OpenError::Forged)
        );
        let other = RoomKeys::derive(&RoomId::new("another".to_owned()).unwrap());
        assert_eq!(other.open(slot, 3, &sealed), Err(OpenError::Forged));
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let keys = RoomKeys::derive(&RoomId::new("sealing".to_owned()).unwrap());
        let sealed = keys.seal(SlotName::server(), 1, b"x");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            let expected = if at == 0 {
                OpenError::Version { found: 0 }
            } else {
                OpenError::Forged
            };
            assert_eq!(
                keys.open(SlotName::server(), 1, &altered),
                Err(expected),
                "byte {at}"
            );
        }
        assert_eq!(
            keys.open(SlotName::server(), 1, &sealed[..SEALED_OVERHEAD_BYTES - 1]),
            Err(OpenError::Truncated {
                len: SEALED_OVERHEAD_BYTES - 1
            })
        );
        assert_eq!(
            keys.open(SlotName::server(), 1, &[]),
            Err(OpenError::Truncated { len: 0 })
        );
    }

    #[test]
    fn the_same_content_never_looks_the_same() {
        let keys = RoomKeys::derive(&RoomId::new("sealing".to_owned()).unwrap());
        assert_ne!(
            keys.seal(SlotName::server(), 1, b"x"),
            keys.seal(SlotName::server(), 1, b"x")
        );
    }

    /// Computed with PyNaCl's XChaCha20-Poly1305; a change here locks out every deployed peer.
    #[test]
    fn the_envelope_of_protocol_1_never_changes() {
        let keys = RoomKeys::derive(&RoomId::new("my-room".to_owned()).unwrap());
        let sealed = keys.seal_with_nonce(SlotName::server(), 5, b"hello", [9; NONCE_LEN]);
        assert_eq!(
            crate::hex_text::encode(&sealed),
            "010909090909090909090909090909090909090909090909091658dc0c5a627dd4265d94979a01034091178ffff2"
        );
    }
}
