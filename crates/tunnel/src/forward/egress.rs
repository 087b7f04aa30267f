//! The end that dials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mapping_core::{AllowList, Protocol, WireMapping};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::admission;
use super::carriers::CarrierSet;
use super::clock::{lock, now};
use super::control_flow::{self, Conversation};
use super::dial::{self, Refusal};
use super::event::{EventSink, ForwardEvent, ForwardEvents};
use super::local;
use super::refusals::ToldRefusals;
use super::shared_flow::SharedFlow;
use super::stats::{Counters, EgressMappingSnapshot, EgressSnapshot, Meter};
use super::stream::{FlowStream, write_all};
use super::supervise::{Supervision, Table};
use super::udp_egress::{self, UdpServices};
use crate::carrier::{Carrier, CarrierId, StreamReceiver, StreamSender};
use crate::control::{ControlEgress, ControlError, EgressEvent, Frame, RefusedMapping};
use crate::datagram::{DatagramEgress, IDLE_TIMEOUT};
use crate::flow::{
    Admission, Flow, FlowConfig, FlowId, FlowTable, OpenRequest, Record, RecordDecoder, RefuseCode,
    ResetCode,
};

/// How long a stream's first record may take: it is the first thing written.
const FIRST_RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a stream is read at once while its first record is waited for.
const FIRST_READ_MAX: usize = 64 * 1024;

/// How the egress behaves toward one peer.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// How long a connection waits for a carrier before it is reset: 1 h, the user's `resume`.
    pub resume: Duration,
    /// How many connections and UDP flows there may be: 4096.
    pub max_connections: u32,
    /// What may be reached.
    pub allow: AllowList,
    /// How long a service may take to accept a connection: 10 s.
    pub dial_timeout: Duration,
    /// How long a UDP flow lives without a packet: 120 s.
    pub udp_idle: Duration,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            resume: Duration::from_secs(3600),
            max_connections: 4096,
            allow: AllowList::default(),
            dial_timeout: Duration::from_secs(10),
            udp_idle: IDLE_TIMEOUT,
        }
    }
}

/// The end that dials, toward one peer instance.
///
/// Cheap to clone. Every method is to be called inside a tokio runtime, whose tasks do the work until
/// [`Self::shutdown`].
#[derive(Clone, Debug)]
pub struct Egress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: EgressConfig,
    pub(super) events: EventSink,
    pub(super) carriers: Arc<CarrierSet>,
    pub(super) table: Arc<Table>,
    pub(super) control: Mutex<ControlEgress>,
    pub(super) committed: watch::Sender<Option<u64>>,
    pub(super) datagrams: Mutex<DatagramEgress>,
    pub(super) services: UdpServices,
    pub(super) tcp: Arc<Counters>,
    pub(super) udp: Arc<Counters>,
    pub(super) dropped_datagrams: AtomicU64,
    pub(super) gone: CancellationToken,
    control_wake: Notify,
    counters: Mutex<BTreeMap<u32, Arc<Counters>>>,
    resume: Mutex<Duration>,
    refused: AtomicU64,
    refusals: ToldRefusals,
}

impl Egress {
    /// Makes one for a peer instance that was proven.
    #[must_use]
    pub fn new(config: EgressConfig) -> (Self, ForwardEvents) {
        let (events, events_rx) = EventSink::new();
        let inner = Arc::new(Inner {
            carriers: Arc::new(CarrierSet::new(events.clone())),
            table: Arc::new(Mutex::new(FlowTable::new(config.max_connections as usize))),
            control: Mutex::new(ControlEgress::new()),
            committed: watch::Sender::new(None),
            datagrams: Mutex::new(DatagramEgress::new(config.udp_idle)),
            services: UdpServices::default(),
            tcp: Arc::default(),
            udp: Arc::default(),
            dropped_datagrams: AtomicU64::new(0),
            gone: CancellationToken::new(),
            control_wake: Notify::new(),
            counters: Mutex::default(),
            resume: Mutex::new(config.resume),
            refused: AtomicU64::new(0),
            refusals: ToldRefusals::default(),
            events,
            config,
        });
        tokio::spawn(udp_egress::sweep(Arc::clone(&inner)));
        (Self { inner }, events_rx)
    }

    /// The peer has one more carrier: its streams are accepted. It is forgotten by itself when it ends.
    pub fn add_carrier(&self, carrier: Carrier) {
        if self.inner.carriers.add(carrier.clone()) {
            tokio::spawn(accept_streams(Arc::clone(&self.inner), carrier.clone()));
            tokio::spawn(udp_egress::receive(Arc::clone(&self.inner), carrier));
        }
    }

    /// Sends UDP answers over this carrier. TCP flows follow the ingress by themselves.
    pub fn prefer(&self, carrier: CarrierId) {
        self.inner.carriers.prefer(carrier);
    }

    /// Sets how long connections from now on wait for a carrier: what both ends agreed on.
    pub fn set_resume(&self, resume: Duration) {
        *lock(&self.inner.resume) = resume;
    }

    /// Returns the version of the committed table.
    #[must_use]
    pub fn committed_version(&self) -> Option<u64> {
        *self.inner.committed.borrow()
    }

    /// Returns everything that is shown to people. Cheap enough for every second.
    #[must_use]
    pub fn snapshot(&self) -> EgressSnapshot {
        let inner = &self.inner;
        let sum = |pick: fn(&Counters) -> &AtomicU64| {
            pick(&inner.tcp).load(Ordering::Relaxed) + pick(&inner.udp).load(Ordering::Relaxed)
        };
        let judged = lock(&inner.control).mappings().to_vec();
        let mappings = judged.into_iter().map(|judged| {
            let counters = inner.counters_of(judged.mapping.id.value());
            EgressMappingSnapshot {
                mapping: judged.mapping,
                error: judged.refused.map(|refused| refused.text),
                connections: counters.connections.load(Ordering::Relaxed),
                bytes_in: counters.bytes_in.load(Ordering::Relaxed),
                bytes_out: counters.bytes_out.load(Ordering::Relaxed),
            }
        });
        EgressSnapshot {
            committed: self.committed_version(),
            mappings: mappings.collect(),
            carriers: inner.carriers.ids(),
            tcp_flows: inner.tcp.connections.load(Ordering::Relaxed),
            udp_flows: lock(&inner.datagrams).len() as u32,
            bytes_in: sum(|counters| &counters.bytes_in),
            bytes_out: sum(|counters| &counters.bytes_out),
            refused_connections: inner.refused.load(Ordering::Relaxed),
            dropped_datagrams: inner.dropped_datagrams.load(Ordering::Relaxed),
            dropped_events: inner.events.dropped(),
        }
    }

    /// The peer is gone for good: resets its connections and closes its sockets.
    pub fn shutdown(&self) {
        self.inner.gone.cancel();
        self.inner.carriers.clear();
    }
}

impl Inner {
    /// The counters of a mapping; there are as many as the largest table had, since ids come from there.
    pub(super) fn counters_of(&self, mapping: u32) -> Arc<Counters> {
        Arc::clone(lock(&self.counters).entry(mapping).or_default())
    }

    pub(super) fn refuse_for_limit(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.events.tell(ForwardEvent::ConnectionsExceeded {
            limit: self.config.max_connections,
        });
    }

    fn flow_config(&self) -> FlowConfig {
        FlowConfig {
            resume: *lock(&self.resume),
            ..FlowConfig::default()
        }
    }

    /// Ends the flows of mappings that are in force no more, and forgets their counters.
    fn on_committed(&self, version: u64, removed: &BTreeSet<u32>) {
        self.end_flows_of(removed);
        let ids: BTreeSet<u32> = lock(&self.control)
            .mappings()
            .iter()
            .map(|judged| judged.mapping.id.value())
            .collect();
        let (accepted, refused) = {
            let control = lock(&self.control);
            let refused = control
                .mappings()
                .iter()
                .filter(|judged| judged.refused.is_some())
                .count();
            (control.mappings().len() - refused, refused)
        };
        lock(&self.counters).retain(|id, _| ids.contains(id));
        self.committed.send_replace(Some(version));
        self.events.tell(ForwardEvent::TableCommitted {
            version,
            accepted: accepted as u32,
            refused: refused as u32,
        });
    }

    /// The ingress ends them, too, but its word may come later, or over a path that is dead.
    fn end_flows_of(&self, removed: &BTreeSet<u32>) {
        if removed.is_empty() {
            return;
        }
        let flows: Vec<_> = lock(&self.table).flows().cloned().collect();
        for flow in flows {
            flow.with(|flow, now| {
                let over =
                    flow.id() != FlowId::CONTROL && removed.contains(&flow.request().mapping);
                if over && !flow.is_ended() {
                    flow.reset(ResetCode::Removed, now);
                }
            });
        }
        let gone = lock(&self.datagrams).remove_mappings(removed);
        for flow in gone {
            self.services.close(flow);
        }
    }

    fn judge(&self, mapping: &WireMapping) -> Result<(), RefusedMapping> {
        self.config
            .allow
            .permits_mapping(mapping)
            .map_err(|refusal| {
                let (reason, id) = (refusal.to_string(), mapping.id.value());
                if self.refusals.is_new(id) {
                    self.events.tell(ForwardEvent::MappingRefused {
                        mapping: id,
                        reason: reason.clone(),
                    });
                }
                RefusedMapping {
                    code: "not-allowed".to_owned(),
                    text: reason,
                }
            })
    }
}

impl Conversation for Inner {
    fn handle_frame(&self, frame: Frame) -> Result<(), ControlError> {
        if let Frame::Propose(proposal) = &frame {
            self.refusals.keep(&proposal.mappings);
        }
        let handled = lock(&self.control).handle_frame(frame, |mapping| self.judge(mapping));
        loop {
            let event = lock(&self.control).poll_event();
            let Some(EgressEvent::Committed { version, removed }) = event else {
                return handled;
            };
            self.on_committed(version, &removed);
        }
    }

    fn poll_frame(&self) -> Option<Frame> {
        lock(&self.control).poll_frame()
    }
}

async fn accept_streams(inner: Arc<Inner>, carrier: Carrier) {
    loop {
        let accepted = tokio::select! {
            () = inner.gone.cancelled() => return,
            accepted = carrier.accept_stream() => accepted,
        };
        let Ok((sender, receiver)) = accepted else {
            return;
        };
        tokio::spawn(serve_stream(
            Arc::clone(&inner),
            carrier.clone(),
            sender,
            receiver,
        ));
    }
}

/// Reads a stream's first record, and gives the stream to the flow that it names.
async fn serve_stream(
    inner: Arc<Inner>,
    carrier: Carrier,
    mut sender: StreamSender,
    mut receiver: StreamReceiver,
) {
    let mut decoder = RecordDecoder::new();
    let first = tokio::time::timeout(
        FIRST_RECORD_TIMEOUT,
        read_first(&mut decoder, &mut receiver),
    );
    let first = tokio::select! {
        () = inner.gone.cancelled() => None,
        first = first => first.ok().flatten(),
    };
    let Some((record, rest)) = first else {
        sender.reset(0);
        return receiver.stop(0);
    };
    let (Record::Open { generation, .. } | Record::Attach { generation, .. }) = record else {
        sender.reset(0);
        return receiver.stop(0);
    };
    let Some((flow, new)) = find_flow(&inner, &record) else {
        return answer_unknown(sender, receiver).await;
    };
    flow.with(|flow, now| flow.handle_record(generation, record, now));
    let gone = inner.gone.clone();
    FlowStream {
        flow: Arc::clone(&flow),
        generation,
        carrier,
        gone,
    }
    .spawn(sender, receiver, decoder, rest);
    if let Some((id, request)) = new {
        start_flow(inner, flow, id, request).await;
    }
}

async fn read_first(
    decoder: &mut RecordDecoder,
    receiver: &mut StreamReceiver,
) -> Option<(Record, Bytes)> {
    while let Ok(Some(mut chunk)) = receiver.read_chunk(FIRST_READ_MAX).await {
        match decoder.decode(&mut chunk) {
            Ok(Some(record)) => return Some((record, chunk)),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "stream without a first record");
                return None;
            }
        }
    }
    None
}

/// Returns the flow that the record names, and what it asks for when it is new; none when it is unknown.
#[expect(clippy::type_complexity, reason = "a pair with one caller")]
fn find_flow(
    inner: &Arc<Inner>,
    record: &Record,
) -> Option<(Arc<SharedFlow>, Option<(FlowId, OpenRequest)>)> {
    let others = lock(&inner.datagrams).len();
    let config = inner.flow_config();
    let (id, request, full) = {
        let mut table = lock(&inner.table);
        match table.admit(record, others) {
            Admission::Existing(flow) => return Some((Arc::clone(flow), None)),
            Admission::Unknown => return None,
            Admission::New(id, request) => (id, request, false),
            Admission::Full(id, request) => (id, request, true),
        }
    };
    let flow = SharedFlow::new(Flow::accept(config, id, request, now()));
    lock(&inner.table).insert(id, Arc::clone(&flow));
    if full {
        inner.refuse_for_limit();
        let code = RefuseCode::Limit;
        flow.with(|flow, now| flow.refuse(code, code.to_string(), now));
    }
    let supervision = Supervision {
        flow: Arc::clone(&flow),
        id,
        mapping: None,
        table: Arc::clone(&inner.table),
        events: inner.events.clone(),
        gone: inner.gone.clone(),
        removed: CancellationToken::new(),
    };
    tokio::spawn(supervision.run());
    Some((flow, (!full).then_some((id, request))))
}

async fn answer_unknown(mut sender: StreamSender, mut receiver: StreamReceiver) {
    let mut answer = BytesMut::new();
    Record::Unknown.encode(&mut answer);
    if write_all(&mut sender, &mut vec![answer.freeze()])
        .await
        .is_ok()
    {
        sender.finish();
    }
    receiver.stop(0);
}

/// Dials the service of a new flow, or runs the conversation of flow 0.
async fn start_flow(inner: Arc<Inner>, flow: Arc<SharedFlow>, id: FlowId, request: OpenRequest) {
    if id == FlowId::CONTROL {
        flow.with(|flow, now| flow.opened(now));
        let reason = tokio::select! {
            () = inner.gone.cancelled() => return,
            reason = control_flow::run(Arc::clone(&flow), &*inner, &inner.control_wake) => reason,
        };
        flow.with(|flow, now| flow.reset(ResetCode::Protocol, now));
        inner.events.tell(ForwardEvent::ControlFailed { reason });
        return;
    }
    let dialled = tokio::select! {
        () = inner.gone.cancelled() => return,
        () = flow.aborted() => return,
        dialled = dial_tcp(&inner, &request) => dialled,
    };
    match dialled {
        Ok(socket) => {
            let meter = Meter::new(inner.counters_of(request.mapping), Arc::clone(&inner.tcp));
            flow.with(|flow, now| flow.opened(now));
            local::close_on_drop(&socket);
            local::spawn(flow, socket, meter);
        }
        Err(Refusal { code, text }) => {
            tracing::debug!(flow = ?id, %code, %text, "flow is refused");
            inner.events.tell(ForwardEvent::FlowRefused {
                mapping: request.mapping,
                reason: text.clone(),
            });
            flow.with(|flow, now| flow.refuse(code, text, now));
        }
    }
}

async fn dial_tcp(inner: &Inner, request: &OpenRequest) -> Result<tokio::net::TcpStream, Refusal> {
    let addresses = admission::admit(inner, request, Protocol::Tcp).await?;
    dial::connect_tcp(&addresses, inner.config.dial_timeout).await
}
