//! What an agent tells the layer above.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Candidate, CandidateKind, PairId};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An authenticated check request arrived: the peer's packets reach us on this pair.
    RemoteSeen {
        /// The pair, made for this request where there was none.
        pair: PairId,
        /// The base at which it arrived.
        local_base: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// What the address is: peer-reflexive when no candidate of the peer names it (relayed when the
        /// check itself says that it left through a relay).
        remote_kind: CandidateKind,
    },
    /// A check was answered for the first time: packets flow both ways.
    PairValidated {
        /// The pair.
        pair: PairId,
        /// Its local candidate.
        local: Candidate,
        /// Its remote candidate.
        remote: Candidate,
        /// The round trip of the answered check.
        rtt: Duration,
    },
    /// The answer to an [`Agent::check`](crate::Agent::check) arrived, perhaps after it was reported
    /// unanswered because another one superseded it: it is a sign of life all the same.
    CheckAnswered {
        /// The pair.
        pair: PairId,
        /// The round trip.
        rtt: Duration,
    },
    /// An [`Agent::check`](crate::Agent::check) was not answered within
    /// [`check_lifetime`](crate::AgentConfig::check_lifetime), or before the next one on its pair.
    CheckUnanswered {
        /// The pair.
        pair: PairId,
    },
    /// The pair is gone: its base or its candidate was taken away, or a better pair took its place.
    PairRemoved {
        /// The pair.
        pair: PairId,
    },
}
