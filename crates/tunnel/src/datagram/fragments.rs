//! Cuts a payload into datagrams that a carrier takes.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{PAYLOAD_MAX, encode_head, finish_head};
use crate::flow::{FlowId, OpenRequest, varint_len};

/// The fewest payload bytes a fragment is worth: with less, one payload would become thousands of datagrams.
/// A QUIC carrier at its smallest MTU takes 1,162 bytes, and no head is longer than 64.
const FRAGMENT_MIN: usize = 256;

/// The datagrams of one payload, in order.
#[derive(Debug)]
pub struct Fragments<'a> {
    head: BytesMut,
    payload: &'a [u8],
    offset: usize,
    max_size: usize,
    done: bool,
}

/// Cuts `payload` into datagrams of at most `max_size` bytes; nothing comes out when the payload is larger
/// than UDP allows, or the carrier takes too little. The long form is used when there is a `request`.
#[must_use]
pub fn fragments<'a>(
    flow: FlowId,
    request: Option<&OpenRequest>,
    packet: u64,
    payload: &'a [u8],
    max_size: usize,
) -> Fragments<'a> {
    let mut head = BytesMut::with_capacity(64);
    encode_head(flow, request, packet, &mut head);
    let whole = head.len() + 1 + payload.len() <= max_size;
    let fits = whole || max_size >= head.len() + varint_len(PAYLOAD_MAX as u64) + FRAGMENT_MIN;
    let done = payload.len() > PAYLOAD_MAX || !fits;
    Fragments {
        head,
        payload,
        offset: 0,
        max_size,
        done,
    }
}

impl Iterator for Fragments<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let rest = &self.payload[self.offset..];
        let room = self.max_size - self.head.len() - varint_len(self.offset as u64);
        let length = rest.len().min(room);
        let last = length == rest.len();
        let mut out = BytesMut::with_capacity(self.head.len() + 4 + length);
        out.put_slice(&self.head);
        finish_head(self.offset, last, &mut out);
        out.put_slice(&rest[..length]);
        self.offset += length;
        self.done = last;
        Some(out.freeze())
    }
}
