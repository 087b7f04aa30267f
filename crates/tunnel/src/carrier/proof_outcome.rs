//! How a proof ends.

use super::frame::FrameError;
use super::hello::{CarrierToken, Hello};

/// Why a proof failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The peer does not know the room, or somebody stands between us.
    #[error("the peer could not prove that it knows the room")]
    WrongRoom,
    /// The peer speaks for our own side or our own run: our words came back, or both ends have one role.
    #[error("the peer has our own role or our own instance id")]
    Reflected,
    /// No version is spoken by both.
    #[error("the peer speaks versions {peer_min} to {peer_max}, we speak {own_min} to {own_max}")]
    Version {
        /// Our lowest.
        own_min: u16,
        /// Our highest.
        own_max: u16,
        /// The peer's lowest.
        peer_min: u16,
        /// The peer's highest.
        peer_max: u16,
    },
    /// This key failed too often lately and must wait.
    #[error("too many failed proofs under this key; it must wait")]
    BackOff,
    /// The peer's SPAKE2 message is none.
    #[error("malformed SPAKE2 message")]
    BadSpake,
    /// What came is no frame, or not one that belongs here.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// What was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofOutcome {
    /// What the peer said about itself.
    pub peer: Hello,
    /// The highest version that both speak.
    pub version: u16,
    /// The features that both have.
    pub features: u64,
    /// The carrier's name, as the ingress chose it.
    pub token: CarrierToken,
    /// Whether this was the first proof of the instance pair, by SPAKE2.
    pub first_of_pair: bool,
}
