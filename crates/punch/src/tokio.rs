//! A ready driver for programs with one socket and one peer; feature `tokio`.

use std::io;
use std::net::SocketAddr;

use ::tokio::net::UdpSocket;
use ::tokio::time::{Instant, sleep_until};
use sansio::{Datagram, Transmit};
use socket2::SockRef;

use crate::{Agent, CandidatePair, Event};

/// Longer datagrams are no checks.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// Runs an agent on the socket that is the base of its local candidates, until a pair is validated: packets flow
/// both ways between the socket and that pair's remote address. Attempts never stop; bound them with
/// `tokio::time::timeout`, and call again to go on.
///
/// Keep calling it, or drive the [`Agent`] yourself, until the peer has validated the pair too: its checks want
/// answers. Datagrams that are no checks of this agent are read and dropped.
///
/// # Errors
/// When the TTL of the socket cannot be set. What the network answers is not an error.
pub async fn punch(
    socket: &UdpSocket,
    base: SocketAddr,
    agent: &mut Agent,
) -> io::Result<CandidatePair> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        while let Some(transmit) = agent.poll_transmit() {
            send(socket, base, &transmit).await?;
        }
        while let Some(event) = agent.poll_event() {
            if let Event::PairValidated { pair, .. } = event
                && let Some(pair) = agent.pair(pair)
            {
                return Ok(pair.clone());
            }
        }
        let wake = agent.poll_timeout().map(|deadline| deadline.at);
        ::tokio::select! {
            () = sleep_until_some(wake) => agent.handle_timeout(now()),
            received = socket.recv_from(&mut buffer) => {
                if let Ok((length, remote)) = received {
                    let payload = &buffer[..length];
                    let _ = agent.handle_datagram(Datagram { local: base, remote, payload }, now());
                }
            }
        }
    }
}

/// Sends one check, with a TTL of its own if it is an opener.
async fn send(socket: &UdpSocket, base: SocketAddr, transmit: &Transmit) -> io::Result<()> {
    let usual = match transmit.ttl {
        Some(ttl) => Some(exchange_ttl(socket, base, u32::from(ttl))?),
        None => None,
    };
    // What cannot be sent is as good as lost: another check follows.
    let _ = socket
        .send_to(&transmit.payload, transmit.destination)
        .await;
    if let Some(usual) = usual {
        exchange_ttl(socket, base, usual)?;
    }
    Ok(())
}

/// Sets the TTL (IPv4) or the hop limit (IPv6) and returns the one before.
fn exchange_ttl(socket: &UdpSocket, base: SocketAddr, ttl: u32) -> io::Result<u32> {
    let socket = SockRef::from(socket);
    if base.is_ipv4() {
        let before = socket.ttl_v4()?;
        socket.set_ttl_v4(ttl)?;
        return Ok(before);
    }
    let before = socket.unicast_hops_v6()?;
    socket.set_unicast_hops_v6(ttl)?;
    Ok(before)
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
