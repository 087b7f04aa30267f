//! Extra sockets: hundreds that live for seconds, of which a handful ever carries a carrier.
//!
//! A birthday search wants 256 fresh sockets. Were they read like the main ones, quinn would look through all of
//! them for every packet of the carriers that run meanwhile. So each has a small task of its own that sleeps until
//! its socket has something; what comes is sorted as everywhere else. They keep the kernel's own buffer sizes and
//! share one buffer for reading. A socket under which a route is [installed](DemuxSocket::install) has won: from
//! then on it is one of the main ones, with their buffers.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use quinn_udp::RecvMeta;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::real_socket::{RealSocket, bind};
use super::socket::DemuxSocket;
use super::virtual_addr::{Route, VirtualAddr, canonical};

/// What one read may yield: packets of one source glued together, the most that IP carries.
const READ_BYTES: usize = 65_535;

/// Reads in a row before other tasks get their turn.
const ROUNDS_MAX: usize = 8;

/// A socket that is not quinn's to read yet.
#[derive(Debug)]
pub(super) struct Extra {
    socket: Arc<RealSocket>,
    /// Ends with the entry.
    _reader: AbortOnDropHandle<()>,
}

impl Extra {
    pub(super) const fn socket(&self) -> &Arc<RealSocket> {
        &self.socket
    }
}

impl DemuxSocket {
    /// Makes an extra socket bound to `local`, and returns the address that it is bound to, which names it.
    ///
    /// It is cheap: its datagrams come out of [`recv_control`](Self::recv_control) and
    /// [`send_control`](Self::send_control) sends from it at once, like from any other, but it has no large buffers
    /// and costs the carriers nothing. It ends with [`remove_socket`](Self::remove_socket). One that keeps failing is taken
    /// out and counted, and is not heard of in [`socket_failed`](Self::socket_failed): nobody depends on it.
    ///
    /// # Errors
    /// The kernel's, such as too many open files.
    pub fn bind_extra(self: &Arc<Self>, local: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Arc::new(RealSocket::light(bind(local)?)?);
        let local = socket.local();
        let reader = tokio::spawn(read(Arc::downgrade(self), socket.clone()));
        let extra = Extra {
            socket,
            _reader: AbortOnDropHandle::new(reader),
        };
        self.extras().insert(local, extra);
        Ok(local)
    }

    /// Returns how many extra sockets there are, those that won not counted.
    pub fn extra_sockets(&self) -> usize {
        self.extras().len()
    }

    /// Makes the extra socket of a route, if it is one, a main socket.
    pub(super) fn promote(&self, route: &Route) {
        let (Route::Direct { local, .. } | Route::RelayedUdp { local, .. }) = *route else {
            return;
        };
        let Some(Extra { socket, _reader }) = self.extras().remove(&canonical(local)) else {
            return;
        };
        socket.enlarge_buffers();
        self.insert_socket(socket);
    }

    /// Reads what there is. Returns whether the socket is still good.
    fn read_extra(&self, socket: &RealSocket) -> bool {
        let mut buffer = self
            .extra_buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        buffer.resize(READ_BYTES, 0);
        for _ in 0..ROUNDS_MAX {
            let mut metas = [RecvMeta::default()];
            let mut bufs = [IoSliceMut::new(&mut buffer)];
            match socket.try_recv(&mut bufs, &mut metas) {
                Ok(count) => {
                    if self.sort(socket.local(), &mut bufs, &mut metas, count) > 0 {
                        self.hand_over(&metas[0], &bufs[0]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) => {
                    self.counters.receive_errors.increment();
                    debug!(%error, local = %socket.local(), "receive failed on an extra socket");
                    if socket.has_failed() {
                        self.counters.sockets_failed.increment();
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A route was installed under the socket while its task was reading: quinn takes the packets from the queue.
    fn hand_over(&self, meta: &RecvMeta, buffer: &[u8]) {
        let Some(addr) = VirtualAddr::from_socket_addr(meta.addr) else {
            return;
        };
        for packet in buffer[..meta.len].chunks(meta.stride.max(1)) {
            self.push_pending(addr, Bytes::copy_from_slice(packet));
        }
        self.receive_waker.wake();
    }
}

/// Reads one extra socket until it is taken out, which aborts this, or fails.
async fn read(demux: Weak<DemuxSocket>, socket: Arc<RealSocket>) {
    loop {
        socket.readable().await;
        let Some(demux) = demux.upgrade() else {
            return;
        };
        if !demux.read_extra(&socket) {
            demux.remove_socket(socket.local());
            return;
        }
        tokio::task::yield_now().await;
    }
}
