//! A whole message, read in place.

use std::fmt;

use crate::attribute::{Stage, Walk};
use crate::fingerprint::{FINGERPRINT_LEN, fingerprint};
use crate::method::decode_message_type;
use crate::{
    Attribute, AttributeError, AttributeType, Attributes, Class, DecodeError, FingerprintError,
    IntegrityError, IntegrityKey, Method, TransactionId,
};

/// Length of the header in bytes (RFC 8489, section 5).
pub const HEADER_LEN: usize = 20;

/// The constant that tells RFC 5389 and later from RFC 3489 (RFC 8489, section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The longest message that its length field can express: 65,532 bytes behind the header.
pub const MESSAGE_LEN_MAX: usize = HEADER_LEN + 0xFFFC;

/// Returns whether a datagram is framed as STUN: two zero bits, the magic cookie, and a length that is a
/// multiple of four and that of the datagram.
///
/// For telling protocols apart on a shared socket; a message of RFC 3489 has no cookie and is not
/// recognised.
#[must_use]
#[inline]
pub fn is_stun(datagram: &[u8]) -> bool {
    let Some(&[kind, _, l0, l1, c0, c1, c2, c3]) = datagram.first_chunk::<8>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    kind & 0xC0 == 0
        && [c0, c1, c2, c3] == MAGIC_COOKIE.to_be_bytes()
        && length.is_multiple_of(4)
        && length + HEADER_LEN == datagram.len()
}

/// A message whose frame and attribute lengths were checked; borrows the datagram.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER_LEN],
    // Where these attributes begin; 0, which is inside the header, when there is none that counts.
    integrity: u32,
    integrity_sha256: u32,
    fingerprint: u32,
}

impl<'a> Message<'a> {
    /// Reads a datagram, or one frame of a stream, that holds exactly one message.
    ///
    /// A message without the magic cookie is one of RFC 3489 (see [`Message::has_cookie`]).
    ///
    /// # Errors
    /// When the header or an attribute is longer than the bytes, when bytes follow the message, or when it
    /// does not begin with two zero bits.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::Truncated {
                needed: HEADER_LEN,
                available: bytes.len(),
            });
        };
        if header[0] & 0xC0 != 0 {
            return Err(DecodeError::BadFirstByte(header[0]));
        }
        let length = u16::from_be_bytes([header[2], header[3]]);
        if !length.is_multiple_of(4) {
            return Err(DecodeError::UnalignedLength(length));
        }
        let claimed = HEADER_LEN + usize::from(length);
        if claimed != bytes.len() {
            return Err(DecodeError::LengthMismatch {
                claimed,
                available: bytes.len(),
            });
        }
        let mut message = Self {
            bytes,
            header,
            integrity: 0,
            integrity_sha256: 0,
            fingerprint: 0,
        };
        message.find_protection()?;
        Ok(message)
    }

    /// Checks all lengths and notes where the three attributes lie that protect what stands before them.
    #[inline]
    fn find_protection(&mut self) -> Result<(), DecodeError> {
        let mut walk = Walk::new(self.bytes);
        let mut stage = Stage::Open;
        loop {
            let (offset, attribute) = match walk.next_attribute() {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(()),
                Err((offset, kind)) => return Err(DecodeError::AttributeTooLong { kind, offset }),
            };
            if !stage.admit(attribute.kind) {
                continue;
            }
            let offset = u32::try_from(offset).expect("a message has at most 65,552 bytes");
            match attribute.kind {
                AttributeType::MESSAGE_INTEGRITY => self.integrity = offset,
                AttributeType::MESSAGE_INTEGRITY_SHA256 => self.integrity_sha256 = offset,
                AttributeType::FINGERPRINT => self.fingerprint = offset,
                _ => {}
            }
        }
    }

    /// Returns the class.
    #[must_use]
    #[inline]
    pub const fn class(&self) -> Class {
        self.message_type().0
    }

    /// Returns the method.
    #[must_use]
    #[inline]
    pub const fn method(&self) -> Method {
        self.message_type().1
    }

    /// Returns the transaction id.
    #[must_use]
    #[inline]
    pub const fn transaction_id(&self) -> TransactionId {
        let [_, _, _, _, _, _, _, _, id @ ..] = *self.header;
        TransactionId::new(id)
    }

    /// Returns whether the magic cookie is there; a message of RFC 3489 when it is not.
    #[must_use]
    #[inline]
    pub fn has_cookie(&self) -> bool {
        self.cookie() == MAGIC_COOKIE.to_be_bytes()
    }

    /// Returns the four bytes where the cookie stands. In RFC 3489 they are the first of a 16-byte
    /// transaction id, and an answer must repeat them.
    #[must_use]
    #[inline]
    pub const fn cookie(&self) -> [u8; 4] {
        let [_, _, _, _, c0, c1, c2, c3, ..] = *self.header;
        [c0, c1, c2, c3]
    }

    /// Returns the whole message.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the attributes that count, in their order (see [`Attributes`]).
    #[must_use]
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes)
    }

    /// Reads an attribute; of several of one type the first counts (RFC 8489, section 14).
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn read<A: Attribute<'a>>(&self) -> Result<A, AttributeError> {
        let Some(value) = self.find(A::TYPE) else {
            return Err(AttributeError::Missing(A::TYPE));
        };
        A::decode(value, self.transaction_id()).ok_or(AttributeError::Malformed {
            kind: A::TYPE,
            length: value.len(),
        })
    }

    /// Returns whether an attribute of this type is there.
    #[must_use]
    pub fn contains(&self, kind: AttributeType) -> bool {
        self.find(kind).is_some()
    }

    /// Returns the types, without `known` and those that this codec handles itself, that a receiver must
    /// understand: what an error 420 lists. A type comes as often as it stands in the message.
    pub fn unknown_required(&self, known: &[AttributeType]) -> impl Iterator<Item = AttributeType> {
        self.attributes()
            .map(|attribute| attribute.kind)
            .filter(|kind| {
                kind.is_comprehension_required()
                    && *kind != AttributeType::MESSAGE_INTEGRITY
                    && *kind != AttributeType::MESSAGE_INTEGRITY_SHA256
                    && !known.contains(kind)
            })
    }

    /// Checks MESSAGE-INTEGRITY: everything before it was written by who has the key.
    ///
    /// # Errors
    /// When the attribute is missing, the key is another one or the message was changed.
    #[inline]
    pub fn verify_integrity(&self, key: &IntegrityKey) -> Result<(), IntegrityError> {
        self.verify_at(self.integrity, |header, rest, value| {
            key.verify_sha1(header, rest, value)
        })
    }

    /// Checks MESSAGE-INTEGRITY-SHA256, which may be truncated to no less than 16 bytes.
    ///
    /// # Errors
    /// When the attribute is missing, the key is another one or the message was changed.
    #[inline]
    pub fn verify_integrity_sha256(&self, key: &IntegrityKey) -> Result<(), IntegrityError> {
        self.verify_at(self.integrity_sha256, |header, rest, value| {
            key.verify_sha256(header, rest, value)
        })
    }

    /// The length in the header counts as if the message ended with the attribute (RFC 8489, section 14.5):
    /// the header is copied and patched, the rest is hashed in place.
    #[inline]
    fn verify_at(
        &self,
        offset: u32,
        verify: impl FnOnce(&[u8], &[u8], &[u8]) -> bool,
    ) -> Result<(), IntegrityError> {
        let offset = offset as usize;
        let Some(rest) = self.bytes.get(HEADER_LEN..offset) else {
            return Err(IntegrityError::Missing);
        };
        let Some(value) = self.value_at(offset) else {
            return Err(IntegrityError::Missing);
        };
        let end = offset + 4 + value.len().next_multiple_of(4);
        let length = u16::try_from(end - HEADER_LEN).map_err(|_| IntegrityError::Mismatch)?;
        let mut header = *self.header;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        if verify(&header, rest, value) {
            Ok(())
        } else {
            Err(IntegrityError::Mismatch)
        }
    }

    /// Checks FINGERPRINT: this is STUN, and undamaged. It authenticates nobody.
    ///
    /// # Errors
    /// When the attribute is missing, not the last one, or does not match.
    #[inline]
    pub fn verify_fingerprint(&self) -> Result<(), FingerprintError> {
        let offset = self.fingerprint as usize;
        if offset < HEADER_LEN {
            return Err(FingerprintError::Missing);
        }
        let (before, attribute) = self.bytes.split_at(offset);
        let matches = attribute.len() == FINGERPRINT_LEN
            && self.value_at(offset) == Some(&fingerprint(before).to_be_bytes());
        if matches {
            Ok(())
        } else {
            Err(FingerprintError::Mismatch)
        }
    }

    const fn message_type(&self) -> (Class, Method) {
        decode_message_type(u16::from_be_bytes([self.header[0], self.header[1]]))
    }

    fn find(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes()
            .find(|attribute| attribute.kind == kind)
            .map(|attribute| attribute.value)
    }

    fn value_at(&self, offset: usize) -> Option<&'a [u8]> {
        let (&[_, _, l0, l1], rest) = self.bytes.get(offset..)?.split_first_chunk::<4>()?;
        rest.get(..usize::from(u16::from_be_bytes([l0, l1])))
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("class", &self.class())
            .field("method", &self.method())
            .field("transaction_id", &self.transaction_id())
            .field("has_cookie", &self.has_cookie())
            .field("attributes", &Kinds(*self))
            .finish()
    }
}

/// The types alone: values may hold addresses and credentials, which do not belong in a log line.
struct Kinds<'a>(Message<'a>);

impl fmt::Debug for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.attributes().map(|attribute| attribute.kind))
            .finish()
    }
}
