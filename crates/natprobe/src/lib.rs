//! Which NAT are we behind?
//!
//! [`Prober`] is a sans-IO machine for **one** socket: the one that will carry data, since another socket has
//! another binding. It asks STUN servers after RFC 5780, understands servers of RFC 3489, and tells what it
//! found as [`Event`]s:
//!
//! 1. **Reaching.** The servers are asked one after the other, each as soon as the one before has answered
//!    without an alternate address or has been silent for a moment. Every server-reflexive address is an event
//!    at once.
//! 2. **Filtering.** The first server with an alternate address is asked to answer from there. This comes
//!    before anything is sent to that address, because on one socket a packet to it would open the filter. Loss
//!    looks like filtering, so ordinary requests run beside it and tell how much silence proves. Servers that have
//!    nothing to do with that one are asked meanwhile, so that the mapping is known early.
//! 3. **Mapping.** The alternate addresses and the remaining servers are asked what they see. One address of the
//!    server, its other port, is never written to.
//! 4. **Watching.** One server is asked every [`ProbeConfig::keepalive`]. That holds the binding, and when it
//!    changes all begins anew.
//!
//! Behaviours change under load and by collisions (RFC 5780, section 1): a [`Report`] is evidence with an age,
//! not truth; it says how sure it is and why. What could not be observed is `Unknown`, never a guess. At 30 % loss
//! each way the report comes within 5 s instead of one, and is right or `Unknown`.
//!
//! Three machines more answer what one socket cannot:
//!
//! * [`Sampler`] asks from fresh sockets what ports they are given; [`infer_allocation`] and [`infer_pooling`] judge
//!   samples, and [`Report::add_samples`] takes them over;
//! * [`MappingCheck`] has a STUN server knock at an external address that a gateway promised;
//! * [`LifetimeSearch`] finds how long a binding lives, idle and at all.
//!
//! The modules:
//!
//! * `prober`: the machine; `phases`: what it does when; `filtering`: the second of them; `probe`: the wire;
//! * `evidence`: what was observed; `classify`, `allocation`: what that means, as pure functions; `silence`: when the
//!   absence of answers means anything; `verdict`: in one report; `explain`: in sentences;
//! * `sampler`, `mapping_check`, `lifetime`: the other machines;
//! * `behavior`, `report`, `config`: the vocabulary.
//!
//! Programs that only want the answer for one socket have `tokio::probe` with the feature `tokio`.
//!
//! ```
//! use std::time::Instant;
//! use natprobe::{ProbeConfig, Prober};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some epoch")]
//! let now = Instant::now();
//! let config = ProbeConfig {
//!     servers: vec!["192.0.2.1:3478".parse().unwrap()],
//!     ..ProbeConfig::default()
//! };
//! let mut prober = Prober::new(config, "10.0.0.2:5000".parse().unwrap(), [7; 32], now);
//! let request = prober.poll_transmit().unwrap();
//! assert_eq!(request.destination, "192.0.2.1:3478".parse().unwrap());
//! ```

mod allocation;
mod behavior;
mod classify;
mod config;
mod evidence;
mod explain;
mod filtering;
mod lifetime;
mod mapping_check;
mod phases;
mod probe;
mod prober;
mod report;
mod sampler;
mod silence;
#[cfg(feature = "tokio")]
pub mod tokio;
mod verdict;

pub use allocation::{PortSample, infer_allocation, infer_pooling};
pub use behavior::{FilteringBehavior, MappingBehavior, NatType, Pooling, PortAllocation};
pub use config::ProbeConfig;
pub use lifetime::{LifetimeEvent, LifetimeReport, LifetimeSearch};
pub use mapping_check::{Indecision, MappingCheck, MappingVerdict, Refutation};
pub use prober::{Event, Prober, ProberStats};
pub use report::{Certainty, Confidence, Report, ServerResult};
pub use sampler::{Sampler, SamplerEvent};
