//! The streams that a flow rides on.

use std::collections::BTreeMap;

use super::record::{Generation, READING_MAX};

/// What is to be said first on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstWord {
    Open,
    Attach,
    /// OPENED or REFUSED, once it is known which.
    AnswerToOpen,
    AnswerToAttach,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) first_word: Option<FirstWord>,
    /// The other end knows this stream, so data may go on it.
    pub(crate) usable: bool,
    /// From the lowest to the highest offset that was put on it.
    pub(crate) carried: Option<(u64, u64)>,
    /// Its sending direction was finished.
    pub(crate) finished: bool,
    /// The other end reads it no more.
    pub(crate) unread: bool,
    /// The other end has finished its direction.
    pub(crate) read_ended: bool,
}

impl Attachment {
    pub(crate) const fn new(first_word: FirstWord, usable: bool) -> Self {
        Self {
            first_word: Some(first_word),
            usable,
            carried: None,
            finished: false,
            unread: false,
            read_ended: false,
        }
    }

    const fn can_carry(&self) -> bool {
        self.usable && !self.finished && !self.unread
    }

    pub(crate) fn carry(&mut self, offset: u64, length: u64) {
        let (start, end) = self.carried.unwrap_or((offset, offset));
        self.carried = Some((start.min(offset), end.max(offset + length)));
    }
}

/// All streams of one end of a flow, by generation.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    streams: BTreeMap<Generation, Attachment>,
}

impl Attachments {
    pub(crate) fn get_mut(&mut self, generation: Generation) -> Option<&mut Attachment> {
        self.streams.get_mut(&generation)
    }

    pub(crate) fn get(&self, generation: Generation) -> Option<&Attachment> {
        self.streams.get(&generation)
    }

    /// The stream that new data and all control records go on.
    pub(crate) fn current(&self) -> Option<Generation> {
        self.streams
            .iter()
            .rev()
            .find(|(_, stream)| stream.can_carry())
            .map(|(number, _)| *number)
    }

    pub(crate) fn highest(&self) -> Option<Generation> {
        self.streams.last_key_value().map(|(number, _)| *number)
    }

    /// Some stream is in use or waits for its answer.
    pub(crate) fn has_hope(&self) -> bool {
        self.streams
            .values()
            .any(|s| !s.finished && !s.unread && !s.read_ended)
    }

    /// The streams below `generation` that are still read.
    pub(crate) fn reading_below(&self, generation: Generation) -> Vec<Generation> {
        let older = self
            .streams
            .range(..generation)
            .filter(|(_, stream)| !stream.read_ended);
        older.map(|(number, _)| *number).collect()
    }

    /// Adds a stream; returns what was carried by the one that fell out.
    pub(crate) fn insert(
        &mut self,
        generation: Generation,
        stream: Attachment,
    ) -> Option<Attachment> {
        self.streams.insert(generation, stream);
        (self.streams.len() > READING_MAX)
            .then(|| self.streams.pop_first())
            .flatten()
            .map(|(_, s)| s)
    }

    pub(crate) fn remove(&mut self, generation: Generation) -> Option<Attachment> {
        self.streams.remove(&generation)
    }

    /// Marks the streams below `generation` that the other end does not list as unread; returns what they
    /// carried.
    pub(crate) fn mark_unread(
        &mut self,
        generation: Generation,
        reading: &[Generation],
    ) -> Vec<(u64, u64)> {
        let older = self.streams.range_mut(..generation);
        older
            .filter(|(number, stream)| !stream.unread && !reading.contains(number))
            .filter_map(|(_, stream)| {
                stream.unread = true;
                stream.carried
            })
            .collect()
    }

    /// Forgets streams on which nothing can happen any more.
    pub(crate) fn retire(&mut self, acked: u64) {
        self.streams.retain(|_, stream| {
            let delivered = stream.carried.is_none_or(|(_, end)| end <= acked);
            !(stream.read_ended && (stream.unread || (stream.finished && delivered)))
        });
    }
}
