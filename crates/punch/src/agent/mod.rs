//! The agent's verbs: what comes in is judged and dispatched, what goes out is queued.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

use crate::admission::AdmissionControl;
use crate::bucket::Bucket;
use crate::check::{CheckCodec, Received};
use crate::checklist::Checklist;
use crate::note::Notes;
use crate::outstanding::Outstanding;
use crate::volleys::Volleys;
use crate::{
    AgentConfig, AgentStats, Candidate, CandidateKind, CandidatePair, Event, NOTE_MAX,
    PairCredentials, PairId, Role, Volley, VolleyId,
};

mod answers;
mod checks;
mod notes;
mod requests;
mod volleys;

use checks::Cause;

/// More than one input or command can cause (a scheduled check and some probes, or one answer and a triggered
/// check), with room for a driver that drains late.
const TRANSMITS_MAX: usize = 256;
/// One command can remove every pair; a driver that drains as it must loses nothing.
const EVENTS_MAX: usize = 1024;
/// Opens paths to one peer. See the [crate documentation](crate).
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    codec: CheckCodec,
    checklist: Checklist,
    outstanding: Outstanding,
    admission: AdmissionControl,
    triggers: Bucket,
    volleys: Volleys,
    notes: Notes,
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
        let codec = CheckCodec::new(role, &credentials, rng.next_u64(), config.full_size);
        Self {
            codec,
            volleys: Volleys::new(config.probes_per_second_max),
            notes: Notes::new(),
            checklist: Checklist::new(role, config.pairs_max),
            outstanding: Outstanding::new(config.check_lifetime),
            admission: AdmissionControl::new(config.answers_per_second, now),
            triggers: requests::triggers(),
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
        let received = self.codec.receive(payload, |id| {
            Self::expects(&self.outstanding, &self.volleys, &self.notes, id)
        });
        match received {
            Received::NotMine => return Handled::NotMine,
            Received::Unverified => {
                self.stats.unverified += 1;
                return Handled::NotMine;
            }
            Received::OwnRequest => self.stats.own_requests += 1,
            Received::Malformed => self.stats.malformed += 1,
            Received::Request(request) => self.handle_request(&request, local, remote, now),
            Received::Answer(answer) => self.handle_answer(answer, local, remote, now),
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
        self.send_due_probes(now);
        self.repeat_notes(now);
    }

    // --- commands ---

    /// Adds a local candidate, or replaces the one with the same address and base.
    pub fn add_local_candidate(&mut self, candidate: Candidate, now: Instant) {
        self.checklist.add_local(candidate, now);
        self.report_removed();
    }

    /// Adds an anchor: an extra socket that makes no pairs by itself. A verified request that arrives on it makes
    /// one, and a volley may send from it; `kind` is how such a pair was found.
    ///
    /// At most 256 are kept. A base that is known already stays what it is.
    pub fn add_anchor(&mut self, base: SocketAddr, kind: CandidateKind, _now: Instant) {
        if self.checklist.add_anchor(base, kind) {
            let anchors = self.checklist.anchors() as u64;
            self.stats.anchors_peak = self.stats.anchors_peak.max(anchors);
        } else {
            self.stats.anchors_refused += 1;
        }
        self.report_removed();
    }

    /// Takes away a base or an anchor with all its candidates and pairs, validated ones included: its socket or
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

    /// Sends one full-size check on a pair right now, with full TTL, whatever its state; does nothing when there
    /// is no such pair.
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

    /// Sends one small check on a pair right now: where full-size ones stay unanswered, are small ones answered?
    ///
    /// [`Event::SmallAnswered`] follows when it is, on a pair that is validated.
    pub fn check_small(&mut self, pair: PairId, now: Instant) {
        self.send_check(pair, Cause::CommandedSmall, now);
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

    /// Starts sending probes, beside the checks and without holding them up. A probe that is answered makes its
    /// pair and triggers a full-size check on it, which validates it like any other. [`Event::VolleyEnded`] follows
    /// in any case: at once when four volleys are being sent already.
    pub fn start_volley(&mut self, volley: Volley, now: Instant) -> VolleyId {
        self.begin_volley(volley, now)
    }

    /// Stops a volley; [`Event::VolleyEnded`] follows if it had not ended.
    pub fn stop_volley(&mut self, volley: VolleyId) {
        if let Some(ended) = self.volleys.stop(volley) {
            self.report_ended(ended);
        }
    }

    /// Sends a note to the layer above the peer's agent, over a validated pair: authenticated like a check, not
    /// encrypted, repeated until it is acknowledged, in order among the notes of one pair, and reported there once.
    /// [`Event::NoteDelivered`] or [`Event::NoteLost`] follows.
    ///
    /// Returns `false`, and sends nothing, when the pair is not validated, the note is empty or longer than
    /// [`NOTE_MAX`], or 16 notes wait already.
    pub fn send_note(&mut self, pair: PairId, note: Vec<u8>, now: Instant) -> bool {
        let is_validated = self
            .checklist
            .pair(pair)
            .is_some_and(CandidatePair::is_validated);
        let is_note = (1..=NOTE_MAX).contains(&note.len());
        let taken = is_validated && is_note && self.notes.push(pair, note);
        if taken {
            self.send_next_note(pair, now);
        } else {
            self.stats.notes_refused += 1;
        }
        taken
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
            self.volleys
                .deadline()
                .map(|at| Deadline::new(at, "punch: next probe")),
            self.notes
                .deadline()
                .map(|at| Deadline::new(at, "punch: note unanswered")),
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

    fn report_removed(&mut self) {
        for pair in self.checklist.take_removed() {
            for _ in 0..self.notes.forget(pair) {
                self.stats.notes_lost += 1;
                self.push_event(Event::NoteLost { pair });
            }
            self.push_event(Event::PairRemoved { pair });
        }
    }

    // --- bounded queues ---

    fn push_transmit(&mut self, transmit: Transmit) {
        if self.transmits.len() < TRANSMITS_MAX {
            self.stats.datagrams_sent += 1;
            self.stats.bytes_sent += transmit.payload.len() as u64;
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
