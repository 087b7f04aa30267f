//! Notes are sent, repeated, acknowledged, received.

use std::net::SocketAddr;
use std::time::Instant;

use sansio::{Transactions, Transmit};
use stunwire::TransactionId;
use tracing::trace;

use super::Agent;
use crate::candidate::peer_reflexive_priority;
use crate::check::Request;
use crate::note::SentNote;
use crate::{Event, PairId};

impl Agent {
    /// Sends the next note of a pair, if there is one and none is on its way.
    pub(super) fn send_next_note(&mut self, pair: PairId, now: Instant) {
        let Some(known) = self
            .checklist
            .pair(pair)
            .filter(|known| known.is_validated())
        else {
            self.lose_notes(pair);
            return;
        };
        let (source, destination) = known.key();
        let (priority, rtt) = (peer_reflexive_priority(&known.local), known.rtt);
        let Some(note) = self.notes.next(pair) else {
            return;
        };
        let id = Transactions::<()>::draw_id(&mut self.rng);
        let Ok(payload) = self.codec.encode_note(id, priority, &note) else {
            self.stats.transmits_dropped += 1;
            self.lose_note(pair);
            return;
        };
        let sent = SentNote {
            pair,
            source,
            destination,
            payload,
        };
        self.stats.notes_sent += 1;
        self.transmit_note(sent.clone());
        self.notes.start(id, sent, rtt, now);
    }

    fn transmit_note(&mut self, note: SentNote) {
        let SentNote {
            pair,
            source,
            destination,
            payload,
        } = note;
        trace!(target: "wire::stun", %pair, %source, %destination, "note sent");
        self.push_transmit(Transmit {
            source,
            destination,
            ttl: None,
            payload,
        });
    }

    pub(super) fn repeat_notes(&mut self, now: Instant) {
        let (again, given_up) = self.notes.advance(now);
        for note in again {
            self.stats.notes_retransmitted += 1;
            self.transmit_note(note);
        }
        for pair in given_up {
            self.lose_note(pair);
            self.send_next_note(pair, now);
        }
    }

    pub(super) fn handle_note_answer(
        &mut self,
        id: &TransactionId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        let ends = self
            .notes
            .get(id)
            .map(|note| (note.source, note.destination));
        if ends != Some((local, remote)) {
            self.stats.misdirected += 1;
            return;
        }
        let Some(note) = self.notes.take(id) else {
            return;
        };
        self.stats.answers_verified += 1;
        self.stats.notes_delivered += 1;
        if let Some(pair) = self.checklist.pair_mut(note.pair) {
            pair.last_heard = Some(now);
        }
        self.push_event(Event::NoteDelivered { pair: note.pair });
        self.send_next_note(note.pair, now);
    }

    /// A note in an admitted request: reported, unless it is one that was heard before.
    pub(super) fn hear_note(&mut self, pair: PairId, request: &Request<'_>) {
        let Some(note) = request.note else {
            return;
        };
        if !self.notes.is_new(request.id) {
            self.stats.replayed += 1;
            return;
        }
        self.stats.notes_received += 1;
        self.push_event(Event::NoteReceived {
            pair,
            note: note.to_vec(),
        });
    }

    fn lose_note(&mut self, pair: PairId) {
        self.stats.notes_lost += 1;
        self.push_event(Event::NoteLost { pair });
    }

    fn lose_notes(&mut self, pair: PairId) {
        for _ in 0..self.notes.forget(pair) {
            self.lose_note(pair);
        }
    }
}
