//! Which local source has which flow, at the end that listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::SWEEP_INTERVAL;
use super::fragments::{Fragments, fragments};
use super::frame::{Body, Datagram};
use super::reassembly::{Fragment, Reassembler};
use crate::flow::{FlowId, OpenRequest, RefuseCode};

/// How long a refused source is not asked for again: its packets are dropped meanwhile.
const REFUSED_TIME: Duration = Duration::from_secs(5);

/// Who sends to a listening UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The mapping of the port.
    pub mapping: u32,
    /// How far the port is into the mapping's range.
    pub port_offset: u16,
    /// The sender.
    pub local_peer: SocketAddr,
}

#[derive(Debug)]
struct IngressFlow {
    source: Source,
    /// The egress has answered.
    known: bool,
    refused_at: Option<Instant>,
    next_packet: u64,
    used_at: Instant,
}

/// What came of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressStep {
    /// Send this payload to that source.
    Deliver(Source, Bytes),
    /// The egress will not open this source's flow.
    Refused(Source, RefuseCode, String),
    /// Nothing to do.
    Nothing,
}

/// All UDP flows of the ingress toward one peer.
#[derive(Debug)]
pub struct DatagramIngress {
    flows: BTreeMap<FlowId, IngressFlow>,
    by_source: BTreeMap<Source, FlowId>,
    reassembler: Reassembler,
    idle: Duration,
    sweep_at: Option<Instant>,
}

impl DatagramIngress {
    /// Makes one without flows, which live for `idle` without a packet.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self {
            flows: BTreeMap::new(),
            by_source: BTreeMap::new(),
            reassembler: Reassembler::new(),
            idle,
            sweep_at: None,
        }
    }

    /// Returns the flow of a source, made with the id that `new_id` returns if there is none; `None` when
    /// there may be no more flows, or the egress refused this one lately.
    pub fn flow_of(
        &mut self,
        source: Source,
        new_id: impl FnOnce() -> Option<FlowId>,
        now: Instant,
    ) -> Option<FlowId> {
        if let Some(id) = self.by_source.get(&source) {
            return self
                .flows
                .get(id)
                .filter(|flow| flow.refused_at.is_none())
                .map(|_| *id);
        }
        let id = new_id()?;
        let flow = IngressFlow {
            source,
            known: false,
            refused_at: None,
            next_packet: 0,
            used_at: now,
        };
        self.flows.insert(id, flow);
        self.by_source.insert(source, id);
        self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
        Some(id)
    }

    /// Cuts a payload into the datagrams to send.
    pub fn send<'a>(
        &mut self,
        id: FlowId,
        table_version: u64,
        payload: &'a [u8],
        max_size: usize,
        now: Instant,
    ) -> Option<Fragments<'a>> {
        let flow = self.flows.get_mut(&id)?;
        flow.used_at = now;
        let packet = flow.next_packet;
        flow.next_packet += 1;
        let request = (!flow.known).then_some(OpenRequest {
            table_version,
            mapping: flow.source.mapping,
            port_offset: flow.source.port_offset,
            local_peer: Some(flow.source.local_peer),
        });
        Some(fragments(id, request.as_ref(), packet, payload, max_size))
    }

    /// A datagram arrived from the egress.
    pub fn handle_datagram(&mut self, datagram: Bytes, now: Instant) -> IngressStep {
        let Some(Datagram { flow: id, body }) = Datagram::decode(datagram) else {
            return IngressStep::Nothing;
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return IngressStep::Nothing;
        };
        match body {
            Body::Payload {
                packet,
                offset,
                last,
                bytes,
                ..
            } => {
                flow.used_at = now;
                flow.known = true;
                let source = flow.source;
                let fragment = Fragment {
                    packet,
                    offset,
                    last,
                    bytes,
                };
                self.reassembler
                    .handle(id, fragment, now)
                    .map_or(IngressStep::Nothing, |payload| {
                        IngressStep::Deliver(source, payload)
                    })
            }
            // The egress begins again with packet 0, and this end would take its answers for repetitions: the
            // source gets a new id with its next packet.
            Body::UnknownFlow if flow.refused_at.is_none() => {
                self.forget(id);
                IngressStep::Nothing
            }
            Body::UnknownFlow => IngressStep::Nothing,
            Body::FlowKnown => {
                flow.known = true;
                IngressStep::Nothing
            }
            Body::Refused { code, text } if flow.refused_at.is_none() => {
                flow.refused_at = Some(now);
                IngressStep::Refused(flow.source, code, text)
            }
            Body::Refused { .. } => IngressStep::Nothing,
        }
    }

    /// Returns when [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Forgets idle flows and incomplete payloads.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        self.reassembler.handle_timeout(now);
        let over = |flow: &IngressFlow| match flow.refused_at {
            Some(at) => at + REFUSED_TIME <= now,
            None => flow.used_at + self.idle <= now,
        };
        let gone: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, flow)| over(flow))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.forget(id);
        }
        self.sweep_at = (!self.flows.is_empty()).then(|| now + SWEEP_INTERVAL);
    }

    /// Forgets the flows of a mapping that was removed.
    pub fn remove_mapping(&mut self, mapping: u32) {
        let gone: Vec<FlowId> = self
            .by_source
            .iter()
            .filter(|(s, _)| s.mapping == mapping)
            .map(|(_, id)| *id)
            .collect();
        for id in gone {
            self.forget(id);
        }
    }

    /// Returns how many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Returns how many flows each mapping has that has any.
    #[must_use]
    pub fn flows_by_mapping(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for source in self.by_source.keys() {
            *counts.entry(source.mapping).or_default() += 1;
        }
        counts
    }

    fn forget(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(&id) {
            self.by_source.remove(&flow.source);
        }
        self.reassembler.forget(id);
    }
}
