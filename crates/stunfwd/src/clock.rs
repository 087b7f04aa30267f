//! The shell's one clock: tokio's, so that tests can pause it.

use std::time::Instant;

/// Returns the present time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until then; for ever when there is no time.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns the time of day in milliseconds since 1970; 0 on a machine that is before that.
pub(crate) fn unix_millis() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "only the system knows the time of day"
    )]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
