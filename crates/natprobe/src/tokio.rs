//! A ready driver for programs that only want the answer; feature `tokio`.

use std::io;
use std::time::Duration;

use ::tokio::net::UdpSocket;
use ::tokio::time::{Instant, sleep_until, timeout_at};
use rand::Rng;
use sansio::Datagram;

use crate::{Event, ProbeConfig, Prober, Report};

/// Longer datagrams are no STUN message that a prober asked for.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// Probes the NAT in front of a socket until it is classified, at most for `patience`, and returns what was
/// found by then; `None` when that is nothing. A network that blocks UDP is an answer too, after 3 s.
///
/// The answer holds for this socket: another one has another binding. Datagrams that are no answers to the prober
/// are read and dropped, so probe before the socket carries anything, or drive a [`Prober`] yourself.
///
/// # Errors
/// When the socket has no address. An answer of the network such as "port unreachable" is not an error.
pub async fn probe(
    socket: &UdpSocket,
    config: ProbeConfig,
    patience: Duration,
) -> io::Result<Option<Report>> {
    let local = socket.local_addr()?;
    let until = Instant::now() + patience;
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let mut prober = Prober::new(config, local, seed, now());
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        while let Some(transmit) = prober.poll_transmit() {
            // What cannot be sent now is as good as lost: the schedule sends it again.
            let _ = socket
                .send_to(&transmit.payload, transmit.destination)
                .await;
        }
        while let Some(event) = prober.poll_event() {
            if let Event::Classified(report) = event {
                return Ok(Some(report));
            }
        }
        let wake = prober.poll_timeout().map(|deadline| deadline.at);
        let step = async {
            ::tokio::select! {
                () = sleep_until_some(wake) => prober.handle_timeout(now()),
                received = socket.recv_from(&mut buffer) => {
                    if let Ok((length, remote)) = received {
                        let payload = &buffer[..length];
                        let _ = prober.handle_datagram(Datagram { local, remote, payload }, now());
                    }
                }
            }
        };
        if timeout_at(until, step).await.is_err() {
            return Ok(prober.report_so_far());
        }
    }
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
