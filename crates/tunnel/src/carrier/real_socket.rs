//! One real UDP socket: how it is tuned, read, written, and sent on with a TTL of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{debug, warn};

use super::counters::Counters;
use super::virtual_addr::canonical;

/// What is asked of the kernel for each direction: 40 ms at 800 Mbit/s. A stock Debian gives 208 KiB, which costs
/// about a tenth of the throughput (facts/performance.md, lesson 10).
const BUFFER_BYTES: usize = 4 << 20;

/// Receive errors in a row after which a socket is taken out: one pending error per lost route is normal, a
/// socket of a vanished interface fails for ever.
const RECEIVE_FAILURES_MAX: u32 = 64;

/// What came of adding a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketReport {
    /// The address that the socket is bound to, which names it from now on.
    pub local: SocketAddr,
    /// The send buffer in bytes as the kernel reports it; 4 MiB were asked for.
    pub send_buffer_bytes: usize,
    /// The receive buffer in bytes as the kernel reports it; 4 MiB were asked for.
    pub receive_buffer_bytes: usize,
    /// Packets per send call; 1 means that segmentation offload is missing.
    pub gso_segments: usize,
    /// Packets per received buffer; 1 means that receive offload is missing.
    pub gro_segments: usize,
}

#[derive(Debug)]
pub(super) struct RealSocket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    default_ttl: u32,
    /// Held while the TTL differs from the default, so that two control sends cannot mix their values.
    ttl: Mutex<()>,
    /// A send found the socket full since it was last seen writable.
    blocked: AtomicBool,
    gso_lost: AtomicBool,
    receive_failures: AtomicU32,
    /// Reused for the frames of a relay.
    frames: Mutex<Vec<u8>>,
}

/// Makes a socket that [`RealSocket::new`] takes. IPv6 sockets take IPv6 only, so that an address has one family.
pub(super) fn bind(local: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

impl RealSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = Self::light(socket)?;
        socket.enlarge_buffers();
        Ok(socket)
    }

    /// Leaves the buffers as the system gives them: enough for checks, and for what comes before a carrier.
    pub(super) fn light(socket: std::net::UdpSocket) -> io::Result<Self> {
        // Sets non-blocking, don't-fragment, GRO and packet information.
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let options = SockRef::from(&socket);
        let default_ttl = if local.is_ipv4() {
            options.ttl_v4()?
        } else {
            options.unicast_hops_v6()?
        };
        Ok(Self {
            local: canonical(local),
            default_ttl,
            state,
            io: UdpSocket::from_std(socket)?,
            ttl: Mutex::new(()),
            blocked: AtomicBool::new(false),
            gso_lost: AtomicBool::new(false),
            receive_failures: AtomicU32::new(0),
            frames: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn enlarge_buffers(&self) {
        for result in [
            self.state
                .set_send_buffer_size((&self.io).into(), BUFFER_BYTES),
            self.state
                .set_recv_buffer_size((&self.io).into(), BUFFER_BYTES),
        ] {
            if let Err(error) = result {
                debug!(%error, "socket buffer size refused");
            }
        }
    }

    pub(super) fn report(&self) -> SocketReport {
        SocketReport {
            local: self.local,
            send_buffer_bytes: self.state.send_buffer_size((&self.io).into()).unwrap_or(0),
            receive_buffer_bytes: self.state.recv_buffer_size((&self.io).into()).unwrap_or(0),
            gso_segments: self.state.max_gso_segments(),
            gro_segments: self.state.gro_segments(),
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn max_gso_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Receives into `bufs`. `Ready(Err)` is an error to count; [`Self::has_failed`] says when to give up.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let ready = std::task::ready!(self.io.poll_recv_ready(cx));
            match ready.and_then(|()| self.try_recv(bufs, metas)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    /// Receives what is there into `bufs`; `WouldBlock` when that is nothing.
    pub(super) fn try_recv(
        &self,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let received = self.io.try_io(Interest::READABLE, || {
            self.state.recv((&self.io).into(), bufs, metas)
        });
        match &received {
            Ok(_) => self.receive_failures.store(0, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.receive_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        received
    }

    /// Resolves when there may be something to receive; errors count as that, the next read meets them.
    pub(super) async fn readable(&self) {
        let _ = self.io.readable().await;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.receive_failures.load(Ordering::Relaxed) >= RECEIVE_FAILURES_MAX
    }

    /// Sends equal packets of `segment` bytes (the last may be shorter) to `remote`.
    ///
    /// The only error is `WouldBlock`, and it comes from `try_io`, so that the socket's readiness is cleared.
    pub(super) fn send(
        &self,
        remote: SocketAddr,
        ecn: Option<EcnCodepoint>,
        contents: &[u8],
        segment: usize,
        counters: &Counters,
    ) -> io::Result<()> {
        if remote.is_ipv4() != self.local.is_ipv4() {
            counters.unroutable_dropped.increment();
            return Ok(());
        }
        let several = contents.len() > segment;
        if several && contents.len().div_ceil(segment) > self.state.max_gso_segments() {
            return self.send_one_by_one(remote, ecn, contents, segment, counters);
        }
        let transmit = Transmit {
            destination: remote,
            ecn,
            contents,
            segment_size: several.then_some(segment),
            src_ip: None,
        };
        match self.try_send(&transmit) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) if several && self.state.max_gso_segments() == 1 => {
                self.note_lost_gso(counters);
                self.send_one_by_one(remote, ecn, contents, segment, counters)
            }
            Err(error) => {
                counters.send_errors.increment();
                debug!(%error, "send failed");
                Ok(())
            }
        }
    }

    /// Without offload. A socket that fills up half-way loses the rest: to repeat all would send the beginning twice.
    fn send_one_by_one(
        &self,
        remote: SocketAddr,
        ecn: Option<EcnCodepoint>,
        contents: &[u8],
        segment: usize,
        counters: &Counters,
    ) -> io::Result<()> {
        for (index, packet) in contents.chunks(segment).enumerate() {
            let transmit = Transmit {
                destination: remote,
                ecn,
                contents: packet,
                segment_size: None,
                src_ip: None,
            };
            match self.try_send(&transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && index == 0 => {
                    return Err(error);
                }
                Err(error) => {
                    counters.send_errors.increment();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Frames every segment for a relay and sends the frames, with offload, from one reused buffer.
    pub(super) fn send_framed(
        &self,
        server: SocketAddr,
        channel: u16,
        contents: &[u8],
        segment: usize,
        counters: &Counters,
    ) -> io::Result<()> {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.clear();
        for packet in contents.chunks(segment) {
            let Ok(length) = u16::try_from(packet.len()) else {
                counters.send_errors.increment();
                return Ok(());
            };
            frames.extend_from_slice(&channel.to_be_bytes());
            frames.extend_from_slice(&length.to_be_bytes());
            frames.extend_from_slice(packet);
        }
        // No ECN: a relay does not pass the marks on, and its silence would switch ECN off for the connection.
        self.send(
            server,
            None,
            &frames,
            segment + super::demux::CHANNEL_HEADER_LEN,
            counters,
        )
    }

    /// Sends one datagram now, with a TTL or hop limit of its own if asked. Any error is the kernel's.
    pub(super) fn send_control(
        &self,
        remote: SocketAddr,
        ttl: Option<u8>,
        payload: &[u8],
    ) -> io::Result<()> {
        if remote.is_ipv4() != self.local.is_ipv4() {
            return Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        }
        let transmit = Transmit {
            destination: remote,
            ecn: None,
            contents: payload,
            segment_size: None,
            src_ip: None,
        };
        let guard = self.ttl.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ttl) = ttl else {
            drop(guard);
            return self.send_now(&transmit);
        };
        self.set_ttl(u32::from(ttl))?;
        let sent = self.send_now(&transmit);
        // If this fails every later packet dies on the way, so it must be heard of.
        if let Err(error) = self.set_ttl(self.default_ttl) {
            warn!(%error, local = %self.local, "the socket's TTL could not be restored");
        }
        sent
    }

    /// Asks the kernel whatever tokio thinks: a socket that was bound a moment ago is not yet known to be writable,
    /// and its first probe should not be lost to that.
    fn send_now(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.try_send((&self.io).into(), transmit)
    }

    fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let options = SockRef::from(&self.io);
        if self.local.is_ipv4() {
            options.set_ttl_v4(ttl)
        } else {
            options.set_unicast_hops_v6(ttl)
        }
    }

    #[cfg(test)]
    pub(super) fn mark_blocked(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn ttl(&self) -> io::Result<u32> {
        let options = SockRef::from(&self.io);
        if self.local.is_ipv4() {
            options.ttl_v4()
        } else {
            options.unicast_hops_v6()
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), transmit)
        });
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.blocked.store(true, Ordering::Release);
        }
        sent
    }

    fn note_lost_gso(&self, counters: &Counters) {
        if !self.gso_lost.swap(true, Ordering::Relaxed) {
            counters.gso_disabled.increment();
            warn!(local = %self.local, "segmentation offload was refused; throughput falls to about a quarter");
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Resolves when the socket can take a packet again; errors count as writable, the next send meets them.
    pub(super) async fn writable(&self) {
        let _ = self.io.writable().await;
        self.blocked.store(false, Ordering::Release);
    }
}
