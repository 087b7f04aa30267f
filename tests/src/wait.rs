//! Waiting for something to become true, with a deadline instead of a sleep.

use std::time::{Duration, Instant};

/// How often a condition is asked.
const INTERVAL: Duration = Duration::from_millis(20);

/// The present; the only clock of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "end-to-end tests measure real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `condition` until it holds.
///
/// # Panics
/// When it does not hold within `patience`, naming `what` was waited for.
pub fn until(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until_some(patience, what, || condition().then_some(()));
}

/// Asks `question` until it has an answer, and returns it.
///
/// # Panics
/// When there is none within `patience`, naming `what` was waited for.
pub fn until_some<T>(patience: Duration, what: &str, question: impl FnMut() -> Option<T>) -> T {
    answer_within(patience, question)
        .unwrap_or_else(|| panic!("waited {patience:?} for {what} in vain"))
}

/// Asks `question` until it has an answer or `patience` is over.
pub fn answer_within<T>(patience: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + patience;
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if now() >= deadline {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}
