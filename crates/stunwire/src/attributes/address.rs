//! Attributes that hold an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::attribute::array;
use crate::{Attribute, AttributeType, MAGIC_COOKIE, TransactionId};

/// The family of an address, with its number on the wire (RFC 8489, section 14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// 0x01.
    Ipv4,
    /// 0x02.
    Ipv6,
}

impl AddressFamily {
    /// Returns the family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    pub(crate) const fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Ipv4),
            2 => Some(Self::Ipv6),
            _ => None,
        }
    }

    pub(crate) const fn wire(self) -> u8 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }
}

/// Writes an address attribute; `plain` or `hidden` says how the address stands in it.
macro_rules! address_attribute {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $mask:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub SocketAddr);

        impl<'a> Attribute<'a> for $name {
            const TYPE: AttributeType = AttributeType::$kind;

            fn decode(value: &'a [u8], id: TransactionId) -> Option<Self> {
                decode_address(value, $mask(id)).map(Self)
            }

            fn encoded_len(&self) -> usize {
                if self.0.is_ipv4() { 8 } else { 20 }
            }

            fn encode(&self, out: &mut [u8], id: TransactionId) {
                encode_address(self.0, out, $mask(id));
            }
        }
    };
}

address_attribute!(
    /// MAPPED-ADDRESS: where a request came from, for clients of RFC 3489 (RFC 8489, section 14.1).
    MappedAddress, MAPPED_ADDRESS, plain
);
address_attribute!(
    /// XOR-MAPPED-ADDRESS: where a request came from (RFC 8489, section 14.2).
    XorMappedAddress, XOR_MAPPED_ADDRESS, hidden
);
address_attribute!(
    /// XOR-PEER-ADDRESS: whom the relay talks to (RFC 8656, section 18.3).
    XorPeerAddress, XOR_PEER_ADDRESS, hidden
);
address_attribute!(
    /// XOR-RELAYED-ADDRESS: what was allocated (RFC 8656, section 18.5).
    XorRelayedAddress, XOR_RELAYED_ADDRESS, hidden
);
address_attribute!(
    /// ALTERNATE-SERVER: whom to ask instead, with error 300 (RFC 8489, section 14.15).
    AlternateServer, ALTERNATE_SERVER, plain
);
address_attribute!(
    /// OTHER-ADDRESS: the server's other IP address with its other port (RFC 5780, section 7.4).
    OtherAddress, OTHER_ADDRESS, plain
);
address_attribute!(
    /// RESPONSE-ORIGIN: where an answer was sent from (RFC 5780, section 7.3).
    ResponseOrigin, RESPONSE_ORIGIN, plain
);
address_attribute!(
    /// CHANGED-ADDRESS: what OTHER-ADDRESS was called (RFC 3489, section 11.2.3).
    ChangedAddress, CHANGED_ADDRESS, plain
);
address_attribute!(
    /// SOURCE-ADDRESS: what RESPONSE-ORIGIN was called (RFC 3489, section 11.2.5).
    SourceAddress, SOURCE_ADDRESS, plain
);
address_attribute!(
    /// RESPONSE-ADDRESS: where to answer to (RFC 3489, section 11.2.2). Read only to be refused: obeying it
    /// makes a server an open reflector.
    ResponseAddress, RESPONSE_ADDRESS, plain
);

/// What is xored over port and address: nothing, or the cookie and the transaction id.
type Mask = [u8; 16];

const fn plain(_id: TransactionId) -> Mask {
    [0; 16]
}

/// The transaction id of an RFC 3489 message is masked like any other: that RFC has no hidden addresses.
fn hidden(id: TransactionId) -> Mask {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(id.as_bytes());
    mask
}

fn decode_address(value: &[u8], mask: Mask) -> Option<SocketAddr> {
    // The first byte is to be ignored (RFC 8489, section 14.1).
    let (&[_, family, p0, p1], address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let ip = match AddressFamily::from_wire(family)? {
        AddressFamily::Ipv4 => {
            let mut octets = *array::<4>(address)?;
            xor(&mut octets, &mask);
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        AddressFamily::Ipv6 => {
            let mut octets = *array::<16>(address)?;
            xor(&mut octets, &mask);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    };
    Some(SocketAddr::new(ip, port))
}

fn encode_address(address: SocketAddr, out: &mut [u8], mask: Mask) {
    out[0] = 0;
    out[1] = AddressFamily::of(address.ip()).wire();
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    xor(&mut out[2..4], &mask);
    match address.ip() {
        IpAddr::V4(ip) => out[4..].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out[4..].copy_from_slice(&ip.octets()),
    }
    xor(&mut out[4..], &mask);
}

fn xor(bytes: &mut [u8], mask: &[u8]) {
    bytes
        .iter_mut()
        .zip(mask)
        .for_each(|(byte, mask)| *byte ^= mask);
}
