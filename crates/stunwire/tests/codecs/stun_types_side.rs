//! The codec `stun-types`.

use stun_types::attribute::*;
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, Method, ShortTermCredentials,
};
use stunwire::Class;

use super::message::{Draft, Part, Protection, REALM, USERNAME};

fn credentials(protection: Protection) -> MessageIntegrityCredentials {
    let password = protection.password().to_owned();
    match protection {
        Protection::LongTerm
        | Protection::WrongLongTerm
        | Protection::Sha256
        | Protection::WrongSha256 => {
            LongTermKeyCredentials::new(USERNAME.to_owned(), password, REALM.to_owned()).into()
        }
        _ => ShortTermCredentials::new(password).into(),
    }
}

const fn class_to(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::SuccessResponse => MessageClass::Success,
        Class::ErrorResponse => MessageClass::Error,
    }
}

pub const fn class_from(class: MessageClass) -> Class {
    match class {
        MessageClass::Request => Class::Request,
        MessageClass::Indication => Class::Indication,
        MessageClass::Success => Class::SuccessResponse,
        MessageClass::Error => Class::ErrorResponse,
    }
}

pub fn id_from(message: &Message<'_>) -> [u8; 12] {
    let id: u128 = message.transaction_id().into();
    id.to_be_bytes()[4..].try_into().unwrap()
}

const fn algorithm(sha256: bool) -> PasswordAlgorithmValue {
    if sha256 {
        PasswordAlgorithmValue::SHA256
    } else {
        PasswordAlgorithmValue::MD5
    }
}

fn is_sha256(value: PasswordAlgorithmValue) -> bool {
    value == PasswordAlgorithmValue::SHA256
}

pub fn encode(draft: &Draft, protection: Protection) -> Vec<u8> {
    let kind =
        MessageType::from_class_method(class_to(draft.class), Method::new(draft.method.value()));
    let mut id = [0; 16];
    id[4..].copy_from_slice(&draft.id);
    let id = u128::from_be_bytes(id).into();
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    for part in &draft.parts {
        match part {
            Part::XorMapped(address) => message.add_attribute(&XorMappedAddress::new(*address, id)),
            Part::AlternateServer(address) => {
                message.add_attribute(&AlternateServer::new(*address))
            }
            Part::Username(text) => message.add_attribute(&Username::new(text).unwrap()),
            Part::Realm(text) => message.add_attribute(&Realm::new(text).unwrap()),
            Part::Nonce(text) => message.add_attribute(&Nonce::new(text).unwrap()),
            Part::Software(text) => message.add_attribute(&Software::new(text).unwrap()),
            Part::AlternateDomain(text) => message.add_attribute(&AlternateDomain::new(text)),
            Part::Error(code, reason) => {
                message.add_attribute(&ErrorCode::new(*code, reason).unwrap())
            }
            Part::Unknown(types) => {
                let types: Vec<AttributeType> = types.iter().map(|kind| (*kind).into()).collect();
                message.add_attribute(&UnknownAttributes::new(&types))
            }
            Part::UserHash(hash) => message.add_attribute(&Userhash::new(*hash)),
            Part::PasswordAlgorithm(sha256) => {
                message.add_attribute(&PasswordAlgorithm::new(algorithm(*sha256)))
            }
            Part::PasswordAlgorithms(list) => {
                let list: Vec<_> = list.iter().map(|sha256| algorithm(*sha256)).collect();
                message.add_attribute(&PasswordAlgorithms::new(&list))
            }
            other => panic!("stun-types has no type for {other:?}"),
        }
        .unwrap();
    }
    let credentials = credentials(protection);
    match protection {
        Protection::None | Protection::Fingerprint => {}
        Protection::Sha256 | Protection::WrongSha256 => {
            message
                .add_message_integrity(&credentials, IntegrityAlgorithm::Sha256)
                .unwrap();
        }
        Protection::Everything | Protection::WrongEverything => {
            message
                .add_message_integrity(&credentials, IntegrityAlgorithm::Sha1)
                .unwrap();
            message
                .add_message_integrity(&credentials, IntegrityAlgorithm::Sha256)
                .unwrap();
        }
        _ => message
            .add_message_integrity(&credentials, IntegrityAlgorithm::Sha1)
            .unwrap(),
    }
    if protection.has_fingerprint() {
        message.add_fingerprint().unwrap();
    }
    message.finish()
}

/// Reads a message and verifies it. FINGERPRINT is checked by the decoder; of two integrities it checks the stronger.
pub fn decode(bytes: &[u8], protection: Protection) -> Result<Draft, String> {
    let message = Message::from_bytes(bytes).map_err(|error| error.to_string())?;
    if protection.has_integrity() {
        message
            .validate_integrity(&credentials(protection))
            .map_err(|error| format!("{error:?}"))?;
    }
    if protection.has_fingerprint() && !message.has_attribute(Fingerprint::TYPE) {
        return Err("no fingerprint".to_owned());
    }
    let mut parts = Vec::new();
    for (_, raw) in message.iter_attributes() {
        if let Some(part) = part(&message, &raw).map_err(|error| error.to_string())? {
            parts.push(part);
        }
    }
    Ok(Draft {
        class: class_from(message.class()),
        method: stunwire::Method::new(message.method().value()).unwrap(),
        id: id_from(&message),
        parts,
    })
}

fn part(
    message: &Message<'_>,
    raw: &RawAttribute<'_>,
) -> Result<Option<Part>, stun_types::message::StunParseError> {
    Ok(Some(match raw.get_type() {
        XorMappedAddress::TYPE => {
            Part::XorMapped(XorMappedAddress::from_raw_ref(raw)?.addr(message.transaction_id()))
        }
        AlternateServer::TYPE => {
            Part::AlternateServer(AlternateServer::from_raw_ref(raw)?.server())
        }
        Username::TYPE => Part::Username(Username::from_raw_ref(raw)?.username().to_owned()),
        Realm::TYPE => Part::Realm(Realm::from_raw_ref(raw)?.realm().to_owned()),
        Nonce::TYPE => Part::Nonce(Nonce::from_raw_ref(raw)?.nonce().to_owned()),
        Software::TYPE => Part::Software(Software::from_raw_ref(raw)?.software().to_owned()),
        AlternateDomain::TYPE => {
            Part::AlternateDomain(AlternateDomain::from_raw_ref(raw)?.domain().to_owned())
        }
        ErrorCode::TYPE => {
            let error = ErrorCode::from_raw_ref(raw)?;
            Part::Error(error.code(), error.reason().to_owned())
        }
        UnknownAttributes::TYPE => {
            let list = UnknownAttributes::from_raw_ref(raw)?;
            // It can only be asked; the order and repetitions are those of the raw value.
            let types: Vec<u16> = raw
                .value
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_be_bytes(*pair))
                .collect();
            assert!(types.iter().all(|kind| list.has_attribute((*kind).into())));
            Part::Unknown(types)
        }
        Userhash::TYPE => Part::UserHash(*Userhash::from_raw_ref(raw)?.hash()),
        PasswordAlgorithm::TYPE => {
            Part::PasswordAlgorithm(is_sha256(PasswordAlgorithm::from_raw_ref(raw)?.algorithm()))
        }
        PasswordAlgorithms::TYPE => {
            let list = PasswordAlgorithms::from_raw_ref(raw)?;
            Part::PasswordAlgorithms(
                list.algorithms()
                    .iter()
                    .map(|value| is_sha256(*value))
                    .collect(),
            )
        }
        _ => return Ok(None),
    }))
}
