//! How a table of mappings is committed on both ends or on neither.
//!
//! The conversation runs inside flow 0, which the ingress opens first and which is as resumable as any
//! other: its bytes arrive once and in order for as long as both instances live. When either dies, both
//! ends begin again from nothing with the next instance.
//!
//! ```text
//! ingress                                   egress
//!    │  PROPOSE version 3, mappings            │
//!    ├────────────────────────────────────────►│ judges each mapping, prepares version 3
//!    │  ANSWER version 3, a verdict for each   │
//!    │◄────────────────────────────────────────┤ can no longer refuse it
//!    │  COMMIT version 3                       │
//!    ├────────────────────────────────────────►│ version 3 is in force here
//!    │  COMMITTED version 3                    │
//!    │◄────────────────────────────────────────┤
//! ```
//!
//! The ingress decides when the answer arrives: from then on its flows name the new version. A flow that
//! reaches the egress before the COMMIT waits for it. A refused mapping never holds back the others: it is
//! part of the version, in error.
//!
//! * [`Frame`] and [`FrameDecoder`]: the bytes (also in `PROTOCOL.md`);
//! * [`ControlIngress`] and [`ControlEgress`]: the two ends, pure.

mod egress;
mod frame;
mod ingress;

pub use egress::{Admission, ControlEgress, EgressEvent, JudgedMapping, VERSION_WAIT};
pub use frame::{
    Answer, Frame, FrameDecoder, FrameError, Proposal, RefusedMapping, Verdict, Version,
};
pub use ingress::{ControlIngress, IngressEvent};

/// Why the conversation cannot go on: the peer broke its rules. The instance pair starts over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that the other side may not send, or not now.
    #[error("the peer sent {frame} out of turn")]
    OutOfTurn {
        /// Which.
        frame: &'static str,
    },
    /// A version that is not higher than the committed one.
    #[error("the peer proposed version {version} after version {committed}")]
    OldVersion {
        /// The proposed version.
        version: u64,
        /// The committed version.
        committed: u64,
    },
    /// More mappings than a table may have.
    #[error("the peer proposed {count} mappings, more than {limit}")]
    TooManyMappings {
        /// How many.
        count: usize,
        /// How many are possible.
        limit: usize,
    },
    /// The same id twice.
    #[error("the peer proposed two mappings with id {id}")]
    RepeatedMapping {
        /// The id.
        id: u32,
    },
}
