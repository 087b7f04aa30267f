//! What one end of a flow says next, and where.

use std::time::Instant;

use super::attachment::FirstWord;
use super::machine::{Flow, Life, Output, Side};
use super::record::{Generation, Record};

/// The next thing to say on the current stream, in order of urgency: control ahead of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    ResetAck,
    Reset,
    Reading,
    FinAck,
    Credit,
    Ack,
    Data,
    Fin,
    Done,
}

impl Flow {
    /// Returns what is to be done with the stream of `generation`; call it until it is [`Output::Idle`] or
    /// [`Output::Gone`]. A DATA record has at most `max_data` bytes.
    pub fn poll_output(&mut self, generation: Generation, max_data: usize, now: Instant) -> Output {
        if let Some(word) = self.first_word(generation) {
            return Output::Record(self.say_first(generation, word));
        }
        let current = self.streams.current();
        let Some(stream) = self.streams.get_mut(generation) else {
            return Output::Gone;
        };
        if stream.finished {
            return if self.life == Life::Finished {
                Output::Gone
            } else {
                Output::Idle
            };
        }
        let superseded = current.is_some_and(|current| current > generation);
        if self.life == Life::Finished || (superseded && stream.first_word.is_none()) {
            stream.finished = true;
            self.streams.retire(self.send.acked());
            return Output::Finish;
        }
        if current != Some(generation) {
            return Output::Idle;
        }
        match self.next_word() {
            Some(word) => self.say(generation, word, max_data, now),
            None => Output::Idle,
        }
    }

    /// Tells whether [`Self::poll_output`] has something to do for the stream.
    #[must_use]
    pub fn has_output(&self, generation: Generation) -> bool {
        if self.first_word(generation).is_some() {
            return true;
        }
        let Some(stream) = self.streams.get(generation) else {
            return true;
        };
        if stream.finished {
            return self.life == Life::Finished;
        }
        let current = self.streams.current();
        let superseded = current.is_some_and(|current| current > generation);
        if self.life == Life::Finished || (superseded && stream.first_word.is_none()) {
            return true;
        }
        current == Some(generation) && self.next_word().is_some()
    }

    /// What the stream must begin with, if that can be said now.
    fn first_word(&self, generation: Generation) -> Option<FirstWord> {
        let word = self.streams.get(generation)?.first_word?;
        if self.life == Life::Finished {
            return None;
        }
        let undecided = word == FirstWord::AnswerToOpen && self.life == Life::Opening;
        (!undecided).then_some(word)
    }

    fn say_first(&mut self, generation: Generation, word: FirstWord) -> Record {
        if let Some(stream) = self.streams.get_mut(generation) {
            stream.first_word = None;
        }
        let reading = self.streams.reading_below(generation);
        let (flow, credit) = (self.id, self.receive.grant());
        // Only the newest stream's word stands for what is said on the current one.
        let received = self.receive.acknowledge();
        match word {
            FirstWord::Open => {
                self.announced = true;
                Record::Open {
                    flow,
                    generation,
                    request: self.request,
                    credit,
                    reading,
                }
            }
            FirstWord::Attach => Record::Attach {
                flow,
                generation,
                received,
                credit,
                reading,
            },
            FirstWord::AnswerToOpen | FirstWord::AnswerToAttach => match &self.life {
                Life::Refusing { code, text } => Record::Refused {
                    code: *code,
                    text: text.clone(),
                },
                Life::Opening
                | Life::Open
                | Life::Refused
                | Life::Resetting { .. }
                | Life::ResetByPeer
                | Life::Finished
                    if word == FirstWord::AnswerToOpen =>
                {
                    Record::Opened {
                        received,
                        credit,
                        reading,
                    }
                }
                Life::Opening
                | Life::Open
                | Life::Refused
                | Life::Resetting { .. }
                | Life::ResetByPeer
                | Life::Finished => Record::Attached {
                    received,
                    credit,
                    reading,
                },
            },
        }
    }

    fn next_word(&self) -> Option<Word> {
        match self.life {
            Life::Opening if self.side == Side::Egress => None,
            Life::Opening | Life::Open => self.next_word_of_open(),
            Life::Resetting { .. } => (!self.said.reset).then_some(Word::Reset),
            Life::ResetByPeer => Some(Word::ResetAck),
            Life::Refused => Some(Word::Done),
            Life::Refusing { .. } | Life::Finished => None,
        }
    }

    fn next_word_of_open(&self) -> Option<Word> {
        let (send, receive, said) = (&self.send, &self.receive, &self.said);
        // An acknowledgement travels with whatever else is said; alone it waits for its time.
        let speaking = send.has_data() || (send.fin_ready() && !said.fin);
        let unacked = receive.unacked();
        let ack_is_due = unacked >= self.config.ack_bytes
            || (unacked > 0 && (speaking || !said.ack))
            || (!said.ack && receive.received() > 0 && self.ack_at.is_none());
        if !said.reading {
            Some(Word::Reading)
        } else if receive.fin().is_some() && !said.fin_ack {
            Some(Word::FinAck)
        } else if receive.grant_is_due() || !said.credit {
            Some(Word::Credit)
        } else if ack_is_due {
            Some(Word::Ack)
        } else if send.has_data() {
            Some(Word::Data)
        } else if send.fin_ready() && !said.fin {
            Some(Word::Fin)
        } else if self.is_complete() && !said.done {
            Some(Word::Done)
        } else {
            None
        }
    }

    fn say(&mut self, generation: Generation, word: Word, max_data: usize, now: Instant) -> Output {
        let record = match word {
            Word::Reset => {
                let Life::Resetting { code } = self.life else {
                    return Output::Idle;
                };
                self.said.reset = true;
                Record::Reset {
                    final_offset: self.send.end(),
                    code,
                }
            }
            Word::ResetAck => {
                self.life = Life::Finished;
                Record::ResetAck
            }
            Word::Reading => {
                self.said.reading = true;
                Record::Reading {
                    generations: self.streams.reading_below(generation),
                }
            }
            Word::FinAck => {
                self.said.fin_ack = true;
                Record::FinAck
            }
            Word::Credit => {
                self.said.credit = true;
                Record::Credit {
                    limit: self.receive.grant(),
                }
            }
            Word::Ack => {
                self.said.ack = true;
                self.ack_at = None;
                Record::Ack {
                    received: self.receive.acknowledge(),
                }
            }
            Word::Data => {
                let Some((offset, bytes)) = self.send.poll_data(max_data) else {
                    return Output::Idle;
                };
                if let Some(stream) = self.streams.get_mut(generation) {
                    stream.carry(offset, bytes.len() as u64);
                }
                Record::Data { offset, bytes }
            }
            Word::Fin => {
                self.said.fin = true;
                Record::Fin {
                    final_offset: self.send.end(),
                }
            }
            Word::Done => {
                self.said.done = true;
                self.finish_if_both_are_done();
                Record::Done
            }
        };
        self.after_stream_change(now);
        Output::Record(record)
    }

    pub(crate) fn finish_if_both_are_done(&mut self) {
        let through = self.life == Life::Refused || (self.peer_done && self.is_complete());
        if self.said.done && through {
            self.life = Life::Finished;
        }
    }
}
