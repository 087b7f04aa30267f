//! A machine with a node, and what the driver would do with it, carriers included.
//!
//! A carrier is a ping on the path that was chosen, answered on the path it came by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use session::{
    Description, DropCause, Event, Hex, InstanceId, Interface, Node, NodeConfig, PathId, PathView,
    PeerId, Policy, RelayStreamId, Route, Side, Strategy,
};

/// Between two looks at the carriers, and two pings.
pub(crate) const TICK: Duration = Duration::from_millis(50);
pub(crate) const PORT: u16 = 5000;
/// The egress side of the product tells the peer of a silent path after this at the soonest.
const DEAD_FLOOR: Duration = Duration::from_millis(300);
/// What an application sends: packets that fill a path, and small ones back.
const QUESTION_BYTES: usize = 1200;

/// What a test may ask about later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Ready(PathId),
    Chosen(PathId),
    Standby(PathId),
    Dropped(PathId, DropCause),
    RelayReady,
    RelayUnavailable,
    MappingVerified(SocketAddr),
    MappingRefuted(SocketAddr, String),
    /// Whether it is offered all the same.
    MappingUndecided(SocketAddr, bool),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HostConfig {
    pub(crate) site: usize,
    pub(crate) ip: Ipv4Addr,
    pub(crate) side: Side,
    pub(crate) policy: Policy,
}

pub(crate) struct Host {
    pub(crate) config: HostConfig,
    pub(crate) node: Node,
    pub(crate) base: SocketAddr,
    pub(crate) peers: BTreeMap<InstanceId, PeerId>,
    pub(crate) routes: BTreeMap<PathId, (PeerId, Route)>,
    /// Every path there ever was.
    pub(crate) views: BTreeMap<PathId, PathView>,
    pub(crate) chosen: BTreeMap<PeerId, PathId>,
    pub(crate) standby: Option<PathId>,
    pub(crate) log: Vec<(Duration, Happening)>,
    /// When it first held a description that answers its own.
    pub(crate) fresh_at: Option<Duration>,
    pub(crate) published: Option<Vec<u8>>,
    /// Destination and bytes of every datagram.
    pub(crate) sent: Vec<(Duration, SocketAddr, Vec<u8>)>,
    /// Calls of `handle_timeout` per second.
    pub(crate) wakes: BTreeMap<u64, u32>,
    /// Pings that came on no path that we know.
    pub(crate) orphans: u32,
    /// Our path and the path at the other end, by the pings that were answered.
    pub(crate) matches: BTreeMap<PathId, PathId>,
    /// Whether pings go on after the first; of the egress side on the path that a ping last came by.
    pub(crate) is_chatty: bool,
    /// Where the egress side sends.
    pub(crate) asked_on: Option<PathId>,
    /// Local ports of extra sockets, and the most there ever were.
    pub(crate) extra: BTreeSet<u16>,
    pub(crate) extra_most: usize,
    /// The strategies that worked.
    pub(crate) worked: Vec<Strategy>,
    waiting_since: BTreeMap<PathId, Instant>,
}

impl Host {
    pub(crate) fn new(config: HostConfig, seed: [u8; 32], now: Instant) -> Self {
        let base = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let net = format!("{}/24", config.ip).parse().unwrap();
        let node_config = NodeConfig {
            side: config.side,
            identity: Hex(seed),
            bases: vec![base],
            interfaces: vec![Interface::new("eth0", net)],
            offer_loopback: false,
            policy: config.policy,
        };
        Self {
            config,
            node: Node::new(node_config, seed, now),
            base,
            peers: BTreeMap::new(),
            routes: BTreeMap::new(),
            views: BTreeMap::new(),
            chosen: BTreeMap::new(),
            standby: None,
            log: Vec::new(),
            fresh_at: None,
            published: None,
            sent: Vec::new(),
            wakes: BTreeMap::new(),
            orphans: 0,
            matches: BTreeMap::new(),
            is_chatty: false,
            asked_on: None,
            extra: BTreeSet::new(),
            extra_most: 0,
            worked: Vec::new(),
            waiting_since: BTreeMap::new(),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.config.ip), PORT)
    }

    /// Returns the socket that has this local port.
    pub(crate) fn socket(&self, port: u16) -> Option<SocketAddr> {
        let is_open = port == PORT || self.extra.contains(&port);
        is_open.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
    }

    /// Opens extra sockets on ports that the system chooses.
    pub(crate) fn open_sockets(
        &mut self,
        count: u16,
        mut draw: impl FnMut() -> u16,
    ) -> Vec<SocketAddr> {
        let mut sockets = Vec::new();
        while sockets.len() < usize::from(count) {
            let port = draw();
            if self.extra.insert(port) {
                sockets.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
            }
        }
        self.extra_most = self.extra_most.max(self.extra.len());
        sockets
    }

    pub(crate) fn close_sockets(&mut self, sockets: &[SocketAddr]) {
        for socket in sockets {
            assert!(self.extra.remove(&socket.port()), "{socket} is not open");
            let carries =
                |route: &Route| matches!(route, Route::Direct { local, .. } if local == socket);
            let used = self.routes.values().any(|(_, route)| carries(route));
            assert!(!used, "{socket} carries a path");
        }
    }

    /// A slot was written by somebody of the other side.
    pub(crate) fn on_description(&mut self, bytes: &[u8], elapsed: Duration, now: Instant) {
        let description = Description::decode(bytes).unwrap();
        let next = PeerId(self.peers.len() as u64);
        let id = *self.peers.entry(description.instance).or_insert(next);
        assert!(self.node.set_peer(id, description, now));
        if self.node.is_fresh(id) {
            self.fresh_at.get_or_insert(elapsed);
        }
    }

    /// Notes an event; returns paths to dial.
    pub(crate) fn on_event(&mut self, event: Event, elapsed: Duration) -> Option<PathId> {
        let (happening, dial) = match event {
            Event::PathReady {
                peer,
                path,
                route,
                view,
            } => {
                self.routes.insert(path, (peer, route));
                self.views.insert(path, view);
                (Happening::Ready(path), None)
            }
            Event::PathChosen { peer, path } => {
                assert!(
                    self.routes.contains_key(&path),
                    "chosen before it was ready"
                );
                self.chosen.insert(peer, path);
                (Happening::Chosen(path), Some(path))
            }
            Event::StandbyChosen { path, .. } => {
                assert!(
                    self.routes.contains_key(&path),
                    "standby before it was ready"
                );
                self.standby = Some(path);
                (Happening::Standby(path), Some(path))
            }
            Event::PathDropped { path, cause, .. } => {
                self.routes.remove(&path);
                self.chosen.retain(|_, chosen| *chosen != path);
                self.standby = self.standby.filter(|standby| *standby != path);
                self.asked_on = self.asked_on.filter(|asked| *asked != path);
                self.waiting_since.remove(&path);
                (Happening::Dropped(path, cause), None)
            }
            Event::RelayReady { .. } => (Happening::RelayReady, None),
            Event::RelayUnavailable { .. } => (Happening::RelayUnavailable, None),
            Event::PortMappingVerified { external } => (Happening::MappingVerified(external), None),
            Event::PortMappingRefuted { external, reason } => {
                (Happening::MappingRefuted(external, reason), None)
            }
            Event::PortMappingUndecided {
                external, offered, ..
            } => (Happening::MappingUndecided(external, offered), None),
            Event::StrategyWorked { strategy, .. } => {
                self.worked.push(strategy);
                return None;
            }
            Event::DescriptionChanged
            | Event::NatClassified(_)
            | Event::Ipv6Classified(_)
            | Event::OpenSockets { .. }
            | Event::CloseSockets { .. }
            | Event::OpenRelayStream { .. }
            | Event::CloseRelayStream { .. }
            | Event::RttMeasured { .. } => return None,
            other => panic!("{other:?} is new"),
        };
        self.log.push((elapsed, happening));
        dial
    }

    pub(crate) fn direct_path(&self, local: SocketAddr, remote: SocketAddr) -> Option<PathId> {
        self.path_by_route(&Route::Direct { local, remote })
    }

    pub(crate) fn relayed_path(&self, server: SocketAddr, channel: u16) -> Option<PathId> {
        self.path_by_route(&Route::RelayedUdp {
            local: self.base,
            server,
            channel,
        })
    }

    pub(crate) fn stream_path(&self, stream: RelayStreamId, channel: u16) -> Option<PathId> {
        self.path_by_route(&Route::RelayedStream { stream, channel })
    }

    fn path_by_route(&self, wanted: &Route) -> Option<PathId> {
        self.routes
            .iter()
            .find(|(_, (_, route))| route == wanted)
            .map(|(path, _)| *path)
    }

    /// Takes a carrier's packet. Returns the path and the packet to answer with.
    pub(crate) fn on_carrier(
        &mut self,
        path: Option<PathId>,
        ping: Ping,
        now: Instant,
    ) -> Option<(PathId, Ping)> {
        let Some(path) = path else {
            self.orphans += u32::from(!ping.is_answer);
            return None;
        };
        self.node.heard(path, now);
        self.waiting_since.remove(&path);
        if ping.is_answer {
            self.matches
                .insert(PathId(ping.asked_on), PathId(ping.answered_on));
            return None;
        }
        // A handshake comes by the standby, too; data goes where it is better.
        let kind = |path: PathId| self.views.get(&path).map(|view| view.kind);
        let is_better = self.asked_on.is_none_or(|asked| kind(path) < kind(asked));
        if self.config.side == Side::Egress && is_better {
            self.asked_on = Some(path);
        }
        Some((
            path,
            Ping {
                is_answer: true,
                answered_on: path.0,
                ..ping
            },
        ))
    }

    /// Tells the node what carriers wait for; returns the paths to ping.
    pub(crate) fn on_tick(&mut self, now: Instant) -> Vec<PathId> {
        for (path, since) in &self.waiting_since {
            self.node.waiting(*path, *since, now);
        }
        if self.is_chatty {
            self.chosen.values().copied().chain(self.asked_on).collect()
        } else {
            Vec::new()
        }
    }

    /// Returns the path on which the egress side sends and hears nothing, for so long that it tells the peer.
    pub(crate) fn unheard(&self, now: Instant) -> Option<PathId> {
        let waits = |since: &&Instant| now >= **since + DEAD_FLOOR;
        let waiting = self.waiting_since.iter().find(|(_, since)| waits(since));
        let side = self.config.side;
        waiting
            .map(|(path, _)| *path)
            .filter(|_| side == Side::Egress)
    }

    pub(crate) fn on_pinged(&mut self, path: PathId, now: Instant) {
        if self.is_chatty {
            self.waiting_since.entry(path).or_insert(now);
        }
    }

    pub(crate) fn times(&self, wanted: impl Fn(&Happening) -> bool) -> Vec<Duration> {
        self.log
            .iter()
            .filter(|(_, happening)| wanted(happening))
            .map(|(at, _)| *at)
            .collect()
    }
}

/// A carrier's packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ping {
    pub(crate) is_answer: bool,
    pub(crate) asked_on: u64,
    pub(crate) answered_on: u64,
}

/// The fixed bit of QUIC is set.
const FIRST_BYTE: u8 = 0x45;

impl Ping {
    pub(crate) const fn on(path: PathId) -> Self {
        Self {
            is_answer: false,
            asked_on: path.0,
            answered_on: 0,
        }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![FIRST_BYTE, u8::from(self.is_answer)];
        bytes.extend_from_slice(&self.asked_on.to_be_bytes());
        bytes.extend_from_slice(&self.answered_on.to_be_bytes());
        if !self.is_answer {
            bytes.resize(QUESTION_BYTES, 0);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [FIRST_BYTE, is_answer, rest @ ..] = bytes else {
            return None;
        };
        let asked_on = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
        let answered_on = u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?);
        Some(Self {
            is_answer: *is_answer == 1,
            asked_on,
            answered_on,
        })
    }
}
