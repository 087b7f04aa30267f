//! Attributes of NAT behaviour discovery (RFC 5780).

use super::bytes_attribute;
use crate::attribute::array;
use crate::{Attribute, AttributeType, TransactionId};

/// CHANGE-REQUEST: from which of its addresses the server shall answer (RFC 5780, section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Answer from the other IP address.
    pub ip: bool,
    /// Answer from the other port.
    pub port: bool,
}

impl ChangeRequest {
    const IP: u32 = 0x04;
    const PORT: u32 = 0x02;
}

impl<'a> Attribute<'a> for ChangeRequest {
    const TYPE: AttributeType = AttributeType::CHANGE_REQUEST;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let flags = u32::from_be_bytes(*array(value)?);
        Some(Self {
            ip: flags & Self::IP != 0,
            port: flags & Self::PORT != 0,
        })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let ip = if self.ip { Self::IP } else { 0 };
        let port = if self.port { Self::PORT } else { 0 };
        out.copy_from_slice(&(ip | port).to_be_bytes());
    }
}

/// RESPONSE-PORT: to which port of the same IP address the server shall answer (RFC 5780, section 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePort(pub u16);

impl<'a> Attribute<'a> for ResponsePort {
    const TYPE: AttributeType = AttributeType::RESPONSE_PORT;

    /// "A 16-bit number followed by 2 bytes of padding": some count the padding in the length, some do not.
    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        match *value {
            [p0, p1] | [p0, p1, _, _] => Some(Self(u16::from_be_bytes([p0, p1]))),
            _ => None,
        }
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        out.copy_from_slice(&self.0.to_be_bytes());
    }
}

bytes_attribute!(
    /// PADDING: makes a packet long enough to be fragmented (RFC 5780, section 7.6).
    Padding, PADDING
);
