//! The agent's verbs: what comes in is judged and dispatched, what goes out is queued.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sansio::{Datagram, Deadline, Handled, Transactions, Transmit, earliest};
use stunwire::TransactionId;
use tracing::{debug, trace};

use crate::admission::{Admission, AdmissionControl};
use crate::candidate::{kind_of_unknown, peer_reflexive_priority};
use crate::check::{CheckCodec, Received};
use crate::checklist::Checklist;
use crate::outstanding::{Outstanding, SentCheck};
use crate::{
    AgentConfig, AgentStats, Candidate, CandidatePair, Event, PairCredentials, PairId, PairState,
    Role,
};

/// More than one input or command can cause (a scheduled check, or one answer and a triggered check), with
/// room for a driver that drains late.
const TRANSMITS_MAX: usize = 256;
/// One command can remove every pair; a driver that drains as it must loses nothing.
const EVENTS_MAX: usize = 1024;
/// Requests come 100 ms apart at the most; what comes faster is a burst and needs no check each.
const TRIGGER_INTERVAL: Duration = Duration::from_millis(20);

/// Why a check is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Scheduled,
    Triggered,
    Commanded,
}

/// Opens paths to one peer. See the [crate documentation](crate).
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    codec: CheckCodec,
    checklist: Checklist,
    outstanding: Outstanding,
    admission: AdmissionControl,
    /// No scheduled check leaves before this.
    next_turn: Instant,
    rng: StdRng,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: AgentStats,
}

impl Agent {
    /// Makes an agent that knows no candidate yet; the tie breaker is drawn from the seed.
    #[must_use]
    pub fn new(
        config: AgentConfig,
        role: Role,
        credentials: PairCredentials,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let codec = CheckCodec::new(role, &credentials, rng.next_u64());
        Self {
            codec,
            checklist: Checklist::new(role, config.pairs_max),
            outstanding: Outstanding::new(config.check_lifetime),
            admission: AdmissionControl::new(config.answers_per_second, now),
            next_turn: now,
            rng,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: AgentStats::default(),
            config,
        }
    }

    // --- input ---

    /// Takes a datagram: a verified check or answer of the peer, or our own check come back. Anything else
    /// is [`Handled::NotMine`], and changes nothing but a counter.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let Datagram {
            local,
            remote,
            payload,
        } = datagram;
        match self
            .codec
            .receive(payload, |id| self.outstanding.get(id).is_some())
        {
            Received::NotMine => return Handled::NotMine,
            Received::Unverified => {
                self.stats.unverified += 1;
                return Handled::NotMine;
            }
            Received::OwnRequest => self.stats.own_requests += 1,
            Received::Malformed => self.stats.malformed += 1,
            Received::Request { id, priority } => {
                self.handle_request(id, priority, local, remote, now);
            }
            Received::Answer { id, mapped } => self.handle_answer(id, mapped, local, remote, now),
            Received::ErrorAnswer { id } => self.handle_error_answer(&id, local, remote),
        }
        Handled::Consumed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((id, check)) = self.outstanding.expire_one(now) {
            self.report_unanswered(id, check);
        }
        while self.next_turn <= now {
            let Some(pair) = self.checklist.next_due(now) else {
                break;
            };
            self.send_check(pair, Cause::Scheduled, now);
        }
    }

    // --- commands ---

    /// Adds a local candidate, or replaces the one with the same address and base.
    pub fn add_local_candidate(&mut self, candidate: Candidate, now: Instant) {
        self.checklist.add_local(candidate, now);
        self.report_removed();
    }

    /// Takes away a base with all its candidates and pairs, validated ones included: its socket or
    /// allocation is gone.
    pub fn remove_local_base(&mut self, base: SocketAddr, now: Instant) {
        self.checklist.remove_base(base, now);
        self.report_removed();
    }

    /// Adds a remote candidate, or replaces the one with the same address.
    pub fn add_remote_candidate(&mut self, candidate: Candidate, now: Instant) {
        self.checklist.add_remote(candidate, now);
        self.report_removed();
    }

    /// Replaces the remote candidates by those of a newer description: pairs of vanished candidates go,
    /// except those that were validated or heard.
    pub fn set_remote_candidates(&mut self, candidates: Vec<Candidate>, now: Instant) {
        self.checklist.set_remotes(candidates, now);
        self.report_removed();
    }

    /// Sends one check on a pair right now, with full TTL, whatever its state; does nothing when there is
    /// no such pair.
    ///
    /// [`Event::CheckAnswered`] or [`Event::CheckUnanswered`] follows, unless the pair is removed before.
    pub fn check(&mut self, pair: PairId, now: Instant) {
        let Some(known) = self.checklist.pair_mut(pair) else {
            return;
        };
        if let Some(older) = known.commanded.take() {
            self.outstanding.supersede(&older);
            self.push_event(Event::CheckUnanswered { pair });
        }
        self.send_check(pair, Cause::Commanded, now);
    }

    /// Notes that packets of another kind (carrier packets) arrived on a pair, so that it is not taken for
    /// abandoned. Needed only for paths that are never checked because they are never quiet.
    pub fn note_heard(&mut self, pair: PairId, now: Instant) {
        if let Some(known) = self.checklist.pair_mut(pair) {
            known.last_heard = Some(now);
        }
    }

    /// Begins the schedule of one pair anew. If it was validated, that is taken back (its path was found
    /// dead), and an answer is reported as [`Event::PairValidated`] once more.
    pub fn restart(&mut self, pair: PairId, now: Instant) {
        if let Some(known) = self.checklist.pair_mut(pair) {
            known.restart(now);
        }
    }

    /// Begins the schedule of every pair that is not validated anew: there is news (of the network, or of
    /// the peer), so that what failed before may work now.
    pub fn restart_unvalidated(&mut self, now: Instant) {
        self.checklist.restart_unvalidated(now);
    }

    // --- output ---

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Agent::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let check = self.checklist.due().map(|due| due.max(self.next_turn));
        earliest([
            check.map(|at| Deadline::new(at, "punch: next check")),
            self.outstanding
                .deadline()
                .map(|at| Deadline::new(at, "punch: check unanswered")),
        ])
    }

    // --- what is known ---

    /// Returns a pair.
    #[must_use]
    pub fn pair(&self, id: PairId) -> Option<&CandidatePair> {
        self.checklist.pair(id)
    }

    /// Returns all pairs in the order in which they were made.
    pub fn pairs(&self) -> impl Iterator<Item = &CandidatePair> {
        self.checklist.pairs()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> AgentStats {
        AgentStats {
            candidates_refused: self.checklist.candidates_refused(),
            pairs_refused: self.checklist.pairs_refused(),
            ..self.stats
        }
    }

    // --- one handler per message ---

    fn handle_request(
        &mut self,
        id: TransactionId,
        priority: u32,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        self.stats.requests_verified += 1;
        if !self.checklist.has_base(local) {
            self.stats.misdirected += 1;
            return;
        }
        let admission = self.admission.admit(id, local, remote, now);
        match admission {
            Admission::Fresh | Admission::Duplicate => {}
            Admission::Replayed => {
                self.stats.replayed += 1;
                return;
            }
            Admission::Capped => {
                self.stats.answers_capped += 1;
                return;
            }
        }
        let kind = kind_of_unknown(priority);
        let Some(pair) = self.checklist.hear(local, remote, kind, priority, now) else {
            self.stats.misdirected += 1;
            return;
        };
        self.report_removed();
        self.answer(id, local, remote);
        if admission == Admission::Fresh {
            self.hear_peer(pair, now);
        }
    }

    fn answer(&mut self, id: TransactionId, local: SocketAddr, remote: SocketAddr) {
        let Ok(payload) = self.codec.encode_answer(id, remote) else {
            self.stats.transmits_dropped += 1;
            return;
        };
        self.stats.answers_sent += 1;
        trace!(target: "wire::stun", %local, %remote, "check answered");
        self.push_transmit(Transmit {
            source: local,
            destination: remote,
            ttl: None,
            payload,
        });
    }

    /// The peer's packets arrive on this pair: the layer above learns it, and a check goes the other way.
    fn hear_peer(&mut self, id: PairId, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(id) else {
            return;
        };
        pair.last_heard = Some(now);
        let seen = Event::RemoteSeen {
            pair: id,
            local_base: pair.local.base,
            remote: pair.remote.address,
            remote_kind: pair.remote.kind,
        };
        let needs_check = !pair.is_validated();
        let is_capped = pair
            .last_triggered
            .is_some_and(|last| now.saturating_duration_since(last) < TRIGGER_INTERVAL);
        if needs_check {
            pair.schedule.hear(now);
        }
        self.push_event(seen);
        if needs_check && is_capped {
            self.stats.triggered_capped += 1;
        } else if needs_check {
            self.send_check(id, Cause::Triggered, now);
        }
    }

    fn handle_answer(
        &mut self,
        id: TransactionId,
        mapped: SocketAddr,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        let Some(check) = self.take_check(&id, local, remote) else {
            return;
        };
        let Some(pair) = self.checklist.pair_mut(check.pair) else {
            return;
        };
        let rtt = now.saturating_duration_since(check.sent_at);
        let was_validated = pair.is_validated();
        pair.state = PairState::Validated;
        pair.rtt = Some(rtt);
        pair.mapped = Some(mapped);
        pair.last_heard = Some(now);
        if pair.commanded == Some(id) {
            pair.commanded = None;
        }
        let (local, remote) = (pair.local, pair.remote);
        self.stats.answers_verified += 1;
        if !was_validated {
            debug!(pair = %check.pair, local = %local.base, remote = %remote.address,
                rtt_ms = rtt.as_millis(), "pair validated");
            self.push_event(Event::PairValidated {
                pair: check.pair,
                local,
                remote,
                rtt,
            });
        }
        if check.commanded {
            self.push_event(Event::CheckAnswered {
                pair: check.pair,
                rtt,
            });
        }
    }

    /// We never refuse a peer's check, so this is a peer of another make: the check counts as unanswered.
    fn handle_error_answer(&mut self, id: &TransactionId, local: SocketAddr, remote: SocketAddr) {
        if let Some(check) = self.take_check(id, local, remote) {
            self.stats.error_answers += 1;
            self.report_unanswered(*id, check);
        }
    }

    /// An answer must come from where its check was sent, and to where it left (RFC 8445, section
    /// 7.2.5.2.1); one that does not leaves the check outstanding.
    fn take_check(
        &mut self,
        id: &TransactionId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SentCheck> {
        let check = self.outstanding.get(id)?;
        let pair = self.checklist.pair(check.pair);
        if pair.is_none_or(|pair| pair.key() != (local, remote)) {
            self.stats.misdirected += 1;
            return None;
        }
        self.outstanding.take(id)
    }

    // --- checks ---

    fn send_check(&mut self, id: PairId, cause: Cause, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(id) else {
            return;
        };
        let transaction = Transactions::<()>::draw_id(&mut self.rng);
        let ttl = match cause {
            Cause::Scheduled => pair.schedule.ttl(&self.config, now),
            Cause::Triggered | Cause::Commanded => None,
        };
        match cause {
            Cause::Scheduled => pair.schedule.advance(&self.config, &mut self.rng, now),
            Cause::Triggered => {
                pair.last_triggered = Some(now);
                pair.schedule.advance(&self.config, &mut self.rng, now);
            }
            Cause::Commanded => pair.commanded = Some(transaction),
        }
        if pair.state == PairState::Waiting {
            pair.state = PairState::Checking;
        }
        pair.checks_sent += 1;
        let (source, destination) = pair.key();
        let priority = peer_reflexive_priority(&pair.local);

        self.next_turn = self.next_turn.max(now + self.config.pacing);
        self.stats.checks_sent += 1;
        self.stats.openers_sent += u64::from(ttl.is_some());
        self.stats.triggered_sent += u64::from(cause == Cause::Triggered);
        let check = SentCheck {
            pair: id,
            sent_at: now,
            commanded: cause == Cause::Commanded,
        };
        if let Some((forgotten_id, forgotten)) = self.outstanding.insert(transaction, check) {
            self.stats.checks_forgotten += 1;
            self.report_unanswered(forgotten_id, forgotten);
        }
        let Ok(payload) = self.codec.encode_request(transaction, priority) else {
            self.stats.transmits_dropped += 1;
            return;
        };
        trace!(target: "wire::stun", pair = %id, %source, %destination, ?ttl, ?cause, "check sent");
        self.push_transmit(Transmit {
            source,
            destination,
            ttl,
            payload,
        });
    }

    /// Tells the layer above that a check which it commanded, and still waits for, has failed.
    fn report_unanswered(&mut self, id: TransactionId, check: SentCheck) {
        let Some(pair) = self.checklist.pair_mut(check.pair) else {
            return;
        };
        if pair.commanded == Some(id) {
            pair.commanded = None;
            self.push_event(Event::CheckUnanswered { pair: check.pair });
        }
    }

    fn report_removed(&mut self) {
        for pair in self.checklist.take_removed() {
            self.push_event(Event::PairRemoved { pair });
        }
    }

    // --- bounded queues ---

    fn push_transmit(&mut self, transmit: Transmit) {
        if self.transmits.len() < TRANSMITS_MAX {
            self.transmits.push_back(transmit);
        } else {
            self.stats.transmits_dropped += 1;
        }
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.stats.events_dropped += 1;
        }
    }
}
