//! Opens paths between two peers through their NATs, in the manner of ICE (RFC 8445); sans-IO.
//!
//! One [`Agent`] serves one peer pair. It is told the local candidates as they are found and the remote
//! ones as the peer describes them, forms pairs of local bases and remote addresses, and checks them:
//! authenticated STUN binding requests that the other side answers. A pair whose check was answered is
//! validated, which is all that this crate decides; which validated pair carries traffic, and when one is
//! dead, is the judgement of the layer above.
//!
//! * A pair that leads across the internet begins with openers: checks whose TTL takes them past the own
//!   router and no further. They make the own NAT's binding before the peer's first packet can arrive
//!   there and spoil it. Then checks go out brisk, steady and slow; attempts never stop.
//! * A verified check is answered from where it arrived to where it came from, and triggers a check the
//!   other way. If its source is unknown it becomes a peer-reflexive candidate, which is what opens paths
//!   to NATs that map per destination.
//! * Nothing that does not verify under the password of this peer pair has any effect.
//! * A validated pair is left alone. [`Agent::check`] asks it again, [`Agent::restart`] gives it back to
//!   the schedule, [`Agent::restart_unvalidated`] begins the others anew on news.
//!
//! Layout: [`Candidate`] and [`CandidatePair`] are what is known; `checklist` says which pairs exist and
//! whose turn it is, `seats` who makes room, `schedule` when, `check` how a check looks on the wire, `outstanding` which ones wait
//! for an answer, `admission` which requests are served; `agent` has the verbs. Programs with one socket and one peer have
//! `tokio::punch` with the feature `tokio`.
//!
//! ```
//! use std::time::Instant;
//! use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairCredentials, Role};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some epoch")]
//! let now = Instant::now();
//! let credentials = PairCredentials {
//!     local_ufrag: "ingress".into(),
//!     remote_ufrag: "egress".into(),
//!     password: "derived from the room".into(),
//! };
//! let mut agent =
//!     Agent::new(AgentConfig::default(), Role::Controlling, credentials, [0; 32], now);
//!
//! let ours = "192.168.1.5:40000".parse()?;
//! let theirs = "192.168.1.6:50000".parse()?;
//! agent.add_local_candidate(Candidate::new(CandidateKind::Host, ours, ours, 65535), now);
//! agent.add_remote_candidate(Candidate::new(CandidateKind::Host, theirs, theirs, 65535), now);
//!
//! agent.handle_timeout(agent.poll_timeout().expect("a check is due").at);
//! let check = agent.poll_transmit().expect("it was sent");
//! assert_eq!((check.source, check.destination), (ours, theirs));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod admission;
mod agent;
mod candidate;
mod check;
mod checklist;
mod config;
mod credentials;
mod event;
mod note;
mod outstanding;
mod pair;
mod role;
mod schedule;
mod seats;
mod stats;
#[cfg(feature = "tokio")]
pub mod tokio;
mod volley;
mod volleys;
mod width;

pub use agent::Agent;
pub use candidate::{Candidate, CandidateKind};
pub use config::AgentConfig;
pub use credentials::PairCredentials;
pub use event::Event;
pub use note::NOTE_MAX;
pub use pair::{CandidatePair, PairId, PairState};
pub use role::Role;
pub use stats::AgentStats;
pub use volley::{Probe, VOLLEY_PROBES_MAX, Volley, VolleyId};
