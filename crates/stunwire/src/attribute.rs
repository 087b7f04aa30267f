//! One attribute, and how a message is walked attribute by attribute.

use crate::{AttributeType, TransactionId};

/// An attribute that can be read from and written into a message.
///
/// `'a` is the message that a decoded value borrows from.
pub trait Attribute<'a>: Sized {
    /// Its number.
    const TYPE: AttributeType;

    /// Reads the value, without header and padding; `None` when it is malformed.
    ///
    /// `id` is the message's: IPv6 addresses are hidden with it (RFC 8489, section 14.2).
    fn decode(value: &'a [u8], id: TransactionId) -> Option<Self>;

    /// Returns the length of the value in bytes, without header and padding.
    fn encoded_len(&self) -> usize;

    /// Writes the value into `out`, which has exactly [`Attribute::encoded_len`] bytes.
    fn encode(&self, out: &mut [u8], id: TransactionId);

    /// Returns whether the RFC allows to send this value.
    fn is_encodable(&self) -> bool {
        true
    }
}

/// An attribute as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its number.
    pub kind: AttributeType,
    /// Its value, without padding.
    pub value: &'a [u8],
}

/// The attributes of a message in their order, made by [`Message::attributes`](crate::Message::attributes).
///
/// After MESSAGE-INTEGRITY come only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, after
/// MESSAGE-INTEGRITY-SHA256 only FINGERPRINT, after FINGERPRINT nothing: the rest is not protected and is
/// skipped (RFC 8489, section 14.5).
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    walk: Walk<'a>,
    stage: Stage,
}

impl<'a> Attributes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            walk: Walk::new(bytes),
            stage: Stage::Open,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (_, attribute) = self.walk.next_attribute().ok()??;
            if self.stage.admit(attribute.kind) {
                return Some(attribute);
            }
        }
    }
}

/// How far the protection of RFC 8489, section 14.5, has come while a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Anything may come.
    Open,
    /// MESSAGE-INTEGRITY was seen.
    Protected,
    /// MESSAGE-INTEGRITY-SHA256 was seen.
    ProtectedSha256,
    /// FINGERPRINT was seen.
    Ended,
}

impl Stage {
    /// Says whether an attribute counts here, and moves on.
    #[inline]
    pub(crate) fn admit(&mut self, kind: AttributeType) -> bool {
        let (admitted, next) = match (*self, kind) {
            (Self::Ended, _) => (false, Self::Ended),
            (_, AttributeType::FINGERPRINT) => (true, Self::Ended),
            (Self::Open | Self::Protected, AttributeType::MESSAGE_INTEGRITY_SHA256) => {
                (true, Self::ProtectedSha256)
            }
            (Self::Open, AttributeType::MESSAGE_INTEGRITY) => (true, Self::Protected),
            (stage @ (Self::Protected | Self::ProtectedSha256), _) => (false, stage),
            (Self::Open, _) => (true, Self::Open),
        };
        *self = next;
        admitted
    }
}

/// Walks over the attributes by their lengths alone.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Walk<'a> {
    /// Starts behind the header of `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        match bytes.split_at_checked(crate::HEADER_LEN) {
            Some((_, rest)) => Self {
                rest,
                offset: crate::HEADER_LEN,
            },
            None => Self {
                rest: &[],
                offset: 0,
            },
        }
    }

    /// Returns the next attribute and where it begins; the error is the one that does not fit.
    #[inline]
    pub(crate) fn next_attribute(
        &mut self,
    ) -> Result<Option<(usize, RawAttribute<'a>)>, (usize, AttributeType)> {
        let Some((&[k0, k1, l0, l1], rest)) = self.rest.split_first_chunk::<4>() else {
            // Lengths are multiples of four throughout, so that nothing is left over here.
            return Ok(None);
        };
        let kind = AttributeType::new(u16::from_be_bytes([k0, k1]));
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let padded = length.next_multiple_of(4);
        let Some((padded_value, rest)) = rest.split_at_checked(padded) else {
            return Err((self.offset, kind));
        };
        let offset = self.offset;
        self.rest = rest;
        self.offset += 4 + padded;
        Ok(Some((
            offset,
            RawAttribute {
                kind,
                value: &padded_value[..length],
            },
        )))
    }
}

/// Returns the value when it has exactly this length.
#[inline]
pub(crate) fn array<const N: usize>(value: &[u8]) -> Option<&[u8; N]> {
    value.try_into().ok()
}
