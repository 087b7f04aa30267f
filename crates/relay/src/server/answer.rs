//! What answers look like on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use stunwire::{
    AttributeType, Class, EncodeError, ErrorCode, IntegrityKey, Lifetime, Message, MessageBuilder,
    Method, Nonce, Open, Realm, ReservationToken, Software, TransactionId, UnknownAttributes,
    XorMappedAddress, XorRelayedAddress,
};

use super::auth::Stranger;
use super::config::ServerConfig;
use crate::RelayedAddr;

/// Every answer fits: header, three IPv6 addresses, realm, nonce and software of at most 127 characters.
const ROOM: usize = 1024;

/// Unknown attributes listed in an answer; more say nothing more.
pub(super) const UNKNOWN_MAX: usize = 16;

/// What an authenticated request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Allocate: granted.
    Allocated {
        relayed: RelayedAddr,
        reflexive: SocketAddr,
        lifetime: Duration,
        /// The next higher port is kept for whoever shows this.
        token: Option<ReservationToken>,
    },
    /// Refresh: granted, or ended when zero.
    Refreshed(Duration),
    /// CreatePermission, ChannelBind: granted.
    Done,
    /// Refused with an error code.
    Refused(u16),
    /// Attributes that are not understood (420).
    NotUnderstood(Vec<AttributeType>),
}

/// Encodes the answer to an authenticated request, signed.
pub(super) fn encode(
    outcome: &Outcome,
    method: Method,
    id: TransactionId,
    key: &IntegrityKey,
    software: &str,
) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = [0; ROOM];
    let class = match outcome {
        Outcome::Refused(_) | Outcome::NotUnderstood(_) => Class::ErrorResponse,
        Outcome::Allocated { .. } | Outcome::Refreshed(_) | Outcome::Done => Class::SuccessResponse,
    };
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id)?;
    builder = match outcome {
        Outcome::Allocated {
            relayed,
            reflexive,
            lifetime,
            token,
        } => {
            let builder = builder
                .attribute(&XorRelayedAddress(relayed.get()))?
                .attribute(&XorMappedAddress(*reflexive))?
                .attribute(&Lifetime(*lifetime))?;
            match token {
                Some(token) => builder.attribute(token)?,
                None => builder,
            }
        }
        Outcome::Refreshed(lifetime) => builder.attribute(&Lifetime(*lifetime))?,
        Outcome::Done => builder,
        Outcome::Refused(code) => error(builder, *code)?,
        Outcome::NotUnderstood(kinds) => error(builder, ErrorCode::UNKNOWN_ATTRIBUTE)?
            .attribute(&UnknownAttributes::new(kinds))?,
    };
    if !software.is_empty() {
        builder = builder.attribute(&Software(software))?;
    }
    Ok(builder.integrity(key)?.finish().to_vec())
}

/// Encodes the refusal of a stranger: nothing in it but what he needs for the next try, since its size is
/// what a forged source address is sent.
pub(super) fn encode_refusal(
    stranger: Stranger,
    request: &Message<'_>,
    config: &ServerConfig,
    nonce: &str,
) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = [0; ROOM];
    let mut builder = MessageBuilder::answer(&mut buffer, request, Class::ErrorResponse)?
        .attribute(&ErrorCode {
            code: stranger.code(),
            reason: "",
        })?;
    builder = match stranger {
        Stranger::Unsigned | Stranger::StaleNonce | Stranger::WrongCredentials => builder
            .attribute(&Realm(&config.realm))?
            .attribute(&Nonce(nonce))?,
        Stranger::Incomplete => builder,
    };
    Ok(builder.finish().to_vec())
}

fn error(
    builder: MessageBuilder<'_, Open>,
    code: u16,
) -> Result<MessageBuilder<'_, Open>, EncodeError> {
    builder.attribute(&ErrorCode {
        code,
        reason: reason(code),
    })
}

/// The phrases of RFC 8489 and RFC 8656.
const fn reason(code: u16) -> &'static str {
    match code {
        ErrorCode::BAD_REQUEST => "Bad Request",
        ErrorCode::FORBIDDEN => "Forbidden",
        ErrorCode::UNKNOWN_ATTRIBUTE => "Unknown Attribute",
        ErrorCode::ALLOCATION_MISMATCH => "Allocation Mismatch",
        ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED => "Address Family not Supported",
        ErrorCode::WRONG_CREDENTIALS => "Wrong Credentials",
        ErrorCode::UNSUPPORTED_TRANSPORT => "Unsupported Transport Protocol",
        ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH => "Peer Address Family Mismatch",
        ErrorCode::ALLOCATION_QUOTA_REACHED => "Allocation Quota Reached",
        ErrorCode::INSUFFICIENT_CAPACITY => "Insufficient Capacity",
        _ => "",
    }
}
