//! Messages made of what the bytes choose: well-formed parts in any combination, and parts that are not.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use stunwire::attributes::*;
use stunwire::{
    Attribute, AttributeType, ChannelNumber, Class, IntegrityKey, MessageBuilder, Method,
    TransactionId,
};

/// Room for a message of eight attributes of at most 64 bytes, and credentials.
const MESSAGE_BYTES_MAX: usize = 2048;

/// An address that the bytes may speak of.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Place(u8);

impl Place {
    /// Two peers on the internet with two ports, one of IPv6, and what must never be relayed to.
    pub(super) fn address(self) -> SocketAddr {
        let text = match self.0 % 10 {
            0 => "198.51.100.1:1000",
            1 => "198.51.100.1:1001",
            2 => "198.51.100.2:1000",
            3 => "[2001:db8:1::7]:1000",
            4 => "127.0.0.1:22",
            5 => "10.0.0.1:53",
            6 => "203.0.113.1:3478",
            7 => "[::ffff:127.0.0.1]:22",
            8 => "169.254.169.254:80",
            _ => "198.51.100.3:0",
        };
        text.parse().expect("it is written here")
    }
}

/// A part of a message.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Part {
    Transport(bool),
    Lifetime(u16),
    Peer(Place),
    Channel(u8),
    Family(bool),
    EvenPort(bool),
    Token([u8; 8]),
    Data(u8),
    Mapped(Place),
    Relayed(Place),
    Error(u8),
    Raw(u16, [u8; 6], u8),
}

/// A message before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) class: Class,
    pub(super) method: Method,
    pub(super) id: [u8; 12],
    pub(super) parts: Vec<Part>,
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) realm: &'a str,
    pub(super) nonce: &'a str,
    pub(super) key: &'a IntegrityKey,
}

pub(super) fn method(choice: u8) -> Method {
    match choice % 6 {
        0 | 1 => Method::ALLOCATE,
        2 => Method::REFRESH,
        3 => Method::CREATE_PERMISSION,
        4 => Method::CHANNEL_BIND,
        _ => Method::BINDING,
    }
}

pub(super) fn parts(u: &mut Unstructured<'_>) -> Result<Vec<Part>> {
    let count = u.int_in_range(0..=5)?;
    (0..count).map(|_| u.arbitrary()).collect()
}

/// Writes the message, signed or not.
pub(super) fn encode(draft: &Draft, signature: Option<Signature<'_>>) -> Vec<u8> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let id = TransactionId::new(draft.id);
    let mut builder = MessageBuilder::new(&mut buffer, draft.class, draft.method, id)
        .expect("there is room for a header");
    for part in &draft.parts {
        let (kind, value) = attribute(part, id);
        builder = builder
            .raw_attribute(kind, &value)
            .expect("parts are small");
    }
    let Some(Signature {
        username,
        realm,
        nonce,
        key,
    }) = signature
    else {
        return builder.finish().to_vec();
    };
    if let Some(username) = username {
        builder = builder
            .attribute(&Username(username))
            .expect("names are short");
    }
    builder
        .attribute(&Realm(realm))
        .and_then(|builder| builder.attribute(&Nonce(nonce)))
        .and_then(|builder| builder.integrity(key))
        .expect("realm and nonce are short")
        .finish()
        .to_vec()
}

fn attribute(part: &Part, id: TransactionId) -> (AttributeType, Vec<u8>) {
    fn value<'a, A: Attribute<'a>>(attribute: &A, id: TransactionId) -> (AttributeType, Vec<u8>) {
        let mut value = vec![0; attribute.encoded_len()];
        attribute.encode(&mut value, id);
        (A::TYPE, value)
    }
    let family = |ipv6: bool| {
        if ipv6 {
            AddressFamily::Ipv6
        } else {
            AddressFamily::Ipv4
        }
    };
    match part {
        Part::Transport(tcp) => value(
            &if *tcp {
                RequestedTransport::TCP
            } else {
                RequestedTransport::UDP
            },
            id,
        ),
        Part::Lifetime(secs) => value(&Lifetime(Duration::from_secs((*secs).into())), id),
        Part::Peer(place) => value(&XorPeerAddress(place.address()), id),
        Part::Channel(number) => {
            let number = ChannelNumber::new(0x4000 | u16::from(*number & 7));
            value(&number.expect("above 0x4000, below 0x4008"), id)
        }
        Part::Family(ipv6) => value(&RequestedAddressFamily(family(*ipv6)), id),
        Part::EvenPort(reserve) => value(&EvenPort { reserve: *reserve }, id),
        Part::Token(token) => value(&ReservationToken(*token), id),
        Part::Data(length) => value(&Data(&vec![0x5A; usize::from(*length)]), id),
        Part::Mapped(place) => value(&XorMappedAddress(place.address()), id),
        Part::Relayed(place) => value(&XorRelayedAddress(place.address()), id),
        Part::Error(code) => {
            let codes = [
                300, 400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 500, 508,
            ];
            let code = codes[usize::from(*code) % codes.len()];
            value(&ErrorCode { code, reason: "" }, id)
        }
        Part::Raw(kind, bytes, length) => (
            AttributeType::new(*kind),
            bytes[..usize::from(*length % 7)].to_vec(),
        ),
    }
}
