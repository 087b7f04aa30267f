//! The frames of a carrier's first stream: type, length, body.

use bytes::{Buf, BufMut, BytesMut};

/// Type (u8) and length (u16, big endian).
const HEADER_LEN: usize = 3;

/// The longest body. A hello has 58 bytes and a notice a few hundred of text; this bounds what a stranger can
/// make us hold.
pub(super) const BODY_MAX: usize = 4096;

/// Set in types that an end which does not know them skips.
pub(super) const SKIP_BIT: u8 = 0x80;

/// Frame types. The numbers are wire form; PROTOCOL-carrier.md has the bodies.
pub(super) mod kind {
    pub(in crate::carrier) const HELLO: u8 = 0x01;
    pub(in crate::carrier) const SPAKE: u8 = 0x02;
    pub(in crate::carrier) const CONFIRM: u8 = 0x03;
    pub(in crate::carrier) const MAC: u8 = 0x04;
    pub(in crate::carrier) const UNKNOWN: u8 = 0x05;
    pub(in crate::carrier) const PREFER: u8 = 0x20;
    pub(in crate::carrier) const DEAD: u8 = 0x21;
    pub(in crate::carrier) const KIND: u8 = 0x22;
    pub(in crate::carrier) const CLOSE: u8 = 0x23;
}

/// Why the bytes of a first stream are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The body is longer than any frame may be.
    #[error("frame of type {kind:#04x} announces {len} bytes, the limit is {BODY_MAX}")]
    TooLong {
        /// The frame's type.
        kind: u8,
        /// The length that it announces, in bytes.
        len: usize,
    },
    /// The body does not have the form of its type.
    #[error("malformed frame of type {0:#04x}")]
    Malformed(u8),
    /// The type is not known, may not be skipped, or does not belong here.
    #[error("unexpected frame of type {0:#04x}")]
    Unexpected(u8),
}

/// One whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// Whether an end that does not know the type may go on.
    pub(super) fn is_skippable(&self) -> bool {
        self.kind & SKIP_BIT != 0
    }
}

/// Appends one frame. The body is ours and within [`BODY_MAX`].
pub(super) fn encode(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    debug_assert!(body.len() <= BODY_MAX);
    let len = u16::try_from(body.len().min(BODY_MAX)).expect("BODY_MAX fits 16 bits");
    out.put_u8(kind);
    out.put_u16(len);
    out.put_slice(&body[..usize::from(len)]);
}

/// Collects bytes into frames; holds one incomplete frame at most, plus what was handed over in one call.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [kind, high, low] = *header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > BODY_MAX {
            return Err(FrameError::TooLong { kind, len });
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        Ok(Some(Frame {
            kind,
            body: self.buffer.split_to(len).to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        encode(&mut bytes, kind::HELLO, b"hello");
        encode(&mut bytes, kind::UNKNOWN, b"");
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            frames.extend(decoder.next().unwrap());
        }
        let expected = [
            Frame {
                kind: kind::HELLO,
                body: b"hello".to_vec(),
            },
            Frame {
                kind: kind::UNKNOWN,
                body: vec![],
            },
        ];
        assert_eq!(frames, expected);
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_header() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0x81, 0x10, 0x01]);
        assert_eq!(
            decoder.next(),
            Err(FrameError::TooLong {
                kind: 0x81,
                len: 4097
            })
        );
    }
}
