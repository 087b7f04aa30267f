//! Which flows are asked for, open or refused, at the end that dials.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::SWEEP_INTERVAL;
use super::fragments::{Fragments, fragments};
use super::frame::{Body, Datagram};
use super::reassembly::{Fragment, Reassembler};
use crate::flow::{FlowId, IdSet, OpenRequest, RefuseCode};

/// How many payloads wait for a flow's socket; it is there after a name resolution at most.
const WAITING_MAX: usize = 64;
/// How many bytes wait for a flow's socket: the largest payload once.
const WAITING_BYTES_MAX: usize = 128 * 1024;
/// How long a refusal is remembered, so that one answer is made for many packets.
const REFUSED_TIME: Duration = Duration::from_secs(5);
/// How many ranges of used ids are remembered. What falls out is older than all others and counts as used.
const SEEN_RANGES_MAX: usize = 4096;

#[derive(Debug)]
enum State {
    Asked {
        waiting: VecDeque<Bytes>,
        bytes: usize,
    },
    Open,
    Refused {
        code: RefuseCode,
        text: String,
    },
}

#[derive(Debug)]
struct EgressFlow {
    mapping: u32,
    state: State,
    next_packet: u64,
    used_at: Instant,
}

/// What came of a datagram; any of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressStep {
    /// Open this flow, then say [`DatagramEgress::opened`] or [`DatagramEgress::refuse`].
    pub open: Option<(FlowId, OpenRequest)>,
    /// Send this payload to the flow's service.
    pub deliver: Option<(FlowId, Bytes)>,
    /// Send this datagram back.
    pub reply: Option<Bytes>,
}

/// All UDP flows of the egress toward one peer.
#[derive(Debug)]
pub struct DatagramEgress {
    flows: BTreeMap<FlowId, EgressFlow>,
    /// The ids of flows that were begun; none is begun twice, since a repeated datagram would be delivered twice.
    seen: IdSet,
    reassembler: Reassembler,
    idle: Duration,
    sweep_at: Option<Instant>,
    dropped: u64,
}

impl DatagramEgress {
    /// Makes one without flows, which live for `idle` without a packet.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self {
            flows: BTreeMap::new(),
            seen: IdSet::new(SEEN_RANGES_MAX),
            reassembler: Reassembler::new(),
            idle,
            sweep_at: None,
            dropped: 0,
        }
    }

    /// A datagram arrived from the ingress; `has_room` tells whether one more flow may be opened.
    pub fn handle_datagram(
        &mut self,
        datagram: Bytes,
        has_room: impl FnOnce() -> bool,
        now: Instant,
    ) -> EgressStep {
        let mut step = EgressStep::default();
        let Some(Datagram { flow: id, body }) = Datagram::decode(datagram) else {
            return step;
        };
        let Body::Payload {
            request,
            packet,
            offset,
            last,
            bytes,
        } = body
        else {
            return step;
        };
        let flow = match self.flows.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let Some(request) = request.filter(|_| !self.seen.contains(id.value())) else {
                    step.reply = Some(reply(id, Body::UnknownFlow));
                    return step;
                };
                if !has_room() {
                    let text = RefuseCode::Limit.to_string();
                    step.reply = Some(reply(
                        id,
                        Body::Refused {
                            code: RefuseCode::Limit,
                            text,
                        },
                    ));
                    return step;
                }
                self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
                self.seen.insert(id.value());
                step.open = Some((id, request));
                let state = State::Asked {
                    waiting: VecDeque::new(),
                    bytes: 0,
                };
                vacant.insert(EgressFlow {
                    mapping: request.mapping,
                    state,
                    next_packet: 0,
                    used_at: now,
                })
            }
        };
        if let State::Refused { code, text } = &flow.state {
            step.reply = Some(reply(
                id,
                Body::Refused {
                    code: *code,
                    text: text.clone(),
                },
            ));
            return step;
        }
        flow.used_at = now;
        let fragment = Fragment {
            packet,
            offset,
            last,
            bytes,
        };
        let payload = self.reassembler.handle(id, fragment, now);
        match &mut flow.state {
            State::Open => {
                step.reply = request.map(|_| reply(id, Body::FlowKnown));
                step.deliver = payload.map(|payload| (id, payload));
            }
            State::Asked { waiting, bytes } => {
                let Some(payload) = payload else { return step };
                if waiting.len() < WAITING_MAX && *bytes + payload.len() <= WAITING_BYTES_MAX {
                    *bytes += payload.len();
                    waiting.push_back(payload);
                } else {
                    self.dropped += 1;
                }
            }
            State::Refused { .. } => {}
        }
        step
    }

    /// The flow's socket is there: returns the payloads that waited for it, and what to tell the ingress.
    pub fn opened(&mut self, id: FlowId) -> (VecDeque<Bytes>, Option<Bytes>) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return (VecDeque::new(), None);
        };
        match std::mem::replace(&mut flow.state, State::Open) {
            State::Asked { waiting, .. } => (waiting, Some(reply(id, Body::FlowKnown))),
            State::Open | State::Refused { .. } => (VecDeque::new(), None),
        }
    }

    /// The flow will not be opened: returns what to tell the ingress.
    pub fn refuse(
        &mut self,
        id: FlowId,
        code: RefuseCode,
        text: impl Into<String>,
        now: Instant,
    ) -> Option<Bytes> {
        let flow = self.flows.get_mut(&id)?;
        let text = text.into();
        flow.state = State::Refused {
            code,
            text: text.clone(),
        };
        flow.used_at = now;
        self.reassembler.forget(id);
        Some(reply(id, Body::Refused { code, text }))
    }

    /// Cuts a payload from the service into the datagrams to send.
    pub fn send<'a>(
        &mut self,
        id: FlowId,
        payload: &'a [u8],
        max_size: usize,
        now: Instant,
    ) -> Option<Fragments<'a>> {
        let flow = self.flows.get_mut(&id)?;
        flow.used_at = now;
        let packet = flow.next_packet;
        flow.next_packet += 1;
        Some(fragments(id, None, packet, payload, max_size))
    }

    /// Returns when [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Forgets idle flows and incomplete payloads; returns the flows whose sockets are to be closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<FlowId> {
        if self.sweep_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.reassembler.handle_timeout(now);
        let over = |flow: &EgressFlow| match flow.state {
            State::Refused { .. } => flow.used_at + REFUSED_TIME <= now,
            State::Asked { .. } | State::Open => flow.used_at + self.idle <= now,
        };
        let gone: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, flow)| over(flow))
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.forget(*id);
        }
        self.sweep_at = (!self.flows.is_empty()).then(|| now + SWEEP_INTERVAL);
        gone
    }

    /// Forgets the flows of mappings that are in force no more; returns those whose sockets are to be closed.
    pub fn remove_mappings(&mut self, removed: &BTreeSet<u32>) -> Vec<FlowId> {
        let flows = self.flows.iter();
        let gone: Vec<FlowId> = flows
            .filter(|(_, flow)| removed.contains(&flow.mapping))
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.forget(*id);
        }
        gone
    }

    /// Forgets a flow whose socket failed; the ingress will ask for it again if it has more to send.
    pub fn forget(&mut self, id: FlowId) {
        self.flows.remove(&id);
        self.reassembler.forget(id);
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

    /// Returns how many payloads were dropped because too many waited for a socket.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn reply(flow: FlowId, body: Body) -> Bytes {
    Datagram { flow, body }.encode()
}
