//! What was written here and is not yet held by the other end.

use bytes::Bytes;

use super::config::FlowConfig;
use super::queue::ByteQueue;

/// The sending half of one end of a flow.
#[derive(Debug)]
pub(crate) struct SendHalf {
    /// From the first byte that is not acknowledged to the last one written.
    retained: ByteQueue,
    /// The next offset to put on a stream; goes back when a stream is lost.
    next: u64,
    /// One past the highest offset ever put on a stream.
    sent: u64,
    /// Up to which offset the other end takes data.
    credit: u64,
    /// What is retained at most, however much credit there is.
    retained_max: u64,
    fin: bool,
    fin_acked: bool,
}

/// The other end acknowledged what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckBeyondSent;

impl SendHalf {
    pub(crate) fn new(config: &FlowConfig) -> Self {
        Self {
            retained: ByteQueue::new(0),
            next: 0,
            sent: 0,
            credit: config.initial_credit,
            retained_max: config.max_credit,
            fin: false,
            fin_acked: false,
        }
    }

    /// How many bytes may be written now.
    pub(crate) const fn writable(&self) -> u64 {
        if self.fin {
            return 0;
        }
        let credit = self.credit.saturating_sub(self.retained.end());
        let room = self.retained_max.saturating_sub(self.retained.len());
        if credit < room { credit } else { room }
    }

    /// Takes what there is credit for; returns how much that was.
    pub(crate) fn write(&mut self, mut bytes: Bytes) -> usize {
        bytes.truncate(usize::try_from(self.writable()).unwrap_or(usize::MAX));
        let taken = bytes.len();
        self.retained.push(bytes);
        taken
    }

    pub(crate) const fn shutdown(&mut self) {
        self.fin = true;
    }

    /// One past the last byte written.
    pub(crate) const fn end(&self) -> u64 {
        self.retained.end()
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.retained.start()
    }

    pub(crate) const fn retained(&self) -> u64 {
        self.retained.len()
    }

    pub(crate) const fn has_data(&self) -> bool {
        self.next < self.retained.end()
    }

    /// FIN may be said: everything before it is on its way.
    pub(crate) const fn fin_ready(&self) -> bool {
        self.fin && !self.fin_acked && !self.has_data()
    }

    /// Everything written is held by the other end, and it knows that there is no more.
    pub(crate) const fn is_complete(&self) -> bool {
        self.fin && self.fin_acked && self.retained.is_empty()
    }

    /// Returns the next bytes to put on a stream, with their offset.
    pub(crate) fn poll_data(&mut self, max: usize) -> Option<(u64, Bytes)> {
        let offset = self.next;
        let bytes = self.retained.slice(offset, max)?;
        self.next += bytes.len() as u64;
        self.sent = self.sent.max(self.next);
        Some((offset, bytes))
    }

    /// What was put on a lost stream from `start` to `end` will be sent again, as far as it is not held.
    pub(crate) fn rewind(&mut self, start: u64, end: u64) {
        if end > self.acked() {
            self.next = self.next.min(start.max(self.acked()));
        }
    }

    pub(crate) fn handle_ack(&mut self, received: u64) -> Result<(), AckBeyondSent> {
        if received > self.sent {
            return Err(AckBeyondSent);
        }
        self.retained.advance_to(received);
        self.next = self.next.max(self.retained.start());
        Ok(())
    }

    pub(crate) fn handle_credit(&mut self, limit: u64) {
        self.credit = self.credit.max(limit);
    }

    /// Returns false when no FIN was sent.
    pub(crate) const fn handle_fin_ack(&mut self) -> bool {
        self.fin_acked = self.fin;
        self.fin
    }

    /// Everything written, and the end of it, as if none of it was ever put on a stream. Nothing may be
    /// acknowledged yet.
    pub(crate) fn into_unsent(self, config: &FlowConfig) -> Self {
        debug_assert_eq!(self.acked(), 0, "what is acknowledged is forgotten");
        Self {
            retained: self.retained,
            fin: self.fin,
            ..Self::new(config)
        }
    }

    /// Forgets what is retained: the flow was reset.
    pub(crate) fn clear(&mut self) {
        self.retained.clear();
        self.next = self.retained.end();
    }
}
