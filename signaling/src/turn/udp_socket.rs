//! A UDP socket that reads in batches and sends without waiting.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;

/// The largest datagram, or batch of glued ones.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Batches read before other sockets get their turn.
const BATCHES_PER_TURN: usize = 4;

/// A UDP socket on the data plane's thread.
#[derive(Debug)]
pub(super) struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    /// Where to: on a wildcard socket the packet's destination.
    pub(super) local: SocketAddr,
    pub(super) from: SocketAddr,
    pub(super) payload: &'a [u8],
}

/// What all sockets of the thread read into, one after another.
#[derive(Debug)]
pub(super) struct ReceiveBuffer(RefCell<Vec<u8>>);

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self(RefCell::new(vec![0; BATCH_SIZE * DATAGRAM_BYTES_MAX]))
    }
}

impl UdpSocket {
    /// Takes over a bound, non-blocking socket; needs a runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { io, state, bound })
    }

    /// Tells whether a packet that arrived at `local` arrived here.
    pub(super) fn serves(&self, local: SocketAddr) -> bool {
        self.bound == local
            || (self.bound.ip().is_unspecified() && self.bound.port() == local.port())
    }

    /// Returns how many datagrams one transmit may hold.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Waits until there is something to read, then gives every datagram that is there to `handle`, and
    /// calls `end_batch` after each batch.
    pub(super) async fn receive(
        &self,
        buffer: &ReceiveBuffer,
        mut handle: impl FnMut(Arrived<'_>),
        mut end_batch: impl FnMut(),
    ) -> io::Result<()> {
        self.io.readable().await?;
        let mut memory = buffer.0.borrow_mut();
        for _ in 0..BATCHES_PER_TURN {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut pieces = memory.chunks_exact_mut(DATAGRAM_BYTES_MAX);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
            let received = self.io.try_io(Interest::READABLE, || {
                self.state
                    .recv(UdpSockRef::from(&self.io), &mut slices, &mut metas)
            });
            let count = match received {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            for (meta, slice) in metas.iter().zip(&slices).take(count) {
                let local = self.arrived_at(meta.dst_ip);
                for payload in slice[..meta.len].chunks(meta.stride.max(1)) {
                    handle(Arrived {
                        local,
                        from: meta.addr,
                        payload,
                    });
                }
            }
            end_batch();
        }
        Ok(())
    }

    /// Sends one datagram, or several of `segment_size` in one go; never waits.
    pub(super) fn send(
        &self,
        from: IpAddr,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let src_ip = (self.bound.ip().is_unspecified() && !from.is_unspecified()).then_some(from);
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size,
            src_ip,
        };
        // Past the runtime: it knows that a socket is writable only after it has asked, and we never wait.
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    fn arrived_at(&self, destination: Option<IpAddr>) -> SocketAddr {
        let known = destination.filter(|_| self.bound.ip().is_unspecified());
        known.map_or(self.bound, |ip| SocketAddr::new(ip, self.bound.port()))
    }
}
