//! Fixed-size byte strings as lower-case hexadecimal text, for keys and signatures on the wire.

use data_encoding::HEXLOWER_PERMISSIVE;

/// Decodes exactly `N` bytes of hexadecimal text.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .ok()?
        .try_into()
        .ok()
}

/// Encodes as lower-case hexadecimal text.
pub(crate) fn encode(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Gives a newtype of `[u8; N]` its `Display`, `FromStr` and serde forms as hexadecimal text.
macro_rules! hex_text {
    ($name:ident, $len:literal, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::hex_text::encode(&self.0))
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::hex_text::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::hex_text::decode::<$len>(text)
                    .map(Self)
                    .ok_or($crate::hex_text::HexError {
                        what: $what,
                        digits: $len * 2,
                    })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_text;

/// Text that is not the hexadecimal form of what it should name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not {digits} hexadecimal digits")]
pub struct HexError {
    /// What the text should have named.
    pub(crate) what: &'static str,
    /// How many digits it has.
    pub(crate) digits: usize,
}
