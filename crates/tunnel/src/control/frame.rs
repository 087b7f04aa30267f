//! The frames inside flow 0.
//!
//! ```text
//! offset  length  field
//!      0       1  type; with bit 0x80 set, a reader that does not know it skips the frame by its length
//!      1       4  length of the body in bytes, big-endian, at most 1,048,576
//!      5       …  body: one JSON object; unknown members are ignored
//!
//! type  name       from     body
//! 0x01  PROPOSE    ingress  {"version":3,"mappings":[WireMapping, …]}
//! 0x02  ANSWER     egress   {"version":3,"verdicts":[{"id":0},{"id":1,"refused":{"code":"…","text":"…"}}]}
//! 0x03  COMMIT     ingress  {"version":3}
//! 0x04  COMMITTED  egress   {"version":3}
//! 0x05  ABORT      ingress  {"version":3}
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mapping_core::{MappingId, WireMapping};
use serde::{Deserialize, Serialize};

/// A table of 1,024 mappings, each with the longest host name twice, takes two thirds of this.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Type and length.
const HEADER_BYTES: usize = 5;
/// A frame of an unknown type with this bit is skipped.
const SKIP_BIT: u8 = 0x80;

const PROPOSE: u8 = 0x01;
const ANSWER: u8 = 0x02;
const COMMIT: u8 = 0x03;
const COMMITTED: u8 = 0x04;
const ABORT: u8 = 0x05;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The ingress proposes a whole table.
    Propose(Proposal),
    /// The egress has judged it and can no longer refuse it.
    Answer(Answer),
    /// The ingress puts it in force.
    Commit(Version),
    /// The egress has put it in force.
    Committed(Version),
    /// The ingress takes a proposal back.
    Abort(Version),
}

/// The body of PROPOSE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Higher than any before in this instance pair.
    pub version: u64,
    /// The whole table.
    pub mappings: Vec<WireMapping>,
}

/// The body of ANSWER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// As proposed.
    pub version: u64,
    /// One for each proposed mapping, in the same order.
    pub verdicts: Vec<Verdict>,
}

/// The body of COMMIT, COMMITTED and ABORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// As proposed.
    pub version: u64,
}

/// What the egress says of one mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The mapping.
    pub id: MappingId,
    /// Why not; absent when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedMapping>,
}

/// Why a mapping is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMapping {
    /// For programs: `not-allowed`, `bad-host`, …
    pub code: String,
    /// For people.
    pub text: String,
}

/// Why bytes are no frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is above the limit.
    #[error("a control frame of {length} bytes, more than {BODY_BYTES_MAX}")]
    TooLong {
        /// The length of its body.
        length: usize,
    },
    /// A type that may not be skipped and is not known.
    #[error("a control frame of unknown type {kind:#04x}")]
    UnknownType {
        /// The type.
        kind: u8,
    },
    /// The body is not the JSON that its type asks for.
    #[error("a control frame of type {kind:#04x} with a malformed body")]
    Malformed {
        /// The type.
        kind: u8,
    },
}

impl Frame {
    /// Returns the name of the frame's type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Propose(_) => "PROPOSE",
            Self::Answer(_) => "ANSWER",
            Self::Commit(_) => "COMMIT",
            Self::Committed(_) => "COMMITTED",
            Self::Abort(_) => "ABORT",
        }
    }

    /// Writes the frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Propose(body) => (PROPOSE, serde_json::to_vec(body)),
            Self::Answer(body) => (ANSWER, serde_json::to_vec(body)),
            Self::Commit(body) => (COMMIT, serde_json::to_vec(body)),
            Self::Committed(body) => (COMMITTED, serde_json::to_vec(body)),
            Self::Abort(body) => (ABORT, serde_json::to_vec(body)),
        };
        let body = body.expect("numbers and strings always serialize");
        let length = u32::try_from(body.len()).expect("a table is far below 4 GiB");
        let mut frame = BytesMut::with_capacity(HEADER_BYTES + body.len());
        frame.put_u8(kind);
        frame.put_u32(length);
        frame.extend_from_slice(&body);
        frame.freeze()
    }

    /// Reads a body; `None` for a type that is skipped.
    fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, FrameError> {
        fn read<'de, T: Deserialize<'de>>(kind: u8, body: &'de [u8]) -> Result<T, FrameError> {
            serde_json::from_slice(body).map_err(|_| FrameError::Malformed { kind })
        }
        Ok(Some(match kind {
            PROPOSE => Self::Propose(read(kind, body)?),
            ANSWER => Self::Answer(read(kind, body)?),
            COMMIT => Self::Commit(read(kind, body)?),
            COMMITTED => Self::Committed(read(kind, body)?),
            ABORT => Self::Abort(read(kind, body)?),
            kind if kind & SKIP_BIT != 0 => return Ok(None),
            kind => return Err(FrameError::UnknownType { kind }),
        }))
    }
}

/// Cuts flow 0's bytes into frames. Holds at most one frame and what came with it in the same pieces.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Makes an empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the flow; take the frames out before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame.
    ///
    /// # Errors
    ///
    /// [`FrameError`], after which nothing sensible follows.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some((&kind, rest)) = self.buffer.split_first() else {
                return Ok(None);
            };
            let Some(length) = rest.first_chunk::<4>() else {
                return Ok(None);
            };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > BODY_BYTES_MAX {
                return Err(FrameError::TooLong { length });
            }
            if self.buffer.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            self.buffer.advance(HEADER_BYTES);
            let body = self.buffer.split_to(length);
            if let Some(frame) = Frame::decode(kind, &body)? {
                return Ok(Some(frame));
            }
        }
    }
}
