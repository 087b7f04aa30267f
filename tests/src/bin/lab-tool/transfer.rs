//! Clients that move a known amount of data and check it.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{Arguments, pattern, services::REPLY_SEED};

/// A transfer in which nothing moves for so long has failed.
const STALL: Duration = Duration::from_secs(20);

/// What a transfer client asks of the exchange service: three big-endian words.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Order {
    pub(crate) fn read(from: &mut impl Read) -> anyhow::Result<Self> {
        let mut word = || {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)
                .map(|()| u64::from_be_bytes(bytes))
        };
        Ok(Self {
            seed: word()?,
            up: word()?,
            down: word()?,
        })
    }

    fn write(self, out: &mut impl Write) -> anyhow::Result<()> {
        let words = [self.seed, self.up, self.down].map(u64::to_be_bytes);
        Ok(out.write_all(words.as_flattened())?)
    }
}

/// Sends `--up` and receives `--down` bytes at the same time over one connection.
pub(crate) fn transfer(arguments: &Arguments) -> anyhow::Result<()> {
    let order = Order {
        seed: arguments.option("seed", u64::from(std::process::id()))?,
        up: arguments.option("up", 1 << 20)?,
        down: arguments.option("down", 1 << 20)?,
    };
    let started = Instant::now();
    let mut connection = connect(arguments.position(1)?)?;
    order.write(&mut connection)?;
    let mut sending = connection.try_clone()?;
    let sender = thread::spawn(move || pattern::send(&mut sending, order.seed, order.up));
    let down_sha256 =
        pattern::receive(&mut connection, !order.seed, order.down).context("receiving")?;
    let up_sha256 = sender
        .join()
        .expect("the sender does not panic")
        .context("sending")?;
    let mut verdict = String::new();
    BufReader::new(connection)
        .read_line(&mut verdict)
        .context("the service's verdict")?;
    ensure!(
        verdict.trim() == up_sha256,
        "the service received {verdict:?}, not {up_sha256}"
    );
    println!(
        "{}",
        json!({ "up": order.up, "down": order.down, "upSha256": up_sha256, "downSha256": down_sha256,
                "ms": started.elapsed().as_millis() as u64 })
    );
    Ok(())
}

/// Sends `--bytes`, ends its direction, and only then is answered: the whole answer must arrive, and then the end.
pub(crate) fn half_close(arguments: &Arguments) -> anyhow::Result<()> {
    let bytes: u64 = arguments.option("bytes", 300_000)?;
    let reply: u64 = arguments.option("reply", 300_000)?;
    let mut connection = connect(arguments.position(1)?)?;
    connection.write_all(&reply.to_be_bytes())?;
    let sha256 = pattern::send(&mut connection, bytes, bytes).context("sending")?;
    connection.shutdown(Shutdown::Write)?;
    let mut answer = BufReader::new(connection);
    let mut line = String::new();
    answer
        .read_line(&mut line)
        .context("reading after the half-close")?;
    ensure!(
        line.trim() == format!("{bytes} {sha256}"),
        "the service says {line:?}"
    );
    pattern::receive(&mut answer, REPLY_SEED, reply).context("the long answer")?;
    let rest = answer.read(&mut [0; 1]).context("the end of the answer")?;
    ensure!(rest == 0, "more came than was sent");
    println!(
        "{}",
        json!({ "sent": bytes, "received": reply, "sha256": sha256 })
    );
    Ok(())
}

fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
    connection.set_read_timeout(Some(STALL))?;
    connection.set_write_timeout(Some(STALL))?;
    Ok(connection)
}
