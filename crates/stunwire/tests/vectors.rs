//! The byte strings that the RFCs give: RFC 5769 and RFC 8489, appendix B.1.
//!
//! The padding in RFC 5769's first three is 0x20, so that a codec which rebuilds a message to check it fails.

use std::net::SocketAddr;

use stunwire::attributes::{
    IceControlled, Nonce, PasswordAlgorithm, Priority, Realm, Software, UserHash, Username,
    XorMappedAddress,
};
use stunwire::{
    AttributeError, AttributeType, Class, IntegrityError, IntegrityKey, Message, MessageBuilder,
    Method, TransactionId, is_stun, opaque_string, user_hash,
};

const SHORT_TERM_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const MATRIX: &str = "マトリックス";
const MATRIX_PASSWORD: &str = "TheMatrIX";
const NONCE: &str = "f//499k954d6OL34oL9FSTvy64sA";

/// RFC 5769, section 2.1.
const REQUEST: &str = "
    00 01 00 58  21 12 a4 42  b7 e7 a7 01  bc 34 d6 86  fa 87 df ae
    80 22 00 10  53 54 55 4e  20 74 65 73  74 20 63 6c  69 65 6e 74
    00 24 00 04  6e 00 01 ff
    80 29 00 08  93 2f f9 b1  51 26 3b 36
    00 06 00 09  65 76 74 6a  3a 68 36 76  59 20 20 20
    00 08 00 14  9a ea a7 0c  bf d8 cb 56  78 1e f2 b5  b2 d3 f2 49  c1 b5 71 a2
    80 28 00 04  e5 7a 3b cf";

/// RFC 5769, section 2.2.
const IPV4_RESPONSE: &str = "
    01 01 00 3c  21 12 a4 42  b7 e7 a7 01  bc 34 d6 86  fa 87 df ae
    80 22 00 0b  74 65 73 74  20 76 65 63  74 6f 72 20
    00 20 00 08  00 01 a1 47  e1 12 a6 43
    00 08 00 14  2b 91 f5 99  fd 9e 90 c3  8c 74 89 f9  2a f9 ba 53  f0 6b e7 d7
    80 28 00 04  c0 7d 4c 96";

/// RFC 5769, section 2.3.
const IPV6_RESPONSE: &str = "
    01 01 00 48  21 12 a4 42  b7 e7 a7 01  bc 34 d6 86  fa 87 df ae
    80 22 00 0b  74 65 73 74  20 76 65 63  74 6f 72 20
    00 20 00 14  00 02 a1 47  01 13 a9 fa  a5 d3 f1 79  bc 25 f4 b5  be d2 b9 d9
    00 08 00 14  a3 82 95 4e  4b e6 7b f1  17 84 c9 7c  82 92 c2 75  bf e3 ed 41
    80 28 00 04  c8 fb 0b 4c";

/// RFC 5769, section 2.4.
const LONG_TERM_REQUEST: &str = "
    00 01 00 60  21 12 a4 42  78 ad 34 33  c6 ad 72 c0  29 da 41 2e
    00 06 00 12  e3 83 9e e3  83 88 e3 83  aa e3 83 83  e3 82 af e3  82 b9 00 00
    00 15 00 1c  66 2f 2f 34  39 39 6b 39  35 34 64 36  4f 4c 33 34  6f 4c 39 46
                 53 54 76 79  36 34 73 41
    00 14 00 0b  65 78 61 6d  70 6c 65 2e  6f 72 67 00
    00 08 00 14  f6 70 24 65  6d d6 4a 3e  02 b8 e0 71  2e 85 c9 a2  8c a8 96 66";

/// RFC 8489, appendix B.1, as corrected by erratum 6268: the printed one lacks PASSWORD-ALGORITHM and does not
/// verify.
const SHA256_REQUEST: &str = "
    00 01 00 90  21 12 a4 42  78 ad 34 33  c6 ad 72 c0  29 da 41 2e
    00 1e 00 20  4a 3c f3 8f  ef 69 92 bd  a9 52 c6 78  04 17 da 0f
                 24 81 94 15  56 9e 60 b2  05 c4 6e 41  40 7f 17 04
    00 15 00 29  6f 62 4d 61  74 4a 6f 73  32 41 41 41  43 66 2f 2f
                 34 39 39 6b  39 35 34 64  36 4f 4c 33  34 6f 4c 39
                 46 53 54 76  79 36 34 73  41 00 00 00
    00 14 00 0b  65 78 61 6d  70 6c 65 2e  6f 72 67 00
    00 1d 00 04  00 02 00 00
    00 1c 00 20  b5 c7 bf 00  5b 6c 52 a2  1c 51 c5 e8  92 f8 19 24
                 13 62 96 cb  92 7c 43 14  93 09 27 8c  c6 51 8e 65";

#[test]
fn rfc_5769_request_is_read_and_authenticated() {
    let bytes = bytes(REQUEST);
    assert!(is_stun(&bytes));
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(
        (message.class(), message.method()),
        (Class::Request, Method::BINDING)
    );
    assert_eq!(message.transaction_id(), short_term_id());
    assert_eq!(message.read(), Ok(Software("STUN test client")));
    assert_eq!(message.read(), Ok(Priority(0x6e00_01ff)));
    assert_eq!(message.read(), Ok(IceControlled(0x932f_f9b1_5126_3b36)));
    assert_eq!(message.read(), Ok(Username("evtj:h6vY")));
    assert_eq!(message.verify_fingerprint(), Ok(()));
    assert_eq!(message.verify_integrity(&short_term_key()), Ok(()));
    assert_eq!(
        message.verify_integrity(&IntegrityKey::short_term("another")),
        Err(IntegrityError::Mismatch)
    );
}

#[test]
fn rfc_5769_responses_hold_hidden_addresses_of_both_families() {
    for (text, address) in [
        (IPV4_RESPONSE, "192.0.2.1:32853"),
        (
            IPV6_RESPONSE,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let bytes = bytes(text);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.class(), Class::SuccessResponse);
        assert_eq!(message.read(), Ok(Software("test vector")));
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(message.read(), Ok(XorMappedAddress(address)));
        assert_eq!(message.verify_fingerprint(), Ok(()));
        assert_eq!(message.verify_integrity(&short_term_key()), Ok(()));
    }
}

#[test]
fn rfc_5769_long_term_request_is_authenticated_and_rebuilt_to_the_byte() {
    let bytes = bytes(LONG_TERM_REQUEST);
    let message = Message::decode(&bytes).unwrap();
    let realm = message.read::<Realm<'_>>().unwrap();
    assert_eq!(message.read(), Ok(Username(MATRIX)));
    assert_eq!(message.read(), Ok(Nonce(NONCE)));
    assert_eq!(opaque_string(MATRIX).as_deref(), Ok(MATRIX));
    let key = IntegrityKey::long_term(MATRIX, realm.0, MATRIX_PASSWORD);
    assert_eq!(message.verify_integrity(&key), Ok(()));

    let mut buffer = [0xAA; 256];
    let built = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, long_term_id())
        .and_then(|builder| builder.attribute(&Username(MATRIX)))
        .and_then(|builder| builder.attribute(&Nonce(NONCE)))
        .and_then(|builder| builder.attribute(&realm))
        .and_then(|builder| builder.integrity(&key))
        .unwrap()
        .finish();
    assert_eq!(built, bytes);
}

#[test]
fn rfc_8489_sha256_request_is_authenticated_and_rebuilt_to_the_byte() {
    let bytes = bytes(SHA256_REQUEST);
    let message = Message::decode(&bytes).unwrap();
    let realm = message.read::<Realm<'_>>().unwrap();
    let hash = user_hash(MATRIX, realm.0);
    let nonce = format!("obMatJos2AAAC{NONCE}");
    assert_eq!(message.read(), Ok(UserHash(&hash)));
    assert_eq!(message.read(), Ok(Nonce(&nonce)));
    assert_eq!(message.read(), Ok(PasswordAlgorithm::SHA256));
    let key = IntegrityKey::long_term_sha256(MATRIX, realm.0, MATRIX_PASSWORD);
    assert_eq!(message.verify_integrity_sha256(&key), Ok(()));
    assert_eq!(message.verify_integrity(&key), Err(IntegrityError::Missing));

    let mut buffer = [0xAA; 256];
    let built = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, long_term_id())
        .and_then(|builder| builder.attribute(&UserHash(&hash)))
        .and_then(|builder| builder.attribute(&Nonce(&nonce)))
        .and_then(|builder| builder.attribute(&realm))
        .and_then(|builder| builder.attribute(&PasswordAlgorithm::SHA256))
        .and_then(|builder| builder.integrity_sha256(&key))
        .unwrap()
        .finish();
    assert_eq!(built, bytes);
}

#[test]
fn a_missing_attribute_is_named() {
    let bytes = bytes(REQUEST);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(
        message.read::<Realm<'_>>(),
        Err(AttributeError::Missing(AttributeType::REALM))
    );
}

fn short_term_key() -> IntegrityKey {
    IntegrityKey::short_term(SHORT_TERM_PASSWORD)
}

fn short_term_id() -> TransactionId {
    TransactionId::new([
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ])
}

fn long_term_id() -> TransactionId {
    TransactionId::new([
        0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e,
    ])
}

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("written in hexadecimal"))
        .collect()
}
