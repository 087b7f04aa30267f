//! A crowd of TCP connections to an echo service, led step by step through standard input.
//!
//! Each connection has data of its own, so that bytes which reach the wrong one are seen. Every step ends with one line
//! of JSON; the end of the input ends the program, and with it what is still open.

use std::{
    collections::VecDeque,
    io::{BufRead as _, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use socket2::SockRef;

use crate::{Arguments, pattern::Pattern};

/// A conversation in which nothing moves for so long has failed.
const STALL: Duration = Duration::from_secs(30);
/// How many threads open, ask and close: what a burst of people does, not one after the other.
const WORKERS: usize = 32;
/// A thread holds one chunk and little else.
const STACK_BYTES: usize = 256 * 1024;
/// How much of its data a connection has under way at once: below what every buffer on the way holds, so that one thread
/// can write and read in turn without waiting for itself.
const WINDOW_BYTES: usize = 32 * 1024;
/// How much is written or compared at once.
const CHUNK_BYTES: usize = 8 * 1024;
/// How many failures are told in full.
const TOLD_MAX: usize = 3;

/// One connection of the crowd.
struct Member {
    number: u64,
    stream: TcpStream,
}

/// What a step has done to a crowd.
#[derive(Default)]
struct Tally {
    correct: u64,
    reset: u64,
    failed: u64,
    told: Vec<String>,
}

/// Leads a crowd: `open N`, `echo`, `exchange BYTES`, `close N`, `reset N`.
pub(crate) fn lead(arguments: &Arguments) -> anyhow::Result<()> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    let mut members = VecDeque::new();
    let mut opened = 0;
    println!("{}", json!({ "did": "start" }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (step, amount) = line.split_once(' ').unwrap_or((&line, "0"));
        let amount: usize = amount.parse().context("how many")?;
        let started = Instant::now();
        let tally = match step {
            "open" => {
                let numbers: Vec<u64> = (opened..opened + amount as u64).collect();
                opened += amount as u64;
                each(numbers, WORKERS, |number| Member::open(address, number)).keep(&mut members)
            }
            "echo" => each(members.drain(..), WORKERS, Member::echo).keep(&mut members),
            "exchange" => {
                let all = members.len();
                each(members.drain(..), all, |member| member.exchange(amount)).keep(&mut members)
            }
            "close" => {
                let leaving: Vec<Member> = members.drain(..amount.min(members.len())).collect();
                each(leaving, WORKERS, Member::close).count()
            }
            "reset" => {
                let leaving: Vec<Member> = members.drain(..amount.min(members.len())).collect();
                each(leaving, WORKERS, Member::reset).count()
            }
            other => bail!("unknown step `{other}`"),
        };
        println!(
            "{}",
            json!({ "did": step, "correct": tally.correct, "reset": tally.reset, "failed": tally.failed,
                    "told": tally.told, "open": members.len(),
                    "ms": started.elapsed().as_secs_f64() * 1e3 })
        );
    }
    Ok(())
}

impl Member {
    /// Connects, and proves the way to the service by the connection's number.
    fn open(address: SocketAddr, number: u64) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        Self { number, stream }.echo()
    }

    fn echo(mut self) -> anyhow::Result<Self> {
        let sent = self.number.to_be_bytes();
        let mut answer = [0; 8];
        self.stream.write_all(&sent)?;
        self.stream.read_exact(&mut answer)?;
        ensure!(
            answer == sent,
            "connection {} has {answer:?}, not its own {sent:?}",
            self.number
        );
        Ok(self)
    }

    /// Sends `length` bytes of its own and compares every one that comes back.
    fn exchange(mut self, length: usize) -> anyhow::Result<Self> {
        let (mut going, mut coming) = (self.pattern(), self.pattern());
        let (mut sent, mut received) = (0, 0);
        let (mut chunk, mut expected) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        while received < length {
            if sent < length && sent - received < WINDOW_BYTES {
                let size = CHUNK_BYTES.min(length - sent);
                going.fill(&mut chunk[..size]);
                self.stream.write_all(&chunk[..size])?;
                sent += size;
            } else {
                let size = CHUNK_BYTES.min(length - received);
                self.stream.read_exact(&mut chunk[..size])?;
                coming.fill(&mut expected[..size]);
                ensure!(
                    chunk[..size] == expected[..size],
                    "connection {}: wrong bytes after {received}",
                    self.number
                );
                received += size;
            }
        }
        Ok(self)
    }

    const fn pattern(&self) -> Pattern {
        // The words of one pattern follow each other; far apart, no connection's data is a part of another's.
        Pattern::new(self.number.wrapping_mul(0x5851_f42d_4c95_7f2d))
    }

    /// Ends its direction, and is ended by the service.
    fn close(mut self) -> anyhow::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let rest = self.stream.read(&mut [0; 1])?;
        ensure!(rest == 0, "connection {}: bytes nobody sent", self.number);
        Ok(())
    }

    fn reset(self) -> anyhow::Result<()> {
        Ok(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?)
    }
}

/// The outcomes of one step.
struct Outcomes<T>(Vec<anyhow::Result<T>>);

/// Does something with every item, in so many threads at once.
fn each<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    workers: usize,
    act: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> Outcomes<R> {
    let mut shares: Vec<Vec<T>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
    for (index, item) in items.into_iter().enumerate() {
        let worker = index % shares.len();
        shares[worker].push(item);
    }
    let act = &act;
    thread::scope(|scope| {
        let workers: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let work = move || share.into_iter().map(act).collect::<Vec<_>>();
                let builder = thread::Builder::new().stack_size(STACK_BYTES);
                builder
                    .spawn_scoped(scope, work)
                    .expect("a thread can be had")
            })
            .collect();
        let done = workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker does not panic"));
        Outcomes(done.collect())
    })
}

impl<T> Outcomes<T> {
    /// Counts, and keeps what came out whole.
    fn keep(self, whole: &mut VecDeque<T>) -> Tally {
        let mut tally = Tally::default();
        for outcome in self.0 {
            match outcome {
                Ok(item) => {
                    tally.correct += 1;
                    whole.push_back(item);
                }
                Err(error) if is_reset(&error) => tally.reset += 1,
                Err(error) => {
                    tally.failed += 1;
                    if tally.told.len() < TOLD_MAX {
                        tally.told.push(format!("{error:#}"));
                    }
                }
            }
        }
        tally
    }

    fn count(self) -> Tally {
        self.keep(&mut VecDeque::new())
    }
}

fn is_reset(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
    })
}
