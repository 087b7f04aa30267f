//! A check is sent on a pair.

use std::time::Instant;

use sansio::{Transactions, Transmit};
use stunwire::TransactionId;
use tracing::trace;

use super::Agent;
use crate::candidate::peer_reflexive_priority;
use crate::outstanding::SentCheck;
use crate::width::Size;
use crate::{Event, PairId, PairState};

/// Why a check is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Scheduled,
    /// The peer was heard.
    Triggered(Size),
    /// A small check was answered.
    Proven,
    /// The layer above wants to know.
    Commanded,
    /// It wants to know whether small packets pass.
    CommandedSmall,
}

impl Agent {
    pub(super) fn send_check(&mut self, id: PairId, cause: Cause, now: Instant) {
        let Some(pair) = self.checklist.pair_mut(id) else {
            return;
        };
        let transaction = Transactions::<()>::draw_id(&mut self.rng);
        let ttl = match cause {
            Cause::Scheduled => pair.schedule.ttl(&self.config, now),
            Cause::Triggered(_) | Cause::Proven | Cause::Commanded | Cause::CommandedSmall => None,
        };
        let size = match cause {
            Cause::Scheduled => pair.width.scheduled_size(pair.schedule.repeats()),
            Cause::Triggered(size) => size,
            Cause::Proven | Cause::Commanded => Size::Full,
            Cause::CommandedSmall => Size::Small,
        };
        match cause {
            Cause::Scheduled => pair.schedule.advance(&self.config, &mut self.rng, now),
            Cause::Triggered(_) => {
                pair.last_triggered = Some(now);
                pair.triggered = pair.triggered.saturating_add(1);
                pair.schedule.advance(&self.config, &mut self.rng, now);
            }
            Cause::Proven => pair.schedule.advance(&self.config, &mut self.rng, now),
            Cause::Commanded => pair.commanded = Some(transaction),
            Cause::CommandedSmall => {}
        }
        if pair.state == PairState::Waiting
            || (pair.state == PairState::Narrow && !pair.width.is_proven())
        {
            pair.state = PairState::Checking;
        }
        pair.checks_sent += 1;
        let (source, destination) = pair.key();
        let priority = peer_reflexive_priority(&pair.local);
        let check = SentCheck {
            pair: id,
            sent_at: now,
            commanded: cause == Cause::Commanded,
            commanded_small: cause == Cause::CommandedSmall,
            size,
            full_sent: pair.width.full_sent(),
        };
        pair.width.sent(size, now);

        self.next_turn = self.next_turn.max(now + self.config.pacing);
        self.stats.checks_sent += 1;
        self.stats.openers_sent += u64::from(ttl.is_some());
        self.stats.triggered_sent += u64::from(matches!(cause, Cause::Triggered(_)));
        self.stats.full_size_sent += u64::from(size == Size::Full && self.codec.pads());
        if let Some((forgotten_id, forgotten)) = self.outstanding.insert(transaction, check) {
            self.stats.checks_forgotten += 1;
            self.report_unanswered(forgotten_id, forgotten);
        }
        let Ok(payload) = self.codec.encode_request(transaction, priority, size) else {
            self.stats.transmits_dropped += 1;
            return;
        };
        trace!(target: "wire::stun", pair = %id, %source, %destination, ?ttl, ?size, ?cause, "check sent");
        self.push_transmit(Transmit {
            source,
            destination,
            ttl,
            payload,
        });
    }

    /// Tells the layer above that a check which it commanded, and still waits for, has failed.
    pub(super) fn report_unanswered(&mut self, id: TransactionId, check: SentCheck) {
        let Some(pair) = self.checklist.pair_mut(check.pair) else {
            return;
        };
        if pair.commanded == Some(id) {
            pair.commanded = None;
            self.push_event(Event::CheckUnanswered { pair: check.pair });
        }
    }
}
