//! What an agent tells the layer above.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Candidate, CandidateKind, PairId, VolleyId};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A full-size check was answered for the first time: packets flow both ways.
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
    /// Full-size checks of a pair stay unanswered while small ones are answered: no path for a carrier. It
    /// goes on being tried.
    PairNarrow {
        /// The pair.
        pair: PairId,
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
    /// A small check of a validated pair was answered (see [`Agent::check_small`](crate::Agent::check_small)).
    SmallAnswered {
        /// The pair.
        pair: PairId,
    },
    /// The pair is gone: its base or its candidate was taken away, or a better pair took its place.
    PairRemoved {
        /// The pair.
        pair: PairId,
    },
    /// A volley has sent all its probes and has waited for their answers, or was stopped, or was refused (then
    /// nothing was sent).
    VolleyEnded {
        /// The volley.
        volley: VolleyId,
        /// How many probes were sent, those of every pass counted.
        sent: u32,
        /// How many of its pairs of addresses answered.
        answered: u32,
    },
    /// The peer has sent a note; each is reported once, in the order of arrival.
    NoteReceived {
        /// The pair on which it came.
        pair: PairId,
        /// What it says.
        note: Vec<u8>,
    },
    /// The peer has received a note of ours: the oldest on this pair that was not yet reported.
    NoteDelivered {
        /// The pair.
        pair: PairId,
    },
    /// A note of ours was not acknowledged (which does not mean that it never arrived), or its pair is gone.
    NoteLost {
        /// The pair.
        pair: PairId,
    },
}
