//! What the room's shared secret becomes.

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use mapping_core::RoomId;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::hex_text::hex_text;

/// The salt of protocol 1. It is fixed, since both ends know nothing of each other but the secret.
const SALT: &[u8] = b"stunfwd/1";
/// Argon2id memory, 19 MiB: OWASP's recommendation for interactive use, and small enough for a router.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory; goes with [`MEMORY_KIB`].
const PASSES: u32 = 2;
/// One lane: the result must not depend on the number of cores.
const LANES: u32 = 1;

/// What signaling sees of a room: enough to tell rooms apart, and nothing about the secret that is
/// cheaper than guessing it through Argon2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RendezvousId(pub [u8; 32]);

impl std::fmt::Debug for RendezvousId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RendezvousId({}…)",
            crate::hex_text::encode(&self.0[..4])
        )
    }
}

hex_text!(RendezvousId, 32, "rendezvous id");

/// The keys of a room, derived once per start. Erased when dropped and never printed.
#[derive(Clone)]
pub struct RoomKeys {
    rendezvous: RendezvousId,
    room_key: Zeroizing<[u8; 32]>,
    seal_key: Zeroizing<[u8; 32]>,
}

impl RoomKeys {
    /// Derives the keys of a room: Argon2id (v1.3, m = 19 MiB, t = 2, p = 1, salt `stunfwd/1`) gives 64
    /// bytes, of which the first half is the rendezvous id and the second the room key. Takes tens of
    /// milliseconds, or a second on a small machine: call it once, outside any event loop.
    #[must_use]
    pub fn derive(room: &RoomId) -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(64))
            .expect("the parameters are constants within Argon2's limits");
        let mut derived = Zeroizing::new([0; 64]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(room.expose().as_bytes(), SALT, derived.as_mut())
            .expect("a 9-byte salt and a 64-byte output are within Argon2's limits");
        let (mut rendezvous, mut room_key) = ([0; 32], Zeroizing::new([0; 32]));
        rendezvous.copy_from_slice(&derived[..32]);
        room_key.copy_from_slice(&derived[32..]);
        let seal_key = expand(&room_key, b"stunfwd/1 seal");
        Self {
            rendezvous: RendezvousId(rendezvous),
            room_key,
            seal_key,
        }
    }

    /// Returns the name of the room at the signaling server.
    #[must_use]
    pub fn rendezvous(&self) -> RendezvousId {
        self.rendezvous
    }

    /// Returns the password with which the first carrier of a peer pair proves the room (SPAKE2).
    #[must_use]
    pub fn proof_password(&self) -> Zeroizing<[u8; 32]> {
        expand(&self.room_key, b"stunfwd/1 proof")
    }

    pub(crate) fn seal_key(&self) -> &[u8; 32] {
        &self.seal_key
    }
}

impl std::fmt::Debug for RoomKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomKeys")
            .field("rendezvous", &self.rendezvous)
            .finish_non_exhaustive()
    }
}

/// HKDF-Expand (RFC 5869, section 2.3) with SHA-256 and the room key as the pseudorandom key.
fn expand(room_key: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let hkdf = Hkdf::<Sha256>::from_prk(room_key).expect("32 bytes are a SHA-256 key");
    let mut out = [0; 32];
    hkdf.expand(info, &mut out)
        .expect("32 bytes are less than 255 hashes");
    let kept = Zeroizing::new(out);
    out.zeroize();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the reference implementations of Argon2 and HKDF in Python (argon2-cffi,
    /// hmac); a change here locks out every deployed peer.
    #[test]
    fn the_derivation_of_protocol_1_never_changes() {
        let keys = RoomKeys::derive(&RoomId::new("my-room".to_owned()).unwrap());
        assert_eq!(
            (
                keys.rendezvous().to_string(),
                crate::hex_text::encode(keys.seal_key()),
                crate::hex_text::encode(keys.proof_password().as_ref()),
            ),
            (
                "02b88b010ab172e1a60d579724121012b7499c58feb68024414adc2956708f49".to_owned(),
                "6a47c8a6a087bb936e2323358e6c29223fc379fc1e9e7abcee5f25a5be51fc0a".to_owned(),
                "6c0277af38f4db2d3fb666b22ff3f9722ed34ac839cc7303d509fbc9c5691855".to_owned(),
            )
        );
    }

    #[test]
    fn rooms_that_differ_in_one_character_have_nothing_in_common() {
        let one = RoomKeys::derive(&RoomId::new("room a&b".to_owned()).unwrap());
        let other = RoomKeys::derive(&RoomId::new("room a+b".to_owned()).unwrap());
        assert_ne!(one.rendezvous(), other.rendezvous());
        assert_ne!(one.seal_key(), other.seal_key());
        assert_ne!(one.proof_password(), other.proof_password());
    }

    #[test]
    fn printing_shows_no_key() {
        let keys = RoomKeys::derive(&RoomId::new("secret-room".to_owned()).unwrap());
        let text = format!("{keys:?}");
        assert!(!text.contains("secret-room"));
        assert!(!text.contains(&crate::hex_text::encode(&keys.room_key[..4])));
    }
}
