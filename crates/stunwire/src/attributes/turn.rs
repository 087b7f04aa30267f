//! Attributes of TURN (RFC 8656, section 18, and RFC 6062).

use std::time::Duration;

use super::{bytes_attribute, flag_attribute, number_attribute};
use crate::attribute::array;
use crate::{AddressFamily, Attribute, AttributeType, TransactionId};

/// LIFETIME: of an allocation, in whole seconds (RFC 8656, section 18.2).
///
/// A fraction is cut off when encoding, and what does not fit 32 bits is sent as their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl<'a> Attribute<'a> for Lifetime {
    const TYPE: AttributeType = AttributeType::LIFETIME;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let secs = u32::from_be_bytes(*array(value)?);
        Some(Self(Duration::from_secs(secs.into())))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let secs = u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX);
        out.copy_from_slice(&secs.to_be_bytes());
    }
}

bytes_attribute!(
    /// DATA: what a Send or Data indication carries (RFC 8656, section 18.4).
    Data, DATA
);
flag_attribute!(
    /// DONT-FRAGMENT: set the IPv4 bit toward the peer (RFC 8656, section 18.9).
    DontFragment, DONT_FRAGMENT
);
number_attribute!(
    /// CONNECTION-ID: of a connection to a peer (RFC 6062, section 6.2.1).
    ConnectionId(u32), CONNECTION_ID
);

/// REQUESTED-TRANSPORT: the IP protocol number between relay and peer (RFC 8656, section 18.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedTransport(pub u8);

impl RequestedTransport {
    /// UDP.
    pub const UDP: Self = Self(17);
    /// TCP (RFC 6062).
    pub const TCP: Self = Self(6);
}

impl<'a> Attribute<'a> for RequestedTransport {
    const TYPE: AttributeType = AttributeType::REQUESTED_TRANSPORT;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let &[protocol, _, _, _] = array(value)?;
        Some(Self(protocol))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        out.copy_from_slice(&[self.0, 0, 0, 0]);
    }
}

/// Writes an attribute that is a family and three reserved bytes.
macro_rules! family_attribute {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub AddressFamily);

        impl<'a> Attribute<'a> for $name {
            const TYPE: AttributeType = AttributeType::$kind;

            fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
                let &[family, _, _, _] = array(value)?;
                AddressFamily::from_wire(family).map(Self)
            }

            fn encoded_len(&self) -> usize {
                4
            }

            fn encode(&self, out: &mut [u8], _id: TransactionId) {
                out.copy_from_slice(&[self.0.wire(), 0, 0, 0]);
            }
        }
    };
}

family_attribute!(
    /// REQUESTED-ADDRESS-FAMILY: which family to allocate (RFC 8656, section 18.6).
    RequestedAddressFamily, REQUESTED_ADDRESS_FAMILY
);
family_attribute!(
    /// ADDITIONAL-ADDRESS-FAMILY: allocate this family too (RFC 8656, section 18.11).
    AdditionalAddressFamily, ADDITIONAL_ADDRESS_FAMILY
);

/// EVEN-PORT: allocate an even port (RFC 8656, section 18.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvenPort {
    /// Keep the next higher port for a later request.
    pub reserve: bool,
}

impl<'a> Attribute<'a> for EvenPort {
    const TYPE: AttributeType = AttributeType::EVEN_PORT;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let &[flags] = array(value)?;
        Some(Self {
            reserve: flags & 0x80 != 0,
        })
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        out.fill(if self.reserve { 0x80 } else { 0 });
    }
}

/// RESERVATION-TOKEN: names a port that was kept (RFC 8656, section 18.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationToken(pub [u8; 8]);

impl<'a> Attribute<'a> for ReservationToken {
    const TYPE: AttributeType = AttributeType::RESERVATION_TOKEN;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        array(value).copied().map(Self)
    }

    fn encoded_len(&self) -> usize {
        8
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        out.copy_from_slice(&self.0);
    }
}

/// ICMP: what a packet to the peer came back as (RFC 8656, section 18.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// ICMP type, 7 bits.
    pub kind: u8,
    /// ICMP code, 9 bits.
    pub code: u16,
    /// For "fragmentation needed" and "packet too big" the MTU, else zero.
    pub data: [u8; 4],
}

impl<'a> Attribute<'a> for Icmp {
    const TYPE: AttributeType = AttributeType::ICMP;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let &[_, _, t, c, d0, d1, d2, d3] = array(value)?;
        let both = u16::from_be_bytes([t, c]);
        Some(Self {
            kind: t >> 1,
            code: both & 0x01FF,
            data: [d0, d1, d2, d3],
        })
    }

    fn encoded_len(&self) -> usize {
        8
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let [t, c] = ((u16::from(self.kind) << 9) | self.code).to_be_bytes();
        let [d0, d1, d2, d3] = self.data;
        out.copy_from_slice(&[0, 0, t, c, d0, d1, d2, d3]);
    }

    fn is_encodable(&self) -> bool {
        self.kind < 0x80 && self.code < 0x200
    }
}
