//! Which NAT is this machine behind? `natprobe` alone, with a blocking socket of the standard library.
//!
//!     cargo run -p stunfwd-examples --example which_nat -- 203.0.113.10:3478   # a STUN server of yours
//!     cargo run -p stunfwd-examples --example which_nat                        # one on this machine
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use natprobe::{Event, ProbeConfig, Prober, Report};
use sansio::Datagram;
use stunfwd_examples::servers::LocalServers;

/// A clean network takes about a second; this is for one that loses packets.
const PATIENCE: Duration = Duration::from_secs(10);
/// A read timeout of zero is an error.
const WAIT_MIN: Duration = Duration::from_millis(1);

fn main() -> anyhow::Result<()> {
    let given: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|text| {
            text.parse()
                .with_context(|| format!("`{text}` is no address and port"))
        })
        .collect::<anyhow::Result<_>>()?;
    if !given.is_empty() {
        return show(given);
    }
    // Only the server that answers on this machine has a runtime.
    let runtime = tokio::runtime::Runtime::new()?;
    let _inside = runtime.enter();
    let local = LocalServers::start()?;
    show(vec![local.address])
}

fn show(servers: Vec<SocketAddr>) -> anyhow::Result<()> {
    let report = probe(servers)?.context("no server answered")?;
    println!("type       {}", report.nat_type());
    println!("mapping    {}", report.mapping);
    println!("filtering  {}", report.filtering);
    println!("ports      {}", report.ports);
    println!("seen as    {:?}", report.reflexive);
    println!("because");
    for sentence in &report.evidence {
        println!("  {sentence}");
    }
    Ok(())
}

/// Asks the servers from one socket until there is a verdict, at most for [`PATIENCE`].
fn probe(servers: Vec<SocketAddr>) -> anyhow::Result<Option<Report>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let local = socket.local_addr()?;
    let config = ProbeConfig {
        servers,
        local_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        ..ProbeConfig::default()
    };
    let end = now() + PATIENCE;
    let mut prober = Prober::new(config, local, rand::random(), now());
    let mut buffer = [0; 1500];
    loop {
        // One mutation, then drain.
        while let Some(transmit) = prober.poll_transmit() {
            // What cannot be sent is as good as lost: it is repeated.
            let _ = socket.send_to(&transmit.payload, transmit.destination);
        }
        while let Some(event) = prober.poll_event() {
            if let Event::Classified(report) = event {
                return Ok(Some(report));
            }
        }
        if now() >= end {
            return Ok(prober.report_so_far());
        }
        let wake = prober
            .poll_timeout()
            .map_or(end, |deadline| deadline.at.min(end));
        match receive(&socket, &mut buffer, wake)? {
            Some((length, remote)) => {
                let payload = &buffer[..length];
                let datagram = Datagram {
                    local,
                    remote,
                    payload,
                };
                // A program that does more with the socket looks here whether the datagram is its own.
                let _ = prober.handle_datagram(datagram, now());
            }
            None => prober.handle_timeout(now()),
        }
    }
}

/// Waits for a datagram until `wake`.
fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    wake: Instant,
) -> io::Result<Option<(usize, SocketAddr)>> {
    let wait = wake.saturating_duration_since(now()).max(WAIT_MIN);
    socket.set_read_timeout(Some(wait))?;
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        // The last two: nobody listens where a request went, which some systems tell at the next read.
        Err(error)
            if [
                ErrorKind::WouldBlock,
                ErrorKind::TimedOut,
                ErrorKind::Interrupted,
                ErrorKind::ConnectionRefused,
                ErrorKind::ConnectionReset,
            ]
            .contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock belongs to the program, not to the prober"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use natprobe::{FilteringBehavior, MappingBehavior, NatType};
    use signaling::{Settings, Signaling};

    use super::*;

    #[test]
    fn a_server_with_two_addresses_on_this_machine_sees_that_there_is_no_nat() {
        let mut settings = Settings::default();
        for (key, value) in [
            ("listen", "127.0.0.1:0"),
            ("stun", "127.0.0.1:0"),
            ("stun", "127.0.0.2:0"),
        ] {
            settings.flag(key, value);
        }
        let server = Signaling::bind(settings.resolve().unwrap()).unwrap();
        let stun = server.stun_addrs().to_vec();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        runtime.spawn(server.run(stop.clone()));
        let report = probe(stun[..1].to_vec()).unwrap().unwrap();
        assert_eq!(report.nat_type(), NatType::NoNat);
        assert_eq!(report.mapping, MappingBehavior::EndpointIndependent);
        assert_eq!(report.filtering, FilteringBehavior::EndpointIndependent);
        assert!(!report.evidence.is_empty());
        stop.cancel();
    }

    #[test]
    fn it_runs_as_it_is_with_a_server_of_its_own() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let local = LocalServers::start().unwrap();
        show(vec![local.address]).unwrap();
    }
}
