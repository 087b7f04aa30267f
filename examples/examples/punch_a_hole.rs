//! Two sockets open a path to each other with authenticated checks and greet over it: `punch` alone, with blocking
//! sockets of the standard library, a thread for each side and no runtime.
//!
//!     cargo run -p stunfwd-examples --example punch_a_hole
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use punch::{
    Agent, AgentConfig, Candidate, CandidateKind, CandidatePair, Event, PairCredentials, Role,
};
use sansio::{Datagram, Handled, Transmit};

const PATIENCE: Duration = Duration::from_secs(5);
/// A read timeout of zero is an error.
const WAIT_MIN: Duration = Duration::from_millis(1);

fn main() -> anyhow::Result<()> {
    let (ours, theirs) = (bind()?, bind()?);
    let (our_address, their_address) = (ours.local_addr()?, theirs.local_addr()?);
    // Each side has to learn the other's address and the password by some other way: that is signaling.
    let left = Side::new(Role::Controlling, ["left", "right"], ours, their_address)?;
    let right = Side::new(Role::Controlled, ["right", "left"], theirs, our_address)?;
    let left = thread::spawn(|| left.greet("hello from the left"));
    let right = right.greet("hello from the right")?;
    let left = left.join().ok().context("the left side panicked")??;
    for (name, (path, greeting)) in [("left", left), ("right", right)] {
        let (local, remote) = (path.local.address, path.remote.address);
        println!("{name}: {local} -> {remote}, and heard \"{greeting}\"");
    }
    Ok(())
}

/// One socket and the agent that opens a path from it.
struct Side {
    socket: UdpSocket,
    base: SocketAddr,
    agent: Agent,
}

impl Side {
    fn new(
        role: Role,
        [own, other]: [&str; 2],
        socket: UdpSocket,
        remote: SocketAddr,
    ) -> io::Result<Self> {
        let base = socket.local_addr()?;
        let credentials = PairCredentials {
            local_ufrag: own.to_owned(),
            remote_ufrag: other.to_owned(),
            password: "both sides know it".to_owned(),
        };
        let (config, seed, now) = (AgentConfig::default(), rand::random(), now());
        let mut agent = Agent::new(config, role, credentials, seed, now);
        let host = |address| Candidate::new(CandidateKind::Host, address, address, 65535);
        agent.add_local_candidate(host(base), now);
        agent.add_remote_candidate(host(remote), now);
        Ok(Self {
            socket,
            base,
            agent,
        })
    }

    /// Opens a path, greets over it, and goes on until the other side has greeted too: by then it has its path.
    fn greet(mut self, greeting: &str) -> anyhow::Result<(CandidatePair, String)> {
        let end = now() + PATIENCE;
        let (mut path, mut heard) = (None, None);
        let mut buffer = [0; 1500];
        loop {
            // One mutation, then drain.
            while let Some(transmit) = self.agent.poll_transmit() {
                self.send(&transmit)?;
            }
            while let Some(event) = self.agent.poll_event() {
                if let Event::PairValidated { pair, remote, .. } = event {
                    path = self.agent.pair(pair).cloned();
                    self.socket.send_to(greeting.as_bytes(), remote.address)?;
                }
            }
            if let (Some(path), Some(heard)) = (&path, &heard) {
                return Ok((path.clone(), String::clone(heard)));
            }
            let wake = self
                .agent
                .poll_timeout()
                .map_or(end, |deadline| deadline.at.min(end));
            if let Some((length, remote)) = self.receive(&mut buffer, wake)? {
                let datagram = Datagram {
                    local: self.base,
                    remote,
                    payload: &buffer[..length],
                };
                // What is no check is what the socket is there for; a stranger's is nobody's.
                let known = self.agent.pairs().any(|pair| pair.remote.address == remote);
                if self.agent.handle_datagram(datagram, now()) == Handled::NotMine && known {
                    heard = Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
                }
            } else if now() >= end {
                bail!("no path within {PATIENCE:?}");
            } else {
                self.agent.handle_timeout(now());
            }
        }
    }

    /// Waits for a datagram until `wake`.
    fn receive(&self, buffer: &mut [u8], wake: Instant) -> io::Result<Option<(usize, SocketAddr)>> {
        let wait = wake.saturating_duration_since(now()).max(WAIT_MIN);
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv_from(buffer) {
            Ok(received) => Ok(Some(received)),
            // The last two: an earlier datagram was refused, which some systems tell at the next read.
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

    /// Sends one check; an opener with a TTL of its own.
    fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let usual = self.socket.ttl()?;
        if let Some(ttl) = transmit.ttl {
            self.socket.set_ttl(ttl.into())?;
        }
        // What cannot be sent is as good as lost: another check follows.
        let _ = self.socket.send_to(&transmit.payload, transmit.destination);
        if transmit.ttl.is_some() {
            self.socket.set_ttl(usual)?;
        }
        Ok(())
    }
}

fn bind() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock belongs to the program, not to the agent"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_sides_find_a_path_and_greet() {
        super::main().unwrap();
    }
}
