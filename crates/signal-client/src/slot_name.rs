//! The name of a participant's place in a room.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::PublicKey;

const SERVER: &str = "server";
const CLIENT_PREFIX: &str = "client-";

/// A slot: `server`, or `client-` and 16 hexadecimal digits of the SHA-256 of its owner's public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotName(Option<[u8; 8]>);

impl SlotName {
    /// Returns the slot of the server, which a room has once.
    #[must_use]
    pub fn server() -> Self {
        Self(None)
    }

    /// Returns the slot of the client with this key.
    #[must_use]
    pub fn client(key: &PublicKey) -> Self {
        let digest: [u8; 32] = Sha256::digest(key.0).into();
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self(Some(short))
    }

    /// Tells whether this is the server's slot.
    #[must_use]
    pub fn is_server(self) -> bool {
        self.0.is_none()
    }

    /// Tells whether a slot of this name may be owned by `key`: any key for the server, the one it was
    /// named after for a client.
    #[must_use]
    pub fn may_belong_to(self, key: &PublicKey) -> bool {
        self.is_server() || self == Self::client(key)
    }

    /// Appends the name with its length in one byte before it, as signatures and seals hold it.
    pub(crate) fn encode_prefixed(self, out: &mut Vec<u8>) {
        let name = self.to_string();
        out.push(u8::try_from(name.len()).expect("a slot's name has at most 23 bytes"));
        out.extend_from_slice(name.as_bytes());
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str(SERVER),
            Some(digest) => write!(f, "{CLIENT_PREFIX}{}", crate::hex_text::encode(digest)),
        }
    }
}

impl fmt::Debug for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotName({self})")
    }
}

/// Text that names no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot is named `server`, or `client-` and 16 lower-case hexadecimal digits")]
pub struct SlotNameError;

impl FromStr for SlotName {
    type Err = SlotNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == SERVER {
            return Ok(Self(None));
        }
        let digits = text.strip_prefix(CLIENT_PREFIX).ok_or(SlotNameError)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SlotNameError);
        }
        crate::hex_text::decode(digits)
            .map(|digest| Self(Some(digest)))
            .ok_or(SlotNameError)
    }
}

impl serde::Serialize for SlotName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SlotName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_belong_to_their_keys() {
        let (key, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let slot = SlotName::client(&key);
        assert_eq!(slot.to_string(), "client-72cd6e8422c407fb");
        assert_eq!(slot.to_string().parse(), Ok(slot));
        assert_eq!("server".parse(), Ok(SlotName::server()));
        assert!(slot.may_belong_to(&key) && !slot.may_belong_to(&other));
        assert!(SlotName::server().may_belong_to(&other));
    }

    #[test]
    fn anything_else_names_no_slot() {
        for text in [
            "",
            "Server",
            "client-",
            "client-72CD6E8422C407FB",
            "client-72cd6e8422c407f",
            "x",
        ] {
            assert_eq!(text.parse::<SlotName>(), Err(SlotNameError), "{text}");
        }
    }
}
