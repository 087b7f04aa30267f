//! The shell's one clock: tokio's, so that tests can pause it.

use std::time::Instant;

/// Returns the present time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
