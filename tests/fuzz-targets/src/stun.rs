//! STUN messages: whatever decodes is encoded again and reads the same.

use stunwire::attributes::*;
use stunwire::{
    Attribute, AttributeType, ChannelNumber, DecodeError, FingerprintError, HEADER_LEN,
    IntegrityError, IntegrityKey, MAGIC_COOKIE, MESSAGE_LEN_MAX, Message, MessageBuilder, is_stun,
    opaque_string,
};

/// Encodes each attribute that is there in a message of its own, and reads it again.
macro_rules! encode_again {
    ($message:ident; $($attribute:ty),* $(,)?) => { $(
        if let Ok(value) = $message.read::<$attribute>() && value.is_encodable() {
            let mut buffer = vec![0xAA; HEADER_LEN + 8 + value.encoded_len()];
            let bytes = MessageBuilder::new(
                &mut buffer, $message.class(), $message.method(), $message.transaction_id(),
            )
                .and_then(|builder| builder.attribute(&value))
                .expect("it came from a message")
                .finish();
            let again = Message::decode(bytes).expect("we wrote it");
            assert_eq!(again.read::<$attribute>().as_ref(), Ok(&value));
        }
    )* };
}

/// Takes the bytes as a message, and once more as the attributes of a message whose header is right.
pub fn run(data: &[u8]) {
    check(data);
    if let Some(bytes) = with_header(data) {
        check(&bytes);
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(prepared) = opaque_string(text)
    {
        // RFC 8265, section 4.2.4: the rules are idempotent for what they accept.
        assert_eq!(opaque_string(&prepared).as_deref(), Ok(&*prepared));
    }
}

/// Two bytes of type, then attributes: the length and the cookie are put right.
fn with_header(data: &[u8]) -> Option<Vec<u8>> {
    let (&[t0, t1], attributes) = data.split_first_chunk::<2>()?;
    let length = attributes.len().next_multiple_of(4);
    let mut bytes = vec![t0 & 0x3F, t1];
    bytes.extend_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    bytes.extend_from_slice(&[7; 12]);
    bytes.extend_from_slice(attributes);
    bytes.resize(HEADER_LEN + length, 0);
    Some(bytes)
}

fn check(bytes: &[u8]) {
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            let framed = is_stun(bytes);
            assert!(
                !framed || matches!(error, DecodeError::AttributeTooLong { .. }),
                "{error}"
            );
            return;
        }
    };
    assert_eq!(is_stun(bytes), message.has_cookie());
    assert_eq!(message.as_bytes(), bytes);
    encode_again!(message;
        MappedAddress, XorMappedAddress, XorPeerAddress, XorRelayedAddress, AlternateServer,
        OtherAddress, ResponseOrigin, ChangedAddress, SourceAddress, ResponseAddress,
        Username<'_>, Realm<'_>, Nonce<'_>, Software<'_>, AlternateDomain<'_>, UserHash<'_>,
        ErrorCode<'_>, AddressErrorCode<'_>, PasswordAlgorithm<'_>, PasswordAlgorithms<'_>,
        UnknownAttributes<'_>, ChangeRequest, ResponsePort, Padding<'_>, ChannelNumber, Lifetime,
        Data<'_>, RequestedAddressFamily, AdditionalAddressFamily, EvenPort, RequestedTransport,
        DontFragment, ReservationToken, Icmp, Priority, UseCandidate, IceControlled, IceControlling,
        ConnectionId,
    );
    check_protection(&message);
    check_all_again(&message);
}

/// Nobody without the key makes a message that verifies, and what is missing is not "wrong".
fn check_protection(message: &Message<'_>) {
    let key = IntegrityKey::from_bytes(b"a key that no input knows");
    let sha1 = message.contains(AttributeType::MESSAGE_INTEGRITY);
    let expected = if sha1 {
        IntegrityError::Mismatch
    } else {
        IntegrityError::Missing
    };
    assert_eq!(message.verify_integrity(&key), Err(expected));
    let sha256 = message.contains(AttributeType::MESSAGE_INTEGRITY_SHA256);
    let expected = if sha256 {
        IntegrityError::Mismatch
    } else {
        IntegrityError::Missing
    };
    assert_eq!(message.verify_integrity_sha256(&key), Err(expected));
    let fingerprint = message.contains(AttributeType::FINGERPRINT);
    assert_eq!(
        message.verify_fingerprint() == Err(FingerprintError::Missing),
        !fingerprint
    );
    assert!(message.unknown_required(&[]).count() <= message.attributes().count());
}

/// The same attributes, protected by us: all of them count and verify.
fn check_all_again(message: &Message<'_>) {
    let mut buffer = vec![0xAA; MESSAGE_LEN_MAX.min(message.as_bytes().len() + 100)];
    let key = IntegrityKey::from_bytes(b"our key");
    let protection = [
        AttributeType::MESSAGE_INTEGRITY,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
        AttributeType::FINGERPRINT,
    ];
    let plain = || {
        message
            .attributes()
            .filter(|attribute| !protection.contains(&attribute.kind))
    };
    let mut builder = MessageBuilder::new(
        &mut buffer,
        message.class(),
        message.method(),
        message.transaction_id(),
    )
    .expect("there is room for a header");
    for attribute in plain() {
        builder = builder
            .raw_attribute(attribute.kind, attribute.value)
            .expect("as long as the message it came from");
    }
    let protected = builder
        .integrity(&key)
        .and_then(|builder| builder.integrity_sha256(&key))
        .and_then(|builder| builder.fingerprint());
    // Only a message of full length has no room for the three.
    let Ok(protected) = protected else {
        assert!(message.as_bytes().len() + 68 > MESSAGE_LEN_MAX);
        return;
    };
    let again = Message::decode(protected.finish()).expect("we wrote it");
    assert_eq!(
        (again.class(), again.method()),
        (message.class(), message.method())
    );
    assert_eq!(again.transaction_id(), message.transaction_id());
    assert!(again.attributes().take(plain().count()).eq(plain()));
    assert_eq!(again.verify_integrity(&key), Ok(()));
    assert_eq!(again.verify_integrity_sha256(&key), Ok(()));
    assert_eq!(again.verify_fingerprint(), Ok(()));
}
