//! What quinn wants to send: by route, and never an error but a socket's own "full".

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::UdpPoller;
use quinn_udp::Transmit;

use super::demux::CHANNEL_HEADER_LEN;
use super::routes::Entry;
use super::socket::{DemuxSocket, now};
use super::virtual_addr::{Route, VirtualAddr};

impl DemuxSocket {
    /// The body of `AsyncUdpSocket::try_send`.
    ///
    /// Any error but `WouldBlock` would end the connection's driver without a trace, and a `WouldBlock` that
    /// did not come from a socket would spin: everything else is dropped, counted and `Ok`.
    pub(super) fn send_transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(entry) =
            VirtualAddr::from_socket_addr(transmit.destination).and_then(|addr| self.entry(addr))
        else {
            self.counters.unroutable_dropped.increment();
            return Ok(());
        };
        let segment = transmit
            .segment_size
            .unwrap_or(transmit.contents.len())
            .max(1);
        self.send_on(&entry, transmit.ecn, transmit.contents, segment)
    }

    /// Sends the copy of the last packet under `addr` once more, after a silent path has answered again.
    ///
    /// It is a packet number that the peer may not have seen, and a duplicate is dropped: a connection in back-off
    /// goes on within a round trip instead of seconds. Returns whether there was something to send.
    pub fn resend_last(&self, addr: VirtualAddr) -> bool {
        let Some(entry) = self.entry(addr) else {
            return false;
        };
        let Some(packet) = entry.traffic.last_packet() else {
            return false;
        };
        self.send_on(&entry, None, &packet, packet.len()).is_ok()
    }

    fn send_on(
        &self,
        entry: &Entry,
        ecn: Option<quinn_udp::EcnCodepoint>,
        contents: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        match entry.route {
            Route::Direct { local, remote } => match self.socket(local) {
                Some(socket) => socket.send(remote, ecn, contents, segment, &self.counters)?,
                None => return self.unroutable(),
            },
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => match self.socket(local) {
                Some(socket) => {
                    socket.send_framed(server, channel, contents, segment, &self.counters)?
                }
                None => return self.unroutable(),
            },
            Route::RelayedStream { stream, channel } => {
                let queue = {
                    let streams = self
                        .relay_streams
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    streams.get(&stream).cloned()
                };
                let Some(queue) = queue else {
                    return self.unroutable();
                };
                for frame in stream_frames(channel, contents, segment) {
                    // A full queue is loss, which quinn's congestion control understands.
                    if queue.try_send(frame).is_err() {
                        self.counters.relay_stream_dropped.increment();
                    }
                }
            }
        }
        entry.traffic.sent(contents, segment, now());
        Ok(())
    }

    fn unroutable(&self) -> io::Result<()> {
        self.counters.unroutable_dropped.increment();
        Ok(())
    }

    fn entry(&self, addr: VirtualAddr) -> Option<Entry> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(addr)
            .cloned()
    }
}

/// The packets of one transmission as `ChannelData`, each padded to 4 bytes (RFC 8656, section 12.5), in one buffer.
fn stream_frames(channel: u16, contents: &[u8], segment: usize) -> Vec<Bytes> {
    let packets = contents.len().div_ceil(segment);
    let mut buffer = BytesMut::with_capacity(contents.len() + packets * (CHANNEL_HEADER_LEN + 3));
    contents
        .chunks(segment)
        .filter_map(|packet| {
            let length = u16::try_from(packet.len()).ok()?;
            buffer.put_u16(channel);
            buffer.put_u16(length);
            buffer.put_slice(packet);
            buffer.put_bytes(0, packet.len().next_multiple_of(4) - packet.len());
            Some(buffer.split().freeze())
        })
        .collect()
}

type Writable = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Waits for room, one per connection, since tokio's own poll keeps a single waker.
///
/// quinn does not say which socket was full, so it waits for any of those that are.
pub(super) struct Poller {
    socket: Arc<DemuxSocket>,
    waiting: Vec<Writable>,
}

impl Poller {
    pub(super) fn new(socket: Arc<DemuxSocket>) -> Self {
        Self {
            socket,
            waiting: Vec::new(),
        }
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            let sockets = self.socket.sockets_snapshot();
            let blocked = sockets
                .values()
                .filter(|socket| socket.is_blocked())
                .cloned();
            self.waiting = blocked
                .map(|socket| Box::pin(async move { socket.writable().await }) as Writable)
                .collect();
        }
        // Nothing is full (any more): the next send decides. It cannot spin, since a full socket says so again.
        let mut ready = self.waiting.is_empty();
        for writable in &mut self.waiting {
            ready |= writable.as_mut().poll(cx).is_ready();
        }
        if !ready {
            return Poll::Pending;
        }
        self.waiting.clear();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_for_a_stream_are_padded_to_four_and_keep_the_true_length() {
        let frames = stream_frames(0x4001, b"abcdefg", 4);
        assert_eq!(
            frames,
            [&b"\x40\x01\x00\x04abcd"[..], b"\x40\x01\x00\x03efg\x00"]
        );
    }
}
