//! The one clock of the forwarders.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// tokio's clock, so that paused time is ours too.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until `at`, or for ever.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Locks; a panic elsewhere has left nothing half done, since no lock is held across one of our calls out.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
