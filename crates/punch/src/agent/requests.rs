//! A verified request of the peer arrived.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::Transmit;
use stunwire::TransactionId;
use tracing::trace;

use super::{Agent, Cause};
use crate::admission::Admission;
use crate::bucket::Bucket;
use crate::candidate::kind_of_unknown;
use crate::check::Request;
use crate::checklist::Source;
use crate::width::Size;
use crate::{Event, PairId, PairState};

/// Requests come 100 ms apart at the most; what comes faster is a burst and needs no check each.
const TRIGGER_INTERVAL: Duration = Duration::from_millis(20);

/// After so many triggered checks without a valid pair the next ones come half as often: between NATs that give every
/// answer another port two ends hear each other and never agree, and each trigger brings the next one.
const TRIGGERS_PER_DOUBLING: u32 = 8;
/// To 1.3 s.
const TRIGGER_DOUBLINGS_MAX: u32 = 6;

/// Checks that may be triggered at once, on all pairs together: more than a birthday search brings.
const TRIGGERS_MAX: u32 = 100;
/// After that 50 a second; what is not sent at once is sent when the schedule says. With 200 scheduled checks a second
/// at most, and as many answers, an agent stays within what a router is promised whatever the peer does.
const TRIGGER_REFILL: Duration = Duration::from_millis(20);

/// How many more checks may be triggered.
pub(super) const fn triggers() -> Bucket {
    Bucket::new(TRIGGERS_MAX, TRIGGER_REFILL)
}

fn trigger_interval(triggered: u32) -> Duration {
    let doublings = (triggered / TRIGGERS_PER_DOUBLING).min(TRIGGER_DOUBLINGS_MAX);
    TRIGGER_INTERVAL * 2_u32.pow(doublings)
}

impl Agent {
    pub(super) fn handle_request(
        &mut self,
        request: &Request<'_>,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        self.stats.requests_verified += 1;
        if !self.checklist.has_base(local) {
            self.stats.misdirected += 1;
            return;
        }
        let admission = self.admission.admit(request.id, local, remote, now);
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
        let source = Source {
            kind: kind_of_unknown(request.priority),
            priority: request.priority,
        };
        let Some(pair) = self.checklist.hear(local, remote, source, now) else {
            self.stats.misdirected += 1;
            return;
        };
        self.report_removed();
        self.answer(request.id, request.padded_length, local, remote);
        if admission == Admission::Fresh {
            self.hear_peer(pair, request.padded_length, now);
            self.hear_note(pair, request);
        }
    }

    /// Answers a padded request in its own length, so that it is a full-size round trip, and any other one in small:
    /// what is sent here is never longer than what came.
    fn answer(&mut self, id: TransactionId, length: usize, local: SocketAddr, remote: SocketAddr) {
        let Ok(payload) = self.codec.encode_answer(id, remote, length) else {
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
    fn hear_peer(&mut self, id: PairId, padded_length: usize, now: Instant) {
        let is_full = self.codec.is_full_size(padded_length);
        let size = self.triggered_size(id);
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
        // That small packets arrive on a narrow pair is no news; if it were taken for some, two ends would keep
        // each other awake with it for ever.
        let needs_check = match pair.state {
            PairState::Waiting | PairState::Checking => true,
            PairState::Narrow => is_full,
            PairState::Validated => false,
        };
        let is_capped = pair.last_triggered.is_some_and(|last| {
            now.saturating_duration_since(last) < trigger_interval(pair.triggered)
        });
        if needs_check {
            pair.schedule.hear(now);
        }
        self.push_event(seen);
        if needs_check && (is_capped || !self.triggers.take(now)) {
            self.stats.triggered_capped += 1;
        } else if needs_check {
            self.send_check(id, Cause::Triggered(size), now);
        }
    }

    /// A check triggered by the peer is of full size from the start, which saves the side that is heard first the
    /// small one's round trip: a request that has come this way says that the other way is worth it.
    ///
    /// Not so where it comes from an address that nobody has named or proven: a recorded request with a forged
    /// source would make us send ten times its length to somebody who never asked. An address that the peer
    /// has named gets no more than if the request had come from there.
    fn triggered_size(&self, id: PairId) -> Size {
        let pair = self.checklist.pair(id);
        let is_worth_it = pair.is_some_and(|pair| {
            pair.width.is_proven() || self.checklist.is_named(pair.remote.address)
        });
        if is_worth_it { Size::Full } else { Size::Small }
    }
}
