//! What counts in a message, what does not, and what a builder refuses.

use hmac::{Hmac, KeyInit, Mac};
use stunwire::attributes::{
    ChangedAddress, ErrorCode, MappedAddress, Nonce, Priority, Realm, Software, UnknownAttributes,
    Username,
};
use stunwire::{
    AttributeError, AttributeType, Class, DecodeError, EncodeError, FingerprintError,
    IntegrityError, IntegrityKey, Message, MessageBuilder, Method, TransactionId, is_stun,
};

const ID: TransactionId = TransactionId::new(*b"abcdefghijkl");

#[test]
fn attributes_behind_message_integrity_do_not_count() {
    let key = IntegrityKey::short_term("secret");
    let mut bytes = protected(&key);
    append(&mut bytes, AttributeType::PRIORITY, &[0, 0, 0, 9]);
    append(&mut bytes, AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(message.verify_integrity(&key), Ok(()));
    assert_eq!(
        message.read::<Priority>(),
        Err(AttributeError::Missing(AttributeType::PRIORITY))
    );
    assert_eq!(
        kinds(&message),
        [AttributeType::USERNAME, AttributeType::MESSAGE_INTEGRITY]
    );
}

#[test]
fn of_sha256_and_fingerprint_the_order_counts() {
    let key = IntegrityKey::short_term("secret");
    let mut bytes = protected(&key);
    append(&mut bytes, AttributeType::FINGERPRINT, &[0; 4]);
    append(
        &mut bytes,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
        &[0; 32],
    );
    let message = Message::decode(&bytes).unwrap();
    assert!(!message.contains(AttributeType::MESSAGE_INTEGRITY_SHA256));
    assert_eq!(
        message.verify_integrity_sha256(&key),
        Err(IntegrityError::Missing)
    );
    assert_eq!(
        message.verify_fingerprint(),
        Err(FingerprintError::Mismatch)
    );
}

#[test]
fn of_two_attributes_the_first_counts() {
    let mut buffer = [0; 64];
    let bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
        .and_then(|builder| builder.attribute(&Priority(1)))
        .and_then(|builder| builder.attribute(&Priority(2)))
        .unwrap()
        .finish();
    assert_eq!(Message::decode(bytes).unwrap().read(), Ok(Priority(1)));
}

#[test]
fn the_fingerprint_must_be_the_last_attribute() {
    let mut buffer = [0; 64];
    let mut bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
        .and_then(MessageBuilder::fingerprint)
        .unwrap()
        .finish()
        .to_vec();
    assert_eq!(
        Message::decode(&bytes).unwrap().verify_fingerprint(),
        Ok(())
    );
    append(&mut bytes, AttributeType::SOFTWARE, b"late");
    assert_eq!(
        Message::decode(&bytes).unwrap().verify_fingerprint(),
        Err(FingerprintError::Mismatch)
    );
}

#[test]
fn a_truncated_sha256_counts_from_sixteen_bytes_on() {
    let key = IntegrityKey::short_term("secret");
    for (length, expected) in [
        (32, Ok(())),
        (16, Ok(())),
        (20, Ok(())),
        (12, Err(IntegrityError::Mismatch)),
        (18, Err(IntegrityError::Mismatch)),
        (0, Err(IntegrityError::Mismatch)),
    ] {
        let bytes = truncated_sha256(b"secret", length);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(
            message.verify_integrity_sha256(&key),
            expected,
            "{length} bytes"
        );
    }
}

#[test]
fn an_old_message_is_read_and_answered() {
    let mut buffer = [0; 64];
    let cookie = [9, 8, 7, 6];
    let request =
        MessageBuilder::with_cookie(&mut buffer, Class::Request, Method::BINDING, cookie, ID)
            .unwrap()
            .finish()
            .to_vec();
    assert!(!is_stun(&request));
    let request = Message::decode(&request).unwrap();
    assert!(!request.has_cookie());

    let address = "192.0.2.7:4242".parse().unwrap();
    let mut buffer = [0; 64];
    let answer = MessageBuilder::answer(&mut buffer, &request, Class::SuccessResponse)
        .and_then(|builder| builder.attribute(&MappedAddress(address)))
        .and_then(|builder| builder.attribute(&ChangedAddress(address)))
        .unwrap()
        .finish();
    let answer = Message::decode(answer).unwrap();
    assert_eq!(answer.cookie(), cookie);
    assert_eq!(answer.transaction_id(), ID);
    assert_eq!(answer.class(), Class::SuccessResponse);
    assert_eq!(answer.read(), Ok(MappedAddress(address)));
}

#[test]
fn required_attributes_that_are_unknown_are_listed_for_error_420() {
    let key = IntegrityKey::short_term("secret");
    let unknown = AttributeType::new(0x7ABC);
    let mut buffer = [0; 128];
    let bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
        .and_then(|builder| builder.attribute(&Username("me")))
        .and_then(|builder| builder.raw_attribute(unknown, b"xyz"))
        .and_then(|builder| builder.attribute(&Software("optional")))
        .and_then(|builder| builder.integrity(&key))
        .unwrap()
        .finish();
    let message = Message::decode(bytes).unwrap();
    let listed: Vec<_> = message
        .unknown_required(&[AttributeType::USERNAME])
        .collect();
    assert_eq!(listed, [unknown]);

    let mut buffer = [0; 128];
    let answer = MessageBuilder::answer(&mut buffer, &message, Class::ErrorResponse)
        .and_then(|builder| {
            builder.attribute(&ErrorCode {
                code: ErrorCode::UNKNOWN_ATTRIBUTE,
                reason: "unknown",
            })
        })
        .and_then(|builder| builder.attribute(&UnknownAttributes::new(&listed)))
        .unwrap()
        .finish();
    let answer = Message::decode(answer).unwrap();
    assert_eq!(
        answer
            .read::<UnknownAttributes<'_>>()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        listed
    );
}

#[test]
fn broken_frames_say_what_is_wrong() {
    assert_eq!(
        Message::decode(&[0; 19]).unwrap_err(),
        DecodeError::Truncated {
            needed: 20,
            available: 19
        }
    );
    let mut bytes = [0; 24];
    assert_eq!(
        Message::decode(&bytes).unwrap_err(),
        DecodeError::LengthMismatch {
            claimed: 20,
            available: 24
        }
    );
    bytes[3] = 3;
    assert_eq!(
        Message::decode(&bytes).unwrap_err(),
        DecodeError::UnalignedLength(3)
    );
    bytes[3] = 4;
    bytes[20..].copy_from_slice(&[0, 6, 0, 1]);
    assert_eq!(
        Message::decode(&bytes).unwrap_err(),
        DecodeError::AttributeTooLong {
            kind: AttributeType::USERNAME,
            offset: 20
        }
    );
    bytes[0] = 0x40;
    assert_eq!(
        Message::decode(&bytes).unwrap_err(),
        DecodeError::BadFirstByte(0x40)
    );
}

#[test]
fn error_codes_outside_300_to_699_are_malformed() {
    let read = |value: &[u8]| {
        let mut buffer = [0; 64];
        let bytes = MessageBuilder::new(&mut buffer, Class::ErrorResponse, Method::BINDING, ID)
            .and_then(|builder| builder.raw_attribute(AttributeType::ERROR_CODE, value))
            .unwrap()
            .finish();
        Message::decode(bytes)
            .unwrap()
            .read::<ErrorCode<'_>>()
            .map(|error| error.code)
    };
    let malformed = |length| {
        Err(AttributeError::Malformed {
            kind: AttributeType::ERROR_CODE,
            length,
        })
    };
    assert_eq!(read(&[0, 0, 4, 38]), Ok(438));
    assert_eq!(read(&[0xFF, 0xFF, 0xFC, 1]), Ok(401));
    assert_eq!(read(&[0, 0, 4, 20, 0xFF, 0xFE]), Ok(420));
    assert_eq!(read(&[0, 0, 2, 0]), malformed(4));
    assert_eq!(read(&[0, 0, 7, 0]), malformed(4));
    assert_eq!(read(&[0, 0, 4, 100]), malformed(4));
    assert_eq!(read(&[0, 0, 4]), malformed(3));
}

#[test]
fn texts_are_bounded_and_utf8() {
    let read = |kind, value: &[u8]| {
        let mut buffer = [0; 1024];
        let bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
            .and_then(|builder| builder.raw_attribute(kind, value))
            .unwrap()
            .finish();
        let message = Message::decode(bytes).unwrap();
        (
            message.read::<Username<'_>>().is_ok(),
            message.read::<Realm<'_>>().is_ok(),
        )
    };
    let (username, realm) = (AttributeType::USERNAME, AttributeType::REALM);
    assert_eq!(read(username, &[b'a'; 513]), (true, false));
    assert_eq!(read(username, &[b'a'; 514]), (false, false));
    assert_eq!(read(realm, &[b'a'; 763]), (false, true));
    assert_eq!(read(realm, &[b'a'; 764]), (false, false));
    assert_eq!(read(realm, &[0xC0, 0x80]), (false, false));
}

#[test]
fn a_builder_refuses_what_a_receiver_would() {
    let mut buffer = [0; 1024];
    let mut attempt = |text: &str, as_username: bool| {
        let builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
        if as_username {
            builder.attribute(&Username(text)).map(|_| ())
        } else {
            builder.attribute(&Nonce(text)).map(|_| ())
        }
    };
    assert_eq!(attempt(&"a".repeat(508), true), Ok(()));
    assert_eq!(
        attempt(&"a".repeat(509), true),
        Err(EncodeError::InvalidValue(AttributeType::USERNAME))
    );
    assert_eq!(attempt(&"é".repeat(127), false), Ok(()));
    assert_eq!(
        attempt(&"é".repeat(128), false),
        Err(EncodeError::InvalidValue(AttributeType::NONCE))
    );
}

#[test]
fn a_buffer_that_ends_is_an_error_with_both_lengths() {
    let mut buffer = [0; 27];
    assert_eq!(
        MessageBuilder::new(&mut buffer[..19], Class::Request, Method::BINDING, ID).unwrap_err(),
        EncodeError::BufferTooSmall {
            needed: 20,
            available: 19
        }
    );
    let builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).unwrap();
    assert_eq!(
        builder.attribute(&Priority(1)).unwrap_err(),
        EncodeError::BufferTooSmall {
            needed: 28,
            available: 27
        }
    );
}

#[test]
fn a_message_cannot_outgrow_its_length_field() {
    let mut buffer = vec![0; 70_000];
    let longest = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, ID)
        .and_then(|builder| builder.raw_attribute(AttributeType::DATA, &[1; 65_520]))
        .and_then(MessageBuilder::fingerprint)
        .unwrap()
        .finish();
    assert_eq!(longest.len(), stunwire::MESSAGE_LEN_MAX);
    assert_eq!(
        Message::decode(longest).unwrap().verify_fingerprint(),
        Ok(())
    );

    let builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, ID).unwrap();
    assert_eq!(
        builder
            .raw_attribute(AttributeType::DATA, &[1; 65_529])
            .unwrap_err(),
        EncodeError::MessageTooLong(65_556)
    );
}

#[test]
fn a_message_prints_types_and_no_values() {
    let bytes = protected(&IntegrityKey::short_term("secret"));
    let text = format!("{:?}", Message::decode(&bytes).unwrap());
    assert!(text.contains("Binding") && text.contains("USERNAME") && !text.contains("alice"));
}

fn protected(key: &IntegrityKey) -> Vec<u8> {
    let mut buffer = [0; 128];
    MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
        .and_then(|builder| builder.attribute(&Username("alice")))
        .and_then(|builder| builder.integrity(key))
        .expect("it fits")
        .finish()
        .to_vec()
}

/// The builder never truncates, so this one is made by hand.
fn truncated_sha256(key: &[u8], length: usize) -> Vec<u8> {
    let mut buffer = [0; 20];
    let mut bytes = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID)
        .expect("it fits")
        .finish()
        .to_vec();
    let padded = 4 + length.next_multiple_of(4);
    bytes[3] = u8::try_from(padded).expect("at most 36");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
    mac.update(&bytes);
    let value = mac.finalize().into_bytes();
    bytes[3] = 0;
    append(
        &mut bytes,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
        &value[..length],
    );
    bytes
}

/// Appends an attribute and counts it in the header, as an attacker on the way would.
fn append(bytes: &mut Vec<u8>, kind: AttributeType, value: &[u8]) {
    bytes.extend_from_slice(&kind.value().to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = u16::try_from(bytes.len() - stunwire::HEADER_LEN).expect("short");
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

fn kinds(message: &Message<'_>) -> Vec<AttributeType> {
    message
        .attributes()
        .map(|attribute| attribute.kind)
        .collect()
}
