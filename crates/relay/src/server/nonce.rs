//! Nonces that need no table (RFC 8489, section 9.2): they carry their own expiry, and prove it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::five_tuple::ClientAddr;

/// Four bytes of expiry.
const EXPIRY_LEN: usize = 4;
/// Eight bytes of HMAC: a nonce guards against replays for an hour, and a longer one would make the answer
/// to a stranger longer than his question.
const PROOF_LEN: usize = 8;
/// Both, in base64.
const TEXT_LEN: usize = (EXPIRY_LEN + PROOF_LEN) / 3 * 4;

/// Makes and checks nonces.
pub(super) struct Nonces {
    key: Hmac<Sha1>,
    epoch: Instant,
    lifetime: Duration,
}

impl Nonces {
    pub(super) fn new(key: [u8; 32], epoch: Instant, lifetime: Duration) -> Self {
        let key = Hmac::<Sha1>::new_from_slice(&key).expect("HMAC takes keys of every length");
        Self {
            key,
            epoch,
            lifetime,
        }
    }

    /// Makes a nonce for a client.
    pub(super) fn issue(&self, client: &ClientAddr, now: Instant) -> String {
        let expiry = self.secs(now + self.lifetime).to_be_bytes();
        let mut bytes = [0; EXPIRY_LEN + PROOF_LEN];
        bytes[..EXPIRY_LEN].copy_from_slice(&expiry);
        bytes[EXPIRY_LEN..].copy_from_slice(&self.proof(expiry, client));
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Returns whether the nonce is one of ours, for this client, and still good.
    pub(super) fn is_fresh(&self, nonce: &str, client: &ClientAddr, now: Instant) -> bool {
        if nonce.len() != TEXT_LEN {
            return false;
        }
        let mut bytes = [0; EXPIRY_LEN + PROOF_LEN];
        let decoded = BASE64URL_NOPAD.decode_mut(nonce.as_bytes(), &mut bytes);
        let [e0, e1, e2, e3, proof @ ..] = bytes;
        let expiry = [e0, e1, e2, e3];
        decoded.is_ok()
            && bool::from(proof.ct_eq(&self.proof(expiry, client)))
            && self.secs(now) < u32::from_be_bytes(expiry)
    }

    fn proof(&self, expiry: [u8; EXPIRY_LEN], client: &ClientAddr) -> [u8; PROOF_LEN] {
        let mut mac = self.key.clone();
        mac.update(&expiry);
        match client.remote.ip() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac.update(&client.remote.port().to_be_bytes());
        let bytes = mac.finalize().into_bytes();
        std::array::from_fn(|index| bytes[index])
    }

    /// Seconds since the server was made; 32 bits last for 136 years.
    fn secs(&self, at: Instant) -> u32 {
        let secs = at.saturating_duration_since(self.epoch).as_secs();
        u32::try_from(secs).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;
    use crate::Transport;

    fn client(port: u16) -> ClientAddr {
        ClientAddr {
            remote: ([192, 0, 2, 7], port).into(),
            local: ([192, 0, 2, 1], 3478).into(),
            transport: Transport::Udp,
        }
    }

    #[test]
    fn a_nonce_is_good_for_its_client_until_it_expires() {
        let epoch = Instant::now();
        let nonces = Nonces::new([1; 32], epoch, Duration::from_secs(60));
        let nonce = nonces.issue(&client(1), epoch);
        assert_eq!(nonce.len(), TEXT_LEN);
        assert!(nonces.is_fresh(&nonce, &client(1), epoch + Duration::from_secs(59)));
        assert!(!nonces.is_fresh(&nonce, &client(1), epoch + Duration::from_secs(60)));
        assert!(
            !nonces.is_fresh(&nonce, &client(2), epoch),
            "another client's"
        );
        assert!(
            !nonces.is_fresh("AAAAAAAAAAAAAAAA", &client(1), epoch),
            "made up"
        );
        let other = Nonces::new([2; 32], epoch, Duration::from_secs(60));
        assert!(
            !other.is_fresh(&nonce, &client(1), epoch),
            "another server's"
        );
    }
}
