//! Attributes that say why not.

use super::text::{TEXT_TAKEN_MAX, may_send_text};
use crate::{AddressFamily, Attribute, AttributeType, TransactionId};

/// ERROR-CODE: why a request was refused (RFC 8489, section 14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    /// For people, at most 127 characters. Empty when what was received is not UTF-8: the code still counts.
    pub reason: &'a str,
}

impl ErrorCode<'_> {
    /// 300: ask the server in ALTERNATE-SERVER.
    pub const TRY_ALTERNATE: u16 = 300;
    /// 400: malformed.
    pub const BAD_REQUEST: u16 = 400;
    /// 401: credentials are missing or wrong.
    pub const UNAUTHENTICATED: u16 = 401;
    /// 403: not allowed (RFC 8656).
    pub const FORBIDDEN: u16 = 403;
    /// 420: see UNKNOWN-ATTRIBUTES.
    pub const UNKNOWN_ATTRIBUTE: u16 = 420;
    /// 437: there is no such allocation, or there is one already (RFC 8656).
    pub const ALLOCATION_MISMATCH: u16 = 437;
    /// 438: the same again with the new nonce.
    pub const STALE_NONCE: u16 = 438;
    /// 440: the address family is not supported (RFC 8656).
    pub const ADDRESS_FAMILY_NOT_SUPPORTED: u16 = 440;
    /// 441: not the credentials of this allocation (RFC 8656).
    pub const WRONG_CREDENTIALS: u16 = 441;
    /// 442: the transport is not supported (RFC 8656).
    pub const UNSUPPORTED_TRANSPORT: u16 = 442;
    /// 443: the peer's address family is not the allocation's (RFC 8656).
    pub const PEER_ADDRESS_FAMILY_MISMATCH: u16 = 443;
    /// 446: there is such a connection already (RFC 6062).
    pub const CONNECTION_ALREADY_EXISTS: u16 = 446;
    /// 447: the peer did not answer (RFC 6062).
    pub const CONNECTION_TIMEOUT_OR_FAILURE: u16 = 447;
    /// 486: the user has too many allocations (RFC 8656).
    pub const ALLOCATION_QUOTA_REACHED: u16 = 486;
    /// 487: both sides have the same role (RFC 8445).
    pub const ROLE_CONFLICT: u16 = 487;
    /// 500: try again.
    pub const SERVER_ERROR: u16 = 500;
    /// 508: no ports are left (RFC 8656).
    pub const INSUFFICIENT_CAPACITY: u16 = 508;
}

impl<'a> Attribute<'a> for ErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ERROR_CODE;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let (&[_, _, class, number], reason) = value.split_first_chunk::<4>()?;
        Some(Self {
            code: decode_code(class, number)?,
            reason: decode_reason(reason)?,
        })
    }

    fn encoded_len(&self) -> usize {
        4 + self.reason.len()
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let (header, reason) = out.split_at_mut(4);
        let [class, number] = encode_code(self.code);
        header.copy_from_slice(&[0, 0, class, number]);
        reason.copy_from_slice(self.reason.as_bytes());
    }

    fn is_encodable(&self) -> bool {
        (300..700).contains(&self.code) && may_send_text(self.reason)
    }
}

/// ADDRESS-ERROR-CODE: why one of two address families was not allocated (RFC 8656, section 18.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressErrorCode<'a> {
    /// Which was not.
    pub family: AddressFamily,
    /// 300 to 699.
    pub code: u16,
    /// As in [`ErrorCode::reason`].
    pub reason: &'a str,
}

impl<'a> Attribute<'a> for AddressErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ADDRESS_ERROR_CODE;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let (&[family, _, class, number], reason) = value.split_first_chunk::<4>()?;
        Some(Self {
            family: AddressFamily::from_wire(family)?,
            code: decode_code(class, number)?,
            reason: decode_reason(reason)?,
        })
    }

    fn encoded_len(&self) -> usize {
        4 + self.reason.len()
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let (header, reason) = out.split_at_mut(4);
        let [class, number] = encode_code(self.code);
        header.copy_from_slice(&[self.family.wire(), 0, class, number]);
        reason.copy_from_slice(self.reason.as_bytes());
    }

    fn is_encodable(&self) -> bool {
        (300..700).contains(&self.code) && may_send_text(self.reason)
    }
}

/// The hundreds are 3 to 6 in three bits, the rest is 0 to 99 (RFC 8489, section 14.8).
fn decode_code(class: u8, number: u8) -> Option<u16> {
    let class = class & 0x07;
    ((3..=6).contains(&class) && number <= 99).then(|| u16::from(class) * 100 + u16::from(number))
}

const fn encode_code(code: u16) -> [u8; 2] {
    // `is_encodable` bounds the code by 699.
    [(code / 100) as u8, (code % 100) as u8]
}

fn decode_reason(value: &[u8]) -> Option<&str> {
    (value.len() <= TEXT_TAKEN_MAX).then(|| str::from_utf8(value).unwrap_or_default())
}

/// UNKNOWN-ATTRIBUTES: what the sender of error 420 did not understand (RFC 8489, section 14.13).
#[derive(Clone, Copy, Debug)]
pub struct UnknownAttributes<'a>(List<'a>);

#[derive(Clone, Copy, Debug)]
enum List<'a> {
    Wire(&'a [u8]),
    Types(&'a [AttributeType]),
}

impl<'a> UnknownAttributes<'a> {
    /// Makes the list of these types.
    #[must_use]
    pub const fn new(types: &'a [AttributeType]) -> Self {
        Self(List::Types(types))
    }

    /// Returns the types in their order.
    pub fn iter(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        let (wire, types): (&[u8], &[AttributeType]) = match self.0 {
            List::Wire(bytes) => (bytes, &[]),
            List::Types(types) => (&[], types),
        };
        let (pairs, _) = wire.as_chunks::<2>();
        let read = pairs
            .iter()
            .map(|pair| AttributeType::new(u16::from_be_bytes(*pair)));
        read.chain(types.iter().copied())
    }
}

impl PartialEq for UnknownAttributes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnknownAttributes<'_> {}

impl<'a> Attribute<'a> for UnknownAttributes<'a> {
    const TYPE: AttributeType = AttributeType::UNKNOWN_ATTRIBUTES;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        value
            .len()
            .is_multiple_of(2)
            .then_some(Self(List::Wire(value)))
    }

    fn encoded_len(&self) -> usize {
        self.iter().count() * 2
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let (pairs, _) = out.as_chunks_mut::<2>();
        pairs
            .iter_mut()
            .zip(self.iter())
            .for_each(|(pair, kind)| *pair = kind.value().to_be_bytes());
    }
}
