//! A ready driver for programs that want one allocation on one relay; feature `tokio`.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ::tokio::net::UdpSocket;
use ::tokio::time::{Instant, sleep_until};
use rand::Rng;

use crate::{Client, ClientConfig, Credential, Event, FailReason, Received, Transport};

/// The longest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Payloads that arrive while something else is waited for; more are dropped, as a socket's own queue would.
const WAITING_MAX: usize = 64;

/// A UDP socket whose address is on a relay. What is needed to keep it there happens inside its methods, so call
/// [`RelaySocket::recv_from`] whenever there is nothing else to do: an allocation that nobody drives ends after ten
/// minutes.
#[derive(Debug)]
pub struct RelaySocket {
    socket: UdpSocket,
    client: Client,
    relayed: SocketAddr,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl RelaySocket {
    /// Allocates on a relay over UDP.
    ///
    /// # Errors
    /// When no socket can be opened, or the relay refuses or does not answer: the first reason it gives.
    pub async fn allocate(
        relay: SocketAddr,
        username: &str,
        credential: Credential,
    ) -> io::Result<Self> {
        let any: SocketAddr = if relay.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(relay).await?;
        let config = ClientConfig {
            server: relay,
            transport: Transport::Udp,
            local: socket.local_addr()?,
            username: username.to_owned(),
            credential,
        };
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let mut this = Self {
            socket,
            client: Client::new(config, seed, now()),
            relayed: relay,
            waiting: VecDeque::new(),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
        };
        loop {
            match this.event().await {
                Event::Allocated { relayed, .. } => {
                    this.relayed = relayed;
                    return Ok(this);
                }
                Event::Failed { reason, .. } => return Err(failed(reason)),
                Event::Bound { .. } | Event::BindRefused { .. } | Event::Lost { .. } => {}
            }
        }
    }

    /// Returns the address at which peers reach this socket.
    #[must_use]
    pub const fn relayed(&self) -> SocketAddr {
        self.relayed
    }

    /// Lets a peer's address in and opens a channel to it. What it sends before is dropped by the relay.
    ///
    /// # Errors
    /// When the relay refuses the peer, or is lost.
    pub async fn bind(&mut self, peer: SocketAddr) -> io::Result<()> {
        self.client.bind(peer, now());
        while self.client.channel(peer).is_none() {
            match self.event().await {
                Event::BindRefused { code, .. } => {
                    let text = format!("the relay refuses {peer} with {code}");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
                Event::Failed { reason, .. } => return Err(failed(reason)),
                Event::Allocated { relayed, .. } => self.relayed = relayed,
                Event::Bound { .. } | Event::Lost { .. } => {}
            }
        }
        Ok(())
    }

    /// Sends to a peer that was let in with [`RelaySocket::bind`]; as with any UDP socket, it may be lost.
    ///
    /// # Errors
    /// When the system does not take it.
    pub async fn send_to(&mut self, payload: &[u8], peer: SocketAddr) -> io::Result<()> {
        self.client.send(peer, payload, now());
        self.flush().await
    }

    /// Receives the next payload and who sent it. When the allocation was lost and made anew in between,
    /// [`RelaySocket::relayed`] has changed.
    ///
    /// Trouble with the relay is not an error here: the client goes on trying.
    pub async fn recv_from(&mut self) -> (Vec<u8>, SocketAddr) {
        loop {
            if let Some((peer, payload)) = self.waiting.pop_front() {
                return (payload, peer);
            }
            self.step().await;
            while let Some(event) = self.client.poll_event() {
                if let Event::Allocated { relayed, .. } = event {
                    self.relayed = relayed;
                }
            }
        }
    }

    /// Gives the allocation back.
    ///
    /// # Errors
    /// When the system does not take the farewell; the allocation then ends by itself.
    pub async fn close(mut self) -> io::Result<()> {
        self.client.close(now());
        self.flush().await
    }

    async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            self.step().await;
        }
    }

    /// Sends what is to be sent, then waits for a datagram or a deadline.
    async fn step(&mut self) {
        // What cannot be sent now is as good as lost: the schedule sends it again.
        let _ = self.flush().await;
        let wake = self.client.poll_timeout().map(|deadline| deadline.at);
        ::tokio::select! {
            () = sleep_until_some(wake) => self.client.handle_timeout(now()),
            received = self.socket.recv(&mut self.buffer) => {
                let Ok(length) = received else { return };
                let message = &self.buffer[..length];
                if let Received::Data { peer, payload } = self.client.handle_message(message, now())
                    && self.waiting.len() < WAITING_MAX
                {
                    self.waiting.push_back((peer, payload.to_vec()));
                }
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(transmit) = self.client.poll_transmit() {
            self.socket.send(&transmit.payload).await?;
        }
        Ok(())
    }
}

fn failed(reason: FailReason) -> io::Error {
    let (kind, text) = match reason {
        FailReason::Unreachable => (io::ErrorKind::TimedOut, "the relay does not answer"),
        FailReason::Unauthorized => (
            io::ErrorKind::PermissionDenied,
            "the relay refuses the credentials: wrong, or expired",
        ),
        FailReason::Rejected(code) => {
            let text = format!("the relay refuses an allocation with {code}");
            return io::Error::new(io::ErrorKind::ConnectionRefused, text);
        }
        FailReason::Malformed => (
            io::ErrorKind::InvalidData,
            "the relay answers what cannot be understood",
        ),
    };
    io::Error::new(kind, text)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until_some(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
