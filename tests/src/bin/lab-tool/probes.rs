//! Clients that watch one connection: how soon it works, how long it lasts, and how it ends.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{Arguments, pattern::Pattern};

/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

fn deadline(arguments: &Arguments, default_secs: f64) -> anyhow::Result<Instant> {
    Ok(Instant::now() + Duration::from_secs_f64(arguments.option("secs", default_secs)?))
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn connect_until(arguments: &Arguments, deadline: Instant) -> anyhow::Result<TcpStream> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("{address} could not be connected to");
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(connection) => {
                connection.set_nodelay(true)?;
                return Ok(connection);
            }
            Err(_) => thread::sleep(RETRY.min(left)),
        }
    }
}

/// Connects to an echo service as soon as it can, sends one byte and reports when it came back. A connection that
/// is reset counts as not yet.
pub(crate) fn first_byte(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let deadline = deadline(arguments, 10.0)?;
    let mut attempts = 0;
    while Instant::now() < deadline {
        attempts += 1;
        let mut connection = connect_until(arguments, deadline)?;
        let left = deadline.saturating_duration_since(Instant::now());
        connection.set_read_timeout(Some(left.max(RETRY)))?;
        let mut byte = [0];
        if connection
            .write_all(b"x")
            .and_then(|()| connection.read_exact(&mut byte))
            .is_ok()
        {
            println!("{}", json!({ "ms": millis(started), "attempts": attempts }));
            return Ok(());
        }
        thread::sleep(RETRY);
    }
    bail!("no byte came back in {attempts} attempts")
}

/// Tries once to connect and reports how that ended, without sending anything.
pub(crate) fn connect(arguments: &Arguments) -> anyhow::Result<()> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    let secs: f64 = arguments.option("secs", 1.0)?;
    let outcome = match TcpStream::connect_timeout(&address, Duration::from_secs_f64(secs)) {
        Ok(_) => "connected",
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused",
        Err(error) if error.kind() == ErrorKind::TimedOut => "silence",
        Err(_) => "unreachable",
    };
    println!("{}", json!({ "outcome": outcome }));
    Ok(())
}

/// Opens an echo connection, sends a text once, and prints what came back and how it ended: for services behind a rule.
pub(crate) fn say(arguments: &Arguments) -> anyhow::Result<()> {
    let deadline = deadline(arguments, 3.0)?;
    let text = arguments.position(2)?;
    let mut connection = connect_until(arguments, deadline)?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(RETRY);
    connection.set_read_timeout(Some(left))?;
    let mut answer = vec![0; text.len()];
    let ended = connection
        .write_all(text.as_bytes())
        .and_then(|()| connection.read_exact(&mut answer));
    let answer = ended
        .as_ref()
        .ok()
        .map(|()| String::from_utf8_lossy(&answer).into_owned());
    let end = ended.err().map(|error| end_of(error.kind()));
    println!("{}", json!({ "answer": answer, "end": end }));
    Ok(())
}

/// Connects, reads to the end and prints what was said.
pub(crate) fn read(arguments: &Arguments) -> anyhow::Result<()> {
    let deadline = deadline(arguments, 5.0)?;
    let mut connection = connect_until(arguments, deadline)?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(RETRY);
    connection.set_read_timeout(Some(left))?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    println!("{}", json!({ "text": text }));
    Ok(())
}

/// Opens an echo connection, proves that it works, then waits for its end and reports which one it was.
pub(crate) fn hold(arguments: &Arguments) -> anyhow::Result<()> {
    let deadline = deadline(arguments, 60.0)?;
    let mut connection = connect_until(arguments, deadline)?;
    let mut byte = [0];
    connection.write_all(b"x")?;
    connection.read_exact(&mut byte).context("the first echo")?;
    println!("{}", json!({ "event": "open" }));
    let opened = Instant::now();
    connection.set_read_timeout(Some(deadline.saturating_duration_since(opened).max(RETRY)))?;
    let event = match connection.read(&mut byte) {
        Ok(0) => "closed",
        Ok(_) => "data",
        Err(error) => end_of(error.kind()),
    };
    println!("{}", json!({ "event": event, "ms": millis(opened) }));
    Ok(())
}

fn end_of(kind: ErrorKind) -> &'static str {
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        "still open"
    } else if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
        "reset"
    } else if kind == ErrorKind::UnexpectedEof {
        "closed"
    } else {
        "failed"
    }
}

/// Sends a numbered message to an echo service every `--interval-ms` for `--secs` over one connection, and reports the
/// slowest answer.
pub(crate) fn pulse(arguments: &Arguments) -> anyhow::Result<()> {
    let interval = Duration::from_millis(arguments.option("interval-ms", 20)?);
    let opening = Instant::now() + Duration::from_secs(10);
    let mut connection = connect_until(arguments, opening)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    let deadline = deadline(arguments, 5.0)?;
    let (mut count, mut slowest) = (0_u64, 0.0_f64);
    while Instant::now() < deadline {
        let sent = Instant::now();
        let message = count.to_be_bytes();
        let mut answer = [0; 8];
        connection
            .write_all(&message)
            .with_context(|| format!("message {count}"))?;
        connection
            .read_exact(&mut answer)
            .with_context(|| format!("answer {count}"))?;
        if answer != message {
            bail!("answer {count} is not the message");
        }
        slowest = slowest.max(millis(sent));
        if count == 0 {
            println!("{}", json!({ "event": "first", "ms": slowest }));
        }
        count += 1;
        thread::sleep(interval.saturating_sub(sent.elapsed()));
    }
    println!(
        "{}",
        json!({ "event": "end", "count": count, "slowestMs": slowest })
    );
    Ok(())
}

/// Writes messages of 50, 100 and 500 bytes every `--interval-us` for `--secs`, as far as the connection takes them.
pub(crate) fn small_writes(arguments: &Arguments) -> anyhow::Result<()> {
    const SIZES: [usize; 3] = [50, 100, 500];
    let interval = Duration::from_micros(arguments.option("interval-us", 200)?);
    let deadline = deadline(arguments, 30.0)?;
    let mut connection = connect_until(arguments, deadline)?;
    let mut message = [0; 500];
    Pattern::new(1).fill(&mut message);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut stalled = 0.0;
    let mut end: Value = "time".into();
    while Instant::now() < deadline {
        let started = Instant::now();
        let left = deadline
            .saturating_duration_since(started)
            .max(Duration::from_millis(1));
        connection.set_write_timeout(Some(left))?;
        let size = SIZES[count as usize % SIZES.len()];
        match connection.write(&message[..size]) {
            Ok(written) => bytes += written as u64,
            // Not a byte more was taken until the end of the time.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => {
                end = end_of(error.kind()).into();
                break;
            }
        }
        stalled += started.elapsed().saturating_sub(interval).as_secs_f64() * 1e3;
        count += 1;
        thread::sleep(interval.saturating_sub(started.elapsed()));
    }
    println!(
        "{}",
        json!({ "messages": count, "bytes": bytes, "stalledMs": stalled, "end": end })
    );
    Ok(())
}
