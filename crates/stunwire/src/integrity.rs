//! Keys that protect messages.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::hmac_sha1::HmacSha1;

/// Length of the value of MESSAGE-INTEGRITY: HMAC-SHA1.
pub(crate) const SHA1_LEN: usize = 20;
/// Length of the value of MESSAGE-INTEGRITY-SHA256 that we send: not truncated.
pub(crate) const SHA256_LEN: usize = 32;
/// The shortest truncated HMAC-SHA256 (RFC 8489, section 14.6).
const SHA256_LEN_MIN: usize = 16;

/// The key of MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489, sections 9.1.1 and 18.5.1).
///
/// Holds the HMAC states behind the key, so that protecting a message costs no key schedule; they are erased
/// on drop. User names, realms and passwords are taken as they are: who reads them from a person prepares
/// them with [`opaque_string()`](crate::opaque_string()) first.
#[derive(Clone)]
pub struct IntegrityKey {
    sha1: HmacSha1,
    sha256: Hmac<Sha256>,
}

impl IntegrityKey {
    /// Makes the key of the short-term mechanism: the password itself.
    #[must_use]
    pub fn short_term(password: &str) -> Self {
        Self::from_bytes(password.as_bytes())
    }

    /// Makes the key of the long-term mechanism: `MD5(username ":" realm ":" password)`.
    #[must_use]
    pub fn long_term(username: &str, realm: &str, password: &str) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        hash_credentials::<Md5>(username, realm, password, &mut key[..]);
        Self::from_bytes(&key[..])
    }

    /// Makes the key of the long-term mechanism with password algorithm SHA-256:
    /// `SHA-256(username ":" realm ":" password)`.
    #[must_use]
    pub fn long_term_sha256(username: &str, realm: &str, password: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        hash_credentials::<Sha256>(username, realm, password, &mut key[..]);
        Self::from_bytes(&key[..])
    }

    /// Makes a key of raw bytes, for a short-term password that is not text.
    #[must_use]
    pub fn from_bytes(key: &[u8]) -> Self {
        let sha256 = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
        Self {
            sha1: HmacSha1::new(key),
            sha256,
        }
    }

    /// Returns the HMAC-SHA1 over one whole piece.
    pub(crate) fn sign_sha1(&self, message: &[u8]) -> [u8; SHA1_LEN] {
        self.sha1.sign(message, &[])
    }

    /// Returns the HMAC-SHA256 over one whole piece.
    pub(crate) fn sign_sha256(&self, message: &[u8]) -> [u8; SHA256_LEN] {
        self.sha256
            .clone()
            .chain_update(message)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Compares in constant time the HMAC-SHA1 over two pieces with `value`.
    pub(crate) fn verify_sha1(&self, header: &[u8], rest: &[u8], value: &[u8]) -> bool {
        self.sha1.sign(header, rest).ct_eq(value).into()
    }

    /// Compares in constant time the HMAC-SHA256 over two pieces with `value`, which may be truncated to 16 to
    /// 32 bytes in steps of four.
    pub(crate) fn verify_sha256(&self, header: &[u8], rest: &[u8], value: &[u8]) -> bool {
        (SHA256_LEN_MIN..=SHA256_LEN).contains(&value.len())
            && value.len().is_multiple_of(4)
            && self
                .sha256
                .clone()
                .chain_update(header)
                .chain_update(rest)
                .verify_truncated_left(value)
                .is_ok()
    }
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntegrityKey(..)")
    }
}

/// Returns what stands in USERHASH: `SHA-256(username ":" realm)` (RFC 8489, section 14.4).
#[must_use]
pub fn user_hash(username: &str, realm: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(username.as_bytes())
        .chain_update(b":")
        .chain_update(realm.as_bytes())
        .finalize()
        .into()
}

fn hash_credentials<D: Digest>(username: &str, realm: &str, password: &str, key: &mut [u8]) {
    let mut digest = D::new()
        .chain_update(username.as_bytes())
        .chain_update(b":")
        .chain_update(realm.as_bytes())
        .chain_update(b":")
        .chain_update(password.as_bytes())
        .finalize();
    key.copy_from_slice(&digest);
    digest.as_mut_slice().zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_term_key_has_the_rfcs_check_value() {
        let mut key = [0; 16];
        hash_credentials::<Md5>("user", "realm", "pass", &mut key);
        assert_eq!(
            u128::from_be_bytes(key),
            0x8493_fbc5_3ba5_82fb_4c04_4c45_6bdc_40eb
        );
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(
            format!("{:?}", IntegrityKey::short_term("hunter2")),
            "IntegrityKey(..)"
        );
    }
}
