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
//! * Checks are small until one is answered. From then on they are padded to [`AgentConfig::full_size`], as are
//!   their answers, and only such a round trip validates. A pair that answers small ones and loses the others is
//!   [`PairState::Narrow`]: no path, but named, and tried on.
//! * A verified check is answered from where it arrived to where it came from, and triggers a check the
//!   other way. If its source is unknown it becomes a peer-reflexive candidate, which is what opens paths
//!   to NATs that map per destination.
//! * Where the peer's NAT gives out ports that only a guess can hit, the layer above has the mechanisms, and
//!   decides: *anchors* ([`Agent::add_anchor`]) are extra sockets that wait for a guess, *volleys*
//!   ([`Agent::start_volley`]) are guesses, paced, their first pass with the TTL of openers if they are to open.
//!   An answered guess is a pair like any other; [`CandidatePair::via`] says how it was found.
//! * *Notes* ([`Agent::send_note`]) carry what two layers above have to agree on, over a pair that works.
//! * Nothing that does not verify under the password of this peer pair has any effect. An address that the peer has
//!   not named, and that has not answered, gets an answer no longer than its request, and one small check.
//! * A validated pair is left alone. [`Agent::check`] asks it again, [`Agent::restart`] gives it back to
//!   the schedule, [`Agent::restart_unvalidated`] begins the others anew on news.
//!
//! A mapping that a packet of the peer has shifted all the same (it came before our opener) is met by its
//! peer-reflexive address where the peer's filter lets it in. Where it does not, the slow checks, up to a minute
//! apart, let the entry die within minutes; a fresh socket, an anchor, is quicker.
//!
//! Layout: [`Candidate`] and [`CandidatePair`] are what is known; `checklist` says which pairs exist and
//! whose turn it is, `seats` who makes room, `schedule` when, `width` how large; `check` how a check looks on the
//! wire, `outstanding` which ones wait for an answer, `admission` which requests are served; `volleys` and `note`
//! what of those is on its way; `agent` has the verbs. Programs with one socket and one peer have `tokio::punch`
//! with the feature `tokio`; examples/punch_a_hole does without, with a plain `std::net::UdpSocket`.
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
mod bucket;
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
