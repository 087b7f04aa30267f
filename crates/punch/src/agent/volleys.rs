//! Probes are sent, and one that is answered becomes a pair.

use std::net::SocketAddr;
use std::time::Instant;

use rand::Rng;
use sansio::Transmit;
use stunwire::TransactionId;
use tracing::{debug, trace};

use super::Agent;
use crate::candidate::peer_reflexive_priority;
use crate::volley::VOLLEY_PROBES_MAX;
use crate::volleys::{DueProbe, Ended};
use crate::width::Size;
use crate::{Candidate, Event, Volley, VolleyId};

impl Agent {
    pub(super) fn begin_volley(&mut self, mut volley: Volley, now: Instant) -> VolleyId {
        let asked = volley.probes.len();
        let checklist = &self.checklist;
        volley
            .probes
            .retain(|probe| checklist.can_probe(probe.local, probe.remote));
        volley.probes.truncate(VOLLEY_PROBES_MAX);
        self.stats.volley_probes_refused += (asked - volley.probes.len()) as u64;

        let mut nonce = [0; 8];
        self.rng.fill_bytes(&mut nonce);
        match self.volleys.start(volley, nonce, now) {
            Ok(id) => id,
            Err(refused) => {
                self.stats.volleys_refused += 1;
                self.report_ended(Ended {
                    volley: refused,
                    sent: 0,
                    answered: 0,
                });
                refused
            }
        }
    }

    /// Sends what is due. Checks have had their turn before, and their pacing is their own.
    pub(super) fn send_due_probes(&mut self, now: Instant) {
        loop {
            let checklist = &self.checklist;
            let next = self.volleys.next_probe(now, |probe| {
                checklist.has_base(probe.local)
                    && !checklist.is_validated(probe.local, probe.remote)
            });
            let Some(due) = next else {
                break;
            };
            self.send_probe(&due);
        }
        while let Some(ended) = self.volleys.take_ended(now) {
            self.report_ended(ended);
        }
    }

    fn send_probe(&mut self, due: &DueProbe) {
        let DueProbe {
            id,
            probe,
            kind,
            is_opener,
        } = *due;
        let local = Candidate::new(kind, probe.local, probe.local, 0);
        let priority = peer_reflexive_priority(&local);
        let Ok(payload) = self.codec.encode_request(id, priority, Size::Small) else {
            self.stats.transmits_dropped += 1;
            return;
        };
        self.stats.volley_probes_sent += 1;
        self.stats.volley_openers_sent += u64::from(is_opener);
        trace!(target: "wire::stun", source = %probe.local, destination = %probe.remote, is_opener, "probe sent");
        self.push_transmit(Transmit {
            source: probe.local,
            destination: probe.remote,
            ttl: is_opener.then_some(self.config.low_ttl),
            payload,
        });
    }

    /// A guess was right. Its answer has proven the round trip, which is what a small check does; the full-size one
    /// follows at once.
    pub(super) fn handle_probe_answer(
        &mut self,
        id: &TransactionId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        let Some((probe, kind)) = self.volleys.find(id) else {
            return;
        };
        if (probe.local, probe.remote) != (local, remote) {
            self.stats.misdirected += 1;
            return;
        }
        self.stats.answers_verified += 1;
        if !self.volleys.note_answered(id) {
            return;
        }
        self.stats.volley_probes_answered += 1;
        let Some(pair) = self.checklist.find_by_probe(local, remote, kind, now) else {
            self.stats.misdirected += 1;
            return;
        };
        self.report_removed();
        debug!(%pair, %local, %remote, via = %kind, "probe answered");
        let Some(known) = self.checklist.pair_mut(pair) else {
            return;
        };
        known.last_heard = Some(now);
        if !known.is_validated() && !known.width.is_proven() {
            self.widen(pair, now);
        }
    }

    pub(super) fn report_ended(&mut self, ended: Ended) {
        let Ended {
            volley,
            sent,
            answered,
        } = ended;
        debug!(%volley, sent, answered, "volley ended");
        self.push_event(Event::VolleyEnded {
            volley,
            sent,
            answered,
        });
    }
}
