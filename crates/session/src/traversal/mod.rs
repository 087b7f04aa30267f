//! How hard NATs are traversed: what is tried beside the plain checks, when, and at what price.
//!
//! Plain checks always run first and never stop. Where they do not lead to a direct path, because one NAT
//! maps per destination and the other lets in only ports that were written to, the **ladder** of a peer plays
//! **rounds**. In a round one end is the *anchor*: it opens fresh sockets behind the NAT that maps per
//! destination and sends low-TTL openers from each of them to the other's public address. The other end is the
//! *scout*: it probes ports of the anchor's public address. Which ports those are follows from how the anchor's
//! NAT allots them: the next few of a sequence, those of a block, or random ones (the birthday paradox).
//!
//! * `strategy`, `ledger`: the vocabulary that others see.
//! * `profile`: what is known of a NAT; `plan`: which strategy that calls for, which ports it means.
//! * `ladder`: when a round is played, and when not; `round`: who does what in it; `note`: how the ends agree;
//!   `backoff`: how long it rests; `budget`: what all ladders together may do to a router.
//! * `targets`: whom we may probe; `survey`: how our own NAT allots ports; `commons`: what the node's ladders
//!   share.
//!
//! The ladder is a machine of its own and knows neither agent nor node: knowledge, notes and what became of its
//! [`Action`]s go in, actions come out.

mod backoff;
mod budget;
mod commons;
mod ladder;
mod ledger;
mod note;
mod plan;
mod profile;
#[cfg(test)]
mod rehearsal;
mod round;
mod strategy;
mod survey;
mod targets;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use punch::CandidateKind;

pub(crate) use budget::PACKETS_PER_SECOND;
pub(crate) use commons::{Commons, SocketOwner};
pub(crate) use ladder::Ladder;
pub use ledger::{LedgerEntry, Outcome};
pub(crate) use note::Note;
pub(crate) use profile::{Mapping, Profile};
pub use strategy::{ParseStrategyError, Strategy};
pub(crate) use survey::{SOCKETS as SURVEY_SOCKETS, Survey};
pub(crate) use targets::public_addresses;

/// Names a request for extra sockets; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketRequestId(pub u64);

/// What a ladder wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open so many sockets.
    OpenSockets { count: u16 },
    /// Ask a STUN server from each of these, in this order, now.
    Sample { sockets: Vec<SocketAddr> },
    /// The peer may be met at these sockets.
    AddAnchors {
        sockets: Vec<SocketAddr>,
        kind: CandidateKind,
    },
    /// Send probes.
    StartVolley(VolleyOrder),
    /// Stop sending them; its end is reported.
    StopVolley,
    /// Close these sockets, but for those that a path uses.
    Release { sockets: Vec<SocketAddr> },
    /// Tell the peer's ladder.
    Send(Note),
    /// What is known of our ports has led nowhere: look again.
    Survey,
}

/// Probes to send: see `punch::Volley`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolleyOrder {
    /// From and to.
    pub(crate) probes: Vec<(SocketAddr, SocketAddr)>,
    pub(crate) kind: CandidateKind,
    pub(crate) openers: bool,
    pub(crate) passes: u8,
    pub(crate) gap: Duration,
}

/// What is known of both ends; told to the ladder before anything else, whenever it may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knowledge {
    pub(crate) ours: Profile,
    pub(crate) theirs: Profile,
    /// Our public address, as STUN servers see it.
    pub(crate) our_ip: Option<Ipv4Addr>,
    /// Our main socket.
    pub(crate) base: Option<SocketAddr>,
    /// Public IPv4 addresses of the peer by its own word, those that may be probed.
    pub(crate) targets: Vec<SocketAddr>,
    /// Whether a path without a relay works.
    pub(crate) is_direct: bool,
    /// Whether notes take the way through signaling, for want of a path.
    pub(crate) notes_are_slow: bool,
    /// Whether our ports are being looked at, or soon will be.
    pub(crate) surveying: bool,
}

impl Knowledge {
    /// How long the peer's word is waited for: a note is repeated for so long, and signaling takes a second or
    /// two at its slowest.
    const fn patience(&self) -> Duration {
        if self.notes_are_slow {
            Duration::from_secs(8)
        } else {
            Duration::from_secs(3)
        }
    }

    /// Whether the peer says that it is at this address: nobody else is ever probed.
    fn is_at(&self, ip: Ipv4Addr) -> bool {
        self.targets.iter().any(|it| it.ip() == IpAddr::V4(ip))
    }
}
