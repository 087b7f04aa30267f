//! One end of a resumable flow: its state, and what its owner can do with it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::attachment::{Attachment, Attachments, FirstWord};
use super::config::FlowConfig;
use super::receive::ReceiveHalf;
use super::record::{FlowId, Generation, OpenRequest, Record, RefuseCode, ResetCode};
use super::send::SendHalf;

/// Which end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    /// Listens, and opens every stream.
    Ingress,
    /// Dials the services.
    Egress,
}

/// What the owner of a flow is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Ingress: the service is connected.
    Opened,
    /// Ingress: the service will not be connected. The flow is over.
    Refused {
        /// Why.
        code: RefuseCode,
        /// Why, for a person.
        text: String,
    },
    /// The flow was aborted: by the other end, or here because of what it did or did not do. Not said after
    /// [`Flow::reset`].
    Reset {
        /// Why.
        code: ResetCode,
        /// The end that aborted it.
        by_peer: bool,
    },
}

/// What is to be done with one stream of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this record.
    Record(Record),
    /// Finish the sending direction, and go on reading.
    Finish,
    /// Nothing at present.
    Idle,
    /// The stream is of no more use in either direction.
    Gone,
}

/// How much a flow holds and has moved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Written here and not yet acknowledged.
    pub retained: u64,
    /// Arrived here and not yet taken by the local socket.
    pub buffered: u64,
    /// Written here in all.
    pub written: u64,
    /// Held here in all, without gaps.
    pub received: u64,
    /// The last credit given to the other end, an absolute offset.
    pub granted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Ingress: OPEN is not answered. Egress: the service is being dialled.
    Opening,
    Open,
    /// Egress: said on every stream until the ingress confirms.
    Refusing {
        code: RefuseCode,
        text: String,
    },
    /// Ingress: confirmed by DONE.
    Refused,
    /// Said on every stream until the other end confirms.
    Resetting {
        code: ResetCode,
    },
    /// The other end aborted the flow; RESET_ACK is still to be said.
    ResetByPeer,
    /// Nothing more to say or to hear.
    Finished,
}

/// What was said since the last stream was lost or gained; all of it is said again afterwards.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) reading: bool,
    pub(crate) ack: bool,
    pub(crate) credit: bool,
    pub(crate) fin: bool,
    pub(crate) fin_ack: bool,
    pub(crate) reset: bool,
    pub(crate) done: bool,
}

impl Said {
    /// The first word of a stream says which streams are read, what is held and what may be sent.
    pub(crate) fn in_first_word() -> Self {
        Self {
            reading: true,
            ack: true,
            credit: true,
            ..Self::default()
        }
    }
}

/// One end of a resumable flow.
///
/// See the module for its verbs. After every one of them the owner looks at [`Self::poll_output`] of each of
/// its streams, at [`Self::poll_event`] and at [`Self::poll_timeout`]. What the other end does wrong ends
/// this flow and nothing else.
#[derive(Debug)]
pub struct Flow {
    pub(crate) side: Side,
    pub(crate) id: FlowId,
    pub(crate) config: FlowConfig,
    pub(crate) request: OpenRequest,
    pub(crate) life: Life,
    pub(crate) streams: Attachments,
    pub(crate) send: SendHalf,
    pub(crate) receive: ReceiveHalf,
    pub(crate) said: Said,
    pub(crate) ack_at: Option<Instant>,
    pub(crate) peer_done: bool,
    /// OPEN left this end, or arrived at it.
    pub(crate) announced: bool,
    /// Ingress: a record arrived; the first one is OPENED or REFUSED.
    pub(crate) answered: bool,
    /// Since when no stream is usable, or since when the flow is over.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) aborted: bool,
    pub(crate) events: VecDeque<Event>,
}

impl Flow {
    /// Ingress: makes a flow for a connection that arrived; [`Self::attach`] it to a stream.
    #[must_use]
    pub fn open(config: FlowConfig, id: FlowId, request: OpenRequest, now: Instant) -> Self {
        Self::new(Side::Ingress, config, id, request, now)
    }

    /// Egress: makes the flow that an OPEN asks for; hand that record to [`Self::handle_record`] next, and
    /// say [`Self::opened`] or [`Self::refuse`] when it is known which.
    #[must_use]
    pub fn accept(config: FlowConfig, id: FlowId, request: OpenRequest, now: Instant) -> Self {
        Self::new(Side::Egress, config, id, request, now)
    }

    fn new(side: Side, config: FlowConfig, id: FlowId, request: OpenRequest, now: Instant) -> Self {
        Self {
            side,
            id,
            config,
            request,
            life: Life::Opening,
            streams: Attachments::default(),
            send: SendHalf::new(&config),
            receive: ReceiveHalf::new(&config, now),
            said: Said::default(),
            ack_at: None,
            peer_done: false,
            announced: false,
            answered: false,
            waiting_since: Some(now),
            aborted: false,
            events: VecDeque::new(),
        }
    }

    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// Returns what the ingress asked for.
    #[must_use]
    pub const fn request(&self) -> &OpenRequest {
        &self.request
    }

    /// Ingress: a stream was opened for this flow. `generation` is above all earlier ones.
    pub fn attach(&mut self, generation: Generation, now: Instant) {
        debug_assert!(self.side == Side::Ingress, "the ingress opens every stream");
        debug_assert!(
            self.streams
                .highest()
                .is_none_or(|highest| highest < generation)
        );
        if self.is_finished() {
            return;
        }
        // OPEN may be followed by data at once: the first credit is part of the protocol. ATTACH waits for
        // its answer, so that nothing is sent twice.
        let opening = self.life == Life::Opening;
        let word = if opening {
            FirstWord::Open
        } else {
            FirstWord::Attach
        };
        self.insert_stream(generation, Attachment::new(word, opening), now);
    }

    /// The stream failed, or its carrier is gone: what was only there will be sent again.
    pub fn carrier_lost(&mut self, generation: Generation, now: Instant) {
        if let Some(stream) = self.streams.remove(generation) {
            self.lose(stream.carried);
        }
        self.after_stream_change(now);
    }

    /// The other end finished its direction of the stream, and all of it was handled.
    pub fn stream_ended(&mut self, generation: Generation, now: Instant) {
        let newest = self
            .streams
            .current()
            .is_none_or(|current| current <= generation);
        if newest && !self.is_finished() {
            // Only an end that is through finishes the newest stream, and then it has said so before.
            return self.carrier_lost(generation, now);
        }
        if let Some(stream) = self.streams.get_mut(generation) {
            stream.read_ended = true;
        }
        self.streams.retire(self.send.acked());
        self.after_stream_change(now);
    }

    /// Egress: the service is connected.
    pub fn opened(&mut self, now: Instant) {
        if self.life == Life::Opening {
            self.life = Life::Open;
            self.after_stream_change(now);
        }
    }

    /// Egress: the service will not be connected.
    pub fn refuse(&mut self, code: RefuseCode, text: impl Into<String>, now: Instant) {
        if self.life == Life::Opening {
            self.life = Life::Refusing {
                code,
                text: text.into(),
            };
            self.end(now);
        }
    }

    /// Returns how many bytes [`Self::write`] takes now.
    #[must_use]
    pub fn writable(&self) -> u64 {
        let ready = match self.life {
            Life::Opening => self.side == Side::Ingress,
            Life::Open => true,
            Life::Refusing { .. }
            | Life::Refused
            | Life::Resetting { .. }
            | Life::ResetByPeer
            | Life::Finished => false,
        };
        if ready { self.send.writable() } else { 0 }
    }

    /// Takes bytes from the local socket, as many as there is credit for, and returns how many.
    pub fn write(&mut self, bytes: Bytes) -> usize {
        if self.writable() == 0 {
            0
        } else {
            self.send.write(bytes)
        }
    }

    /// The local socket will send no more.
    pub fn shutdown(&mut self) {
        self.send.shutdown();
    }

    /// Aborts the flow in both directions.
    pub fn reset(&mut self, code: ResetCode, now: Instant) {
        if !matches!(self.life, Life::Opening | Life::Open) {
            return;
        }
        let unheard = self.side == Side::Ingress && !self.announced;
        self.life = if unheard {
            Life::Finished
        } else {
            Life::Resetting { code }
        };
        self.end(now);
    }

    /// Returns the next bytes for the local socket, at most `max`.
    pub fn read(&mut self, max: usize) -> Option<Bytes> {
        self.receive.read(max)
    }

    /// Tells whether [`Self::read`] has something.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.receive.is_readable()
    }

    /// Tells whether everything was read and the other end writes no more: the local socket's sending
    /// direction is to be shut down.
    #[must_use]
    pub fn is_read_to_end(&self) -> bool {
        !self.is_aborted() && self.receive.is_at_end()
    }

    /// The local socket took `n` of the bytes that were read: credit for as many more.
    pub fn consumed(&mut self, n: usize, now: Instant) {
        self.receive.consumed(n, &self.config, now);
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells whether [`Self::poll_event`] has something.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Drops the last word: nobody may ask for it any more.
    pub fn forget(&mut self) {
        debug_assert!(self.is_ended(), "only an ended flow is forgotten");
        self.life = Life::Finished;
    }

    /// Returns when [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting_since.filter(|_| !self.is_finished());
        let resume = waiting.map(|since| since + self.config.resume);
        self.ack_at.into_iter().chain(resume).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            self.said.ack = false;
        }
        let Some(since) = self.waiting_since else {
            return;
        };
        if self.is_finished() || now < since + self.config.resume {
            return;
        }
        match self.life {
            Life::Opening | Life::Open if !self.is_complete() => {
                self.events.push_back(Event::Reset {
                    code: ResetCode::Expired,
                    by_peer: false,
                });
                self.reset(ResetCode::Expired, now);
            }
            Life::Opening
            | Life::Open
            | Life::Refusing { .. }
            | Life::Refused
            | Life::Resetting { .. }
            | Life::ResetByPeer
            | Life::Finished => self.life = Life::Finished,
        }
    }

    /// Tells whether the flow may be forgotten: nothing more to say or to hear. Bytes may still wait for
    /// [`Self::read`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.life == Life::Finished
    }

    /// Tells whether the flow is over, though a last word may have to be repeated: it no longer counts as a
    /// connection.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        !matches!(self.life, Life::Opening | Life::Open) || self.is_complete()
    }

    /// Tells whether the flow was refused or reset, by either end.
    #[must_use]
    pub const fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Ingress: tells whether the other end has said anything.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered
    }

    /// Ingress: tells whether a stream is to be opened for this flow, since it has none that can help.
    #[must_use]
    pub fn wants_stream(&self) -> bool {
        self.side == Side::Ingress && !self.is_finished() && !self.streams.has_hope()
    }

    /// Returns the stream that new data goes on.
    #[must_use]
    pub fn current(&self) -> Option<Generation> {
        self.streams.current()
    }

    /// Returns how much is held and was moved.
    #[must_use]
    pub fn stats(&self) -> FlowStats {
        FlowStats {
            retained: self.send.retained(),
            buffered: self.receive.buffered(),
            written: self.send.end(),
            received: self.receive.received(),
            granted: self.receive.granted(),
        }
    }

    /// Both directions ended well: everything is held where it belongs, and both ends know.
    pub(crate) fn is_complete(&self) -> bool {
        self.send.is_complete() && self.receive.is_complete()
    }

    pub(crate) fn insert_stream(
        &mut self,
        generation: Generation,
        stream: Attachment,
        now: Instant,
    ) {
        if let Some(fallen) = self.streams.insert(generation, stream) {
            self.lose(fallen.carried);
        }
        self.said = Said::in_first_word();
        self.after_stream_change(now);
    }

    /// What a lost stream carried is sent again, and everything that may have been lost is said again.
    pub(crate) fn lose(&mut self, carried: Option<(u64, u64)>) {
        if let Some((start, end)) = carried {
            self.send.rewind(start, end);
        }
        self.said = Said::default();
    }

    pub(crate) fn after_stream_change(&mut self, now: Instant) {
        if matches!(self.life, Life::Opening | Life::Open) {
            let well = self.streams.current().is_some() && !self.is_complete();
            self.waiting_since = if well {
                None
            } else {
                self.waiting_since.or(Some(now))
            };
        }
    }

    /// The flow is over in an abort: nothing is kept but the last word.
    pub(crate) fn end(&mut self, now: Instant) {
        let written = self.send.end();
        self.send.clear();
        debug_assert_eq!(self.send.end(), written, "RESET says how much was written");
        self.receive.clear();
        self.ack_at = None;
        self.aborted = true;
        self.waiting_since = Some(now);
    }

    /// The other end broke the rules.
    pub(crate) fn fail(&mut self, code: ResetCode, now: Instant) {
        if matches!(self.life, Life::Opening | Life::Open) {
            tracing::debug!(flow = ?self.id, %code, "peer broke the rules of a flow");
            self.events.push_back(Event::Reset {
                code,
                by_peer: false,
            });
            self.reset(code, now);
        }
    }
}
