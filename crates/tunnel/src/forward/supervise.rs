//! The task that attaches a flow to carriers, keeps its time, and lets it go.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::carriers::CarrierSet;
use super::clock::{lock, now, sleep_until};
use super::event::{EventSink, ForwardEvent};
use super::shared_flow::SharedFlow;
use super::stream::FlowStream;
use crate::carrier::{Carrier, CarrierId};
use crate::flow::{Event, FlowId, FlowTable, RecordDecoder, ResetCode};

/// How long a carrier may take to give a stream: it waits only while the peer takes no more of them.
const OPEN_STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause before a flow tries a carrier again that has just failed it; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The table that shared flows are in.
pub(super) type Table = Mutex<FlowTable<Arc<SharedFlow>>>;

/// What a supervisor needs beside the flow.
pub(super) struct Supervision {
    pub(super) flow: Arc<SharedFlow>,
    pub(super) id: FlowId,
    /// The mapping, for the log; none for the control flow.
    pub(super) mapping: Option<u32>,
    pub(super) table: Arc<Table>,
    pub(super) events: EventSink,
    /// The peer is gone for good.
    pub(super) gone: CancellationToken,
    /// The mapping was removed or is closed.
    pub(super) removed: CancellationToken,
}

/// How the supervision of a flow at the ingress ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The flow may be forgotten.
    Over,
    /// The peer is gone for good and has never said anything of the flow, which can be opened to another.
    Unanswered,
}

/// What the ingress adds: it opens the streams.
pub(super) struct Attaching {
    carriers: Arc<CarrierSet>,
    /// When a flow that was never answered is given up.
    answer_by: Option<Instant>,
    on: Option<CarrierId>,
    retry: Duration,
    retry_at: Option<Instant>,
}

impl Attaching {
    pub(super) const fn new(carriers: Arc<CarrierSet>, answer_by: Option<Instant>) -> Self {
        Self {
            carriers,
            answer_by,
            on: None,
            retry: RETRY_MIN,
            retry_at: None,
        }
    }
}

impl Supervision {
    /// Egress: runs until the flow may be forgotten.
    pub(super) async fn run(self) {
        let mut ended = false;
        while !self.settle(&mut ended) {
            let deadline = self.flow.arm();
            tokio::select! {
                () = self.gone.cancelled() => return self.abandon(ResetCode::Shutdown),
                () = self.removed.cancelled(), if !ended => self.reset(ResetCode::Removed),
                () = self.flow.changed() => {}
                () = sleep_until(deadline) => self.flow.with(|flow, now| flow.handle_timeout(now)),
            }
        }
    }

    /// Ingress: the same, and keeps the flow on the carrier that is preferred.
    pub(super) async fn run_attaching(self, mut attaching: Attaching) -> Outcome {
        let mut changes = attaching.carriers.subscribe();
        let mut ended = false;
        while !self.settle(&mut ended) {
            changes.borrow_and_update();
            if let Some(carrier) = attaching.wanted(&self.flow, ended) {
                tokio::select! {
                    () = self.gone.cancelled() => return self.part(),
                    () = attaching.attach(&self.flow, carrier, &self.gone) => continue,
                }
            }
            let answer_by = attaching
                .answer_by
                .filter(|_| !self.flow.look(crate::flow::Flow::is_answered));
            let deadlines = [
                self.flow.arm(),
                attaching.retry_at,
                answer_by.filter(|_| !ended),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                () = self.gone.cancelled() => return self.part(),
                () = self.removed.cancelled(), if !ended => self.reset(ResetCode::Removed),
                () = self.flow.changed() => {}
                _ = changes.changed() => {}
                () = sleep_until(deadline) => {
                    self.flow.with(|flow, now| flow.handle_timeout(now));
                    if !ended && answer_by.is_some_and(|at| at <= now()) {
                        self.reset(ResetCode::NoPeer);
                    }
                }
            }
        }
        Outcome::Over
    }

    /// Tells events, and moves the flow through the table; true when it was forgotten.
    fn settle(&self, ended: &mut bool) -> bool {
        while let Some(event) = self.flow.poll_event() {
            self.tell(event);
        }
        if !*ended && self.flow.look(crate::flow::Flow::is_ended) {
            *ended = true;
            let evicted = lock(&self.table).mark_ended(self.id);
            if let Some(evicted) = evicted {
                evicted.with(|flow, _| flow.forget());
            }
        }
        let finished = self.flow.look(crate::flow::Flow::is_finished);
        if finished {
            lock(&self.table).remove(self.id);
        }
        finished
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Opened => {}
            Event::Refused { code, text } => {
                tracing::debug!(flow = ?self.id, %code, %text, "flow was refused");
                if let Some(mapping) = self.mapping {
                    self.events.tell(ForwardEvent::FlowRefused {
                        mapping,
                        reason: text,
                    });
                }
            }
            Event::Reset { code, by_peer } => {
                tracing::debug!(flow = ?self.id, %code, by_peer, "flow was reset");
            }
        }
    }

    fn reset(&self, code: ResetCode) {
        self.flow.with(|flow, now| flow.reset(code, now));
    }

    /// Ingress: the peer is gone for good.
    fn part(&self) -> Outcome {
        if self.flow.with(|flow, now| flow.take_back(now)) {
            lock(&self.table).remove(self.id);
            return Outcome::Unanswered;
        }
        self.abandon(ResetCode::Shutdown);
        Outcome::Over
    }

    fn abandon(&self, code: ResetCode) {
        self.reset(code);
        lock(&self.table).remove(self.id);
    }
}

impl Attaching {
    /// The carrier to attach to now, if any.
    fn wanted(&mut self, flow: &SharedFlow, ended: bool) -> Option<Carrier> {
        let carrier = self.carriers.current()?;
        let stranded = flow.look(crate::flow::Flow::wants_stream);
        let elsewhere = self.on != Some(carrier.id());
        if !(stranded || (elsewhere && !ended)) {
            self.retry_at = None;
            return None;
        }
        if elsewhere {
            self.retry = RETRY_MIN;
            self.retry_at = None;
            return Some(carrier);
        }
        // This carrier has just lost the flow's stream: not at once again.
        let at = *self.retry_at.get_or_insert_with(|| now() + self.retry);
        if now() < at {
            return None;
        }
        self.retry = (self.retry * 2).min(RETRY_MAX);
        self.retry_at = None;
        Some(carrier)
    }

    async fn attach(&mut self, flow: &Arc<SharedFlow>, carrier: Carrier, gone: &CancellationToken) {
        self.on = Some(carrier.id());
        let opened = tokio::time::timeout(OPEN_STREAM_TIMEOUT, carrier.open_stream()).await;
        let Ok(Ok((sender, receiver))) = opened else {
            self.retry_at = Some(now() + self.retry);
            return;
        };
        let generation = flow.attach();
        FlowStream {
            flow: Arc::clone(flow),
            generation,
            carrier,
            gone: gone.clone(),
        }
        .spawn(sender, receiver, RecordDecoder::new(), Bytes::new());
    }
}
