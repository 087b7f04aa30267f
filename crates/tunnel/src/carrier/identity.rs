//! An Ed25519 identity in the forms that TLS wants: PKCS#8 for the private key, SPKI for the public one.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// An Ed25519 public key, which is all that a peer is known by.
pub type PublicKey = [u8; 32];

/// `PrivateKeyInfo` of an Ed25519 key up to its 32 bytes (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// `SubjectPublicKeyInfo` of an Ed25519 key up to its 32 bytes (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why a seed did not make an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The TLS library did not take the key.
    #[error("the TLS library refused the Ed25519 identity key")]
    Refused,
}

/// The public key of an identity, by its 32-byte seed.
pub fn public_key(seed: &[u8; 32]) -> PublicKey {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// The key as TLS holds it: the "certificate" of a raw public key is its SPKI (RFC 7250).
pub(super) fn certified_key(seed: &[u8; 32]) -> Result<Arc<CertifiedKey>, IdentityError> {
    let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
    pkcs8.extend_from_slice(&PKCS8_PREFIX);
    pkcs8.extend_from_slice(seed);
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))
        .map_err(|_| IdentityError::Refused)?;
    let spki = key.public_key().ok_or(IdentityError::Refused)?;
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(spki.to_vec())],
        key,
    )))
}

/// The key inside an SPKI; `None` for any other form than RFC 8410's.
pub(super) fn key_of_spki(spki: &[u8]) -> Option<PublicKey> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// The SPKI of a key.
pub(super) fn spki(key: &PublicKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_gives_tls_the_same_key_as_the_signatures_of_signaling() {
        let seed = [7; 32];
        let certified = certified_key(&seed).unwrap();
        let shown = certified.cert[0].as_ref();
        assert_eq!(shown, spki(&public_key(&seed)));
        assert_eq!(key_of_spki(shown), Some(public_key(&seed)));
    }

    #[test]
    fn an_spki_of_another_form_has_no_key() {
        let mut other = spki(&[1; 32]);
        other[8] = 0x6e; // X25519
        assert_eq!(key_of_spki(&other), None);
        assert_eq!(key_of_spki(&spki(&[1; 32])[..43]), None);
        assert_eq!(key_of_spki(b""), None);
    }
}
