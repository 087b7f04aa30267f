//! The life of the allocation: asked for, held, lost, asked for again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::{Deadline, Transactions};
use stunwire::ErrorCode;

use super::authentication::{Challenge, Identity};
use super::config::{LIFETIME, LIFETIME_MAX, OVER_TCP, OVER_UDP};
use super::event::{Event, FailReason, LostReason};
use super::request::{Question, Request, Signature, encode};
use super::{Client, Liveness};
use crate::{PeerAddr, RelayedAddr, Transport};

/// How often in a row an allocation of somebody before us is cleared from our address before waiting.
const CLEARINGS_MAX: u8 = 3;

/// Where the client stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// TCP without a stream.
    Disconnected,
    /// Asking for an allocation.
    Allocating { clearings: u8 },
    /// Our address has an allocation that we do not know (437): giving it back first.
    Clearing { clearings: u8 },
    /// There is one.
    Allocated(Allocation),
    /// The relay refused, or did not answer.
    Waiting { until: Instant },
    /// `close`: giving it back.
    Closing,
    /// Nothing more will happen.
    Closed,
}

/// The allocation we hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocation {
    pub(super) relayed: RelayedAddr,
    refresh_at: Instant,
    expires_at: Instant,
    /// A refused Refresh waits.
    not_before: Instant,
}

impl Phase {
    pub(super) const fn allocation(&self) -> Option<&Allocation> {
        match self {
            Self::Allocated(allocation) => Some(allocation),
            Self::Disconnected
            | Self::Allocating { .. }
            | Self::Clearing { .. }
            | Self::Waiting { .. }
            | Self::Closing
            | Self::Closed => None,
        }
    }
}

impl Client {
    /// Starts asking for an allocation.
    pub(super) fn allocate(&mut self, now: Instant) {
        self.allocate_after(0, now);
    }

    /// Starts what is due: asks, refreshes, renews, or lets an allocation that ran out go.
    pub(super) fn drive(&mut self, now: Instant) {
        match &self.phase {
            Phase::Waiting { until } if now >= *until => self.allocate(now),
            Phase::Allocated(allocation) if now >= allocation.expires_at => {
                self.lose(LostReason::Expired);
                self.allocate(now);
            }
            Phase::Allocated(allocation) => {
                let not_before = allocation.not_before;
                if self.refresh_due().is_some_and(|at| now >= at) {
                    self.ask(Question::Refresh, 0, now);
                }
                if now >= not_before {
                    self.bind_due_channels(now);
                }
            }
            Phase::Disconnected
            | Phase::Waiting { .. }
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Closing
            | Phase::Closed => {}
        }
    }

    /// When [`Client::drive`] has something to do.
    pub(super) fn next_duty(&self) -> Option<Deadline> {
        match &self.phase {
            Phase::Waiting { until } => Some(Deadline::new(*until, "ask for an allocation again")),
            Phase::Allocated(allocation) => sansio::earliest([
                Some(Deadline::new(allocation.expires_at, "allocation runs out")),
                self.refresh_due()
                    .map(|at| Deadline::new(at, "refresh of the allocation")),
                self.channels
                    .next_due(allocation.not_before)
                    .filter(|_| self.has_room())
                    .map(|at| Deadline::new(at, "renewal of a channel")),
            ]),
            Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Closing
            | Phase::Closed => None,
        }
    }

    /// Sends requests again, and draws the conclusion from those that were never answered.
    pub(super) fn handle_silence(&mut self, now: Instant) {
        let mut again = Vec::new();
        let given_up = self
            .requests
            .advance(now, |_, request| again.push(request.bytes.clone()));
        self.stats.retransmissions += again.len() as u64;
        for bytes in again {
            self.transmit(bytes, now);
        }
        for (_, request) in given_up {
            self.handle_unanswered(request.question, now);
        }
    }

    /// An allocation was granted.
    pub(super) fn on_allocated(
        &mut self,
        relayed: RelayedAddr,
        reflexive: SocketAddr,
        lifetime: Duration,
        now: Instant,
    ) {
        if !matches!(self.phase, Phase::Allocating { .. }) {
            return;
        }
        self.backoff.reset();
        self.authentication.on_allocated();
        self.phase = Phase::Allocated(Allocation::new(relayed, lifetime, now));
        self.report(Event::Allocated {
            relayed: relayed.get(),
            reflexive,
        });
    }

    /// The relay confirmed that the allocation lives.
    pub(super) fn on_refreshed(&mut self, lifetime: Duration, now: Instant) {
        if let Phase::Allocated(allocation) = &mut self.phase {
            *allocation = Allocation::new(allocation.relayed, lifetime, now);
            self.backoff.reset();
        }
    }

    /// The relay has no allocation for our address, or none that it would renew.
    pub(super) fn on_allocation_gone(&mut self, reason: LostReason, now: Instant) {
        if self.phase.allocation().is_some() {
            self.lose(reason);
            self.allocate(now);
        }
    }

    /// Our address already has an allocation (437 to Allocate): of an earlier run, or an answer that got lost.
    pub(super) fn clear_strange_allocation(&mut self, now: Instant) {
        let Phase::Allocating { clearings } = self.phase else {
            return;
        };
        if clearings >= CLEARINGS_MAX {
            self.refuse(FailReason::Rejected(ErrorCode::ALLOCATION_MISMATCH), now);
            return;
        }
        self.phase = Phase::Clearing {
            clearings: clearings + 1,
        };
        self.ask(Question::Release, 0, now);
    }

    /// A Release was answered, or never will be.
    pub(super) fn on_released(&mut self, now: Instant) {
        match self.phase {
            Phase::Clearing { clearings } => self.allocate_after(clearings, now),
            Phase::Closing => {
                self.phase = Phase::Closed;
                self.report(Event::Lost {
                    reason: LostReason::Closed,
                });
            }
            Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Allocated(_)
            | Phase::Waiting { .. }
            | Phase::Closed => {}
        }
    }

    /// A Release was refused: closing goes on without it, clearing waits.
    pub(super) fn on_not_released(&mut self, reason: FailReason, now: Instant) {
        if matches!(self.phase, Phase::Closing) {
            self.on_released(now);
        } else {
            self.refuse(reason, now);
        }
    }

    /// The relay said no: wait, then ask again. An allocation that there is stays until it runs out.
    pub(super) fn refuse(&mut self, reason: FailReason, now: Instant) {
        let until = now + self.backoff.after_refusal(&mut self.rng);
        match &mut self.phase {
            Phase::Allocated(allocation) => allocation.not_before = until,
            Phase::Allocating { .. } | Phase::Clearing { .. } => {
                self.phase = Phase::Waiting { until };
            }
            Phase::Disconnected | Phase::Waiting { .. } | Phase::Closing | Phase::Closed => return,
        }
        self.report(Event::Failed { reason });
    }

    /// Something changed for the better: what waits, waits no longer.
    pub(super) fn stop_waiting(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Waiting { until } => *until = now,
            Phase::Allocated(allocation) if allocation.not_before > now => {
                allocation.not_before = now;
                self.liveness.ask(now);
            }
            Phase::Allocated(_)
            | Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Closing
            | Phase::Closed => {}
        }
    }

    pub(super) fn release_for_good(&mut self, now: Instant) {
        match self.phase {
            Phase::Allocated(_) => {
                self.requests.retain(|_| false);
                self.phase = Phase::Closing;
                self.ask(Question::Release, 0, now);
            }
            Phase::Closing | Phase::Closed => {}
            Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Waiting { .. } => {
                self.requests.retain(|_| false);
                self.phase = Phase::Closed;
                self.report(Event::Lost {
                    reason: LostReason::Closed,
                });
            }
        }
    }

    pub(super) fn handle_stream_opened(&mut self, now: Instant) {
        match self.phase {
            Phase::Closing | Phase::Closed => return,
            Phase::Allocated(_) => self.handle_stream_closed(LostReason::Disconnected),
            Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Waiting { .. } => {}
        }
        self.requests.retain(|_| false);
        self.liveness = Liveness::new(now);
        self.allocate(now);
    }

    pub(super) fn handle_stream_closed(&mut self, reason: LostReason) {
        match self.phase {
            Phase::Closing => {
                self.requests.retain(|_| false);
                self.phase = Phase::Closed;
                self.report(Event::Lost {
                    reason: LostReason::Closed,
                });
                return;
            }
            Phase::Closed => return,
            Phase::Allocated(_) => self.lose(reason),
            Phase::Disconnected
            | Phase::Allocating { .. }
            | Phase::Clearing { .. }
            | Phase::Waiting { .. } => self.requests.retain(|_| false),
        }
        self.phase = Phase::Disconnected;
    }

    /// Sends a request; `challenged` counts the challenges that led to it.
    pub(super) fn ask(&mut self, question: Question, challenged: u8, now: Instant) {
        let identity = match question {
            Question::Allocate(_) => self.authentication.newest(),
            Question::Refresh | Question::Release | Question::Bind(..) => {
                self.authentication.current()
            }
        };
        let signer: Option<(&Identity, &Challenge)> = identity.zip(self.authentication.challenge());
        let id = Transactions::<()>::draw_id(&mut self.rng);
        let Ok(bytes) = encode(question, id, LIFETIME, signer) else {
            // Only a user name beyond all limits does this; the relay would refuse it as well.
            self.refuse(FailReason::Unauthorized, now);
            return;
        };
        let signed = signer.map(|(identity, challenge)| Signature {
            key: identity.key.clone(),
            username: identity.username.clone(),
            realm: challenge.realm.clone(),
        });
        let policy = match self.config.transport {
            Transport::Udp => OVER_UDP,
            Transport::Tcp => OVER_TCP,
        };
        let request = Request {
            question,
            bytes: bytes.clone(),
            signed,
            challenged,
        };
        if self.requests.start(id, request, policy, now) {
            self.transmit(bytes, now);
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < super::REQUESTS_MAX
    }

    fn allocate_after(&mut self, clearings: u8, now: Instant) {
        self.requests.retain(|_| false);
        self.phase = Phase::Allocating { clearings };
        self.ask(Question::Allocate(self.family), 0, now);
    }

    fn lose(&mut self, reason: LostReason) {
        self.requests.retain(|_| false);
        self.channels.on_lost();
        self.phase = Phase::Disconnected;
        self.report(Event::Lost { reason });
    }

    fn handle_unanswered(&mut self, question: Question, now: Instant) {
        if self.config.transport == Transport::Tcp && !self.is_stream_alive(now) {
            self.report_silence();
            self.handle_stream_closed(LostReason::Disconnected);
            return;
        }
        match question {
            // The allocation may outlive an outage: it is asked for until it runs out.
            Question::Refresh => self.report_silence(),
            Question::Bind(peer, _) => self.channels.set_asked(peer, false),
            Question::Release => self.on_released(now),
            Question::Allocate(_) => {
                self.report_silence();
                if matches!(self.phase, Phase::Allocating { .. }) {
                    let until = now + self.backoff.after_silence(&mut self.rng);
                    self.phase = Phase::Waiting { until };
                }
            }
        }
    }

    fn is_stream_alive(&self, now: Instant) -> bool {
        now < self.liveness.heard() + OVER_TCP.last_wait
    }

    fn report_silence(&mut self) {
        if !self.liveness.reported {
            self.liveness.reported = true;
            self.report(Event::Failed {
                reason: FailReason::Unreachable,
            });
        }
    }

    fn refresh_due(&self) -> Option<Instant> {
        let allocation = self.phase.allocation()?;
        let outstanding = self
            .requests
            .iter()
            .any(|(_, request)| request.question == Question::Refresh);
        if outstanding || !self.has_room() {
            return None;
        }
        let due = allocation.refresh_at.min(self.liveness.question_at());
        Some(due.max(allocation.not_before))
    }

    fn bind_due_channels(&mut self, now: Instant) {
        for peer in self.channels.due(now) {
            self.bind_channel(peer, now);
        }
    }

    fn bind_channel(&mut self, peer: PeerAddr, now: Instant) {
        if !self.has_room() {
            return;
        }
        if let Some(number) = self.channels.number(peer) {
            self.channels.set_asked(peer, true);
            self.ask(Question::Bind(peer, number), 0, now);
        }
    }
}

impl Allocation {
    fn new(relayed: RelayedAddr, granted: Duration, now: Instant) -> Self {
        let lifetime = granted.min(LIFETIME_MAX);
        Self {
            relayed,
            // Half: four more tries fit before the end even at twelve seconds each.
            refresh_at: now + lifetime / 2,
            expires_at: now + lifetime,
            not_before: now,
        }
    }
}
