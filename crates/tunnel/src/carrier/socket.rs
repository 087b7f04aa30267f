//! The socket that quinn sees: several real ones behind virtual addresses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{RecvMeta, Transmit};
use tokio::sync::mpsc;

use super::counters::{Counters, SocketStats};
use super::extra::Extra;
use super::real_socket::{RealSocket, SocketReport, bind};
use super::receive::{Early, Pending};
use super::routes::{RouteError, RouteTable};
use super::send::Poller;
use super::traffic::RouteStats;
use super::virtual_addr::{RelayStreamId, Route, VirtualAddr, canonical};

/// Control datagrams that wait for the driver: two seconds of the hardest birthday search, and nothing else
/// comes in such numbers.
const CONTROL_QUEUE: usize = 1024;

/// Frames that wait for a relay's stream: 128 packets are 10 ms at 120 Mbit/s, and more would only be delay.
const RELAY_STREAM_QUEUE: usize = 128;

/// Names of failed sockets that wait for the driver.
const FAILED_QUEUE: usize = 16;

/// Packets that one received buffer may hold, as quinn sizes its buffers once at construction. Linux glues 64.
const RECEIVE_SEGMENTS: usize = if cfg!(any(target_os = "linux", target_os = "android", windows)) {
    64
} else {
    1
};

/// A datagram for the driver: STUN, TURN control, or `ChannelData` of a channel without a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlDatagram {
    /// The socket that it came in on, by the address that it is bound to.
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The address that it was sent to, where the system tells; finer than `local` when that is unspecified.
    pub destination_ip: Option<IpAddr>,
    /// The datagram.
    pub payload: Bytes,
}

type Sockets = BTreeMap<SocketAddr, Arc<RealSocket>>;

/// The UDP sockets of one process behind virtual addresses.
///
/// They are read by the [`CarrierEndpoint`](super::CarrierEndpoint)'s task, so that one must exist before
/// anything comes out of [`recv_control`](Self::recv_control). Sockets and routes come and go at any time.
/// Every lock in here is held for a look-up or a copy, and never while quinn is called.
pub struct DemuxSocket {
    pub(super) routes: RwLock<RouteTable>,
    pub(super) relay_servers: RwLock<Arc<BTreeSet<SocketAddr>>>,
    pub(super) counters: Counters,
    pub(super) pending: Mutex<VecDeque<Pending>>,
    pub(super) early: Mutex<VecDeque<Early>>,
    pub(super) receive_waker: AtomicWaker,
    pub(super) next_source: AtomicUsize,
    pub(super) relay_streams: Mutex<BTreeMap<RelayStreamId, mpsc::Sender<Bytes>>>,
    pub(super) control_tx: mpsc::Sender<ControlDatagram>,
    control_rx: tokio::sync::Mutex<mpsc::Receiver<ControlDatagram>>,
    failed_tx: mpsc::Sender<SocketAddr>,
    failed_rx: tokio::sync::Mutex<mpsc::Receiver<SocketAddr>>,
    sockets: RwLock<Arc<Sockets>>,
    extras: Mutex<BTreeMap<SocketAddr, Extra>>,
    /// Where they are all read into.
    pub(super) extra_buffer: Mutex<Vec<u8>>,
}

impl DemuxSocket {
    /// Makes one without any socket. Call it, like everything here, inside a tokio runtime.
    pub fn new() -> Arc<Self> {
        let (control_tx, control_rx) = mpsc::channel(CONTROL_QUEUE);
        let (failed_tx, failed_rx) = mpsc::channel(FAILED_QUEUE);
        Arc::new(Self {
            routes: RwLock::new(RouteTable::new(now())),
            relay_servers: RwLock::default(),
            counters: Counters::default(),
            pending: Mutex::default(),
            early: Mutex::default(),
            receive_waker: AtomicWaker::new(),
            next_source: AtomicUsize::new(0),
            relay_streams: Mutex::default(),
            control_tx,
            control_rx: tokio::sync::Mutex::new(control_rx),
            failed_tx,
            failed_rx: tokio::sync::Mutex::new(failed_rx),
            sockets: RwLock::default(),
            extras: Mutex::default(),
            extra_buffer: Mutex::default(),
        })
    }

    /// Makes a socket bound to `local` and adds it. An IPv6 socket takes IPv6 only.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(&self, local: SocketAddr) -> io::Result<SocketReport> {
        self.add_socket(bind(local)?)
    }

    /// Adds a bound socket and asks for 4 MiB of buffer each way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_socket(&self, socket: std::net::UdpSocket) -> io::Result<SocketReport> {
        let socket = RealSocket::new(socket)?;
        let report = socket.report();
        self.insert_socket(Arc::new(socket));
        Ok(report)
    }

    pub(super) fn insert_socket(&self, socket: Arc<RealSocket>) {
        self.change_sockets(|sockets| {
            sockets.insert(socket.local(), socket);
        });
    }

    /// Takes a socket out, an extra one too. Its routes stay, and their packets are dropped and counted.
    pub fn remove_socket(&self, local: SocketAddr) -> bool {
        let local = canonical(local);
        if self.extras().remove(&local).is_some() {
            return true;
        }
        let mut removed = false;
        self.change_sockets(|sockets| removed = sockets.remove(&local).is_some());
        removed
    }

    /// Puts `socket` in the place of the one bound to `old`, with all routes of that one.
    ///
    /// # Errors
    /// The kernel's; nothing has changed then.
    pub fn replace_socket(
        &self,
        old: SocketAddr,
        socket: std::net::UdpSocket,
    ) -> io::Result<SocketReport> {
        let socket = RealSocket::new(socket)?;
        let report = socket.report();
        let old = canonical(old);
        self.change_sockets(|sockets| {
            sockets.remove(&old);
            sockets.insert(report.local, Arc::new(socket));
        });
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .rename_local(old, report.local);
        Ok(report)
    }

    /// The addresses that the sockets are bound to, those of extra ones left out.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.sockets_snapshot().keys().copied().collect()
    }

    /// Waits for a socket that kept failing and was taken out: the driver binds a new one. Cancel-safe.
    pub async fn socket_failed(&self) -> SocketAddr {
        match self.failed_rx.lock().await.recv().await {
            Some(local) => local,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Says which addresses are TURN servers over UDP: their packets are STUN or `ChannelData`, never QUIC.
    pub fn set_relay_servers(&self, servers: &[SocketAddr]) {
        let servers = servers.iter().copied().map(canonical).collect();
        *self
            .relay_servers
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(servers);
    }

    /// Waits for the next datagram that is not quinn's. Cancel-safe.
    pub async fn recv_control(&self) -> ControlDatagram {
        match self.control_rx.lock().await.recv().await {
            Some(datagram) => datagram,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Sends one datagram from the socket bound to `local`, now or never, with `ttl` as TTL or hop limit if given.
    ///
    /// # Errors
    /// `NotFound` when there is no such socket, `WouldBlock` when it is full (dropped and counted), or the
    /// kernel's (network unreachable…).
    pub fn send_control(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        ttl: Option<u8>,
        payload: &[u8],
    ) -> io::Result<()> {
        let Some(socket) = self.socket(canonical(local)) else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let sent = socket.send_control(canonical(remote), ttl, payload);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.counters.control_send_dropped.increment();
        }
        sent
    }

    /// Gives out a virtual address, each only once.
    pub fn allocate(&self) -> VirtualAddr {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .allocate()
    }

    /// Puts `route` behind `addr`; handshake packets that came over it in the last two seconds are delivered.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub fn install(&self, addr: VirtualAddr, route: Route) -> Result<(), RouteError> {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .install(addr, route)?;
        self.promote(&route);
        self.release_early(addr, route.canonical());
        Ok(())
    }

    /// Changes the route behind `addr` to another of the same kind; its carriers do not notice.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub fn replace(&self, addr: VirtualAddr, route: Route) -> Result<(), RouteError> {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(addr, route)?;
        self.promote(&route);
        Ok(())
    }

    /// Takes the route behind `addr` away, for good. Returns whether there was one.
    pub fn remove(&self, addr: VirtualAddr) -> bool {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(addr)
    }

    /// The route behind `addr`.
    pub fn route(&self, addr: VirtualAddr) -> Option<Route> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(addr)
            .map(|entry| entry.route)
    }

    /// What has passed over the route behind `addr`.
    pub fn route_stats(&self, addr: VirtualAddr) -> Option<RouteStats> {
        let traffic = self
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(addr)?
            .traffic
            .clone();
        Some(traffic.stats())
    }

    /// The queue of whole, padded `ChannelData` frames that the driver writes to a relay's stream, in order.
    ///
    /// A second call for the same stream (it was dialled anew) makes a new queue; the old one ends.
    pub fn relay_stream_queue(&self, stream: RelayStreamId) -> mpsc::Receiver<Bytes> {
        let (tx, rx) = mpsc::channel(RELAY_STREAM_QUEUE);
        let mut streams = self
            .relay_streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Streams whose receiver is gone carry nothing any more.
        streams.retain(|_, queue| !queue.is_closed());
        streams.insert(stream, tx);
        rx
    }

    /// What was counted so far.
    pub fn stats(&self) -> SocketStats {
        self.counters.snapshot()
    }

    pub(super) fn sockets_snapshot(&self) -> Arc<Sockets> {
        self.sockets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn socket(&self, local: SocketAddr) -> Option<Arc<RealSocket>> {
        self.sockets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&local)
            .cloned()
            .or_else(|| self.extras().get(&local).map(|it| it.socket().clone()))
    }

    pub(super) fn extras(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Extra>> {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_out_failed(&self, local: SocketAddr) {
        self.counters.sockets_failed.increment();
        self.remove_socket(local);
        // A full queue means that the driver has enough to do; `sockets()` shows what is missing.
        let _ = self.failed_tx.try_send(local);
    }

    /// Readers work on their own snapshot, so that no lock is held over a system call.
    fn change_sockets(&self, change: impl FnOnce(&mut Sockets)) {
        {
            let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
            let mut changed = Sockets::clone(&sockets);
            change(&mut changed);
            *sockets = Arc::new(changed);
        }
        self.receive_waker.wake();
    }
}

impl AsyncUdpSocket for DemuxSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller::new(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send_transmit(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.receive(cx, bufs, meta)
    }

    /// An IPv6 address, since quinn takes from it which families it may dial.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(VirtualAddr::new(0).to_socket_addr())
    }

    /// The most that any socket takes at once; a socket that takes less is fed one by one.
    fn max_transmit_segments(&self) -> usize {
        self.sockets_snapshot()
            .values()
            .map(|socket| socket.max_gso_segments())
            .max()
            .unwrap_or(1)
    }

    fn max_receive_segments(&self) -> usize {
        RECEIVE_SEGMENTS
    }

    /// Read once, when the endpoint is made: `true` would switch MTU discovery off.
    fn may_fragment(&self) -> bool {
        self.sockets_snapshot()
            .values()
            .any(|socket| socket.may_fragment())
    }
}

impl fmt::Debug for DemuxSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemuxSocket")
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}

/// The one clock of the carriers: tokio's, so that paused time is theirs too.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
