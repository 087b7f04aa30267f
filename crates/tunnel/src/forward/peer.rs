//! One peer instance, as the ingress sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mapping_core::WireMapping;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::PeerInstance;
use super::carriers::CarrierSet;
use super::clock::{lock, now};
use super::control_flow::{self, Conversation};
use super::event::{EventSink, ForwardEvent};
use super::shared_flow::SharedFlow;
use super::supervise::{Attaching, Outcome, Supervision, Table};
use crate::control::{ControlError, ControlIngress, Frame, IngressEvent, Verdict};
use crate::datagram::DatagramIngress;
use crate::flow::{Flow, FlowConfig, FlowId, FlowTable, OpenRequest};

/// What the peer said of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    /// The version that flows may name.
    pub(super) version: Option<u64>,
    /// Each mapping with the reason why it is refused.
    pub(super) verdicts: BTreeMap<u32, Option<String>>,
    /// The version that is in force on both ends.
    pub(super) committed: Option<u64>,
    /// The mappings that are accepted in that version.
    pub(super) in_force: BTreeSet<u32>,
}

impl Agreed {
    /// The version to name for a mapping, if the peer has accepted it.
    pub(super) fn version_for(&self, mapping: u32) -> Option<u64> {
        let accepted = matches!(self.verdicts.get(&mapping), Some(None));
        self.version.filter(|_| accepted)
    }
}

/// One peer instance.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) instance: PeerInstance,
    pub(super) carriers: Arc<CarrierSet>,
    pub(super) table: Arc<Table>,
    pub(super) datagrams: Mutex<DatagramIngress>,
    pub(super) agreed: watch::Sender<Agreed>,
    pub(super) gone: CancellationToken,
    control: Mutex<ControlIngress>,
    control_wake: Notify,
    events: EventSink,
}

impl Peer {
    pub(super) fn new(
        instance: PeerInstance,
        flows_max: usize,
        datagrams: DatagramIngress,
        events: EventSink,
    ) -> Arc<Self> {
        Arc::new(Self {
            instance,
            carriers: Arc::new(CarrierSet::new(events.clone())),
            table: Arc::new(Mutex::new(FlowTable::new(flows_max))),
            datagrams: Mutex::new(datagrams),
            agreed: watch::Sender::new(Agreed::default()),
            gone: CancellationToken::new(),
            control: Mutex::new(ControlIngress::new()),
            control_wake: Notify::new(),
            events,
        })
    }

    /// Opens flow 0 and keeps it going.
    pub(super) fn start(self: &Arc<Self>, config: FlowConfig) {
        let request = OpenRequest {
            table_version: 0,
            mapping: 0,
            port_offset: 0,
            local_peer: None,
        };
        let flow = SharedFlow::new(Flow::open(config, FlowId::CONTROL, request, now()));
        let id = FlowId::CONTROL;
        tokio::spawn(self.supervise(&flow, id, None, None, CancellationToken::new()));
        let peer = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = peer.gone.cancelled() => {}
                reason = control_flow::run(Arc::clone(&flow), &*peer, &peer.control_wake) => {
                    flow.with(|flow, now| flow.reset(crate::flow::ResetCode::Protocol, now));
                    peer.events.tell(ForwardEvent::ControlFailed { reason });
                }
            }
        });
    }

    /// Puts a flow into the table, and returns what keeps it attached until it is over.
    pub(super) fn supervise(
        &self,
        flow: &Arc<SharedFlow>,
        id: FlowId,
        mapping: Option<u32>,
        answer_by: Option<std::time::Instant>,
        removed: CancellationToken,
    ) -> impl Future<Output = Outcome> + use<> {
        lock(&self.table).insert(id, Arc::clone(flow));
        let supervision = Supervision {
            flow: Arc::clone(flow),
            id,
            mapping,
            table: Arc::clone(&self.table),
            events: self.events.clone(),
            gone: self.gone.clone(),
            removed,
        };
        let attaching = Attaching::new(Arc::clone(&self.carriers), answer_by);
        supervision.run_attaching(attaching)
    }

    pub(super) fn propose(&self, version: u64, mappings: Vec<WireMapping>) {
        lock(&self.control).propose(version, mappings);
        self.control_wake.notify_one();
    }

    fn take_events(&self) {
        loop {
            let event = lock(&self.control).poll_event();
            match event {
                Some(IngressEvent::Agreed { version, verdicts }) => {
                    self.on_agreed(version, &verdicts)
                }
                Some(IngressEvent::Committed { version }) => self.on_committed(version),
                None => return,
            }
        }
    }

    fn on_agreed(&self, version: u64, verdicts: &[Verdict]) {
        let text = |verdict: &Verdict| verdict.refused.as_ref().map(|refused| refused.text.clone());
        let mut before = BTreeMap::new();
        self.agreed.send_modify(|agreed| {
            agreed.version = Some(version);
            let verdicts = verdicts.iter().map(|v| (v.id.value(), text(v))).collect();
            before = std::mem::replace(&mut agreed.verdicts, verdicts);
        });
        for verdict in verdicts {
            let mapping = verdict.id.value();
            let known = before.get(&mapping);
            if let Some(reason) = text(verdict).filter(|_| known.is_none_or(Option::is_none)) {
                self.events
                    .tell(ForwardEvent::MappingRefused { mapping, reason });
            }
        }
    }

    fn on_committed(&self, version: u64) {
        self.agreed.send_modify(|agreed| {
            let accepted = agreed
                .verdicts
                .iter()
                .filter(|(_, refused)| refused.is_none());
            agreed.in_force = accepted.map(|(id, _)| *id).collect();
            agreed.committed = Some(version);
        });
        let (accepted, refused) = {
            let agreed = self.agreed.borrow();
            let refused = agreed.verdicts.values().flatten().count() as u32;
            (agreed.verdicts.len() as u32 - refused, refused)
        };
        self.events.tell(ForwardEvent::TableCommitted {
            version,
            accepted,
            refused,
        });
    }
}

impl Conversation for Peer {
    fn handle_frame(&self, frame: Frame) -> Result<(), ControlError> {
        let handled = lock(&self.control).handle_frame(frame);
        self.take_events();
        handled
    }

    fn poll_frame(&self) -> Option<Frame> {
        lock(&self.control).poll_frame()
    }
}
