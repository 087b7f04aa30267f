//! A swarm of UDP sockets, each with a source port of its own, led step by step through standard input.

use std::{
    collections::VecDeque,
    io::{BufRead as _, ErrorKind},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::{Arguments, pattern::Pattern};

/// How long an answer is waited for: none is lost where nothing is overfilled.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many datagrams are under way at once: what the smallest socket buffer on the way holds of the largest.
const WINDOW: usize = 8;
/// Bytes at the start of each datagram that say whose it is.
const NUMBER_BYTES: usize = 8;

/// Leads a swarm: `open N`, `echo ROUNDS` (of `--min` to `--max` bytes), `close N`.
pub(crate) fn lead(arguments: &Arguments) -> anyhow::Result<()> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    let (min, max): (usize, usize) = (
        arguments.option("min", 12)?,
        arguments.option("max", 8_000)?,
    );
    if min < NUMBER_BYTES || max < min {
        bail!("sizes {min} to {max} do not hold a number of {NUMBER_BYTES} bytes");
    }
    let mut sockets: VecDeque<UdpSocket> = VecDeque::new();
    let mut sent = 0_u64;
    println!("{}", json!({ "did": "start" }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (step, amount) = line.split_once(' ').unwrap_or((&line, "1"));
        let amount: usize = amount.parse().context("how many")?;
        let started = Instant::now();
        let mut tally = Tally::default();
        match step {
            "open" => {
                for _ in 0..amount {
                    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                    socket.connect(address)?;
                    socket.set_read_timeout(Some(PATIENCE))?;
                    sockets.push_back(socket);
                }
            }
            "echo" => {
                for _ in 0..amount {
                    for group in sockets.make_contiguous().chunks(WINDOW) {
                        tally.echo(group, &mut sent, min..=max)?;
                    }
                }
            }
            "close" => drop(sockets.drain(..amount.min(sockets.len()))),
            other => bail!("unknown step `{other}`"),
        }
        println!(
            "{}",
            json!({ "did": step, "correct": tally.correct, "lost": tally.lost, "corrupt": tally.corrupt,
                    "open": sockets.len(), "ms": started.elapsed().as_secs_f64() * 1e3 })
        );
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    correct: u64,
    lost: u64,
    corrupt: u64,
}

impl Tally {
    /// Each socket of the group sends one datagram, all different; then each has its answer.
    fn echo(
        &mut self,
        group: &[UdpSocket],
        sent: &mut u64,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> anyhow::Result<()> {
        let first = *sent;
        for socket in group {
            socket.send(&datagram(*sent, &sizes))?;
            *sent += 1;
        }
        let mut buffer = vec![0; sizes.end() + 1];
        for (number, socket) in (first..).zip(group) {
            match socket.recv(&mut buffer) {
                Ok(length) if buffer[..length] == datagram(number, &sizes) => self.correct += 1,
                Ok(_) => self.corrupt += 1,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    self.lost += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The datagram of that number: its size and its bytes follow from it.
fn datagram(number: u64, sizes: &std::ops::RangeInclusive<usize>) -> Vec<u8> {
    let span = (sizes.end() - sizes.start() + 1) as u64;
    let size = sizes.start() + (number.wrapping_mul(2_654_435_761) % span) as usize;
    let mut bytes = vec![0; size];
    bytes[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
    Pattern::new(number).fill(&mut bytes[NUMBER_BYTES..]);
    bytes
}
