//! What arrives: which packets quinn gets, in place, and which go elsewhere.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_udp::RecvMeta;
use tracing::{debug, trace, warn};

use super::demux::{Verdict, classify};
use super::real_socket::RealSocket;
use super::routes::RouteTable;
use super::socket::{ControlDatagram, DemuxSocket, now};
use super::virtual_addr::{RelayStreamId, Route, VirtualAddr, canonical};

/// Packets that wait for quinn although they were received: what came over a relay's stream, and what shared a
/// buffer with packets of another route. 1.4 MB; beyond it they are lost like in any full socket.
const PENDING_MAX: usize = 1024;

/// Handshake packets of routes that are not installed yet: two carriers' first flights on four paths.
const EARLY_MAX: usize = 16;

/// How long such a packet is worth something: quinn repeats it after a second.
const EARLY_LIFETIME: Duration = Duration::from_secs(2);

/// Receive calls per socket and poll that may yield nothing for quinn, before others get their turn: quinn
/// holds its endpoint's lock meanwhile.
const ROUNDS_MAX: usize = 8;

/// A packet for quinn that did not come in quinn's own buffer.
#[derive(Debug)]
pub(super) struct Pending {
    addr: VirtualAddr,
    payload: Bytes,
}

/// The beginning of a handshake whose route is not known yet.
#[derive(Debug)]
pub(super) struct Early {
    route: Route,
    payload: Bytes,
    received: Instant,
}

impl DemuxSocket {
    /// The body of `AsyncUdpSocket::poll_recv`: never an error, never zero packets, never a stride of zero.
    pub(super) fn receive(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // First the waker, then the looking: what is added in between wakes us again.
        self.receive_waker.register(cx.waker());
        let mut filled = self.deliver_pending(bufs, metas);
        let mut busy = filled == bufs.len();
        let sockets = self.sockets_snapshot();
        let start = self.next_source.fetch_add(1, Ordering::Relaxed) % sockets.len().max(1);
        let in_turn = sockets
            .values()
            .skip(start)
            .chain(sockets.values().take(start));
        for socket in in_turn {
            if filled == bufs.len() {
                break;
            }
            match self.receive_from(socket, cx, &mut bufs[filled..], &mut metas[filled..]) {
                Poll::Ready(kept) => {
                    filled += kept;
                    busy = true;
                }
                Poll::Pending => {}
            }
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        if busy {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// `Pending` when the socket is empty and has the waker; `Ready` when there may be more in it.
    fn receive_from(
        &self,
        socket: &RealSocket,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        for _ in 0..ROUNDS_MAX {
            match std::task::ready!(socket.poll_recv(cx, bufs, metas)) {
                Ok(count) => {
                    let kept = self.sort(socket.local(), bufs, metas, count);
                    if kept > 0 {
                        return Poll::Ready(kept);
                    }
                }
                Err(error) => {
                    self.counters.receive_errors.increment();
                    debug!(%error, local = %socket.local(), "receive failed");
                    if socket.has_failed() {
                        warn!(%error, local = %socket.local(), "a socket keeps failing and is taken out");
                        self.take_out_failed(socket.local());
                        return Poll::Ready(0);
                    }
                }
            }
        }
        Poll::Ready(0)
    }

    /// Sorts `count` received buffers; those with packets for quinn end up in front. Returns their number.
    pub(super) fn sort(
        &self,
        local: SocketAddr,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        count: usize,
    ) -> usize {
        let now = now();
        let table = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut kept = 0;
        for index in 0..count.min(bufs.len()).min(metas.len()) {
            let mut meta = metas[index];
            if self.sort_buffer(&table, local, &mut bufs[index], &mut meta, now) {
                metas[kept] = meta;
                bufs.swap(kept, index);
                kept += 1;
            }
        }
        kept
    }

    /// Leaves in the buffer the packets of one route, equal in length but for the last, and says so in `meta`.
    ///
    /// Returns whether there are any. GRO glues packets of one source and equal length whatever they are, so
    /// every segment is judged by itself.
    fn sort_buffer(
        &self,
        table: &RouteTable,
        local: SocketAddr,
        buf: &mut [u8],
        meta: &mut RecvMeta,
        now: Instant,
    ) -> bool {
        let remote = canonical(meta.addr);
        let len = meta.len.min(buf.len());
        let stride = if meta.stride == 0 { len } else { meta.stride };
        let relays = self
            .relay_servers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut kept: Option<Kept> = None;
        let mut start = 0;
        while start < len {
            let end = (start + stride).min(len);
            let segment = &buf[start..end];
            match classify(table, &relays, local, remote, segment) {
                Verdict::Quic(addr, range) => {
                    let range = start + range.start..start + range.end;
                    self.note_received(table, addr, range.len(), now);
                    match kept.as_mut() {
                        None => {
                            move_down(buf, range.clone(), 0);
                            kept = Some(Kept {
                                addr,
                                stride: range.len(),
                                len: range.len(),
                            });
                        }
                        Some(kept) if kept.takes(addr, range.len()) => {
                            move_down(buf, range.clone(), kept.len);
                            kept.len += range.len();
                        }
                        Some(_) => {
                            self.push_pending(addr, Bytes::copy_from_slice(&buf[range]));
                        }
                    }
                }
                Verdict::Control => self.push_control(local, remote, meta, segment),
                Verdict::Early(route, range) => self.push_early(route, &segment[range], now),
                Verdict::Unmapped => {
                    trace!(%remote, "QUIC packet without a route");
                    self.counters.unmapped_dropped.increment();
                }
                Verdict::Unknown => {
                    trace!(%remote, "packet of no protocol of ours");
                    self.counters.unknown_dropped.increment();
                }
            }
            start = end;
        }
        let Some(kept) = kept else { return false };
        let direct = table
            .get(kept.addr)
            .is_some_and(|entry| !entry.route.is_relayed());
        *meta = RecvMeta {
            addr: kept.addr.to_socket_addr(),
            len: kept.len,
            stride: kept.stride,
            ecn: if direct { meta.ecn } else { None },
            // quinn would send from this address for ever; the route decides instead.
            dst_ip: None,
        };
        true
    }

    fn note_received(&self, table: &RouteTable, addr: VirtualAddr, bytes: usize, now: Instant) {
        self.counters.quic_in.increment();
        if let Some(entry) = table.get(addr) {
            entry.traffic.received(1, bytes, now);
        }
    }

    fn push_control(&self, local: SocketAddr, remote: SocketAddr, meta: &RecvMeta, payload: &[u8]) {
        let datagram = ControlDatagram {
            local,
            remote,
            destination_ip: meta.dst_ip,
            payload: Bytes::copy_from_slice(payload),
        };
        match self.control_tx.try_send(datagram) {
            Ok(()) => self.counters.control_in.increment(),
            Err(_) => self.counters.control_dropped.increment(),
        }
    }

    fn push_early(&self, route: Route, payload: &[u8], now: Instant) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.len() == EARLY_MAX {
            early.pop_front();
            self.counters.unmapped_dropped.increment();
        }
        early.push_back(Early {
            route,
            payload: Bytes::copy_from_slice(payload),
            received: now,
        });
    }

    /// Hands over the handshake packets that came before their route.
    pub(super) fn release_early(&self, addr: VirtualAddr, route: Route) {
        let now = now();
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.retain(|packet| now.saturating_duration_since(packet.received) < EARLY_LIFETIME);
        let mut due = Vec::new();
        early.retain(|packet| {
            let mine = packet.route == route;
            if mine {
                due.push(packet.payload.clone());
            }
            !mine
        });
        drop(early);
        for payload in due {
            self.counters.early_delivered.increment();
            self.deliver(addr, payload);
        }
    }

    /// Takes `ChannelData` that came over a relay's stream. Returns whether its channel has a route.
    pub fn push_relayed(&self, stream: RelayStreamId, channel: u16, payload: &[u8]) -> bool {
        let addr = self
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .stream_channel(stream, channel);
        match addr {
            Some(addr) => self.deliver(addr, Bytes::copy_from_slice(payload)),
            None => false,
        }
    }

    /// Takes a QUIC packet of `addr` that came another way, such as in a TURN Data indication.
    ///
    /// Returns false when the address has no route or quinn reads too slowly.
    pub fn inject(&self, addr: VirtualAddr, payload: &[u8]) -> bool {
        self.deliver(addr, Bytes::copy_from_slice(payload))
    }

    fn deliver(&self, addr: VirtualAddr, payload: Bytes) -> bool {
        {
            let table = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            if table.get(addr).is_none() || payload.is_empty() {
                return false;
            }
            self.note_received(&table, addr, payload.len(), now());
        }
        let taken = self.push_pending(addr, payload);
        self.receive_waker.wake();
        taken
    }

    pub(super) fn push_pending(&self, addr: VirtualAddr, payload: Bytes) -> bool {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() == PENDING_MAX {
            self.counters.pending_dropped.increment();
            return false;
        }
        pending.push_back(Pending { addr, payload });
        true
    }

    fn deliver_pending(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = 0;
        while filled < bufs.len().min(metas.len()) {
            let Some(packet) = pending.pop_front() else {
                break;
            };
            let len = packet.payload.len();
            let Some(space) = bufs[filled].get_mut(..len) else {
                self.counters.pending_dropped.increment();
                continue;
            };
            space.copy_from_slice(&packet.payload);
            metas[filled] = RecvMeta {
                addr: packet.addr.to_socket_addr(),
                len,
                stride: len,
                ecn: None,
                dst_ip: None,
            };
            filled += 1;
        }
        filled
    }
}

/// The packets of one buffer that stay in it.
struct Kept {
    addr: VirtualAddr,
    stride: usize,
    len: usize,
}

impl Kept {
    /// Whether a packet can follow: one route per buffer, and only the last packet may be shorter.
    fn takes(&self, addr: VirtualAddr, len: usize) -> bool {
        self.addr == addr && len <= self.stride && self.len.is_multiple_of(self.stride)
    }
}

/// Nothing is moved in the usual case, a buffer of QUIC packets straight from the peer.
fn move_down(buf: &mut [u8], from: Range<usize>, to: usize) {
    if from.start != to {
        buf.copy_within(from, to);
    }
}
