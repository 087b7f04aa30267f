//! What is counted, and what is shown of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mapping_core::WireMapping;

use crate::carrier::CarrierId;

/// The state of a mapping, in the words of `status --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingState {
    /// Its ports are open and the egress has accepted it.
    Active,
    /// No peer has accepted it yet.
    Pending,
    /// A port is taken, or the egress refused it.
    Error,
}

/// One mapping of the ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSnapshot {
    /// Its id.
    pub id: u32,
    /// Its state.
    pub state: MappingState,
    /// Why it is in error.
    pub error: Option<String>,
    /// Whether a port of it has been neither opened nor refused by the system yet.
    pub opening: bool,
    /// The socket of its first port, while that is open.
    pub listen: Option<SocketAddr>,
    /// Connections, and UDP sources, at present.
    pub connections: u32,
    /// Connections so far.
    pub total_connections: u64,
    /// Payload that came from the tunnel, in bytes.
    pub bytes_in: u64,
    /// Payload that went into the tunnel, in bytes.
    pub bytes_out: u64,
}

/// The ingress at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressSnapshot {
    /// The version of the wanted table.
    pub version: u64,
    /// The version that both ends have.
    pub committed: Option<u64>,
    /// The mappings, by id.
    pub mappings: Vec<MappingSnapshot>,
    /// Ports that are no longer wanted and not yet closed, for a moment.
    pub closing_ports: u32,
    /// The carriers that live.
    pub carriers: Vec<CarrierId>,
    /// The carrier that flows ride on.
    pub preferred: Option<CarrierId>,
    /// TCP connections with a flow.
    pub tcp_flows: u32,
    /// UDP flows.
    pub udp_flows: u32,
    /// Payload that came from the tunnel, in bytes.
    pub bytes_in: u64,
    /// Payload that went into the tunnel, in bytes.
    pub bytes_out: u64,
    /// Connections that were reset since there were too many.
    pub refused_connections: u64,
    /// UDP payloads dropped since no peer or no path was there, or the carrier takes too little.
    pub dropped_datagrams: u64,
    /// Events that the shell did not take in time.
    pub dropped_events: u64,
}

/// One mapping of the egress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressMappingSnapshot {
    /// As the ingress proposed it.
    pub mapping: WireMapping,
    /// Why it was refused.
    pub error: Option<String>,
    /// Connections, and UDP flows, at present.
    pub connections: u32,
    /// Payload that came from the tunnel, in bytes.
    pub bytes_in: u64,
    /// Payload that went into the tunnel, in bytes.
    pub bytes_out: u64,
}

/// The egress toward one peer, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressSnapshot {
    /// The version of the committed table.
    pub committed: Option<u64>,
    /// Its mappings.
    pub mappings: Vec<EgressMappingSnapshot>,
    /// The carriers that live.
    pub carriers: Vec<CarrierId>,
    /// TCP connections.
    pub tcp_flows: u32,
    /// UDP flows.
    pub udp_flows: u32,
    /// Payload that came from the tunnel, in bytes.
    pub bytes_in: u64,
    /// Payload that went into the tunnel, in bytes.
    pub bytes_out: u64,
    /// Connections that were refused since there were too many.
    pub refused_connections: u64,
    /// UDP payloads dropped since a socket or a carrier would not take them.
    pub dropped_datagrams: u64,
    /// Events that the shell did not take in time.
    pub dropped_events: u64,
}

/// What one mapping, or a whole tunnel, has moved.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU32,
    pub(super) total_connections: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

/// A connection's counters: its mapping's and its tunnel's. It counts as a connection while this lives.
#[derive(Debug)]
pub(super) struct Meter {
    mapping: Arc<Counters>,
    tunnel: Arc<Counters>,
}

impl Meter {
    pub(super) fn new(mapping: Arc<Counters>, tunnel: Arc<Counters>) -> Self {
        for counters in [&mapping, &tunnel] {
            counters.connections.fetch_add(1, Ordering::Relaxed);
            counters.total_connections.fetch_add(1, Ordering::Relaxed);
        }
        Self { mapping, tunnel }
    }

    pub(super) fn count_in(&self, bytes: usize) {
        self.mapping
            .bytes_in
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.tunnel
            .bytes_in
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_out(&self, bytes: usize) {
        self.mapping
            .bytes_out
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.tunnel
            .bytes_out
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        for counters in [&self.mapping, &self.tunnel] {
            counters.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
