//! What people are told: one line for each thing that a user would notice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use natprobe::{NatType, Report};
use session::{
    DropCause, GatewayProtocol, Interface, PathKind, PathView, PeerId, PortMapping, RelayTransport,
    Side, Strategy,
};
use signal_client::PublicKey;
use tracing::{debug, info, warn};
use tunnel::forward::ForwardEvent;

use super::forwarding::Reporter;
use super::signaling_log::SignalingLog;
use crate::clock::now;

/// How often connections beyond the limit are reported.
const EXCEEDED_INTERVAL: Duration = Duration::from_secs(10);

/// How long a path is relayed before people are told why: most are for a moment, until the direct one is
/// found, which takes 3 s at most.
const RELAYED_FOR: Duration = Duration::from_secs(3);

/// What was said last, so that it is said once.
pub(super) struct Journal {
    /// Connections beyond the limit that nobody was told of yet.
    exceeded: u64,
    exceeded_said: Option<Instant>,
    side: Side,
    pub(super) signaling: SignalingLog,
    nat: Option<(NatType, Vec<SocketAddr>)>,
    ipv6: Vec<SocketAddr>,
    relay_failures: BTreeMap<(SocketAddr, RelayTransport), String>,
    used: BTreeMap<PeerId, (PathKind, SocketAddr)>,
    /// Since when a peer's path is relayed, until people are told why.
    relayed: BTreeMap<PeerId, Instant>,
    /// The mappings that people were told are in force, by peer.
    in_force: BTreeMap<PeerId, BTreeSet<String>>,
    described: BTreeSet<PeerId>,
    carrier_failure: Option<String>,
    /// The forwarded ports that people were told of, and whether they work.
    port_mappings: BTreeMap<SocketAddr, bool>,
}

impl Journal {
    pub(super) fn new(side: Side, signaling_urls: Vec<String>, interfaces: &[Interface]) -> Self {
        let addresses: Vec<_> = interfaces
            .iter()
            .map(|it| it.net.addr())
            .filter(is_worth_showing)
            .collect();
        info!("private addresses: {}", join(&addresses));
        Self {
            exceeded: 0,
            exceeded_said: None,
            side,
            signaling: SignalingLog::new(signaling_urls),
            nat: None,
            ipv6: Vec::new(),
            relay_failures: BTreeMap::new(),
            used: BTreeMap::new(),
            relayed: BTreeMap::new(),
            in_force: BTreeMap::new(),
            described: BTreeSet::new(),
            carrier_failure: None,
            port_mappings: BTreeMap::new(),
        }
    }

    const fn peer_word(&self) -> &'static str {
        match self.side {
            Side::Ingress => "server",
            Side::Egress => "client",
        }
    }

    /// Returns what the program waits for while no peer is there.
    pub(super) fn waiting_reason(&self) -> String {
        if let Some(reason) = self.signaling.waiting_reason() {
            return reason;
        }
        let waiting = format!("waiting for a {} in this room", self.peer_word());
        match self.signaling.partial_trouble() {
            Some(trouble) => format!("{waiting}; {trouble}"),
            None => waiting,
        }
    }

    /// Returns why the last carrier could not be opened.
    pub(super) fn carrier_trouble(&self) -> Option<&str> {
        self.carrier_failure.as_deref()
    }

    pub(super) fn nat_classified(&mut self, report: &Report) {
        let known = (report.nat_type(), report.reflexive.clone());
        if self.nat.as_ref() == Some(&known) {
            return;
        }
        let public = join(&report.reflexive);
        let nat_type = report.nat_type();
        if report.udp {
            let punch = if can_punch(nat_type) {
                "can punch holes"
            } else {
                "hard to punch"
            };
            info!(
                "public address: {public}; NAT type: {nat_type} (mapping {}, filtering {}): {punch}",
                report.mapping, report.filtering
            );
        } else {
            warn!(
                "no STUN server answers over UDP: NAT type {nat_type}; only a relay over TCP can help"
            );
        }
        self.nat = Some(known);
    }

    /// IPv6 was examined beside IPv4; a network without it is the usual case, and not worth a line.
    pub(super) fn ipv6_classified(&mut self, report: &Report) {
        if report.udp && self.ipv6 != report.reflexive {
            info!(
                "public IPv6 address: {} (filtering {})",
                join(&report.reflexive),
                report.filtering
            );
            self.ipv6.clone_from(&report.reflexive);
        }
    }

    /// The router claims to forward ports; it is believed once somebody came in through them.
    pub(super) fn port_mappings_claimed(&mut self, mappings: &[PortMapping]) {
        for mapping in mappings {
            debug!(external = %mapping.external, protocol = %mapping.protocol, "the router claims to forward a port");
        }
        let still = |external: &SocketAddr| mappings.iter().any(|it| it.external == *external);
        self.port_mappings.retain(|external, _| still(external));
    }

    pub(super) fn port_mapping_verified(
        &mut self,
        external: SocketAddr,
        protocol: Option<GatewayProtocol>,
    ) {
        if self.port_mappings.insert(external, true) != Some(true) {
            let by = protocol.map_or_else(String::new, |protocol| format!(" ({protocol})"));
            info!("the router forwards {external} to us{by}: peers behind any NAT can reach it");
        }
    }

    pub(super) fn port_mapping_refuted(&mut self, external: SocketAddr, reason: &str) {
        if self.port_mappings.insert(external, false) != Some(false) {
            info!("the router says that it forwards {external} to us, and does not: {reason}");
        }
    }

    pub(super) fn port_mapping_undecided(
        &mut self,
        external: SocketAddr,
        offered: bool,
        reason: &str,
    ) {
        debug!(%external, offered, reason, "nobody can say whether the router forwards a port");
        self.port_mappings.remove(&external);
    }

    /// A strategy has opened a direct path; that the path is used is told by itself, and most need no strategy.
    pub(super) fn strategy_worked(&mut self, peer: PeerId, strategy: Strategy) {
        let how = match strategy {
            Strategy::Plain | Strategy::Ipv6 => {
                debug!(?peer, %strategy, "a strategy worked");
                return;
            }
            Strategy::PortMapped => "through a forwarded port",
            Strategy::Predicted => "by predicting ports",
            Strategy::Block => "by trying the ports of a block",
            Strategy::Birthday => "by trying many ports",
        };
        info!(
            "a direct path to the {} was opened {how} ({strategy})",
            self.peer_word()
        );
    }

    pub(super) fn relay_ready(
        &mut self,
        server: SocketAddr,
        transport: RelayTransport,
        relayed: SocketAddr,
    ) {
        self.relay_failures.remove(&(server, transport));
        info!("relay {server} over {transport} is ready");
        debug!(%relayed, "relayed address");
    }

    pub(super) fn relay_unavailable(
        &mut self,
        server: SocketAddr,
        transport: RelayTransport,
        reason: &str,
    ) {
        let key = (server, transport);
        if self
            .relay_failures
            .get(&key)
            .is_none_or(|known| known != reason)
        {
            warn!("relay {server} over {transport}: {reason}; trying again");
            self.relay_failures.insert(key, reason.to_owned());
        }
    }

    /// A peer's description came; it comes again every two minutes, and is told of once.
    pub(super) fn peer_described(&mut self, peer: PeerId, key: PublicKey, fresh: bool) {
        let word = self.peer_word();
        if !fresh {
            debug!("{word} {} has not answered yet", key.short());
        } else if self.described.insert(peer) {
            info!("{word} {} is in the room: connecting", key.short());
        }
    }

    pub(super) fn peer_replaced(&mut self, key: PublicKey) {
        info!(
            "{} {} was restarted: its old connections are over",
            self.peer_word(),
            key.short()
        );
    }

    pub(super) fn peer_left(&self, key: PublicKey) {
        info!("{} {} stopped", self.peer_word(), key.short());
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.described.remove(&peer);
        self.used.remove(&peer);
        self.relayed.remove(&peer);
        self.in_force.remove(&peer);
    }

    pub(super) fn peer_lost(&mut self, peer: PeerId) {
        self.relayed.remove(&peer);
        if self.used.remove(&peer).is_some() {
            warn!(
                "no path to the {} is left; forwarded connections wait for the next one",
                self.peer_word()
            );
        }
    }

    pub(super) fn path_used(&mut self, peer: PeerId, kind: PathKind, view: &PathView) {
        self.carrier_failure = None;
        let present = (kind, view.remote);
        let before = self.used.insert(peer, present);
        if before == Some(present) {
            return;
        }
        if kind != PathKind::Relay {
            self.relayed.remove(&peer);
        } else if before.is_none_or(|(old, _)| old != kind) {
            self.relayed.insert(peer, now());
        }
        let rtt = view
            .rtt
            .map(|rtt| format!(", round trip {:.1} ms", rtt.as_secs_f64() * 1e3));
        let rtt = rtt.unwrap_or_default();
        let how = format!("{kind} ({}, {}{rtt})", view.via(), view.remote);
        let word = self.peer_word();
        match before {
            None => info!("connected to the {word} over {how}"),
            Some((old, _)) => info!("path to the {word} changed from {old} to {how}"),
        }
    }

    /// Returns a peer that people are to be told about, why its path is not direct; each is returned once.
    pub(super) fn take_relayed(&mut self, at: Instant) -> Option<PeerId> {
        let due = |since: &Instant| at >= *since + RELAYED_FOR;
        let (peer, _) = self.relayed.iter().find(|(_, since)| due(since))?;
        let peer = *peer;
        self.relayed.remove(&peer);
        Some(peer)
    }

    pub(super) fn not_direct(&self, why: &str) {
        info!("not direct: {why}");
    }

    pub(super) fn path_lost(&mut self, peer: PeerId, view: &PathView, cause: DropCause) {
        if self.used.contains_key(&peer) && cause != DropCause::PeerRemoved {
            info!(
                "the {} path to {} is gone: {}",
                view.kind,
                view.remote,
                cause.as_str()
            );
        }
    }

    pub(super) fn carrier_failed(&mut self, error: &str) {
        if self.carrier_failure.as_deref() != Some(error) {
            info!("a path works, but no carrier could be opened over it: {error}; trying again");
        }
        self.carrier_failure = Some(error.to_owned());
    }

    pub(super) fn forward_event(&mut self, event: &ForwardEvent, from: &Reporter<'_>) {
        let name = |id: u32| from.forwarding.mapping_name(id, from.instance);
        match event {
            ForwardEvent::Listening { mapping, address } => {
                info!("mapping {}: listening on {address}", name(*mapping));
            }
            ForwardEvent::ListenFailed {
                mapping,
                address,
                error,
            } => {
                warn!(
                    "mapping {}: cannot listen on {address}: {error}; trying again",
                    name(*mapping)
                );
            }
            ForwardEvent::TableCommitted {
                version,
                accepted,
                refused,
            } => {
                self.table_committed(*version, *accepted, *refused, from);
            }
            ForwardEvent::MappingRefused { mapping, reason } => {
                warn!("mapping {}: refused: {reason}", name(*mapping));
            }
            ForwardEvent::FlowRefused { mapping, reason } => {
                info!(
                    "mapping {}: a connection was refused: {reason}",
                    name(*mapping)
                );
            }
            ForwardEvent::ConnectionsExceeded { limit } => {
                self.connections_exceeded(*limit);
            }
            ForwardEvent::ControlFailed { reason } => {
                warn!("the control conversation with the peer broke: {reason}; starting over");
            }
            ForwardEvent::CarrierLost { .. } | ForwardEvent::NoCarrier => {}
            _ => debug!("a forward event of a later version"),
        }
    }

    /// Said once in a while: a port scan makes thousands of them.
    fn connections_exceeded(&mut self, limit: u32) {
        self.exceeded += 1;
        let at = now();
        if self
            .exceeded_said
            .is_some_and(|said| at < said + EXCEEDED_INTERVAL)
        {
            return;
        }
        let count = std::mem::take(&mut self.exceeded);
        warn!("more than {limit} connections at once: {count} of the newest reset");
        self.exceeded_said = Some(at);
    }

    fn table_committed(&mut self, version: u64, accepted: u32, refused: u32, from: &Reporter<'_>) {
        let over = from
            .peer
            .and_then(|peer| self.used.get(&peer))
            .map_or("the path", |(kind, _)| kind.as_str());
        info!("mapping table {version} is in force: {accepted} accepted, {refused} refused");
        let names = from.forwarding.mapping_names(from.instance);
        let before = from.peer.and_then(|peer| self.in_force.remove(&peer));
        let before = before.unwrap_or_default();
        for name in names.difference(&before) {
            info!("mapping {name}: over {over}");
        }
        for name in before.difference(&names) {
            info!("mapping {name}: no longer in force");
        }
        if let Some(peer) = from.peer {
            self.in_force.insert(peer, names);
        }
    }
}

const fn can_punch(nat_type: NatType) -> bool {
    match nat_type {
        NatType::NoNat
        | NatType::FullCone
        | NatType::RestrictedCone
        | NatType::PortRestrictedCone => true,
        NatType::Symmetric | NatType::UdpBlocked | NatType::Unknown => false,
    }
}

fn is_worth_showing(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn join<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
