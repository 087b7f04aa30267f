//! What one end of a flow makes of what the other end says.

use std::time::Instant;

use bytes::Bytes;

use super::attachment::{Attachment, FirstWord};
use super::machine::{Event, Flow, Life, Said, Side};
use super::receive::Violation;
use super::record::{Generation, Record, RefuseCode, ResetCode};

impl Flow {
    /// A record arrived on the stream of `generation`.
    pub fn handle_record(&mut self, generation: Generation, record: Record, now: Instant) {
        let ingress = self.side == Side::Ingress;
        let opens = !ingress && matches!(record, Record::Open { .. } | Record::Attach { .. });
        if self.is_finished() || (!opens && self.streams.get(generation).is_none()) {
            return;
        }
        self.answered |= ingress;
        match record {
            Record::Open {
                credit, reading, ..
            } => {
                self.on_attach(
                    generation,
                    FirstWord::AnswerToOpen,
                    0,
                    credit,
                    &reading,
                    now,
                );
            }
            Record::Attach {
                received,
                credit,
                reading,
                ..
            } => {
                self.on_attach(
                    generation,
                    FirstWord::AnswerToAttach,
                    received,
                    credit,
                    &reading,
                    now,
                );
            }
            Record::Opened {
                received,
                credit,
                reading,
            } => {
                if self.life == Life::Opening && self.side == Side::Ingress {
                    self.life = Life::Open;
                    self.events.push_back(Event::Opened);
                }
                self.on_answer(generation, received, credit, &reading, now);
            }
            Record::Attached {
                received,
                credit,
                reading,
            } => {
                self.on_answer(generation, received, credit, &reading, now);
            }
            Record::Refused { code, text } => self.on_refused(generation, code, text, now),
            Record::Unknown => self.on_unknown(now),
            Record::Data { offset, bytes } => self.on_data(offset, bytes, now),
            Record::Ack { received } => self.on_ack(received, now),
            Record::Credit { limit } => self.send.handle_credit(limit),
            Record::Fin { final_offset } => self.on_fin(final_offset, now),
            Record::FinAck => self.on_fin_ack(now),
            Record::Reset { code, .. } => self.on_reset(code, now),
            Record::ResetAck => self.on_reset_ack(now),
            Record::Reading { generations } => self.on_reading(generation, &generations, now),
            Record::Done => self.on_done(now),
        }
    }

    /// The stream of `generation` holds something that is no record.
    pub fn handle_garbage(&mut self, generation: Generation, now: Instant) {
        if self.streams.get(generation).is_some() {
            self.fail(ResetCode::Protocol, now);
        }
    }

    fn on_attach(
        &mut self,
        generation: Generation,
        answer: FirstWord,
        received: u64,
        credit: u64,
        reading: &[Generation],
        now: Instant,
    ) {
        if self.side == Side::Ingress || self.streams.get(generation).is_some() {
            return self.fail(ResetCode::Protocol, now);
        }
        self.announced = true;
        self.insert_stream(generation, Attachment::new(answer, true), now);
        self.on_reading(generation, reading, now);
        self.on_ack(received, now);
        self.send.handle_credit(credit);
    }

    fn on_answer(
        &mut self,
        generation: Generation,
        received: u64,
        credit: u64,
        reading: &[Generation],
        now: Instant,
    ) {
        let expected = self.side == Side::Ingress && self.life != Life::Opening;
        let Some(stream) = self.streams.get_mut(generation).filter(|_| expected) else {
            return self.fail(ResetCode::Protocol, now);
        };
        let newly_usable = !std::mem::replace(&mut stream.usable, true);
        if newly_usable {
            // What ATTACH said stands, unless a stream was lost since.
            let Said {
                reading,
                ack,
                credit,
                ..
            } = self.said;
            self.said = Said {
                reading,
                ack,
                credit,
                ..Said::default()
            };
        }
        self.on_reading(generation, reading, now);
        self.on_ack(received, now);
        self.send.handle_credit(credit);
        self.after_stream_change(now);
    }

    fn on_refused(&mut self, generation: Generation, code: RefuseCode, text: String, now: Instant) {
        if self.side == Side::Egress {
            return self.fail(ResetCode::Protocol, now);
        }
        if let Some(stream) = self.streams.get_mut(generation) {
            stream.usable = true;
        }
        match self.life {
            Life::Opening => self.events.push_back(Event::Refused { code, text }),
            Life::Resetting { .. } => {}
            Life::Open
            | Life::Refusing { .. }
            | Life::Refused
            | Life::ResetByPeer
            | Life::Finished => return self.fail(ResetCode::Protocol, now),
        }
        self.life = Life::Refused;
        self.end(now);
    }

    fn on_unknown(&mut self, now: Instant) {
        if self.side == Side::Egress {
            return self.fail(ResetCode::Protocol, now);
        }
        if matches!(self.life, Life::Opening | Life::Open) && !self.is_complete() {
            self.events.push_back(Event::Reset {
                code: ResetCode::Unknown,
                by_peer: true,
            });
            self.end(now);
        }
        self.life = Life::Finished;
    }

    fn on_data(&mut self, offset: u64, bytes: Bytes, now: Instant) {
        if !matches!(self.life, Life::Opening | Life::Open) {
            return;
        }
        let before = self.receive.received();
        match self.receive.handle_data(offset, bytes) {
            Ok(()) if self.receive.received() > before => {
                self.ack_at.get_or_insert(now + self.config.ack_delay);
            }
            Ok(()) => {}
            Err(Violation::BeyondCredit) => self.fail(ResetCode::Credit, now),
            Err(Violation::BeyondFin | Violation::TooScattered) => {
                self.fail(ResetCode::Protocol, now)
            }
        }
    }

    fn on_ack(&mut self, received: u64, now: Instant) {
        if !matches!(self.life, Life::Opening | Life::Open) {
            return;
        }
        match self.send.handle_ack(received) {
            Ok(()) => self.streams.retire(self.send.acked()),
            Err(_) => self.fail(ResetCode::Protocol, now),
        }
    }

    fn on_fin(&mut self, final_offset: u64, now: Instant) {
        if !matches!(self.life, Life::Opening | Life::Open) {
            return;
        }
        match self.receive.handle_fin(final_offset) {
            Ok(()) => self.said.fin_ack = false,
            Err(_) => self.fail(ResetCode::Protocol, now),
        }
    }

    fn on_fin_ack(&mut self, now: Instant) {
        if matches!(self.life, Life::Opening | Life::Open) && !self.send.handle_fin_ack() {
            self.fail(ResetCode::Protocol, now);
        }
    }

    fn on_reset(&mut self, code: ResetCode, now: Instant) {
        match self.life {
            Life::Opening | Life::Open if !self.is_complete() => {
                self.events.push_back(Event::Reset {
                    code,
                    by_peer: true,
                });
                self.life = Life::ResetByPeer;
                self.end(now);
            }
            // Complete here while the other end still waited for a word: what it has to say no longer
            // matters to anybody.
            Life::Opening | Life::Open | Life::Resetting { .. } => {
                self.life = Life::ResetByPeer;
                self.waiting_since = Some(now);
            }
            Life::Refusing { .. } => self.life = Life::ResetByPeer,
            Life::Refused | Life::ResetByPeer | Life::Finished => {}
        }
    }

    fn on_reset_ack(&mut self, now: Instant) {
        match self.life {
            Life::Resetting { .. } => self.life = Life::Finished,
            Life::Opening | Life::Open => self.fail(ResetCode::Protocol, now),
            Life::Refusing { .. } | Life::Refused | Life::ResetByPeer | Life::Finished => {}
        }
    }

    fn on_reading(&mut self, generation: Generation, reading: &[Generation], now: Instant) {
        let lost = self.streams.mark_unread(generation, reading);
        for carried in &lost {
            self.send.rewind(carried.0, carried.1);
        }
        if !lost.is_empty() {
            // Words may have been lost with the data.
            self.said = Said {
                reading: self.said.reading,
                ..Said::default()
            };
        }
        self.after_stream_change(now);
    }

    fn on_done(&mut self, now: Instant) {
        match self.life {
            Life::Opening | Life::Open => {
                self.peer_done = true;
                self.waiting_since.get_or_insert(now);
                self.finish_if_both_are_done();
            }
            Life::Refusing { .. } => self.life = Life::Finished,
            Life::Refused | Life::Resetting { .. } | Life::ResetByPeer | Life::Finished => {}
        }
    }
}
