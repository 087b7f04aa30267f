//! A machine with a node, and what the driver of the product would do with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use session::{
    Description, DropCause, Event, Hex, InstanceId, Interface, Node, NodeConfig, PathId, PathView,
    PeerId, Policy, RelayStreamId, Route, Side,
};

use crate::ping::Ping;
use crate::world::SiteId;

/// The port that every host binds.
const PORT: u16 = 5000;

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
}

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
    pub(crate) ip: Ipv4Addr,
    pub(crate) published: Option<Vec<u8>>,
    peers: BTreeMap<InstanceId, PeerId>,
    waiting_since: BTreeMap<PathId, Instant>,
}

impl Host {
    pub(crate) fn new(
        config: HostConfig,
        ip: Ipv4Addr,
        interface: Interface,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let node_config = NodeConfig {
            side: config.side,
            identity: Hex(seed),
            bases: vec![Self::base()],
            interfaces: vec![interface],
            offer_loopback: false,
            policy: config.policy,
        };
        Self {
            config,
            node: Node::new(node_config, seed, now),
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
            ip,
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

    /// Returns the address of its socket as its own network sees it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), PORT)
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
        } else {
            return;
        };
        self.log.push((elapsed, happening));
    }

    pub(crate) fn direct_path(&self, remote: SocketAddr) -> Option<PathId> {
        let local = Self::base();
        self.path_by_route(&Route::Direct { local, remote })
    }

    pub(crate) fn relayed_path(&self, server: SocketAddr, channel: u16) -> Option<PathId> {
        self.path_by_route(&Route::RelayedUdp {
            local: Self::base(),
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
