//! A verified answer of the peer arrived: to a check, a probe or a note.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stunwire::TransactionId;
use tracing::debug;

use super::{Agent, Cause};
use crate::check::Answer;
use crate::note::Notes;
use crate::outstanding::{Outstanding, SentCheck};
use crate::volleys::Volleys;
use crate::width::{Finding, Size};
use crate::{Event, PairId, PairState};

impl Agent {
    /// Returns whether a transaction is one of ours.
    pub(super) fn expects(
        outstanding: &Outstanding,
        volleys: &Volleys,
        notes: &Notes,
        id: &TransactionId,
    ) -> bool {
        outstanding.get(id).is_some() || volleys.find(id).is_some() || notes.get(id).is_some()
    }

    pub(super) fn handle_answer(
        &mut self,
        answer: Answer,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        if self.volleys.find(&answer.id).is_some() {
            self.handle_probe_answer(&answer.id, local, remote, now);
        } else if self.notes.get(&answer.id).is_some() {
            self.handle_note_answer(&answer.id, local, remote, now);
        } else if let Some(check) = self.take_check(&answer.id, local, remote) {
            self.handle_check_answer(answer, check, now);
        }
    }

    fn handle_check_answer(&mut self, answer: Answer, check: SentCheck, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(check.pair) else {
            return;
        };
        let rtt = now.saturating_duration_since(check.sent_at);
        pair.rtt = Some(rtt);
        pair.mapped = Some(answer.mapped);
        pair.last_heard = Some(now);
        if pair.commanded == Some(answer.id) {
            pair.commanded = None;
        }
        self.stats.answers_verified += 1;
        // A peer that does not pad its answer has shown no more than small packets.
        let is_full = check.size == Size::Full && self.codec.is_full_size(answer.length);
        self.stats.full_size_answered += u64::from(is_full);
        if is_full || !self.codec.pads() {
            self.validate(check.pair, rtt);
        } else {
            self.handle_small_answer(check, now);
        }
        if check.commanded {
            self.push_event(Event::CheckAnswered {
                pair: check.pair,
                rtt,
            });
        }
    }

    fn validate(&mut self, id: PairId, rtt: Duration) {
        let Some(pair) = self
            .checklist
            .pair_mut(id)
            .filter(|pair| !pair.is_validated())
        else {
            return;
        };
        pair.state = PairState::Validated;
        let (local, remote) = (pair.local, pair.remote);
        debug!(pair = %id, local = %local.base, remote = %remote.address, via = %pair.via,
            rtt_ms = rtt.as_millis(), "pair validated");
        self.push_event(Event::PairValidated {
            pair: id,
            local,
            remote,
            rtt,
        });
    }

    fn handle_small_answer(&mut self, check: SentCheck, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(check.pair) else {
            return;
        };
        if pair.is_validated() {
            // One that was scheduled before, and answered late, tells nothing new.
            if check.commanded_small {
                self.push_event(Event::SmallAnswered { pair: check.pair });
            }
            return;
        }
        match pair.width.small_answered(check.full_sent) {
            Finding::Nothing => {}
            Finding::Proven => self.widen(check.pair, now),
            Finding::Narrow if pair.state == PairState::Narrow => {}
            Finding::Narrow => {
                pair.state = PairState::Narrow;
                debug!(pair = %check.pair, remote = %pair.remote.address, "pair is narrow");
                self.stats.pairs_narrowed += 1;
                self.push_event(Event::PairNarrow { pair: check.pair });
            }
        }
    }

    /// A round trip is proven: the full-size check follows at once.
    pub(super) fn widen(&mut self, id: PairId, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(id) else {
            return;
        };
        let due = pair.width.prove(now);
        pair.schedule.hurry(due, now);
        if due <= now {
            self.send_check(id, Cause::Proven, now);
        }
    }

    /// We never refuse a peer's check, so this is a peer of another make: the check counts as unanswered. Probes and
    /// notes are left to their own end.
    pub(super) fn handle_error_answer(
        &mut self,
        id: &TransactionId,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
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
}
