//! What a node tells the layer above.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::Report;

use crate::path::{PathId, PathView, RelayStreamId, RelayTransport, Route};

/// Names a peer run of one [`Node`](crate::Node); given by the layer above, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Something happened in a [`Node`](crate::Node).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// What [`Node::description`](crate::Node::description) returns has changed: publish it.
    DescriptionChanged,
    /// The NAT was classified, or classified anew.
    NatClassified(Report),
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
    /// Checks stayed unanswered.
    Silent,
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
            Self::RelayLost => "relay lost",
            Self::Superseded => "superseded",
            Self::PeerRemoved => "peer removed",
            Self::CarrierFailed => "no carrier over it",
        }
    }
}
