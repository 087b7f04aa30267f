//! Who a process is: the Ed25519 key that owns its slot and, in `tunnel`, its TLS identity.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand::Rng;
use zeroize::Zeroizing;

use crate::hex_text::hex_text;

/// An Ed25519 key pair. The seed is erased when it is dropped and never printed.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// Makes the identity of a 32-byte seed (RFC 8032's private key).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// Makes a new identity from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(seed.as_mut());
        Self(SigningKey::from_bytes(&seed))
    }

    /// Returns the seed, to be stored in the state directory or made into a TLS key.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message (Ed25519, RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

/// An Ed25519 public key: the owner of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Tells whether `signature` over `message` was made with this key (strict verification, so that no
    /// second signature of the same message is accepted).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0))
                .is_ok()
        })
    }

    /// Returns the first eight hexadecimal digits, enough for a person to tell two keys apart.
    #[must_use]
    pub fn short(&self) -> String {
        crate::hex_text::encode(&self.0[..4])
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

hex_text!(PublicKey, 32, "public key");

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({self})")
    }
}

hex_text!(Signature, 64, "signature");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_key_of_rfc_8032_test_1() {
        let seed = crate::hex_text::decode::<32>(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        )
        .unwrap();
        let identity = Identity::from_seed(seed);
        assert_eq!(
            identity.public_key().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(*identity.seed(), seed);
        assert!(
            !format!("{identity:?}").contains("9d61b19d"),
            "the seed is never printed"
        );
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let (one, other) = (Identity::generate(), Identity::generate());
        let signature = one.sign(b"hello");
        assert!(one.public_key().verify(b"hello", &signature));
        assert!(!one.public_key().verify(b"hellp", &signature));
        assert!(!other.public_key().verify(b"hello", &signature));
    }

    #[test]
    fn keys_round_trip_as_text() {
        let key = Identity::generate().public_key();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(
            "abc".parse::<PublicKey>().unwrap_err().to_string(),
            "public key is not 64 hexadecimal digits"
        );
    }
}
