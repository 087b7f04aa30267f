//! What two peers know that nobody else does.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The short-term credentials of one peer pair (RFC 8445, section 5.3).
///
/// One password serves both directions; the order of the two ufrags in USERNAME tells them apart.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PairCredentials {
    /// Our user fragment: the first half of the USERNAME in checks that we receive.
    pub local_ufrag: String,
    /// The peer's user fragment.
    pub remote_ufrag: String,
    /// The key of MESSAGE-INTEGRITY in checks and answers of both sides.
    pub password: String,
}

impl fmt::Debug for PairCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairCredentials")
            .field("local_ufrag", &self.local_ufrag)
            .field("remote_ufrag", &self.remote_ufrag)
            .finish_non_exhaustive()
    }
}
