//! Time-limited credentials: coturn's `use-auth-secret` (draft-uberti-behave-turn-rest).

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::config::SharedSecret;

/// User names above this length are refused: they are kept per allocation.
const USERNAME_MAX: usize = 128;

/// Makes the credentials of a user until `expires_unix` (seconds since 1970): the user name
/// `expiry:user_id`, and the password base64(HMAC-SHA1(secret, user name)).
///
/// The `user_id` is what quotas count and allocations belong to; it should have at most 100 bytes.
#[must_use]
pub fn time_limited_credentials(
    secret: &SharedSecret,
    user_id: &str,
    expires_unix: u64,
) -> (String, String) {
    let username = format!("{expires_unix}:{user_id}");
    let password = password(secret, &username);
    (username, password)
}

/// The password of a user name.
pub(super) fn password(secret: &SharedSecret, username: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.expose()).expect("HMAC takes keys of every length");
    mac.update(username.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes())
}

/// A user name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeLimited<'a> {
    /// Seconds since 1970.
    pub(super) expires_unix: u64,
    /// What stays the same when credentials are renewed: the part after the colon, or the whole name where
    /// there is none.
    pub(super) user: &'a str,
}

impl<'a> TimeLimited<'a> {
    /// Takes a user name apart; `None` when it is not `expiry[:id]`, or too long.
    pub(super) fn parse(username: &'a str) -> Option<Self> {
        if username.len() > USERNAME_MAX {
            return None;
        }
        let (expiry, user) = username.split_once(':').unwrap_or((username, username));
        let digits = !expiry.is_empty() && expiry.bytes().all(|byte| byte.is_ascii_digit());
        let expires_unix = digits.then(|| expiry.parse().ok()).flatten()?;
        Some(Self { expires_unix, user })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_that_openssl_makes() {
        // printf '1700000000:alice' | openssl dgst -sha1 -hmac north -binary | base64
        let (username, password) =
            time_limited_credentials(&SharedSecret::new("north"), "alice", 1_700_000_000);
        assert_eq!(username, "1700000000:alice");
        assert_eq!(password, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
    }

    #[test]
    fn user_names_are_taken_apart() {
        let parsed = |text| TimeLimited::parse(text).map(|user| (user.expires_unix, user.user));
        assert_eq!(parsed("17:alice"), Some((17, "alice")));
        assert_eq!(parsed("17:a:b"), Some((17, "a:b")));
        assert_eq!(parsed("17"), Some((17, "17")));
        assert_eq!(parsed("alice"), None);
        assert_eq!(parsed(":alice"), None);
        assert_eq!(parsed("+17:alice"), None);
        assert_eq!(parsed("99999999999999999999999:alice"), None);
        assert_eq!(parsed(&format!("17:{}", "x".repeat(200))), None);
    }
}
