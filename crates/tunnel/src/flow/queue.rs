//! A piece of a byte stream between two offsets.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces smaller than this are copied together: a slice pins the whole buffer it came from, and each has a
/// price of its own all the way to the socket.
const COPY_BELOW: usize = 2048;
/// How large a copied piece grows.
const COPY_MAX: usize = 16 * 1024;

/// The bytes from `start` to `end` of a stream, in pieces.
#[derive(Debug)]
pub(crate) struct ByteQueue {
    start: u64,
    end: u64,
    /// Each with the offset of its first byte.
    pieces: VecDeque<(u64, Bytes)>,
    /// The last bytes before `end`, still growing.
    tail: BytesMut,
}

impl ByteQueue {
    pub(crate) fn new(start: u64) -> Self {
        Self {
            start,
            end: start,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
        }
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) const fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Appends bytes at `end`.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if bytes.len() < COPY_BELOW {
            if self.tail.len() + bytes.len() > COPY_MAX {
                self.freeze_tail();
            }
            self.tail.extend_from_slice(&bytes);
            self.end += bytes.len() as u64;
        } else {
            self.freeze_tail();
            let at = self.end;
            self.end += bytes.len() as u64;
            self.pieces.push_back((at, bytes));
        }
    }

    /// Returns a piece that begins at `offset`, at most `max` bytes; `None` outside the queue.
    pub(crate) fn slice(&mut self, offset: u64, max: usize) -> Option<Bytes> {
        if offset < self.start || offset >= self.end || max == 0 {
            return None;
        }
        if offset >= self.end - self.tail.len() as u64 {
            self.freeze_tail();
        }
        let index = self
            .pieces
            .partition_point(|(at, _)| *at <= offset)
            .checked_sub(1)?;
        let (at, piece) = self.pieces.get(index)?;
        let from = (offset - at) as usize;
        Some(piece.slice(from..piece.len().min(from.saturating_add(max))))
    }

    /// Removes and returns the first piece, at most `max` bytes.
    pub(crate) fn pop(&mut self, max: usize) -> Option<Bytes> {
        let piece = self.slice(self.start, max)?;
        self.advance_to(self.start + piece.len() as u64);
        Some(piece)
    }

    /// Forgets everything before `offset`.
    pub(crate) fn advance_to(&mut self, offset: u64) {
        let offset = offset.clamp(self.start, self.end);
        if offset > self.end - self.tail.len() as u64 {
            self.freeze_tail();
        }
        self.start = offset;
        while let Some((at, piece)) = self.pieces.front_mut() {
            let past = offset.saturating_sub(*at);
            if past < piece.len() as u64 {
                piece.advance(past as usize);
                *at += past;
                return;
            }
            self.pieces.pop_front();
        }
    }

    /// Drops all bytes and stays at `end`.
    pub(crate) fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.tail = BytesMut::new();
        self.start = self.end;
    }

    fn freeze_tail(&mut self) {
        if !self.tail.is_empty() {
            let at = self.end - self.tail.len() as u64;
            // Taken whole: what a split leaves behind would pin the buffer of an idle connection.
            self.pieces
                .push_back((at, std::mem::take(&mut self.tail).freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_and_pops_agree_with_a_plain_vector(
            lengths in proptest::collection::vec(0usize..5000, 1..30),
            cuts in proptest::collection::vec((0u64..60_000, 1usize..9000), 0..30),
        ) {
            let mut queue = ByteQueue::new(7);
            let mut plain: Vec<u8> = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let piece: Vec<u8> = (0..*length).map(|at| (at * 7 + index) as u8).collect();
                plain.extend_from_slice(&piece);
                queue.push(piece.into());
            }
            for (at, max) in cuts {
                let slice = queue.slice(7 + at, max);
                match slice {
                    None => prop_assert!(at >= plain.len() as u64),
                    Some(slice) => {
                        prop_assert!(!slice.is_empty() && slice.len() <= max);
                        prop_assert_eq!(&slice[..], &plain[at as usize..][..slice.len()]);
                    }
                }
            }
            let half = plain.len() as u64 / 2;
            queue.advance_to(7 + half);
            let mut rest = Vec::new();
            while let Some(piece) = queue.pop(1000) {
                rest.extend_from_slice(&piece);
            }
            prop_assert_eq!(&rest[..], &plain[half as usize..]);
        }
    }
}
