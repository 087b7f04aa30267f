//! Cuts a stream of chunks into records.

use bytes::{Buf, Bytes};

use super::record::{BODY_MAX, DATA_MAX, Record, SKIPPABLE, kind};
use super::varint::decode_varint;

/// What is wrong with the bytes of a stream; it ends that flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A type that this version neither knows nor may skip.
    #[error("unknown record type {0:#04x}")]
    UnknownKind(u8),
    /// A body that does not hold the fields of its type.
    #[error("malformed record of type {kind:#04x}")]
    Malformed {
        /// The type.
        kind: u8,
    },
    /// A body longer than its type allows.
    #[error("record of type {kind:#04x} is {length} bytes long, above {max}")]
    TooLong {
        /// The type.
        kind: u8,
        /// The length it announced.
        length: u64,
        /// The bound.
        max: usize,
    },
}

/// Cuts a stream of chunks into records; the bytes of DATA are slices of the chunks.
///
/// It holds at most one body of 1 KiB. A DATA record that spans chunks is given out in pieces as they
/// arrive, each as a [`Record::Data`] of its own. After an error it returns that error for ever.
#[derive(Debug)]
pub struct RecordDecoder {
    state: State,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Body { kind: u8, length: usize },
    DataHead { length: usize },
    Data { offset: u64, remaining: usize },
    Skip { remaining: usize },
    Failed(RecordError),
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordDecoder {
    /// Makes a decoder at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Head,
            scratch: Vec::new(),
        }
    }

    /// Takes the next record from the front of `chunk`; `None` when all of it was taken and more is needed.
    ///
    /// # Errors
    ///
    /// When the bytes are no record; the stream cannot be read any further.
    pub fn decode(&mut self, chunk: &mut Bytes) -> Result<Option<Record>, RecordError> {
        loop {
            let step = match self.state {
                State::Head => self.head(chunk),
                State::Body { kind, length } => self.body(kind, length, chunk),
                State::DataHead { length } => self.data_head(length, chunk),
                State::Data { offset, remaining } => Ok(self.data(offset, remaining, chunk)),
                State::Skip { remaining } => Ok(self.skip(remaining, chunk)),
                State::Failed(error) => Err(error),
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Starved) => return Ok(None),
                Ok(Step::Record(record)) => return Ok(Some(record)),
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    fn head(&mut self, chunk: &mut Bytes) -> Result<Step, RecordError> {
        let Some(length) = self.varint_after(1, chunk) else {
            return Ok(Step::Starved);
        };
        let kind = self.scratch[0];
        self.scratch.clear();
        let max = if kind == kind::DATA {
            DATA_MAX + 8
        } else {
            BODY_MAX
        };
        let known = (kind::OPEN..=kind::DONE).contains(&kind);
        if !known && kind & SKIPPABLE == 0 {
            return Err(RecordError::UnknownKind(kind));
        }
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= max) else {
            return Err(RecordError::TooLong { kind, length, max });
        };
        self.state = match kind {
            kind::DATA => State::DataHead { length },
            kind if known => State::Body { kind, length },
            _ => State::Skip { remaining: length },
        };
        Ok(Step::Again)
    }

    fn body(&mut self, kind: u8, length: usize, chunk: &mut Bytes) -> Result<Step, RecordError> {
        let take = (length - self.scratch.len()).min(chunk.len());
        self.scratch.extend_from_slice(&chunk[..take]);
        chunk.advance(take);
        if self.scratch.len() < length {
            return Ok(Step::Starved);
        }
        let record = Record::decode_body(kind, &self.scratch);
        self.scratch.clear();
        self.state = State::Head;
        record.map(Step::Record)
    }

    fn data_head(&mut self, length: usize, chunk: &mut Bytes) -> Result<Step, RecordError> {
        let malformed = RecordError::Malformed { kind: kind::DATA };
        if length == 0 {
            return Err(malformed);
        }
        let Some(offset) = self.varint_after(0, chunk) else {
            return if self.scratch.len() < length {
                Ok(Step::Starved)
            } else {
                Err(malformed)
            };
        };
        let Some(remaining) = length.checked_sub(self.scratch.len()) else {
            return Err(malformed);
        };
        if remaining > DATA_MAX {
            return Err(RecordError::TooLong {
                kind: kind::DATA,
                length: remaining as u64,
                max: DATA_MAX,
            });
        }
        self.scratch.clear();
        self.state = State::Data { offset, remaining };
        Ok(Step::Again)
    }

    fn data(&mut self, offset: u64, remaining: usize, chunk: &mut Bytes) -> Step {
        if remaining == 0 {
            self.state = State::Head;
            return Step::Again;
        }
        if chunk.is_empty() {
            return Step::Starved;
        }
        let bytes = chunk.split_to(remaining.min(chunk.len()));
        let next = offset.saturating_add(bytes.len() as u64);
        self.state = State::Data {
            offset: next,
            remaining: remaining - bytes.len(),
        };
        Step::Record(Record::Data { offset, bytes })
    }

    fn skip(&mut self, remaining: usize, chunk: &mut Bytes) -> Step {
        let take = remaining.min(chunk.len());
        chunk.advance(take);
        if take == remaining {
            self.state = State::Head;
            return Step::Again;
        }
        self.state = State::Skip {
            remaining: remaining - take,
        };
        Step::Starved
    }

    /// Moves bytes to the scratch until a varint stands there after `skip` bytes.
    fn varint_after(&mut self, skip: usize, chunk: &mut Bytes) -> Option<u64> {
        loop {
            if let Some((value, _)) = self.scratch.get(skip..).and_then(decode_varint) {
                return Some(value);
            }
            if !chunk.has_remaining() {
                return None;
            }
            self.scratch.push(chunk.get_u8());
        }
    }
}

enum Step {
    Again,
    Starved,
    Record(Record),
}
