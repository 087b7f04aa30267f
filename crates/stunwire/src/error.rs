//! Why something could not be read, believed or written.

use crate::AttributeType;

/// Why bytes are not a STUN or ChannelData message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame's header does not fit.
    #[error("{available} bytes where {needed} are needed")]
    Truncated {
        /// Bytes needed, as far as is known.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The first byte belongs to another protocol (RFC 7983).
    #[error("first byte {0:#04x} is not of this protocol")]
    BadFirstByte(u8),
    /// A STUN length is a multiple of four.
    #[error("message length {0} is not a multiple of 4")]
    UnalignedLength(u16),
    /// The length field and the datagram disagree.
    #[error("header and content take {claimed} bytes by the header, but {available} are there")]
    LengthMismatch {
        /// Whole frame, as the header says.
        claimed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// An attribute reaches over the end of the message.
    #[error("{kind} at byte {offset} reaches over the end")]
    AttributeTooLong {
        /// The attribute.
        kind: AttributeType,
        /// Where its header begins, counted from the beginning of the message.
        offset: usize,
    },
}

/// Why an attribute could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// It is not in the message.
    #[error("{0} is missing")]
    Missing(AttributeType),
    /// Its value has the wrong length, is out of range or is not UTF-8.
    #[error("{kind} of {length} bytes is malformed")]
    Malformed {
        /// The attribute.
        kind: AttributeType,
        /// Length of the value.
        length: usize,
    },
}

/// Why a message is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// The message has no such attribute.
    #[error("message has no integrity attribute")]
    Missing,
    /// The message was changed, or another key was used.
    #[error("message integrity does not match")]
    Mismatch,
}

/// Why the fingerprint cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// The message has none.
    #[error("message has no fingerprint")]
    Missing,
    /// The bytes are not a STUN message, or were damaged.
    #[error("fingerprint does not match")]
    Mismatch,
}

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's buffer ends.
    #[error("buffer of {available} bytes where {needed} are needed")]
    BufferTooSmall {
        /// Bytes needed so far.
        needed: usize,
        /// Length of the buffer.
        available: usize,
    },
    /// The message would not fit its own length field.
    #[error("message of {0} bytes does not fit its length field")]
    MessageTooLong(usize),
    /// The RFC does not allow this value, for example a user name that is too long.
    #[error("value of {0} is out of range")]
    InvalidValue(AttributeType),
}

/// Why a stream is out of step and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Neither STUN nor a channel.
    #[error("first byte {0:#04x} is neither STUN nor a channel")]
    BadFirstByte(u8),
    /// A STUN header without the cookie: RFC 3489 knew no stream, so this is not STUN.
    #[error("{0:#010x} in place of the magic cookie")]
    BadCookie(u32),
    /// A STUN length is a multiple of four.
    #[error("message length {0} is not a multiple of 4")]
    UnalignedLength(u16),
}
