//! The world in memory: whole sessions behind NATs of every kind, in virtual time.
//!
//! Nothing here opens a socket or waits. A [`World`] holds sites, each behind a box whose [`Behavior`] is a
//! point in the space of RFC 4787 (mapping × filtering × port allocation, pools of addresses, binding
//! lifetimes, hairpin, what becomes of unsolicited packets, what passes at all, what one host may have), IPv6
//! behind a firewall, routers that make port mappings or only say so ([`Gateway`]), hosts that each run an
//! unchanged [`session::Node`], links with delay, jitter, loss, reordering, duplication and rate, signaling
//! with a delay, and machines with a STUN (RFC 5780) and TURN server over UDP and streams. Every box counts
//! what it has to bear ([`Load`]). One seed: the same seed gives the same bytes ([`World::digest`]). Whatever
//! is logged at level ERROR fails the run.
//!
//! The second half is the oracle. [`direct_is_possible`] derives from two behaviours, with no table in
//! mind, whether two hosts can exchange packets without a relay, and what that takes. Tests hold the
//! sessions to it: [`matrix::run`] does one pair, [`population`] thousands, drawn as they are out there.
//!
//! ```
//! use std::time::Duration;
//!
//! use natlab::{NatKind, Possible, World, direct_is_possible};
//! use session::PathKind;
//!
//! let (a, b) = (NatKind::PortRestricted, NatKind::AddressRestricted);
//! assert_eq!(direct_is_possible(&a.behavior(), &b.behavior()), Possible::Plain);
//!
//! let mut world = World::pair(7, a, b);
//! let limit = Duration::from_secs(3);
//! let took = world.run_until(limit, |world| world.chosen_kind(0) == Some(PathKind::Direct));
//! assert!(took.is_some());
//! ```

mod behavior;
mod host;
mod kind;
mod link;
mod log_watch;
pub mod matrix;
mod nat;
mod oracle;
mod ping;
pub mod population;
mod server_box;
mod world;

pub use behavior::{
    Behavior, Filtering, Gateway, Lifetime, Limits, Mapping, Pool, Pooling, PortAllocation,
    TcpAccess,
};
pub use host::{Happening, Host, HostConfig};
pub use kind::NatKind;
pub use link::{Link, Pipe};
pub use nat::{Load, NatBox};
pub use oracle::{Possible, direct_is_possible, direct_is_possible_behind_one};
pub use server_box::ServerBox;
pub use world::{SiteId, World};
