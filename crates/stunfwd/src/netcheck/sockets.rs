//! Sockets for questions, read together.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sansio::Transmit;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Longer datagrams are no answers to us.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// Answers that wait: more than all sockets together ask for in a round trip.
const RECEIVED_MAX: usize = 256;

/// A datagram that arrived.
pub(super) struct Received {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) payload: Vec<u8>,
}

/// Some sockets of one address family. They close when it is dropped.
pub(super) struct Sockets {
    sockets: Vec<(SocketAddr, Arc<UdpSocket>)>,
    received_rx: mpsc::Receiver<Received>,
    _readers: JoinSet<()>,
}

impl Sockets {
    /// Opens so many, at ports that the system chooses; fewer when it gives no more.
    ///
    /// # Errors
    /// When it gives none.
    pub(super) fn open(ipv6: bool, count: usize) -> io::Result<Self> {
        let (received_tx, received_rx) = mpsc::channel(RECEIVED_MAX);
        let mut sockets = Vec::new();
        let mut readers = JoinSet::new();
        for _ in 0..count {
            let socket = match bind(ipv6) {
                Ok(socket) => Arc::new(socket),
                Err(error) if sockets.is_empty() => return Err(error),
                Err(_) => break,
            };
            let local = socket.local_addr()?;
            readers.spawn(read(local, socket.clone(), received_tx.clone()));
            sockets.push((local, socket));
        }
        Ok(Self {
            sockets,
            received_rx,
            _readers: readers,
        })
    }

    /// The addresses that they are bound to.
    pub(super) fn locals(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(local, _)| *local).collect()
    }

    /// Sends a datagram. What cannot be sent is as good as lost: whoever asks asks again.
    pub(super) async fn send(&self, transmit: &Transmit) {
        let from = |(local, _): &&(SocketAddr, _)| *local == transmit.source;
        let Some((_, socket)) = self.sockets.iter().find(from) else {
            return;
        };
        let sent = socket
            .send_to(&transmit.payload, transmit.destination)
            .await;
        if let Err(error) = sent {
            tracing::trace!(destination = %transmit.destination, %error, "not sent");
        }
    }

    /// Waits for the next datagram. Cancel-safe.
    pub(super) async fn received(&mut self) -> Received {
        match self.received_rx.recv().await {
            Some(received) => received,
            // All readers have failed: nothing will come any more.
            None => std::future::pending().await,
        }
    }
}

/// An IPv6 socket takes IPv6 only, so that an address has one family.
fn bind(ipv6: bool) -> io::Result<UdpSocket> {
    let local = if ipv6 {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    };
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if ipv6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

async fn read(local: SocketAddr, socket: Arc<UdpSocket>, received_tx: mpsc::Sender<Received>) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is the network's word on an earlier datagram ("port unreachable").
        if let Ok((length, remote)) = socket.recv_from(&mut buffer).await {
            let received = Received {
                local,
                remote,
                payload: buffer[..length].to_vec(),
            };
            if received_tx.send(received).await.is_err() {
                return;
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}
