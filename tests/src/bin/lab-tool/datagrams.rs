//! UDP: an echo service and a client that counts what comes back.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::json;

use crate::{Arguments, pattern::Pattern};

/// The largest payload of a UDP datagram over IPv4.
const LARGEST_BYTES: usize = 65_507;

/// Bytes at the start of each datagram that say which it is.
const NUMBER_BYTES: usize = 8;

/// Sends every datagram back to where it came from.
pub(crate) fn echo(address: &str) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(address)?;
    println!("listening {}", socket.local_addr()?);
    let mut buffer = vec![0; LARGEST_BYTES];
    loop {
        // A peer that is gone makes the kernel report its refusal here: no reason to end.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Sends `--count` different datagrams of `--min` to `--max` bytes, `--interval-us` apart, and counts the echoes.
pub(crate) fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let count: u64 = arguments.option("count", 500)?;
    let (min, max) = (
        arguments.option("min", 12)?,
        arguments.option("max", 8_000)?,
    );
    if min < NUMBER_BYTES || max < min || max > LARGEST_BYTES {
        bail!("sizes {min} to {max} are not within {NUMBER_BYTES} to {LARGEST_BYTES}");
    }
    let interval = Duration::from_micros(arguments.option("interval-us", 2_000)?);
    let patience = Duration::from_millis(arguments.option("patience-ms", 2_000)?);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(arguments.position(1)?)?;

    let datagram = |number: u64| {
        // Every size between the two occurs, the smallest and the largest first.
        let span = (max - min + 1) as u64;
        let size = match number {
            0 => min,
            1 => max,
            _ => min + (number.wrapping_mul(2_654_435_761) % span) as usize,
        };
        let mut bytes = vec![0; size];
        Pattern::new(number).fill(&mut bytes[NUMBER_BYTES..]);
        bytes[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let mut tally = Tally::default();
    let started = Instant::now();
    for number in 0..count {
        let due = started + interval * number as u32;
        tally.receive_until(&socket, due, &datagram)?;
        socket.send(&datagram(number))?;
    }
    let mut deadline = Instant::now() + patience;
    while (tally.seen.len() as u64) < count && Instant::now() < deadline {
        let before = tally.seen.len();
        tally.receive_until(
            &socket,
            Instant::now() + Duration::from_millis(50),
            &datagram,
        )?;
        if tally.seen.len() > before {
            deadline = Instant::now() + patience;
        }
    }
    println!(
        "{}",
        json!({ "sent": count, "received": tally.seen.len(), "lost": count - tally.seen.len() as u64,
                "corrupt": tally.corrupt, "repeated": tally.repeated,
                "missing": tally.missing(count), "ms": started.elapsed().as_millis() as u64 })
    );
    Ok(())
}

/// Sends one datagram and prints the answer, or null after `--secs`. With `--again-ms` it is sent again so often until an
/// answer comes: what is sent before there is a way is lost, as UDP is.
pub(crate) fn say(arguments: &Arguments) -> anyhow::Result<()> {
    let patience = Duration::from_secs_f64(arguments.option("secs", 1.0)?);
    let again = arguments.option("again-ms", 0)?;
    let wait = match again {
        0 => patience,
        again => Duration::from_millis(again),
    };
    let text = arguments.position(2)?.as_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(arguments.position(1)?)?;
    let mut buffer = vec![0; LARGEST_BYTES];
    let deadline = Instant::now() + patience;
    let mut answer = None;
    while answer.is_none() && Instant::now() < deadline {
        // It may be refused for as long as nobody listens; who waits for one answer only is told.
        let sent = socket.send(text);
        if again == 0 {
            sent?;
        }
        let due = deadline.min(Instant::now() + wait);
        answer = receive_by(&socket, due, &mut buffer)?;
    }
    let answer = answer.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
    println!("{}", json!({ "answer": answer }));
    Ok(())
}

/// Waits for a datagram and returns its length. A refusal by the other end's kernel counts as silence.
fn receive_by(
    socket: &UdpSocket,
    due: Instant,
    buffer: &mut [u8],
) -> anyhow::Result<Option<usize>> {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(Default)]
struct Tally {
    seen: BTreeSet<u64>,
    corrupt: u64,
    repeated: u64,
}

impl Tally {
    fn receive_until(
        &mut self,
        socket: &UdpSocket,
        due: Instant,
        datagram: &impl Fn(u64) -> Vec<u8>,
    ) -> anyhow::Result<()> {
        let mut buffer = vec![0; LARGEST_BYTES];
        while let Some(length) = receive_by(socket, due, &mut buffer)? {
            self.count(&buffer[..length], datagram);
        }
        Ok(())
    }

    /// The first that did not come back: whether they are neighbours says much about why.
    fn missing(&self, count: u64) -> Vec<u64> {
        const SHOWN_MAX: usize = 40;
        let missing = (0..count).filter(|number| !self.seen.contains(number));
        missing.take(SHOWN_MAX).collect()
    }

    fn count(&mut self, bytes: &[u8], datagram: &impl Fn(u64) -> Vec<u8>) {
        let number = bytes
            .first_chunk()
            .map(|number| u64::from_be_bytes(*number));
        match number {
            Some(number) if bytes == datagram(number) => {
                if !self.seen.insert(number) {
                    self.repeated += 1;
                }
            }
            _ => self.corrupt += 1,
        }
    }
}
