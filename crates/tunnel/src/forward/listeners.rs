//! Local ports: opening them, and trying again while another program has them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mapping_core::Protocol;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::accept;
use super::clock::lock;
use super::event::ForwardEvent;
use super::ingress::Inner;
use super::stats::Counters;
use super::udp_ingress;

/// How long the first attempts are apart: a port of ours that was just closed is free again that soon.
const FIRST_PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
];
/// How long later attempts are apart: another program has the port.
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// How long accepting rests when it fails, which is when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections the system keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// What is listened on, for each port of a mapping by its offset.
pub(super) type PortStates = Arc<Mutex<BTreeMap<u16, Result<SocketAddr, String>>>>;

/// One port of a mapping, while it is wanted.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) mapping: u32,
    pub(super) offset: u16,
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) states: PortStates,
    pub(super) closed: CancellationToken,
}

/// Keeps a port open until it is closed.
pub(super) fn spawn(inner: &Arc<Inner>, port: Arc<Port>, protocol: Protocol) {
    let task = PortTask::begin(inner);
    tokio::spawn(async move {
        let closed = port.closed.clone();
        tokio::select! {
            // Closed comes first: a packet that is read after that would begin a flow that nobody ends.
            biased;
            () = closed.cancelled() => {}
            () = keep_open(&task.0, &port, protocol) => {}
        }
    });
}

/// Counts as a task of a port while it lives.
struct PortTask(Arc<Inner>);

impl PortTask {
    fn begin(inner: &Arc<Inner>) -> Self {
        inner.port_tasks.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(inner))
    }
}

impl Drop for PortTask {
    fn drop(&mut self) {
        self.0.port_tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn keep_open(inner: &Arc<Inner>, port: &Arc<Port>, protocol: Protocol) {
    let mut failures = 0;
    loop {
        let error = match protocol {
            Protocol::Tcp => match listen_tcp(port.address) {
                Ok(listener) => {
                    opened(inner, port, listener.local_addr());
                    return accept_all(inner, port, &listener).await;
                }
                Err(error) => error,
            },
            Protocol::Udp => match bind_udp(port.address) {
                Ok(socket) => {
                    opened(inner, port, socket.local_addr());
                    udp_ingress::run(inner, port, Arc::new(socket)).await
                }
                Err(error) => error,
            },
        };
        if let Some(pause) = FIRST_PAUSES.get(failures) {
            failures += 1;
            tokio::time::sleep(*pause).await;
            continue;
        }
        failed(inner, port, &error);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn opened(inner: &Inner, port: &Port, address: io::Result<SocketAddr>) {
    let address = address.unwrap_or(port.address);
    lock(&port.states).insert(port.offset, Ok(address));
    inner.events.tell(ForwardEvent::Listening {
        mapping: port.mapping,
        address,
    });
}

fn failed(inner: &Inner, port: &Port, error: &io::Error) {
    let text = format!("cannot listen on {}: {error}", port.address);
    let before = lock(&port.states).insert(port.offset, Err(text.clone()));
    if before != Some(Err(text)) {
        inner.events.tell(ForwardEvent::ListenFailed {
            mapping: port.mapping,
            address: port.address,
            error: error.to_string(),
        });
    }
}

async fn accept_all(inner: &Arc<Inner>, port: &Arc<Port>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                tokio::spawn(accept::serve(
                    Arc::clone(inner),
                    Arc::clone(port),
                    socket,
                    from,
                ));
            }
            Err(error) => {
                tracing::debug!(%error, address = %port.address, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Elsewhere this means that two programs may share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    udp_ingress::widen_buffers(&socket);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
