//! What a node tells the layer above.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::Report;

use crate::description::IdentityKey;
use crate::path::{PathId, PathView, RelayStreamId, RelayTransport, Route};
use crate::traversal::{SocketRequestId, Strategy};

/// Names a peer run of one [`Node`](crate::Node); given by the layer above, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Something happened in a [`Node`](crate::Node).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// What [`Node::description`](crate::Node::description) returns has changed: publish it.
    DescriptionChanged,
    /// The NAT was classified, or classified anew: the one that [`Node::report`](crate::Node::report) returns.
    NatClassified(Report),
    /// Beside IPv4: what lies before our IPv6 socket was classified, or classified anew. There is seldom a
    /// translation, and often a firewall.
    Ipv6Classified(Report),
    /// An allocation exists.
    RelayReady {
        /// The relay.
        server: SocketAddr,
        /// How it is reached.
        transport: RelayTransport,
        /// The address at which peers reach us.
        relayed: SocketAddr,
    },
    /// An allocation could not be had, or is gone; it is tried again.
    RelayUnavailable {
        /// The relay.
        server: SocketAddr,
        /// How it was tried.
        transport: RelayTransport,
        /// Why, for a person.
        reason: String,
        /// The relay does not take the credentials: newer ones are wanted.
        credentials_refused: bool,
    },
    /// A TCP connection to a relay is wanted.
    OpenRelayStream {
        /// Its name from now on.
        stream: RelayStreamId,
        /// Where to.
        server: SocketAddr,
        /// With TLS: the name that the certificate must be for.
        tls_name: Option<String>,
    },
    /// A TCP connection to a relay is no longer wanted.
    CloseRelayStream {
        /// Which one.
        stream: RelayStreamId,
    },
    /// Packets of this path may flow: install its route. On the egress side this comes before the
    /// ingress side dials.
    PathReady {
        /// Whose path.
        peer: PeerId,
        /// Its name.
        path: PathId,
        /// What carries its packets.
        route: Route,
        /// Everything else about it.
        view: PathView,
    },
    /// The best path was chosen (ingress only): dial a carrier over it and prefer that carrier.
    PathChosen {
        /// Whose path.
        peer: PeerId,
        /// Its name.
        path: PathId,
    },
    /// A second path is kept ready (ingress only): dial a carrier over it.
    StandbyChosen {
        /// Whose path.
        peer: PeerId,
        /// Its name.
        path: PathId,
    },
    /// The path is no longer kept: close its carrier and remove its route.
    PathDropped {
        /// Whose path.
        peer: PeerId,
        /// Its name.
        path: PathId,
        /// Why.
        cause: DropCause,
    },
    /// A STUN server reached us through a port mapping: it is offered to peers.
    PortMappingVerified {
        /// The address at which the gateway listens.
        external: SocketAddr,
    },
    /// A port mapping does not do what the gateway says: it is not offered, or no longer. Delete it and make
    /// it anew.
    PortMappingRefuted {
        /// The address at which the gateway says it listens.
        external: SocketAddr,
        /// What was observed, for a person.
        reason: String,
    },
    /// No server could tell whether a port mapping works.
    PortMappingUndecided {
        /// The address at which the gateway says it listens.
        external: SocketAddr,
        /// Whether it is offered all the same, because a peer's checks to it can do no harm.
        offered: bool,
        /// Why nobody could tell, for a person.
        reason: String,
    },
    /// Extra UDP sockets are wanted, on the unspecified address and port 0: answer with
    /// [`Node::sockets_opened`](crate::Node::sockets_opened).
    OpenSockets {
        /// Its name.
        request: SocketRequestId,
        /// IPv6 or IPv4.
        ipv6: bool,
        /// How many.
        count: u16,
    },
    /// Extra sockets are no longer wanted. A socket that won is not among them: it is the `local` of the route
    /// of its path, and is closed when that path is no longer kept.
    CloseSockets {
        /// Their local addresses as bound.
        sockets: Vec<SocketAddr>,
    },
    /// A strategy opened a direct path: remember it, for [`Node::remember`](crate::Node::remember) of the next
    /// run.
    StrategyWorked {
        /// Against whom.
        peer: PeerId,
        /// The peer's key, which outlives the run.
        identity: IdentityKey,
        /// Which one.
        strategy: Strategy,
    },
    /// The round trip of a kept path was measured.
    RttMeasured {
        /// Whose path.
        peer: PeerId,
        /// Its name.
        path: PathId,
        /// The round trip of a check.
        rtt: Duration,
    },
}

/// Why a path is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropCause {
    /// Checks stayed unanswered, and nothing else was heard.
    Silent,
    /// Full-size checks stayed unanswered while small ones were answered.
    SmallPacketsOnly,
    /// The peer was heard, and our checks stayed unanswered: what we send does not arrive.
    OneDirection,
    /// The allocation that it ran through is gone.
    RelayLost,
    /// A better path took its place and no standby is needed.
    Superseded,
    /// The peer is gone.
    PeerRemoved,
    /// The layer above reported that its carrier could not be opened.
    CarrierFailed,
}

impl DropCause {
    /// Returns the cause in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::SmallPacketsOnly => "small packets only",
            Self::OneDirection => "one direction only",
            Self::RelayLost => "relay lost",
            Self::Superseded => "superseded",
            Self::PeerRemoved => "peer removed",
            Self::CarrierFailed => "no carrier over it",
        }
    }
}
