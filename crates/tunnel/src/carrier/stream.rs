//! One half of a stream each: bytes go in, bytes come out. quinn's types stay in here.

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::carrier::Carrier;
use super::error::StreamError;

/// The sending half. Dropping it finishes it.
#[derive(Debug)]
pub struct StreamSender {
    stream: SendStream,
    /// A carrier lives as long as anybody uses it.
    _carrier: Carrier,
}

impl StreamSender {
    pub(super) fn new(stream: SendStream, carrier: Carrier) -> Self {
        Self {
            stream,
            _carrier: carrier,
        }
    }

    /// Writes as much as there is room for, at least one byte, and returns how many bytes it was.
    ///
    /// What was taken is taken out of `chunks`: the first ones become empty, the next may get shorter. Cancel-safe.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<usize, StreamError> {
        let written = self.stream.write_chunks(chunks).await?;
        Ok(written.bytes)
    }

    /// Says that nothing follows; what was written still arrives. Nothing happens the second time.
    pub fn finish(&mut self) {
        // An error says that it was ended before.
        let _ = self.stream.finish();
    }

    /// Throws away what has not arrived yet.
    pub fn reset(&mut self, code: u32) {
        let _ = self.stream.reset(VarInt::from_u32(code));
    }

    /// Streams of a higher priority are sent first; 0 at first.
    pub fn set_priority(&mut self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }
}

/// The receiving half. Dropping it before the end tells the peer to stop.
#[derive(Debug)]
pub struct StreamReceiver {
    stream: RecvStream,
    _carrier: Carrier,
}

impl StreamReceiver {
    pub(super) fn new(stream: RecvStream, carrier: Carrier) -> Self {
        Self {
            stream,
            _carrier: carrier,
        }
    }

    /// The next bytes in order, at most `max` of them; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        let chunk = self.stream.read_chunk(max, true).await?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Tells the peer that nothing more will be read.
    pub fn stop(&mut self, code: u32) {
        let _ = self.stream.stop(VarInt::from_u32(code));
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(code.into_inner()),
            WriteError::ConnectionLost(error) => Self::Carrier(error.into()),
            // 0-RTT is never used.
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Ended,
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(error) => Self::Carrier(error.into()),
            // Reads are always ordered, and 0-RTT is never used.
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Ended,
        }
    }
}
