//! Many guesses, sent evenly: the probes of a prediction, of a block or of a birthday search.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::CandidateKind;

/// How many probes one volley may have; of more the first ones are sent. With 256 sockets on the other side 2,048
/// guesses among 64,512 ports meet with a probability of 99.97 % (facts/nat-population.md §4).
pub const VOLLEY_PROBES_MAX: usize = 2048;

/// Names a volley of one agent; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolleyId(pub(crate) u64);

impl fmt::Display for VolleyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volley-{}", self.0)
    }
}

/// One guess: a small check that makes a pair only if it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The base it leaves from: that of a local candidate or an anchor.
    pub local: SocketAddr,
    /// Where it goes.
    pub remote: SocketAddr,
}

/// What [`Agent::start_volley`](crate::Agent::start_volley) sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volley {
    /// The probes, in the order in which they are sent; at most [`VOLLEY_PROBES_MAX`].
    pub probes: Vec<Probe>,
    /// How a pair that one of them finds was found.
    pub kind: CandidateKind,
    /// How many leave in a second; at most
    /// [`probes_per_second_max`](crate::AgentConfig::probes_per_second_max), all volleys together.
    pub per_second: u32,
    /// Whether the first pass leaves with the TTL of openers: past the own router, and no further.
    pub openers: bool,
    /// How often the probes are sent; those answered are left out from then on.
    pub passes: u8,
    /// The time from the last probe of one pass to the first of the next.
    pub pass_gap: Duration,
}
