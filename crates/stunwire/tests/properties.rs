//! What holds for every byte string and for every value.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use stunwire::attributes::*;
use stunwire::{
    Attribute, AttributeType, ChannelData, ChannelNumber, Class, DecodeError, IntegrityKey,
    Message, MessageBuilder, Method, TransactionId, is_channel_data, is_stun, opaque_string,
    stream,
};

/// Reads every attribute of a message, whatever it holds.
macro_rules! read_all {
    ($message:expr; $($attribute:ty),* $(,)?) => { $( let _ = $message.read::<$attribute>(); )* };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_panics_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..200)) {
        touch_everything(&bytes);
    }

    #[test]
    fn nothing_panics_on_bytes_framed_as_a_message(
        kind in 0u16..0x4000,
        cookie in any::<bool>(),
        attributes in vec((any_type(), 0usize..48, vec(any::<u8>(), 0..48)), 0..6),
    ) {
        touch_everything(&framed(kind, cookie, &attributes));
    }

    #[test]
    fn what_is_recognised_as_stun_decodes_or_has_a_broken_attribute(
        kind in 0u16..0x4000,
        attributes in vec((any_type(), 0usize..48, vec(any::<u8>(), 0..48)), 0..6),
    ) {
        let bytes = framed(kind, true, &attributes);
        prop_assert!(is_stun(&bytes));
        match Message::decode(&bytes) {
            Ok(message) => prop_assert!(message.has_cookie()),
            Err(error) => {
                let is_attribute = matches!(error, DecodeError::AttributeTooLong { .. });
                prop_assert!(is_attribute, "{error}");
            }
        }
    }

    #[test]
    fn header_fields_survive(class in any_class(), method in 0u16..0x1000, id in any::<[u8; 12]>()) {
        let method = Method::new(method).unwrap();
        let id = TransactionId::new(id);
        let mut buffer = [0xAA; 20];
        let bytes = MessageBuilder::new(&mut buffer, class, method, id).unwrap().finish();
        let message = Message::decode(bytes).unwrap();
        prop_assert_eq!(message.class(), class);
        prop_assert_eq!(message.method(), method);
        prop_assert_eq!(message.transaction_id(), id);
        prop_assert!(message.has_cookie() && is_stun(bytes));
    }

    #[test]
    fn addresses_survive(address in any::<SocketAddr>(), id in any::<[u8; 12]>()) {
        let address = SocketAddr::new(address.ip(), address.port());
        survives(&MappedAddress(address), id)?;
        survives(&XorMappedAddress(address), id)?;
        survives(&XorPeerAddress(address), id)?;
        survives(&XorRelayedAddress(address), id)?;
        survives(&AlternateServer(address), id)?;
        survives(&OtherAddress(address), id)?;
        survives(&ResponseOrigin(address), id)?;
        survives(&ChangedAddress(address), id)?;
        survives(&SourceAddress(address), id)?;
        survives(&ResponseAddress(address), id)?;
    }

    #[test]
    fn texts_survive(text in "\\PC{0,127}", code in 300u16..700, id in any::<[u8; 12]>()) {
        survives(&Username(&text), id)?;
        survives(&Realm(&text), id)?;
        survives(&Nonce(&text), id)?;
        survives(&Software(&text), id)?;
        survives(&ErrorCode { code, reason: &text }, id)?;
        survives(&AddressErrorCode { family: AddressFamily::Ipv6, code, reason: &text }, id)?;
    }

    #[test]
    fn domains_survive(text in "[a-z.-]{0,255}", id in any::<[u8; 12]>()) {
        survives(&AlternateDomain(&text), id)?;
    }

    #[test]
    fn numbers_and_flags_survive(
        small in any::<u8>(),
        short in any::<u16>(),
        number in any::<u32>(),
        long in any::<u64>(),
        flags in any::<[bool; 2]>(),
        id in any::<[u8; 12]>(),
    ) {
        let family = if flags[0] { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
        survives(&Priority(number), id)?;
        survives(&ConnectionId(number), id)?;
        survives(&IceControlled(long), id)?;
        survives(&IceControlling(long), id)?;
        survives(&UseCandidate, id)?;
        survives(&DontFragment, id)?;
        survives(&RequestedTransport(small), id)?;
        survives(&RequestedAddressFamily(family), id)?;
        survives(&AdditionalAddressFamily(family), id)?;
        survives(&EvenPort { reserve: flags[0] }, id)?;
        survives(&ReservationToken(long.to_be_bytes()), id)?;
        survives(&Lifetime(Duration::from_secs(number.into())), id)?;
        survives(&ChangeRequest { ip: flags[0], port: flags[1] }, id)?;
        survives(&ResponsePort(short), id)?;
        survives(
            &Icmp { kind: small & 0x7F, code: short & 0x1FF, data: number.to_be_bytes() },
            id,
        )?;
        survives(&ChannelNumber::new(0x4000 | (short & 0x0FFF)).unwrap(), id)?;
    }

    #[test]
    fn bytes_and_lists_survive(
        bytes in vec(any::<u8>(), 0..300),
        hash in any::<[u8; 32]>(),
        types in vec(any::<u16>(), 0..20),
        numbers in vec(any::<u16>(), 0..6),
        id in any::<[u8; 12]>(),
    ) {
        survives(&Data(&bytes), id)?;
        survives(&Padding(&bytes), id)?;
        survives(&UserHash(&hash), id)?;
        let types: Vec<_> = types.into_iter().map(AttributeType::new).collect();
        survives(&UnknownAttributes::new(&types), id)?;
        let parameters = &bytes[..bytes.len().min(7)];
        let algorithms: Vec<_> =
            numbers.into_iter().map(|number| PasswordAlgorithm { number, parameters }).collect();
        survives(&PasswordAlgorithms::new(&algorithms), id)?;
        for algorithm in &algorithms {
            survives(algorithm, id)?;
        }
    }

    #[test]
    fn a_protected_message_verifies_and_no_flipped_bit_does(
        username in "[a-z]{0,40}",
        data in vec(any::<u8>(), 0..60),
        password in "[ -~]{1,80}",
        id in any::<[u8; 12]>(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let key = IntegrityKey::short_term(&password);
        let mut buffer = [0; 300];
        let length = MessageBuilder::new(
            &mut buffer, Class::Request, Method::BINDING, TransactionId::new(id),
        )
            .and_then(|builder| builder.attribute(&Username(&username)))
            .and_then(|builder| builder.attribute(&Data(&data)))
            .and_then(|builder| builder.integrity(&key))
            .and_then(|builder| builder.integrity_sha256(&key))
            .and_then(|builder| builder.fingerprint())
            .unwrap()
            .finish()
            .len();
        let message = Message::decode(&buffer[..length]).unwrap();
        prop_assert_eq!(message.verify_integrity(&key), Ok(()));
        prop_assert_eq!(message.verify_integrity_sha256(&key), Ok(()));
        prop_assert_eq!(message.verify_fingerprint(), Ok(()));

        // What comes before the end of MESSAGE-INTEGRITY: MI-SHA256 is 36 bytes, FINGERPRINT 8.
        let protected = length - 36 - 8;
        let index = at.index(protected);
        buffer[index] ^= 1 << bit;
        if let Ok(message) = Message::decode(&buffer[..length]) {
            prop_assert!(message.verify_integrity(&key).is_err(), "bit {bit} of byte {index}");
            prop_assert!(message.verify_integrity_sha256(&key).is_err());
            prop_assert!(message.verify_fingerprint().is_err());
        }
    }

    #[test]
    fn channel_data_survives_and_its_frame_is_found(
        number in 0x4000u16..0x5000,
        payload in vec(any::<u8>(), 0..100),
        following in vec(any::<u8>(), 0..8),
    ) {
        let channel = ChannelNumber::new(number).unwrap();
        let mut bytes = ChannelData::header(channel, u16::try_from(payload.len()).unwrap()).to_vec();
        bytes.extend_from_slice(&payload);
        prop_assert!(is_channel_data(bytes[0]) && !is_stun(&bytes));
        prop_assert_eq!(ChannelData::decode(&bytes), Ok(ChannelData { channel, payload: &payload }));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let frame = bytes.len();
        prop_assert_eq!(stream::next_frame(&bytes[..frame - 1]), Ok(None));
        bytes.extend_from_slice(&following);
        prop_assert_eq!(stream::next_frame(&bytes), Ok(Some(frame)));
    }
}

fn touch_everything(bytes: &[u8]) {
    let _ = is_stun(bytes);
    let _ = ChannelData::decode(bytes);
    let _ = stream::next_frame(bytes);
    let _ = str::from_utf8(bytes).map(opaque_string);
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    let key = IntegrityKey::short_term("password");
    let _ = message.verify_integrity(&key);
    let _ = message.verify_integrity_sha256(&key);
    let _ = message.verify_fingerprint();
    let _ = message.unknown_required(&[AttributeType::USERNAME]).count();
    assert!(format!("{message:?}").len() < 100_000);
    read_all!(message;
        MappedAddress, XorMappedAddress, XorPeerAddress, XorRelayedAddress, AlternateServer,
        OtherAddress, ResponseOrigin, ChangedAddress, SourceAddress, ResponseAddress,
        Username<'_>, Realm<'_>, Nonce<'_>, Software<'_>, AlternateDomain<'_>, UserHash<'_>,
        ErrorCode<'_>, AddressErrorCode<'_>, PasswordAlgorithm<'_>, ChangeRequest, ResponsePort,
        Padding<'_>, ChannelNumber, Lifetime, Data<'_>, RequestedAddressFamily,
        AdditionalAddressFamily, EvenPort, RequestedTransport, DontFragment, ReservationToken, Icmp,
        Priority, UseCandidate, IceControlled, IceControlling, ConnectionId,
    );
    let _ = message
        .read::<UnknownAttributes<'_>>()
        .map(|list| list.iter().count());
    let _ = message
        .read::<PasswordAlgorithms<'_>>()
        .map(|list| list.iter().count());
}

/// A message whose attributes have the lengths given, true or not, cut to a multiple of four.
fn framed(kind: u16, cookie: bool, attributes: &[(u16, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    let cookie = if cookie { stunwire::MAGIC_COOKIE } else { 0 };
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&[7; 12]);
    for (kind, claimed, value) in attributes {
        bytes.extend_from_slice(&kind.to_be_bytes());
        let claimed = if claimed.is_multiple_of(5) {
            *claimed
        } else {
            value.len()
        };
        bytes.extend_from_slice(&u16::try_from(claimed).expect("below 48").to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0x20);
    }
    let length = u16::try_from(bytes.len() - stunwire::HEADER_LEN).expect("six of 52 bytes");
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn survives<'a, A>(attribute: &A, id: [u8; 12]) -> Result<(), TestCaseError>
where
    A: Attribute<'a> + PartialEq + std::fmt::Debug,
{
    let id = TransactionId::new(id);
    let mut buffer = [0xAA; 2048];
    let bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)
        .and_then(|builder| builder.attribute(attribute))
        .expect("the value is within the RFC's bounds")
        .finish()
        .to_vec();
    // Leaked, since the value that is read has the lifetime of the one it is compared with, whatever that is.
    let bytes: &'static [u8] = bytes.leak();
    let message = Message::decode(bytes).expect("we wrote it");
    prop_assert_eq!(&message.read::<A>().expect("we wrote it"), attribute);
    Ok(())
}

fn any_type() -> impl Strategy<Value = u16> {
    prop_oneof![
        0u16..0x30,
        0x8000u16..0x8006,
        0x8020u16..0x8030,
        any::<u16>()
    ]
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::Request),
        Just(Class::Indication),
        Just(Class::SuccessResponse),
        Just(Class::ErrorResponse),
    ]
}
