//! One peer pair from nothing known to a chosen path, and back.
//!
//! A [`Node`] is this process's end of all its sessions. It is a sans-IO machine in the manner of
//! [`sansio`]: datagrams and `now` in, datagrams, events and the next deadline out. It composes
//! `natprobe` (which NAT are we behind), `relay` (our allocations) and one `punch::Agent` per peer, and
//! adds what none of them knows:
//!
//! 1. **Gather.** Host addresses are known at once, the likely ones first; [`Node::set_stun_servers`] and
//!    [`Node::set_relay_servers`] bring reflexive and relayed ones, in each address family, and
//!    [`Node::set_port_mappings`] those that a gateway forwards, once a server has come in by them. Every
//!    change asks for the [`Description`] to be published anew, whole.
//! 2. **Pair.** [`Node::set_peer`] takes the peer's description. The egress side opens its NAT as soon as
//!    it sees one; the ingress side starts when the description answers its own, which proves it fresh.
//! 3. **Choose.** A validated pair whose route is known becomes a path. The ingress side takes the first
//!    that works, usually a relay's, and moves to a better one as soon as there is one:
//!    [`Event::PathChosen`]. A relay stays as [`Event::StandbyChosen`].
//! 4. **Recover.** Kept paths are checked; one that is silent, or passes small packets or one direction only,
//!    is dropped and named ([`DropCause`]), the standby takes over, and every pair is checked again. Attempts
//!    never stop.
//! 5. **Explain.** While a path is relayed, [`Node::diagnosis`] says why, and what would help: one of a closed
//!    set of causes, the same at both ends.
//!
//! HTTP, QUIC and the user's rules are not known here.
//!
//! ```
//! use session::{Node, NodeConfig, Policy, Side};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some epoch")]
//! let now = std::time::Instant::now();
//! let config = NodeConfig {
//!     side: Side::Ingress,
//!     identity: session::Hex([7; 32]),
//!     bases: vec!["0.0.0.0:5000".parse().unwrap()],
//!     interfaces: vec![session::Interface::new("eth0", "192.168.1.2/24".parse().unwrap())],
//!     offer_loopback: false,
//!     policy: Policy::Any,
//! };
//! let node = Node::new(config, [1; 32], now);
//! assert_eq!(node.description().candidates[0].addr, "192.168.1.2:5000".parse().unwrap());
//! ```

mod credentials;
mod description;
mod event;
mod gateway;
mod gather;
mod hex;
mod interface;
mod kept;
mod kind;
mod mapped;
mod node;
mod path;
mod peer;
mod probing;
mod reason;
mod relays;
mod surroundings;
mod traversal;
mod watch;

pub use description::{
    Answer, CandidateEntry, DescribedNote, Description, DescriptionError, IdentityKey, InstanceId,
    NatSummary, Nonce, Side, VERSION_MAX, VERSION_MIN,
};
pub use event::{DropCause, Event, PeerId};
pub use gateway::{GatewayProtocol, GatewayView, PortMapping, UnknownGatewayProtocol};
pub use hex::Hex;
pub use interface::{AddressTraits, Interface};
pub use kind::{Interfaces, is_private};
pub use node::{Node, NodeConfig, NodeStats, NodeTransmit, UNANSWERED_LIFETIME};
pub use path::{PathId, PathKind, PathView, RelayStreamId, RelayTransport, Route};
pub use reason::{Cause, Diagnosis, Ends, Policy, Remedy, Tried};
pub use relays::{RelayServer, TlsAddress};
pub use traversal::{LedgerEntry, Outcome, ParseStrategyError, SocketRequestId, Strategy};
