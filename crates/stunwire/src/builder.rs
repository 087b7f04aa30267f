//! A whole message, written in the only order that is allowed.

use std::marker::PhantomData;

use crate::fingerprint::{FINGERPRINT_LEN, fingerprint};
use crate::integrity::{SHA1_LEN, SHA256_LEN};
use crate::method::encode_message_type;
use crate::{
    Attribute, AttributeType, Class, EncodeError, HEADER_LEN, IntegrityKey, MAGIC_COOKIE,
    MESSAGE_LEN_MAX, Message, Method, TransactionId,
};

/// State of a [`MessageBuilder`]: anything may be added.
#[derive(Debug)]
pub enum Open {}
/// State of a [`MessageBuilder`]: MESSAGE-INTEGRITY was written.
#[derive(Debug)]
pub enum Protected {}
/// State of a [`MessageBuilder`]: MESSAGE-INTEGRITY-SHA256 was written.
#[derive(Debug)]
pub enum ProtectedSha256 {}
/// State of a [`MessageBuilder`]: FINGERPRINT was written, nothing may follow.
#[derive(Debug)]
pub enum Fingerprinted {}

/// Writes one message into the caller's buffer, without allocating.
///
/// The state says what may follow: attributes while [`Open`], then MESSAGE-INTEGRITY, then
/// MESSAGE-INTEGRITY-SHA256, then FINGERPRINT, each of which may be left out.
#[derive(Debug)]
pub struct MessageBuilder<'a, S = Open> {
    buffer: &'a mut [u8],
    length: usize,
    id: TransactionId,
    state: PhantomData<S>,
}

impl<'a> MessageBuilder<'a, Open> {
    /// Starts a message.
    ///
    /// # Errors
    /// When the buffer is shorter than a header.
    pub fn new(
        buffer: &'a mut [u8],
        class: Class,
        method: Method,
        id: TransactionId,
    ) -> Result<Self, EncodeError> {
        Self::with_cookie(buffer, class, method, MAGIC_COOKIE.to_be_bytes(), id)
    }

    /// Starts a message of RFC 3489, whose 16-byte transaction id begins with `cookie`.
    ///
    /// # Errors
    /// When the buffer is shorter than a header.
    pub fn with_cookie(
        buffer: &'a mut [u8],
        class: Class,
        method: Method,
        cookie: [u8; 4],
        id: TransactionId,
    ) -> Result<Self, EncodeError> {
        let available = buffer.len();
        let Some(header) = buffer.first_chunk_mut::<HEADER_LEN>() else {
            return Err(EncodeError::BufferTooSmall {
                needed: HEADER_LEN,
                available,
            });
        };
        header[..2].copy_from_slice(&encode_message_type(class, method).to_be_bytes());
        header[2..4].fill(0);
        header[4..8].copy_from_slice(&cookie);
        header[8..].copy_from_slice(id.as_bytes());
        Ok(Self {
            buffer,
            length: HEADER_LEN,
            id,
            state: PhantomData,
        })
    }

    /// Starts the answer to `request`: its method, its id, and its first four bytes of the id if it is one
    /// of RFC 3489.
    ///
    /// # Errors
    /// When the buffer is shorter than a header.
    pub fn answer(
        buffer: &'a mut [u8],
        request: &Message<'_>,
        class: Class,
    ) -> Result<Self, EncodeError> {
        let (method, id) = (request.method(), request.transaction_id());
        Self::with_cookie(buffer, class, method, request.cookie(), id)
    }

    /// Adds an attribute.
    ///
    /// # Errors
    /// When the value is one that the RFC does not allow, or the message becomes too long.
    #[inline]
    pub fn attribute<'v, A: Attribute<'v>>(mut self, attribute: &A) -> Result<Self, EncodeError> {
        if !attribute.is_encodable() {
            return Err(EncodeError::InvalidValue(A::TYPE));
        }
        let id = self.id;
        let value = self.reserve(A::TYPE, attribute.encoded_len())?;
        attribute.encode(value, id);
        Ok(self)
    }

    /// Adds an attribute that this codec has no type for.
    ///
    /// # Errors
    /// When the message becomes too long.
    pub fn raw_attribute(mut self, kind: AttributeType, value: &[u8]) -> Result<Self, EncodeError> {
        self.reserve(kind, value.len())?.copy_from_slice(value);
        Ok(self)
    }

    /// Adds MESSAGE-INTEGRITY over all before (RFC 8489, section 14.5).
    ///
    /// # Errors
    /// When the message becomes too long.
    #[inline]
    pub fn integrity(
        mut self,
        key: &IntegrityKey,
    ) -> Result<MessageBuilder<'a, Protected>, EncodeError> {
        let before = self.length;
        self.reserve(AttributeType::MESSAGE_INTEGRITY, SHA1_LEN)?;
        self.write_length();
        let value = key.sign_sha1(&self.buffer[..before]);
        self.buffer[before + 4..self.length].copy_from_slice(&value);
        Ok(self.into_state())
    }
}

/// The states in which MESSAGE-INTEGRITY-SHA256 may follow.
pub trait BeforeSha256: sealed::State {}
impl BeforeSha256 for Open {}
impl BeforeSha256 for Protected {}

/// The states in which FINGERPRINT may follow.
pub trait BeforeFingerprint: sealed::State {}
impl BeforeFingerprint for Open {}
impl BeforeFingerprint for Protected {}
impl BeforeFingerprint for ProtectedSha256 {}

mod sealed {
    #[expect(unnameable_types, reason = "sealed: nobody else has states")]
    pub trait State {}
    impl State for super::Open {}
    impl State for super::Protected {}
    impl State for super::ProtectedSha256 {}
}

impl<'a, S: BeforeSha256> MessageBuilder<'a, S> {
    /// Adds MESSAGE-INTEGRITY-SHA256 over all before, not truncated (RFC 8489, section 14.6).
    ///
    /// # Errors
    /// When the message becomes too long.
    pub fn integrity_sha256(
        mut self,
        key: &IntegrityKey,
    ) -> Result<MessageBuilder<'a, ProtectedSha256>, EncodeError> {
        let before = self.length;
        self.reserve(AttributeType::MESSAGE_INTEGRITY_SHA256, SHA256_LEN)?;
        self.write_length();
        let value = key.sign_sha256(&self.buffer[..before]);
        self.buffer[before + 4..self.length].copy_from_slice(&value);
        Ok(self.into_state())
    }
}

impl<'a, S: BeforeFingerprint> MessageBuilder<'a, S> {
    /// Adds FINGERPRINT over all before (RFC 8489, section 14.7).
    ///
    /// # Errors
    /// When the message becomes too long.
    #[inline]
    pub fn fingerprint(mut self) -> Result<MessageBuilder<'a, Fingerprinted>, EncodeError> {
        let before = self.length;
        self.reserve(AttributeType::FINGERPRINT, FINGERPRINT_LEN - 4)?;
        self.write_length();
        let value = fingerprint(&self.buffer[..before]);
        self.buffer[before + 4..self.length].copy_from_slice(&value.to_be_bytes());
        Ok(self.into_state())
    }
}

impl<'a, S> MessageBuilder<'a, S> {
    /// Returns the encoded message.
    #[must_use]
    #[inline]
    pub fn finish(mut self) -> &'a [u8] {
        self.write_length();
        &self.buffer[..self.length]
    }

    /// Returns how long the message is so far, in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.length
    }

    /// Writes an attribute's header and padding and returns the space for its value.
    #[inline]
    fn reserve(&mut self, kind: AttributeType, length: usize) -> Result<&mut [u8], EncodeError> {
        let padded = length.next_multiple_of(4);
        let end = self.length + 4 + padded;
        if end > MESSAGE_LEN_MAX {
            return Err(EncodeError::MessageTooLong(end));
        }
        let available = self.buffer.len();
        let Some(attribute) = self.buffer.get_mut(self.length..end) else {
            return Err(EncodeError::BufferTooSmall {
                needed: end,
                available,
            });
        };
        self.length = end;
        let (header, value) = attribute.split_at_mut(4);
        header[..2].copy_from_slice(&kind.value().to_be_bytes());
        header[2..].copy_from_slice(&field(length));
        let (value, padding) = value.split_at_mut(length);
        padding.fill(0);
        Ok(value)
    }

    /// Counts in the header what has been written: a checksum covers the length with its own attribute.
    #[inline]
    fn write_length(&mut self) {
        let length = field(self.length - HEADER_LEN);
        self.buffer[2..4].copy_from_slice(&length);
    }

    fn into_state<T>(self) -> MessageBuilder<'a, T> {
        let Self {
            buffer,
            length,
            id,
            state: _,
        } = self;
        MessageBuilder {
            buffer,
            length,
            id,
            state: PhantomData,
        }
    }
}

/// A length field. `reserve` bounds every length by `MESSAGE_LEN_MAX`, so that nothing is cut off.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by MESSAGE_LEN_MAX in `reserve`"
)]
const fn field(length: usize) -> [u8; 2] {
    (length as u16).to_be_bytes()
}
