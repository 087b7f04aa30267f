//! The end that listens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mapping_core::{MappingTable, PortMapping};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::PeerInstance;
use super::clock::lock;
use super::event::{EventSink, ForwardEvent, ForwardEvents};
use super::listeners::{self, Port, PortStates};
use super::peer::Peer;
use super::stats::{Counters, IngressSnapshot, MappingSnapshot, MappingState};
use super::udp_ingress;
use crate::carrier::{Carrier, CarrierId};
use crate::datagram::{DatagramIngress, IDLE_TIMEOUT};
use crate::flow::FlowConfig;

/// How the ingress behaves.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// How long a connection waits for a carrier before it is reset: 1 h, the user's `resume`.
    pub resume: Duration,
    /// How many connections and UDP sources there may be: 4096. Each may hold up to 4 MiB each way while it
    /// is fast, 256 KiB otherwise.
    pub max_connections: u32,
    /// How long an accepted connection waits for a peer and its answer: 30 s.
    pub path_wait: Duration,
    /// How long a UDP source is remembered: 120 s.
    pub udp_idle: Duration,
}

impl Default for IngressConfig {
    fn default() -> Self {
        Self {
            resume: Duration::from_secs(3600),
            max_connections: 4096,
            path_wait: Duration::from_secs(30),
            udp_idle: IDLE_TIMEOUT,
        }
    }
}

/// The end that listens: owns the local ports, and forwards to whichever peer is connected.
///
/// Cheap to clone. Every method is to be called inside a tokio runtime, whose tasks do the work until
/// [`Self::shutdown`].
#[derive(Clone, Debug)]
pub struct Ingress {
    inner: Arc<Inner>,
}

/// The open UDP ports by mapping and offset.
pub(super) type UdpPorts = BTreeMap<(u32, u16), (Arc<Port>, Arc<UdpSocket>)>;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: IngressConfig,
    pub(super) events: EventSink,
    pub(super) peer: watch::Sender<Option<Arc<Peer>>>,
    pub(super) udp_ports: Mutex<UdpPorts>,
    pub(super) tcp: Arc<Counters>,
    pub(super) udp: Counters,
    refused: AtomicU64,
    pub(super) dropped_datagrams: AtomicU64,
    /// Port tasks that have not ended, those of ports that are closed included.
    pub(super) port_tasks: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The table that is wanted; `entries` are its mappings.
    table: MappingTable,
    entries: BTreeMap<u32, Entry>,
    resume: Duration,
}

#[derive(Debug)]
struct Entry {
    mapping: PortMapping,
    counters: Arc<Counters>,
    ports: PortStates,
    /// Cancelled when the ports are closed; none while they are.
    open: Option<CancellationToken>,
    refused: Option<String>,
}

impl Ingress {
    /// Makes one without mappings and without a peer.
    #[must_use]
    pub fn new(config: IngressConfig) -> (Self, ForwardEvents) {
        let (events, events_rx) = EventSink::new();
        let state = State {
            table: MappingTable::new(),
            entries: BTreeMap::new(),
            resume: config.resume,
        };
        let inner = Inner {
            config,
            events,
            peer: watch::Sender::new(None),
            udp_ports: Mutex::default(),
            tcp: Arc::default(),
            udp: Counters::default(),
            refused: AtomicU64::new(0),
            dropped_datagrams: AtomicU64::new(0),
            port_tasks: AtomicU32::new(0),
            state: Mutex::new(state),
        };
        (
            Self {
                inner: Arc::new(inner),
            },
            events_rx,
        )
    }

    /// Wants this table: opens and closes local ports at once, and proposes it to the peer, now or when there
    /// is one. A table that is not newer than the one wanted is ignored.
    ///
    /// Connections of a mapping that is no longer in the table are reset; others are not touched.
    pub fn set_table(&self, table: &MappingTable) {
        {
            let mut state = lock(&self.inner.state);
            if table.version() <= state.table.version() {
                return;
            }
            state.table = table.clone();
            self.inner.change_entries(&mut state);
        }
        if let Some(peer) = self.inner.peer() {
            self.inner.propose(&peer);
        }
    }

    /// A peer instance was proven. Another that was connected is treated as gone first.
    pub fn peer_connected(&self, instance: PeerInstance) {
        if let Some(peer) = self.inner.peer() {
            if peer.instance == instance {
                return;
            }
            self.peer_gone(peer.instance);
        }
        let datagrams = DatagramIngress::new(self.inner.config.udp_idle);
        let events = self.inner.events.clone();
        let peer = Peer::new(instance, self.inner.connections_max(), datagrams, events);
        peer.start(self.inner.flow_config());
        tokio::spawn(udp_ingress::sweep(Arc::clone(&peer)));
        tokio::spawn(follow_verdicts(Arc::clone(&self.inner), Arc::clone(&peer)));
        self.inner.propose(&peer);
        self.inner.peer.send_replace(Some(peer));
    }

    /// The peer instance is gone for good: its connections are reset. Those of which it never said anything wait for
    /// the next one, as those do that came while there was none.
    pub fn peer_gone(&self, instance: PeerInstance) {
        let Some(peer) = self.inner.peer().filter(|peer| peer.instance == instance) else {
            return;
        };
        self.inner.peer.send_replace(None);
        peer.gone.cancel();
        peer.carriers.clear();
        // Another peer may think otherwise.
        self.inner.apply_verdicts(&BTreeMap::new());
    }

    /// The connected instance has one more carrier. It is forgotten by itself when it ends.
    pub fn add_carrier(&self, carrier: Carrier) {
        let Some(peer) = self.inner.peer() else {
            return;
        };
        if peer.carriers.add(carrier.clone()) {
            tokio::spawn(udp_ingress::receive(Arc::clone(&self.inner), peer, carrier));
        }
    }

    /// Moves all flows to this carrier, make before break.
    pub fn prefer(&self, carrier: CarrierId) {
        if let Some(peer) = self.inner.peer() {
            peer.carriers.prefer(carrier);
        }
    }

    /// Sets how long connections accepted from now on wait for a carrier: what both ends agreed on.
    pub fn set_resume(&self, resume: Duration) {
        lock(&self.inner.state).resume = resume;
    }

    /// Returns the version of the table that the connected peer and this end have committed.
    #[must_use]
    pub fn committed_version(&self) -> Option<u64> {
        self.inner
            .peer()
            .and_then(|peer| peer.agreed.borrow().committed)
    }

    /// Returns everything that is shown to people. Cheap enough for every second.
    #[must_use]
    pub fn snapshot(&self) -> IngressSnapshot {
        let inner = &self.inner;
        let peer = inner.peer();
        let agreed = peer
            .as_ref()
            .map(|peer| peer.agreed.borrow().clone())
            .unwrap_or_default();
        let sum = |pick: fn(&Counters) -> &AtomicU64| {
            pick(&inner.tcp).load(Ordering::Relaxed) + pick(&inner.udp).load(Ordering::Relaxed)
        };
        let state = lock(&inner.state);
        let udp_flows = peer
            .as_ref()
            .map(|peer| lock(&peer.datagrams).flows_by_mapping())
            .unwrap_or_default();
        let mappings = state.entries.iter().map(|(id, entry)| {
            let udp = udp_flows.get(id).map_or(0, |count| *count as u32);
            entry.snapshot(*id, agreed.in_force.contains(id), udp)
        });
        let wanted_ports = state.entries.values().map(Entry::open_ports).sum();
        let port_tasks = inner.port_tasks.load(Ordering::Relaxed);
        IngressSnapshot {
            version: state.table.version(),
            committed: agreed.committed,
            mappings: mappings.collect(),
            closing_ports: port_tasks.saturating_sub(wanted_ports),
            carriers: peer
                .as_ref()
                .map(|peer| peer.carriers.ids())
                .unwrap_or_default(),
            preferred: peer
                .as_ref()
                .and_then(|peer| peer.carriers.current())
                .map(|carrier| carrier.id()),
            tcp_flows: inner.tcp.connections.load(Ordering::Relaxed),
            udp_flows: inner.udp_flows() as u32,
            bytes_in: sum(|counters| &counters.bytes_in),
            bytes_out: sum(|counters| &counters.bytes_out),
            refused_connections: inner.refused.load(Ordering::Relaxed),
            dropped_datagrams: inner.dropped_datagrams.load(Ordering::Relaxed),
            dropped_events: inner.events.dropped(),
        }
    }

    /// Resets all connections and closes all ports.
    pub fn shutdown(&self) {
        if let Some(peer) = self.inner.peer() {
            self.peer_gone(peer.instance);
        }
        let mut state = lock(&self.inner.state);
        state.table = MappingTable::new();
        self.inner.change_entries(&mut state);
    }
}

impl Inner {
    pub(super) fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.borrow().clone()
    }

    pub(super) fn connections_max(&self) -> usize {
        self.config.max_connections as usize
    }

    pub(super) fn refuse_for_limit(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.events.tell(ForwardEvent::ConnectionsExceeded {
            limit: self.config.max_connections,
        });
    }

    pub(super) fn udp_flows(&self) -> usize {
        self.peer().map_or(0, |peer| lock(&peer.datagrams).len())
    }

    pub(super) fn flow_config(&self) -> FlowConfig {
        FlowConfig {
            resume: lock(&self.state).resume,
            ..FlowConfig::default()
        }
    }

    fn propose(&self, peer: &Peer) {
        let table = lock(&self.state).table.to_wire();
        // Without a table there is nothing to agree on yet.
        if table.version > 0 {
            peer.propose(table.version, table.mappings);
        }
    }

    fn change_entries(self: &Arc<Self>, state: &mut State) {
        let wanted = state.table.iter();
        let mut wanted: BTreeMap<u32, PortMapping> = wanted
            .map(|(id, mapping)| (id.value(), mapping.clone()))
            .collect();
        state.entries.retain(|id, entry| {
            let stays = wanted.get(id) == Some(&entry.mapping);
            if stays {
                wanted.remove(id);
            } else {
                entry.close();
                if let Some(peer) = self.peer() {
                    lock(&peer.datagrams).remove_mapping(*id);
                }
            }
            stays
        });
        for (id, mapping) in wanted {
            let mut entry = Entry {
                mapping,
                counters: Arc::default(),
                ports: PortStates::default(),
                open: None,
                refused: None,
            };
            entry.open(id, self);
            state.entries.insert(id, entry);
        }
    }

    /// Closes the ports of mappings that the peer refuses, and opens those that it does not.
    fn apply_verdicts(self: &Arc<Self>, verdicts: &BTreeMap<u32, Option<String>>) {
        let mut state = lock(&self.state);
        for (id, entry) in &mut state.entries {
            entry.refused = verdicts.get(id).cloned().flatten();
            match (&entry.refused, &entry.open) {
                (Some(_), Some(_)) => entry.close(),
                (None, None) => entry.open(*id, self),
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
    }
}

impl Entry {
    fn open(&mut self, id: u32, inner: &Arc<Inner>) {
        let closed = CancellationToken::new();
        for (offset, address) in (0..).zip(self.mapping.local_sockets()) {
            let port = Arc::new(Port {
                mapping: id,
                offset,
                address,
                counters: Arc::clone(&self.counters),
                states: Arc::clone(&self.ports),
                closed: closed.clone(),
            });
            listeners::spawn(inner, port, self.mapping.protocol());
        }
        self.open = Some(closed);
    }

    fn close(&mut self) {
        if let Some(closed) = self.open.take() {
            closed.cancel();
        }
        // A new map: tasks that are ending still hold the old one.
        self.ports = PortStates::default();
    }

    /// Returns how many ports are to be open.
    fn open_ports(&self) -> u32 {
        self.open
            .as_ref()
            .map_or(0, |_| u32::from(self.mapping.local_ports().len()))
    }

    fn snapshot(&self, id: u32, accepted: bool, udp_flows: u32) -> MappingSnapshot {
        let ports = lock(&self.ports);
        let listen_error = ports.values().find_map(|state| state.clone().err());
        let error = self.refused.clone().or(listen_error);
        let all_open = ports.len() == usize::from(self.mapping.local_ports().len());
        let state = match (&error, accepted && all_open) {
            (Some(_), _) => MappingState::Error,
            (None, true) => MappingState::Active,
            (None, false) => MappingState::Pending,
        };
        MappingSnapshot {
            id,
            state,
            error,
            opening: self.open.is_some()
                && ports.len() < usize::from(self.mapping.local_ports().len()),
            listen: ports.get(&0).and_then(|state| state.clone().ok()),
            connections: self.counters.connections.load(Ordering::Relaxed) + udp_flows,
            total_connections: self.counters.total_connections.load(Ordering::Relaxed),
            bytes_in: self.counters.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.counters.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// Opens and closes ports as the peer's verdicts say.
async fn follow_verdicts(inner: Arc<Inner>, peer: Arc<Peer>) {
    let mut agreed = peer.agreed.subscribe();
    loop {
        tokio::select! {
            biased;
            () = peer.gone.cancelled() => return,
            changed = agreed.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let verdicts = agreed.borrow_and_update().verdicts.clone();
        inner.apply_verdicts(&verdicts);
    }
}
