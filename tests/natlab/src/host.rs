//! A machine with a node, and what the driver of the product would do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use session::{
    Description, DropCause, Event, Hex, InstanceId, Interface, Node, NodeConfig, PathId, PathView,
    PeerId, Policy, RelayStreamId, Route, Side, Strategy,
};

use crate::ping::Ping;
use crate::world::SiteId;

/// The port that every host binds.
const PORT: u16 = 5000;

/// Few systems give a process fewer files by default than 1,024.
const EXTRA_SOCKETS_MAX: usize = 900;

/// From a write of the one side to the watch of the other.
const SIGNALING_DELAY: Duration = Duration::from_millis(40);

/// What a test may ask about later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A path was announced.
    Ready(PathId),
    /// It was made the best one.
    Chosen(PathId),
    /// It is kept ready.
    Standby(PathId),
    /// It is gone.
    Dropped(PathId, DropCause),
    /// An allocation exists.
    RelayReady,
    /// An allocation could not be had.
    RelayUnavailable,
    /// The NAT was classified.
    Classified,
    /// A server came in by a port mapping.
    PortMappingVerified,
    /// A port mapping is not what the gateway says.
    PortMappingRefuted,
    /// No server could say.
    PortMappingUndecided,
    /// A direct path was opened.
    Opened(Strategy),
}

/// The interface of every host.
const INTERFACE: &str = "eth0";

/// How a host starts.
#[derive(Clone, Copy, Debug)]
pub struct HostConfig {
    /// Where it stands.
    pub site: SiteId,
    /// Which end of the tunnel it is.
    pub side: Side,
    /// Which paths it allows.
    pub policy: Policy,
}

/// A machine with a [`Node`].
#[derive(Debug)]
pub struct Host {
    /// How it started.
    pub config: HostConfig,
    /// The sessions, unchanged.
    pub node: Node,
    /// When the node wants to be called, as of the last time that the world drained it.
    pub(crate) deadline: Option<Instant>,
    /// The paths that are announced now.
    pub routes: BTreeMap<PathId, (PeerId, Route)>,
    /// Every path there ever was.
    pub views: BTreeMap<PathId, PathView>,
    /// The best path toward each peer (ingress only).
    pub chosen: BTreeMap<PeerId, PathId>,
    /// The path that is kept ready (ingress only).
    pub standby: Option<PathId>,
    /// What happened, by time since the start of the world.
    pub log: Vec<(Duration, Happening)>,
    /// When it first held a description that answers its own.
    pub fresh_at: Option<Duration>,
    /// Datagrams it has sent.
    pub sent: u64,
    /// Carriers' packets that came on no path that was announced.
    pub orphans: u32,
    /// Our path and the path at the other end, by the pings that were answered.
    pub matches: BTreeMap<PathId, PathId>,
    /// Whether pings go on after the first that is answered (ingress only).
    pub is_chatty: bool,
    /// From a write of the other side to this host's watch; 40 ms at first.
    pub signaling_delay: Duration,
    /// More extra sockets than this its system does not give.
    pub extra_sockets_max: usize,
    /// How many extra sockets it had at most.
    pub extra_sockets_peak: usize,
    /// What it still tries to repair a port mapping.
    pub(crate) port_mapping_tries: u16,
    ip: Ipv4Addr,
    ip6: Option<Ipv6Addr>,
    /// The local addresses of its sockets, as bound.
    sockets: BTreeSet<SocketAddr>,
    pub(crate) published: Option<Vec<u8>>,
    peers: BTreeMap<InstanceId, PeerId>,
    waiting_since: BTreeMap<PathId, Instant>,
}

impl Host {
    pub(crate) fn new(
        config: HostConfig,
        (ip, ip6): (Ipv4Addr, Option<Ipv6Addr>),
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let mut bases = vec![Self::base()];
        bases.extend(ip6.map(|_| Self::base6()));
        let nets = [Some(format!("{ip}/24")), ip6.map(|ip6| format!("{ip6}/64"))];
        let interfaces = nets.into_iter().flatten().map(|net| {
            let net = net.parse().expect("an address and a prefix");
            Interface::new(INTERFACE, net)
        });
        let node_config = NodeConfig {
            side: config.side,
            identity: Hex(seed),
            bases: bases.clone(),
            interfaces: interfaces.collect(),
            offer_loopback: false,
            policy: config.policy,
        };
        Self {
            config,
            node: Node::new(node_config, seed, now),
            deadline: None,
            routes: BTreeMap::new(),
            views: BTreeMap::new(),
            chosen: BTreeMap::new(),
            standby: None,
            log: Vec::new(),
            fresh_at: None,
            sent: 0,
            orphans: 0,
            matches: BTreeMap::new(),
            is_chatty: false,
            signaling_delay: SIGNALING_DELAY,
            extra_sockets_max: EXTRA_SOCKETS_MAX,
            extra_sockets_peak: 0,
            port_mapping_tries: 0,
            ip,
            ip6,
            sockets: bases.into_iter().collect(),
            published: None,
            peers: BTreeMap::new(),
            waiting_since: BTreeMap::new(),
        }
    }

    /// Returns the address that its socket is bound to.
    #[must_use]
    pub const fn base() -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)
    }

    /// Returns the same for IPv6.
    #[must_use]
    pub const fn base6() -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT)
    }

    /// Returns the address of its socket as its own network sees it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), PORT)
    }

    /// Returns its addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [Some(IpAddr::V4(self.ip)), self.ip6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
    }

    /// Returns the address at which a socket is seen by its own network.
    ///
    /// # Panics
    ///
    /// When there is no such socket.
    pub(crate) fn address_of(&self, bound: SocketAddr) -> SocketAddr {
        assert!(self.sockets.contains(&bound), "no socket {bound}");
        let ip6 = self.ip6.map(IpAddr::V6).filter(|_| bound.is_ipv6());
        SocketAddr::new(ip6.unwrap_or(IpAddr::V4(self.ip)), bound.port())
    }

    pub(crate) fn has_socket_at(&self, address: SocketAddr) -> bool {
        self.ips().any(|ip| ip == address.ip()) && self.sockets.contains(&bound(address))
    }

    /// Opens an extra socket of a family where the port is free and the system gives one.
    pub(crate) fn open_socket(&mut self, ipv6: bool, port: u16) -> Option<SocketAddr> {
        let base = if ipv6 { Self::base6() } else { Self::base() };
        let is_there = self.sockets.contains(&base);
        let bound = SocketAddr::new(base.ip(), port);
        let bases = 1 + usize::from(self.ip6.is_some());
        let extra = self.sockets.len() - bases;
        if !is_there || extra >= self.extra_sockets_max || !self.sockets.insert(bound) {
            return None;
        }
        self.extra_sockets_peak = self.extra_sockets_peak.max(extra + 1);
        Some(bound)
    }

    pub(crate) fn close_sockets(&mut self, sockets: &[SocketAddr]) {
        for socket in sockets {
            assert!(self.sockets.remove(socket), "no socket {socket}");
        }
    }

    /// Returns how many extra sockets are open.
    #[must_use]
    pub fn extra_sockets(&self) -> usize {
        self.sockets.len() - 1 - usize::from(self.ip6.is_some())
    }

    /// Returns when things of a sort happened.
    pub fn times(&self, wanted: impl Fn(&Happening) -> bool) -> Vec<Duration> {
        self.log
            .iter()
            .filter(|(_, happening)| wanted(happening))
            .map(|(at, _)| *at)
            .collect()
    }

    /// A slot was written by somebody of the other side.
    pub(crate) fn on_description(&mut self, bytes: &[u8], elapsed: Duration, now: Instant) {
        let description = Description::decode(bytes).expect("a node's own description");
        let next = PeerId(self.peers.len() as u64);
        let id = *self.peers.entry(description.instance).or_insert(next);
        assert!(
            self.node.set_peer(id, description, now),
            "the table is full"
        );
        if self.node.is_fresh(id) {
            self.fresh_at.get_or_insert(elapsed);
        }
    }

    /// Notes an event.
    pub(crate) fn on_event(&mut self, event: Event, elapsed: Duration) {
        let happening = if let Event::PathReady {
            peer,
            path,
            route,
            view,
        } = event
        {
            self.routes.insert(path, (peer, route));
            self.views.insert(path, view);
            Happening::Ready(path)
        } else if let Event::PathChosen { peer, path } = event {
            assert!(self.routes.contains_key(&path), "chosen, never announced");
            self.chosen.insert(peer, path);
            Happening::Chosen(path)
        } else if let Event::StandbyChosen { path, .. } = event {
            assert!(self.routes.contains_key(&path), "kept, never announced");
            self.standby = Some(path);
            Happening::Standby(path)
        } else if let Event::PathDropped { path, cause, .. } = event {
            self.routes.remove(&path);
            self.chosen.retain(|_, chosen| *chosen != path);
            self.standby = self.standby.filter(|standby| *standby != path);
            self.waiting_since.remove(&path);
            Happening::Dropped(path, cause)
        } else if let Event::RelayReady { .. } = event {
            Happening::RelayReady
        } else if let Event::RelayUnavailable { .. } = event {
            Happening::RelayUnavailable
        } else if let Event::NatClassified(_) = event {
            Happening::Classified
        } else if let Event::PortMappingVerified { .. } = event {
            Happening::PortMappingVerified
        } else if let Event::PortMappingRefuted { .. } = event {
            Happening::PortMappingRefuted
        } else if let Event::PortMappingUndecided { .. } = event {
            Happening::PortMappingUndecided
        } else if let Event::StrategyWorked { strategy, .. } = event {
            Happening::Opened(strategy)
        } else {
            return;
        };
        self.log.push((elapsed, happening));
    }

    pub(crate) fn direct_path(&self, local: SocketAddr, remote: SocketAddr) -> Option<PathId> {
        self.path_by_route(&Route::Direct { local, remote })
    }

    pub(crate) fn relayed_path(
        &self,
        local: SocketAddr,
        server: SocketAddr,
        channel: u16,
    ) -> Option<PathId> {
        self.path_by_route(&Route::RelayedUdp {
            local,
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
            self.matches.insert(ping.asked_on, ping.answered_on);
            return None;
        }
        let answer = Ping {
            is_answer: true,
            answered_on: path,
            ..ping
        };
        Some((path, answer))
    }

    /// Tells the node what carriers wait for; returns the paths to ping.
    pub(crate) fn on_tick(&mut self, now: Instant) -> Vec<PathId> {
        for (path, since) in &self.waiting_since {
            self.node.waiting(*path, *since, now);
        }
        let kept = self.chosen.values().copied().chain(self.standby);
        // A handshake is repeated until it is answered.
        let dialled = kept.filter(|path| !self.matches.contains_key(path));
        let mut paths: Vec<_> = dialled.collect();
        if self.is_chatty {
            paths.extend(self.chosen.values());
        }
        paths.sort();
        paths.dedup();
        for path in &paths {
            self.waiting_since.entry(*path).or_insert(now);
        }
        paths
    }
}

/// Returns the name of the socket that packets to an address of the host arrive at.
pub(crate) const fn bound(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, address.port())
}
