//! What each codec makes of bytes that nobody may have written.

use std::net::SocketAddr;

use stun_types::attribute::AttributeFromRaw;
use stunwire::attributes::*;
use stunwire::{AttributeType, Class, HEADER_LEN, Message};

use super::{stun_codec_side, stun_types_side};

/// What is read, of what all three have a type for; `None` where it is missing or malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub class: Class,
    pub method: u16,
    pub id: [u8; 12],
    pub mapped: Option<SocketAddr>,
    pub alternate: Option<SocketAddr>,
    pub username: Option<String>,
    pub realm: Option<String>,
    pub nonce: Option<String>,
    pub software: Option<String>,
    pub error: Option<u16>,
    /// Of our own reading alone: what keeps the others from saying the same.
    apart: Apart,
}

/// Which known differences a message has.
#[derive(Clone, Copy, Debug, Default)]
struct Apart {
    types: bool,
    codec: bool,
}

/// Two readings are equal whatever was known to differ.
impl PartialEq for Apart {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Apart {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Read(Box<Seen>),
    Refused,
}

impl Seen {
    pub fn is_known_difference_to_stun_types(&self) -> bool {
        self.apart.types
    }

    pub fn is_known_difference_to_stun_codec(&self) -> bool {
        self.apart.codec
    }
}

/// Whether the header is no header of these bytes: the others are more patient with its length.
pub fn is_misframed(bytes: &[u8]) -> bool {
    let Some(&[_, _, l0, l1]) = bytes.first_chunk::<4>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    !length.is_multiple_of(4) || HEADER_LEN + length != bytes.len()
}

/// Whether what follows the first attribute that protects is no row of attributes: stun-types does not look at it.
pub fn is_broken_behind_protection(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut protected = false;
    while let Some(&[t0, t1, l0, l1]) = rest.first_chunk::<4>() {
        let kind = AttributeType::new(u16::from_be_bytes([t0, t1]));
        protected |= [
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
            AttributeType::FINGERPRINT,
        ]
        .contains(&kind);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(behind) = rest.get(4 + length.next_multiple_of(4)..) else {
            return protected;
        };
        rest = behind;
    }
    false
}

pub fn ours(bytes: &[u8]) -> Verdict {
    let Ok(message) = Message::decode(bytes) else {
        return Verdict::Refused;
    };
    Verdict::Read(Box::new(Seen {
        class: message.class(),
        method: message.method().value(),
        id: *message.transaction_id().as_bytes(),
        mapped: message
            .read::<XorMappedAddress>()
            .ok()
            .map(|address| address.0),
        alternate: message
            .read::<AlternateServer>()
            .ok()
            .map(|address| address.0),
        username: message
            .read::<Username<'_>>()
            .ok()
            .map(|text| text.0.to_owned()),
        realm: message
            .read::<Realm<'_>>()
            .ok()
            .map(|text| text.0.to_owned()),
        nonce: message
            .read::<Nonce<'_>>()
            .ok()
            .map(|text| text.0.to_owned()),
        software: message
            .read::<Software<'_>>()
            .ok()
            .map(|text| text.0.to_owned()),
        error: message.read::<ErrorCode<'_>>().ok().map(|error| error.code),
        apart: apart(&message),
    }))
}

/// Looks for the known differences.
fn apart(message: &Message<'_>) -> Apart {
    let bare = !message.has_cookie();
    let fingerprint =
        message.contains(AttributeType::FINGERPRINT) && message.verify_fingerprint().is_err();
    let behind = attributes_behind_protection(message);
    // A reason that is not UTF-8: the code still counts for us (RFC 8489, section 14.8: the phrase is for people).
    let reason = message
        .attributes()
        .find(|attribute| attribute.kind == AttributeType::ERROR_CODE);
    let unreadable = reason.is_some_and(|reason| str::from_utf8(reason.value).is_err());
    let everywhere = bare || fingerprint || behind;
    Apart {
        types: everywhere || unreadable,
        codec: everywhere || unreadable || has_what_stun_codec_refuses(message),
    }
}

/// Something lies behind the first of the three that protect, other than one more of them in its place.
fn attributes_behind_protection(message: &Message<'_>) -> bool {
    let counted: usize = message
        .attributes()
        .map(|attribute| 4 + attribute.value.len().next_multiple_of(4))
        .sum();
    HEADER_LEN + counted != message.as_bytes().len()
        || message.contains(AttributeType::MESSAGE_INTEGRITY)
        || message.contains(AttributeType::MESSAGE_INTEGRITY_SHA256)
}

/// One malformed attribute of a type that it knows, and it refuses all of the message.
fn has_what_stun_codec_refuses(message: &Message<'_>) -> bool {
    message.attributes().any(|attribute| {
        let length = attribute.value.len();
        let text = |max: usize| {
            str::from_utf8(attribute.value)
                .refused_or(|text| text.len() >= max && text.chars().count() >= 128)
        };
        match attribute.kind {
            AttributeType::USERNAME => {
                str::from_utf8(attribute.value).refused_or(|text| text.len() >= 513)
            }
            AttributeType::REALM | AttributeType::NONCE | AttributeType::SOFTWARE => text(128),
            AttributeType::ERROR_CODE => message
                .read::<ErrorCode<'_>>()
                .is_ok_and(|error| error.code < 600)
                .eq(&false),
            AttributeType::UNKNOWN_ATTRIBUTES => !length.is_multiple_of(2),
            AttributeType::CHANNEL_NUMBER => message.read::<stunwire::ChannelNumber>().is_err(),
            AttributeType::LIFETIME
            | AttributeType::PRIORITY
            | AttributeType::CHANGE_REQUEST
            | AttributeType::REQUESTED_TRANSPORT
            | AttributeType::FINGERPRINT => length != 4,
            AttributeType::RESERVATION_TOKEN
            | AttributeType::ICE_CONTROLLED
            | AttributeType::ICE_CONTROLLING => length != 8,
            AttributeType::DONT_FRAGMENT | AttributeType::USE_CANDIDATE => length != 0,
            AttributeType::EVEN_PORT => length != 1,
            AttributeType::MAPPED_ADDRESS
            | AttributeType::XOR_MAPPED_ADDRESS
            | AttributeType::XOR_PEER_ADDRESS
            | AttributeType::XOR_RELAYED_ADDRESS
            | AttributeType::ALTERNATE_SERVER
            | AttributeType::OTHER_ADDRESS
            | AttributeType::RESPONSE_ORIGIN => !matches!(
                (attribute.value.get(1), length),
                (Some(1), 8) | (Some(2), 20)
            ),
            _ => false,
        }
    })
}

trait IsErrOr<T> {
    fn refused_or(self, wrong: impl FnOnce(T) -> bool) -> bool;
}

impl<T, E> IsErrOr<T> for Result<T, E> {
    fn refused_or(self, wrong: impl FnOnce(T) -> bool) -> bool {
        self.map_or(true, wrong)
    }
}

pub fn stun_types(bytes: &[u8]) -> Verdict {
    use stun_types::attribute::{
        AlternateServer, AttributeStaticType, ErrorCode, Nonce, Realm, Software, Username,
        XorMappedAddress,
    };
    let Ok(message) = stun_types::message::Message::from_bytes(bytes) else {
        return Verdict::Refused;
    };
    fn read<'a, A: AttributeFromRaw<'a> + AttributeStaticType>(
        message: &'a stun_types::message::Message<'a>,
    ) -> Option<A> {
        message.attribute::<A>().ok()
    }
    let id = message.transaction_id();
    Verdict::Read(Box::new(Seen {
        class: stun_types_side::class_from(message.class()),
        method: message.method().value(),
        id: stun_types_side::id_from(&message),
        mapped: read::<XorMappedAddress>(&message).map(|address| address.addr(id)),
        alternate: read::<AlternateServer>(&message).map(|address| address.server()),
        username: read::<Username>(&message).map(|text| text.username().to_owned()),
        realm: read::<Realm>(&message).map(|text| text.realm().to_owned()),
        nonce: read::<Nonce>(&message).map(|text| text.nonce().to_owned()),
        software: read::<Software>(&message).map(|text| text.software().to_owned()),
        error: read::<ErrorCode>(&message).map(|error| error.code()),
        apart: Apart::default(),
    }))
}

pub fn stun_codec(bytes: &[u8]) -> Verdict {
    use stun_codec::rfc5389::attributes::{
        AlternateServer, ErrorCode, Nonce, Realm, Software, Username, XorMappedAddress,
    };
    let Some(message) = stun_codec_side::read(bytes) else {
        return Verdict::Refused;
    };
    Verdict::Read(Box::new(Seen {
        class: stun_codec_side::class_from(message.class()),
        method: message.method().as_u16(),
        id: *message.transaction_id().as_bytes(),
        mapped: message
            .get_attribute::<XorMappedAddress>()
            .map(XorMappedAddress::address),
        alternate: message
            .get_attribute::<AlternateServer>()
            .map(AlternateServer::address),
        username: message
            .get_attribute::<Username>()
            .map(|text| text.name().to_owned()),
        realm: message
            .get_attribute::<Realm>()
            .map(|text| text.text().to_owned()),
        nonce: message
            .get_attribute::<Nonce>()
            .map(|text| text.value().to_owned()),
        software: message
            .get_attribute::<Software>()
            .map(|text| text.description().to_owned()),
        error: message.get_attribute::<ErrorCode>().map(ErrorCode::code),
        apart: Apart::default(),
    }))
}
