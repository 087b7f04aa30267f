//! A path: a validated pair of addresses or a route through a relay.

use std::net::SocketAddr;
use std::time::Duration;

use punch::CandidateKind;

/// Names a path of one [`Node`](crate::Node); never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u64);

/// Names a TCP connection to a relay; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayStreamId(pub u32);

/// How a relay is reached, best first. Prints as `udp`, `tcp` or `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayTransport {
    /// Datagrams.
    Udp,
    /// A plain TCP connection.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl RelayTransport {
    /// Returns whether it is a byte stream.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Returns what the TURN client knows of it.
    pub(crate) const fn wire(self) -> relay::Transport {
        match self {
            Self::Udp => relay::Transport::Udp,
            Self::Tcp | Self::Tls => relay::Transport::Tcp,
        }
    }
}

impl std::fmt::Display for RelayTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// What carries the packets of a path on this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One of our sockets and the peer's address (which may be the peer's relayed address).
    Direct {
        /// The base: local address of the socket.
        local: SocketAddr,
        /// Where packets go.
        remote: SocketAddr,
    },
    /// A channel of our allocation, reached over UDP.
    RelayedUdp {
        /// The base: local address of the socket.
        local: SocketAddr,
        /// The relay.
        server: SocketAddr,
        /// The bound channel.
        channel: u16,
    },
    /// A channel of our allocation, reached over a TCP connection.
    RelayedStream {
        /// Which connection.
        stream: RelayStreamId,
        /// The bound channel.
        channel: u16,
    },
}

/// The kinds of path shown to people, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Within one network.
    Lan,
    /// Across the internet, through no relay.
    Direct,
    /// Through a relay of either end.
    Relay,
}

impl PathKind {
    /// Returns the word of the status output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relay => "relay",
        }
    }

    /// Parses the word of the status output.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Lan, Self::Direct, Self::Relay]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// Combines both ends' judgement: a path is `lan` only when both say so.
    #[must_use]
    pub fn agreed(self, peers_view: Self) -> Self {
        self.max(peers_view)
    }
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything about a path that a person may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    /// As judged by this end alone; see [`PathKind::agreed`].
    pub kind: PathKind,
    /// How our relay is reached when the path runs through our allocation, else UDP.
    pub transport: RelayTransport,
    /// Our address: the base of the socket, or our relayed address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// What kind of candidate the peer's address is.
    pub remote_kind: CandidateKind,
    /// How the pair was found: by a guess, or else as the remote address is known.
    pub found_as: CandidateKind,
    /// Whether our own allocation is used.
    pub through_our_relay: bool,
    /// The last measured round trip of a check.
    pub rtt: Option<Duration>,
}

impl PathView {
    /// Returns how the path was found, in the words of the status output.
    #[must_use]
    pub fn via(&self) -> &'static str {
        if self.kind == PathKind::Relay {
            return "relayed";
        }
        match self.found_as {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "server-reflexive",
            CandidateKind::PeerReflexive => "peer-reflexive",
            CandidateKind::PortMapped => "port-mapped",
            CandidateKind::Predicted => "predicted",
            CandidateKind::Birthday => "birthday",
            CandidateKind::Relayed => "relayed",
        }
    }

    /// Returns what the choice compares first: lan, direct, relay over UDP, over TCP, over TLS.
    #[must_use]
    pub(crate) fn rank(&self) -> (PathKind, RelayTransport, bool) {
        let two_relays = self.through_our_relay && self.remote_kind == CandidateKind::Relayed;
        (self.kind, self.transport, two_relays)
    }
}
