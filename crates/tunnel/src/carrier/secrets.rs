//! The arithmetic of the proof: what is hashed, under which key, with which label.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::endpoint::Side;
use super::identity::{PublicKey, spki};

/// The TLS exporter's label; its context is empty.
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-stunfwd-room";

pub(super) const MAC_LEN: usize = 32;

const TRANSCRIPT_LABEL: &[u8] = b"stunfwd/1 carrier transcript";
const CONFIRM_KEY_LABEL: &[u8] = b"stunfwd/1 carrier confirm";
const PAIR_KEY_LABEL: &[u8] = b"stunfwd/1 instance pair";
const CONFIRM_LABEL: &[u8] = b"stunfwd/1 confirm";
const PAIR_MAC_LABEL: &[u8] = b"stunfwd/1 pair mac";

/// A key that an instance pair derived from its first proof.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct PairKey(pub(super) [u8; 32]);

impl std::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairKey(..)")
    }
}

/// Keys of one SPAKE2 run.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SpakeKeys {
    confirm: [u8; 32],
    pub(super) pair: PairKey,
}

impl SpakeKeys {
    /// HKDF-SHA256 with the TLS exporter as salt: a run on another TLS session gives other keys.
    pub(super) fn derive(spake_key: &[u8], exporter: &[u8; 32]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(exporter), spake_key);
        let expand = |label| {
            let mut key = [0; 32];
            hkdf.expand(label, &mut key)
                .expect("32 bytes are within HKDF's 255 blocks");
            key
        };
        Self {
            confirm: expand(CONFIRM_KEY_LABEL),
            pair: PairKey(expand(PAIR_KEY_LABEL)),
        }
    }

    /// One side's confirmation of everything that was said.
    pub(super) fn confirmation(&self, side: Side, transcript: &[u8; 32]) -> Hmac<Sha256> {
        keyed(&self.confirm)
            .chain_update(CONFIRM_LABEL)
            .chain_update([side.to_wire()])
            .chain_update(transcript)
    }
}

impl PairKey {
    /// One side's proof on a later carrier of the pair. The ingress speaks first, so that its transcript holds
    /// its own hello alone.
    pub(super) fn mac(&self, side: Side, transcript: &[u8; 32]) -> Hmac<Sha256> {
        keyed(&self.0)
            .chain_update(PAIR_MAC_LABEL)
            .chain_update([side.to_wire()])
            .chain_update(transcript)
    }
}

/// Everything that both ends have seen, each part with its length, so that no two differ only in where they are cut.
pub(super) fn transcript(
    exporter: &[u8; 32],
    ingress_key: &PublicKey,
    egress_key: &PublicKey,
    parts: &[&[u8]],
) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(TRANSCRIPT_LABEL);
    let keys = [spki(ingress_key), spki(egress_key)];
    let fixed = [&exporter[..], &keys[0], &keys[1]];
    for part in fixed.into_iter().chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// The bytes of a finished MAC.
pub(super) fn bytes_of(mac: Hmac<Sha256>) -> [u8; MAC_LEN] {
    mac.finalize().into_bytes().into()
}
