//! Which side of the pair we are.

/// The ICE role (RFC 8445, section 6.1.1). Here it is fixed by the side, so that there are no conflicts to
/// resolve: the ingress is controlling, the egress controlled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The ingress.
    Controlling,
    /// The egress.
    Controlled,
}

impl Role {
    /// Returns the peer's role.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Controlling => Self::Controlled,
            Self::Controlled => Self::Controlling,
        }
    }
}
