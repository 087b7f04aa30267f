//! When a machine wants to be called again.

use std::time::Instant;

/// A point in time at which `handle_timeout` must be called, and why.
///
/// The reason comes out with the time so that a loop that wakes too often names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When to call `handle_timeout`.
    pub at: Instant,
    /// What will be done then, for a trace line.
    pub reason: &'static str,
}

impl Deadline {
    /// Makes a deadline.
    #[must_use]
    pub const fn new(at: Instant, reason: &'static str) -> Self {
        Self { at, reason }
    }
}

/// Returns the deadline that comes first; the earlier argument wins a tie.
#[must_use]
pub fn earliest(deadlines: impl IntoIterator<Item = Option<Deadline>>) -> Option<Deadline> {
    deadlines
        .into_iter()
        .flatten()
        .min_by_key(|deadline| deadline.at)
}
