//! Our codec.

use std::time::Duration;

use stunwire::attributes::*;
use stunwire::{
    AttributeType, ChannelNumber, IntegrityKey, Message, MessageBuilder, TransactionId,
};

use super::message::{Draft, Part, Protection, REALM, USERNAME};

/// The short-term, the long-term and the SHA-256 key.
fn key(protection: Protection) -> IntegrityKey {
    let password = protection.password();
    match protection {
        Protection::LongTerm | Protection::WrongLongTerm => {
            IntegrityKey::long_term(USERNAME, REALM, password)
        }
        Protection::Sha256 | Protection::WrongSha256 => {
            IntegrityKey::long_term_sha256(USERNAME, REALM, password)
        }
        _ => IntegrityKey::short_term(password),
    }
}

fn algorithm(sha256: bool) -> PasswordAlgorithm<'static> {
    if sha256 {
        PasswordAlgorithm::SHA256
    } else {
        PasswordAlgorithm::MD5
    }
}

pub fn encode(draft: &Draft, protection: Protection) -> Vec<u8> {
    let mut buffer = vec![0xAA; 4096];
    let id = TransactionId::new(draft.id);
    let mut builder = MessageBuilder::new(&mut buffer, draft.class, draft.method, id).unwrap();
    for part in &draft.parts {
        builder = match part {
            Part::Mapped(address) => builder.attribute(&MappedAddress(*address)),
            Part::XorMapped(address) => builder.attribute(&XorMappedAddress(*address)),
            Part::XorPeer(address) => builder.attribute(&XorPeerAddress(*address)),
            Part::XorRelayed(address) => builder.attribute(&XorRelayedAddress(*address)),
            Part::AlternateServer(address) => builder.attribute(&AlternateServer(*address)),
            Part::OtherAddress(address) => builder.attribute(&OtherAddress(*address)),
            Part::ResponseOrigin(address) => builder.attribute(&ResponseOrigin(*address)),
            Part::Username(text) => builder.attribute(&Username(text)),
            Part::Realm(text) => builder.attribute(&Realm(text)),
            Part::Nonce(text) => builder.attribute(&Nonce(text)),
            Part::Software(text) => builder.attribute(&Software(text)),
            Part::AlternateDomain(text) => builder.attribute(&AlternateDomain(text)),
            Part::Error(code, reason) => builder.attribute(&ErrorCode {
                code: *code,
                reason,
            }),
            Part::Unknown(types) => {
                let types: Vec<_> = types.iter().map(|kind| AttributeType::new(*kind)).collect();
                builder.attribute(&UnknownAttributes::new(&types))
            }
            Part::UserHash(hash) => builder.attribute(&UserHash(hash)),
            Part::PasswordAlgorithm(sha256) => builder.attribute(&algorithm(*sha256)),
            Part::PasswordAlgorithms(list) => {
                let list: Vec<_> = list.iter().map(|sha256| algorithm(*sha256)).collect();
                builder.attribute(&PasswordAlgorithms::new(&list))
            }
            Part::Channel(number) => builder.attribute(&ChannelNumber::new(*number).unwrap()),
            Part::Lifetime(secs) => {
                builder.attribute(&Lifetime(Duration::from_secs(u64::from(*secs))))
            }
            Part::Data(bytes) => builder.attribute(&Data(bytes)),
            Part::EvenPort(reserve) => builder.attribute(&EvenPort { reserve: *reserve }),
            Part::Transport(number) => builder.attribute(&RequestedTransport(*number)),
            Part::DontFragment => builder.attribute(&DontFragment),
            Part::Token(token) => builder.attribute(&ReservationToken(*token)),
            Part::Priority(priority) => builder.attribute(&Priority(*priority)),
            Part::UseCandidate => builder.attribute(&UseCandidate),
            Part::Controlled(number) => builder.attribute(&IceControlled(*number)),
            Part::Controlling(number) => builder.attribute(&IceControlling(*number)),
        }
        .unwrap();
    }
    let key = key(protection);
    match protection {
        Protection::None => return builder.finish().to_vec(),
        Protection::Fingerprint => builder.fingerprint(),
        Protection::ShortTerm | Protection::WrongShortTerm => {
            return builder.integrity(&key).unwrap().finish().to_vec();
        }
        Protection::LongTerm | Protection::WrongLongTerm => builder
            .integrity(&key)
            .and_then(|builder| builder.fingerprint()),
        Protection::Sha256 | Protection::WrongSha256 => {
            return builder.integrity_sha256(&key).unwrap().finish().to_vec();
        }
        Protection::Everything | Protection::WrongEverything => builder
            .integrity(&key)
            .and_then(|builder| builder.integrity_sha256(&key))
            .and_then(|builder| builder.fingerprint()),
    }
    .unwrap()
    .finish()
    .to_vec()
}

/// Reads a message and verifies it; the error says what failed.
pub fn decode(bytes: &[u8], protection: Protection) -> Result<Draft, String> {
    let message = Message::decode(bytes).map_err(|error| error.to_string())?;
    let key = key(protection);
    let wrong = |error: stunwire::IntegrityError| error.to_string();
    if protection.has_integrity() {
        if !matches!(protection, Protection::Sha256 | Protection::WrongSha256) {
            message.verify_integrity(&key).map_err(wrong)?;
        }
        if matches!(
            protection,
            Protection::Sha256
                | Protection::WrongSha256
                | Protection::Everything
                | Protection::WrongEverything
        ) {
            message.verify_integrity_sha256(&key).map_err(wrong)?;
        }
    }
    if protection.has_fingerprint() {
        message
            .verify_fingerprint()
            .map_err(|error| error.to_string())?;
    }
    let mut parts = Vec::new();
    for attribute in message.attributes() {
        if let Some(part) = part(&message, attribute.kind).map_err(|error| error.to_string())? {
            parts.push(part);
        }
    }
    Ok(Draft {
        class: message.class(),
        method: message.method(),
        id: *message.transaction_id().as_bytes(),
        parts,
    })
}

fn part(
    message: &Message<'_>,
    kind: AttributeType,
) -> Result<Option<Part>, stunwire::AttributeError> {
    let sha256 = |algorithm: PasswordAlgorithm<'_>| algorithm == PasswordAlgorithm::SHA256;
    Ok(Some(match kind {
        AttributeType::MAPPED_ADDRESS => Part::Mapped(message.read::<MappedAddress>()?.0),
        AttributeType::XOR_MAPPED_ADDRESS => Part::XorMapped(message.read::<XorMappedAddress>()?.0),
        AttributeType::XOR_PEER_ADDRESS => Part::XorPeer(message.read::<XorPeerAddress>()?.0),
        AttributeType::XOR_RELAYED_ADDRESS => {
            Part::XorRelayed(message.read::<XorRelayedAddress>()?.0)
        }
        AttributeType::ALTERNATE_SERVER => {
            Part::AlternateServer(message.read::<AlternateServer>()?.0)
        }
        AttributeType::OTHER_ADDRESS => Part::OtherAddress(message.read::<OtherAddress>()?.0),
        AttributeType::RESPONSE_ORIGIN => Part::ResponseOrigin(message.read::<ResponseOrigin>()?.0),
        AttributeType::USERNAME => Part::Username(message.read::<Username<'_>>()?.0.to_owned()),
        AttributeType::REALM => Part::Realm(message.read::<Realm<'_>>()?.0.to_owned()),
        AttributeType::NONCE => Part::Nonce(message.read::<Nonce<'_>>()?.0.to_owned()),
        AttributeType::SOFTWARE => Part::Software(message.read::<Software<'_>>()?.0.to_owned()),
        AttributeType::ALTERNATE_DOMAIN => {
            Part::AlternateDomain(message.read::<AlternateDomain<'_>>()?.0.to_owned())
        }
        AttributeType::ERROR_CODE => {
            let error = message.read::<ErrorCode<'_>>()?;
            Part::Error(error.code, error.reason.to_owned())
        }
        AttributeType::UNKNOWN_ATTRIBUTES => {
            let types = message.read::<UnknownAttributes<'_>>()?;
            Part::Unknown(types.iter().map(AttributeType::value).collect())
        }
        AttributeType::USERHASH => Part::UserHash(*message.read::<UserHash<'_>>()?.0),
        AttributeType::PASSWORD_ALGORITHM => Part::PasswordAlgorithm(sha256(message.read()?)),
        AttributeType::PASSWORD_ALGORITHMS => {
            let list = message.read::<PasswordAlgorithms<'_>>()?;
            Part::PasswordAlgorithms(list.iter().map(sha256).collect())
        }
        AttributeType::CHANNEL_NUMBER => Part::Channel(message.read::<ChannelNumber>()?.value()),
        AttributeType::LIFETIME => {
            Part::Lifetime(u32::try_from(message.read::<Lifetime>()?.0.as_secs()).unwrap())
        }
        AttributeType::DATA => Part::Data(message.read::<Data<'_>>()?.0.to_vec()),
        AttributeType::EVEN_PORT => Part::EvenPort(message.read::<EvenPort>()?.reserve),
        AttributeType::REQUESTED_TRANSPORT => {
            Part::Transport(message.read::<RequestedTransport>()?.0)
        }
        AttributeType::DONT_FRAGMENT => {
            message.read::<DontFragment>()?;
            Part::DontFragment
        }
        AttributeType::RESERVATION_TOKEN => Part::Token(message.read::<ReservationToken>()?.0),
        AttributeType::PRIORITY => Part::Priority(message.read::<Priority>()?.0),
        AttributeType::USE_CANDIDATE => {
            message.read::<UseCandidate>()?;
            Part::UseCandidate
        }
        AttributeType::ICE_CONTROLLED => Part::Controlled(message.read::<IceControlled>()?.0),
        AttributeType::ICE_CONTROLLING => Part::Controlling(message.read::<IceControlling>()?.0),
        _ => return Ok(None),
    }))
}
