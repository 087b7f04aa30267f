//! Who asks: the long-term mechanism of RFC 8489, section 9.2.4, with time-limited credentials.

use std::time::Instant;

use stunwire::{AttributeType, ErrorCode, IntegrityKey, Message, Nonce, Realm, Username};

use super::config::ServerConfig;
use super::credentials::{TimeLimited, password};
use super::five_tuple::ClientAddr;
use super::nonce::Nonces;

/// A client that has shown its credentials.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// What quotas count, and allocations belong to.
    pub(super) user: Box<str>,
    /// What its answers are signed with.
    pub(super) key: IntegrityKey,
}

/// Why a request is a stranger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// No credentials: the usual first request (401).
    Unsigned,
    /// Signed, but not with all that belongs to it (400).
    Incomplete,
    /// The nonce is not, or no longer, good (438).
    StaleNonce,
    /// Unknown or expired user, or a wrong password (401).
    WrongCredentials,
}

impl Stranger {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Unsigned | Self::WrongCredentials => ErrorCode::UNAUTHENTICATED,
            Self::Incomplete => ErrorCode::BAD_REQUEST,
            Self::StaleNonce => ErrorCode::STALE_NONCE,
        }
    }
}

/// Checks in the order of RFC 8489, section 9.2.4.
pub(super) fn authenticate(
    message: &Message<'_>,
    client: &ClientAddr,
    config: &ServerConfig,
    nonces: &Nonces,
    now: Instant,
) -> Result<Identity, Stranger> {
    if !message.contains(AttributeType::MESSAGE_INTEGRITY) {
        return Err(Stranger::Unsigned);
    }
    let (Ok(Username(username)), Ok(Realm(_)), Ok(Nonce(nonce))) =
        (message.read(), message.read(), message.read())
    else {
        return Err(Stranger::Incomplete);
    };
    if !nonces.is_fresh(nonce, client, now) {
        return Err(Stranger::StaleNonce);
    }
    let user = TimeLimited::parse(username).ok_or(Stranger::WrongCredentials)?;
    if user.expires_unix <= unix_now(config, now) {
        return Err(Stranger::WrongCredentials);
    }
    let password = password(&config.secret, username);
    let key = IntegrityKey::long_term(username, &config.realm, &password);
    message
        .verify_integrity(&key)
        .map_err(|_| Stranger::WrongCredentials)?;
    Ok(Identity {
        user: user.user.into(),
        key,
    })
}

fn unix_now(config: &ServerConfig, now: Instant) -> u64 {
    let (epoch, unix) = config.unix_epoch;
    unix.saturating_add(now.saturating_duration_since(epoch).as_secs())
}
