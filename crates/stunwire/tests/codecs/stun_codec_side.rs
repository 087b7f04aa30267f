//! The codec `stun_codec`.

use std::time::Duration;

use bytecodec::{DecodeExt, EncodeExt};
use stun_codec::rfc5245::attributes::{IceControlled, IceControlling, Priority, UseCandidate};
use stun_codec::rfc5389::attributes::{
    AlternateServer, ErrorCode, Fingerprint, MappedAddress, MessageIntegrity, Nonce, Realm,
    Software, UnknownAttributes, Username, XorMappedAddress,
};
use stun_codec::rfc5766::attributes::{
    ChannelNumber, Data, DontFragment, EvenPort, Lifetime, RequestedTransport, ReservationToken,
    XorPeerAddress, XorRelayAddress,
};
use stun_codec::rfc5780::attributes::{ChangeRequest, OtherAddress, ResponseOrigin};
use stun_codec::{
    AttributeType, Message, MessageClass, MessageDecoder, MessageEncoder, Method, TransactionId,
    define_attribute_enums,
};
use stunwire::Class;

use super::message::{Draft, Part, Protection, REALM, USERNAME};

define_attribute_enums!(
    Known,
    KnownDecoder,
    KnownEncoder,
    [
        MappedAddress,
        Username,
        MessageIntegrity,
        ErrorCode,
        UnknownAttributes,
        Realm,
        Nonce,
        XorMappedAddress,
        Software,
        AlternateServer,
        Fingerprint,
        ChannelNumber,
        Lifetime,
        XorPeerAddress,
        Data,
        XorRelayAddress,
        EvenPort,
        RequestedTransport,
        DontFragment,
        ReservationToken,
        ChangeRequest,
        ResponseOrigin,
        OtherAddress,
        Priority,
        UseCandidate,
        IceControlled,
        IceControlling
    ]
);

const fn class_to(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::SuccessResponse => MessageClass::SuccessResponse,
        Class::ErrorResponse => MessageClass::ErrorResponse,
    }
}

pub const fn class_from(class: MessageClass) -> Class {
    match class {
        MessageClass::Request => Class::Request,
        MessageClass::Indication => Class::Indication,
        MessageClass::SuccessResponse => Class::SuccessResponse,
        MessageClass::ErrorResponse => Class::ErrorResponse,
    }
}

fn names() -> (Username, Realm) {
    (
        Username::new(USERNAME.to_owned()).unwrap(),
        Realm::new(REALM.to_owned()).unwrap(),
    )
}

pub fn encode(draft: &Draft, protection: Protection) -> Vec<u8> {
    let method = Method::new(draft.method.value()).unwrap();
    let mut message =
        Message::<Known>::new(class_to(draft.class), method, TransactionId::new(draft.id));
    for part in &draft.parts {
        let known: Known = match part {
            Part::Mapped(address) => MappedAddress::new(*address).into(),
            Part::XorMapped(address) => XorMappedAddress::new(*address).into(),
            Part::XorPeer(address) => XorPeerAddress::new(*address).into(),
            Part::XorRelayed(address) => XorRelayAddress::new(*address).into(),
            Part::AlternateServer(address) => AlternateServer::new(*address).into(),
            Part::OtherAddress(address) => OtherAddress::new(*address).into(),
            Part::ResponseOrigin(address) => ResponseOrigin::new(*address).into(),
            Part::Username(text) => Username::new(text.clone()).unwrap().into(),
            Part::Realm(text) => Realm::new(text.clone()).unwrap().into(),
            Part::Nonce(text) => Nonce::new(text.clone()).unwrap().into(),
            Part::Software(text) => Software::new(text.clone()).unwrap().into(),
            Part::Error(code, reason) => ErrorCode::new(*code, reason.clone()).unwrap().into(),
            Part::Unknown(types) => {
                UnknownAttributes::new(types.iter().map(|kind| AttributeType::new(*kind)).collect())
                    .into()
            }
            Part::Channel(number) => ChannelNumber::new(*number).unwrap().into(),
            Part::Lifetime(secs) => Lifetime::new(Duration::from_secs((*secs).into()))
                .unwrap()
                .into(),
            Part::Data(bytes) => Data::new(bytes.clone()).unwrap().into(),
            Part::EvenPort(reserve) => EvenPort::new(*reserve).into(),
            Part::Transport(number) => RequestedTransport::new(*number).into(),
            Part::DontFragment => DontFragment.into(),
            Part::Token(token) => ReservationToken::new(u64::from_be_bytes(*token)).into(),
            Part::Priority(priority) => Priority::new(*priority).into(),
            Part::UseCandidate => UseCandidate::new().into(),
            Part::Controlled(number) => IceControlled::new(*number).into(),
            Part::Controlling(number) => IceControlling::new(*number).into(),
            other => panic!("stun_codec has no type for {other:?}"),
        };
        message.add_attribute(known);
    }
    // A checksum is made over the encoded message, in which addresses must be hidden already: it hides them itself,
    // but only in the copy that is written last. So the message is written, read back, and then protected.
    let plain = MessageEncoder::new().encode_into_bytes(message).unwrap();
    let (username, realm) = names();
    let password = protection.password();
    let mut bytes = plain;
    if protection.has_integrity() {
        let message = read_plain(&bytes);
        let integrity = match protection {
            Protection::LongTerm | Protection::WrongLongTerm => {
                MessageIntegrity::new_long_term_credential(&message, &username, &realm, password)
            }
            _ => MessageIntegrity::new_short_term_credential(&message, password),
        };
        append(
            &mut bytes,
            MessageIntegrity::CODEPOINT,
            &integrity.unwrap().hmac_sha1(),
        );
    }
    if protection.has_fingerprint() {
        let message = read_plain(&bytes);
        append(
            &mut bytes,
            Fingerprint::CODEPOINT,
            &Fingerprint::new(&message).unwrap().crc32().to_be_bytes(),
        );
    }
    bytes
}

/// A message whose attributes are as they lie: nothing in them is hidden or shown.
fn read_plain(bytes: &[u8]) -> Message<stun_codec::RawAttribute> {
    MessageDecoder::new()
        .decode_from_bytes(bytes)
        .unwrap()
        .unwrap()
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(value);
    let length = u16::try_from(bytes.len() - 20).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

pub fn read(bytes: &[u8]) -> Option<Message<Known>> {
    // Its decoder wants bytes, and takes none for a reason to panic.
    if bytes.is_empty() {
        return None;
    }
    MessageDecoder::new().decode_from_bytes(bytes).ok()?.ok()
}

/// Whether it reads a CHANGE-REQUEST as one for another IP address, another port.
pub fn change_request(bytes: &[u8]) -> Option<(bool, bool)> {
    let message = read(bytes)?;
    message
        .get_attribute::<ChangeRequest>()
        .map(|change| (change.ip(), change.port()))
}

/// Reads a message and verifies it. FINGERPRINT is checked by the decoder.
pub fn decode(bytes: &[u8], protection: Protection) -> Result<Draft, String> {
    let message = read(bytes).ok_or("refused")?;
    if protection.has_integrity()
        && !matches!(protection, Protection::Sha256 | Protection::WrongSha256)
    {
        let integrity = message
            .get_attribute::<MessageIntegrity>()
            .ok_or("no integrity")?;
        let (username, realm) = names();
        let password = protection.password();
        match protection {
            Protection::LongTerm | Protection::WrongLongTerm => {
                integrity.check_long_term_credential(&username, &realm, password)
            }
            _ => integrity.check_short_term_credential(password),
        }
        .map_err(|error| error.reason_phrase().to_owned())?;
    }
    if protection.has_fingerprint() && message.get_attribute::<Fingerprint>().is_none() {
        return Err("no fingerprint".to_owned());
    }
    Ok(Draft {
        class: class_from(message.class()),
        method: stunwire::Method::new(message.method().as_u16()).unwrap(),
        id: *message.transaction_id().as_bytes(),
        parts: message.attributes().filter_map(part).collect(),
    })
}

fn part(known: &Known) -> Option<Part> {
    Some(match known {
        Known::MappedAddress(address) => Part::Mapped(address.address()),
        Known::XorMappedAddress(address) => Part::XorMapped(address.address()),
        Known::XorPeerAddress(address) => Part::XorPeer(address.address()),
        Known::XorRelayAddress(address) => Part::XorRelayed(address.address()),
        Known::AlternateServer(address) => Part::AlternateServer(address.address()),
        Known::OtherAddress(address) => Part::OtherAddress(address.address()),
        Known::ResponseOrigin(address) => Part::ResponseOrigin(address.address()),
        Known::Username(text) => Part::Username(text.name().to_owned()),
        Known::Realm(text) => Part::Realm(text.text().to_owned()),
        Known::Nonce(text) => Part::Nonce(text.value().to_owned()),
        Known::Software(text) => Part::Software(text.description().to_owned()),
        Known::ErrorCode(error) => Part::Error(error.code(), error.reason_phrase().to_owned()),
        Known::UnknownAttributes(list) => {
            Part::Unknown(list.unknowns().iter().map(|kind| kind.as_u16()).collect())
        }
        Known::ChannelNumber(number) => Part::Channel(number.value()),
        Known::Lifetime(lifetime) => {
            Part::Lifetime(u32::try_from(lifetime.lifetime().as_secs()).unwrap())
        }
        Known::Data(data) => Part::Data(data.data().to_vec()),
        Known::EvenPort(even) => Part::EvenPort(even.is_requested()),
        Known::RequestedTransport(transport) => Part::Transport(transport.protocol()),
        Known::DontFragment(_) => Part::DontFragment,
        Known::ReservationToken(token) => Part::Token(token.token().to_be_bytes()),
        Known::Priority(priority) => Part::Priority(priority.prio()),
        Known::UseCandidate(_) => Part::UseCandidate,
        Known::IceControlled(number) => Part::Controlled(number.prio()),
        Known::IceControlling(number) => Part::Controlling(number.prio()),
        Known::MessageIntegrity(_) | Known::Fingerprint(_) | Known::ChangeRequest(_) => {
            return None;
        }
    })
}
