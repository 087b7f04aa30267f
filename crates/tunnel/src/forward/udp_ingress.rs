//! UDP at the ingress: local packets into datagrams, datagrams to local sources.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use socket2::Socket;
use tokio::net::UdpSocket;

use super::clock::{lock, now};
use super::event::ForwardEvent;
use super::ingress::Inner;
use super::listeners::Port;
use super::peer::Peer;
use crate::carrier::Carrier;
use crate::datagram::{Fragments, IngressStep, Source};

/// The largest UDP packet there can be.
const PACKET_MAX: usize = 65_536;
/// How many packets are taken before the others run.
const TURN_PACKETS: usize = 64;
/// What is asked of the system for a socket's buffers: a burst of the largest payloads; it may give less.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(1);

pub(super) fn widen_buffers(socket: &Socket) {
    let widened = socket
        .set_recv_buffer_size(SOCKET_BUFFER)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BUFFER));
    if let Err(error) = widened {
        tracing::debug!(%error, "socket buffers stay as they are");
    }
}

/// Reads a local port until it fails.
pub(super) async fn run(inner: &Arc<Inner>, port: &Arc<Port>, socket: Arc<UdpSocket>) -> io::Error {
    let key = (port.mapping, port.offset);
    lock(&inner.udp_ports).insert(key, (Arc::clone(port), Arc::clone(&socket)));
    let _guard = Unregister {
        inner,
        key,
        socket: Arc::clone(&socket),
    };
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        if let Err(error) = socket.readable().await {
            return error;
        }
        for _ in 0..TURN_PACKETS {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let source = Source {
                        mapping: port.mapping,
                        port_offset: port.offset,
                        local_peer: from,
                    };
                    if !send(inner, port, source, &buffer[..length]) {
                        inner.dropped_datagrams.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an earlier packet of ours met, on some systems.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return error,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Takes the port out of the table when its task ends, however it ends.
struct Unregister<'a> {
    inner: &'a Inner,
    key: (u32, u16),
    socket: Arc<UdpSocket>,
}

impl Drop for Unregister<'_> {
    fn drop(&mut self) {
        let mut ports = lock(&self.inner.udp_ports);
        // A port that was opened anew has taken the place.
        if ports
            .get(&self.key)
            .is_some_and(|(_, socket)| Arc::ptr_eq(socket, &self.socket))
        {
            ports.remove(&self.key);
        }
    }
}

/// Sends one payload; false when it was dropped.
fn send(inner: &Inner, port: &Port, source: Source, payload: &[u8]) -> bool {
    let Some(peer) = inner.peer() else {
        return false;
    };
    let Some(version) = peer.agreed.borrow().version_for(port.mapping) else {
        return false;
    };
    let Some(carrier) = peer.carriers.current() else {
        return false;
    };
    let mut datagrams = lock(&peer.datagrams);
    let others = inner.tcp.connections.load(Ordering::Relaxed) as usize + datagrams.len();
    let new_id = || {
        if others < inner.connections_max() {
            return Some(lock(&peer.table).next_id());
        }
        inner.refuse_for_limit();
        None
    };
    let Some(id) = datagrams.flow_of(source, new_id, now()) else {
        return false;
    };
    let max_size = carrier.max_datagram_size();
    let sent = datagrams
        .send(id, version, payload, max_size, now())
        .is_some_and(|fragments| send_all(&carrier, fragments));
    if sent {
        port.counters
            .bytes_out
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        inner
            .udp
            .bytes_out
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
    }
    sent
}

/// Sends the datagrams of one payload; false when the carrier does not take them all.
pub(super) fn send_all(carrier: &Carrier, fragments: Fragments<'_>) -> bool {
    let mut sent = false;
    for fragment in fragments {
        sent = carrier.send_datagram(fragment).is_ok();
        if !sent {
            break;
        }
    }
    sent
}

/// Reads a carrier's datagrams until it ends: also those of a carrier that is no longer preferred.
pub(super) async fn receive(inner: Arc<Inner>, peer: Arc<Peer>, carrier: Carrier) {
    loop {
        let datagram = tokio::select! {
            () = peer.gone.cancelled() => return,
            datagram = carrier.read_datagram() => datagram,
        };
        let Ok(datagram) = datagram else { return };
        let step = lock(&peer.datagrams).handle_datagram(datagram, now());
        match step {
            IngressStep::Deliver(source, payload) => deliver(&inner, source, &payload),
            IngressStep::Refused(source, _, reason) => {
                inner.events.tell(ForwardEvent::FlowRefused {
                    mapping: source.mapping,
                    reason,
                });
            }
            IngressStep::Nothing => {}
        }
    }
}

fn deliver(inner: &Inner, source: Source, payload: &Bytes) {
    let port = lock(&inner.udp_ports)
        .get(&(source.mapping, source.port_offset))
        .cloned();
    let Some((port, socket)) = port else { return };
    if socket.try_send_to(payload, source.local_peer).is_ok() {
        port.counters
            .bytes_in
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        inner
            .udp
            .bytes_in
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
    } else {
        inner.dropped_datagrams.fetch_add(1, Ordering::Relaxed);
    }
}

/// Forgets idle flows for as long as the peer is there.
pub(super) async fn sweep(peer: Arc<Peer>) {
    loop {
        tokio::select! {
            () = peer.gone.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        lock(&peer.datagrams).handle_timeout(now());
    }
}
