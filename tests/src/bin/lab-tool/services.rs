//! TCP services: the far ends of forwarded ports.

use std::{
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Socket, Type};

use crate::{pattern, transfer::Order};

/// The seed of the long reply of [`tcp_digest`].
pub(crate) const REPLY_SEED: u64 = 0xd1_6e57;

/// Sends every byte back, keeps a half-close, and ends when the client has ended.
pub(crate) fn tcp_echo(address: &str) -> anyhow::Result<()> {
    serve(address, |mut connection| {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = connection.read(&mut buffer)?;
            if length == 0 {
                return Ok(connection.shutdown(Shutdown::Write)?);
            }
            connection.write_all(&buffer[..length])?;
        }
    })
}

/// Accepts and never reads, until the process ends.
pub(crate) fn tcp_sink(address: &str) -> anyhow::Result<()> {
    let mut kept = Vec::new();
    let listener = listen(address)?;
    loop {
        let (connection, from) = listener.accept()?;
        println!("accepted {from}");
        kept.push(connection);
    }
}

/// Says its name to whoever connects, and ends the connection.
pub(crate) fn greet(address: &str, name: &str) -> anyhow::Result<()> {
    let listener = listen(address)?;
    loop {
        let (mut connection, from) = listener.accept()?;
        if let Err(error) = connection.write_all(name.as_bytes()) {
            eprintln!("{from}: {error}");
        }
    }
}

/// Reads to the end of the stream, and only then answers: `count sha256`, a line feed, and as many bytes of pattern as the
/// first line of the request asked for.
pub(crate) fn tcp_digest(address: &str) -> anyhow::Result<()> {
    serve(address, |mut connection| {
        let (mut count, mut digest) = (0_u64, Sha256::new());
        let mut head = [0; 8];
        connection.read_exact(&mut head)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = connection.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            count += length as u64;
            digest.update(&buffer[..length]);
        }
        writeln!(
            connection,
            "{count} {}",
            HEXLOWER.encode(&digest.finalize())
        )?;
        pattern::send(&mut connection, REPLY_SEED, u64::from_be_bytes(head))?;
        Ok(connection.shutdown(Shutdown::Write)?)
    })
}

/// Sends and receives at the same time as an [`Order`] says, then reports the hash of what it received.
pub(crate) fn tcp_exchange(address: &str) -> anyhow::Result<()> {
    serve(address, |mut connection| {
        let order = Order::read(&mut connection)?;
        let mut sending = connection.try_clone()?;
        let sender = thread::spawn(move || pattern::send(&mut sending, !order.seed, order.down));
        let hash = pattern::receive(&mut connection, order.seed, order.up)?;
        sender.join().expect("the sender does not panic")?;
        Ok(writeln!(connection, "{hash}")?)
    })
}

/// Crowds arrive all at once: with the 128 that are usual, the system would drop their SYNs for a second.
const BACKLOG: i32 = 4096;

fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let address: SocketAddr = address.parse()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("listening {}", listener.local_addr()?);
    Ok(listener)
}

/// One thread per connection; what goes wrong with one is logged and ends that one.
fn serve(address: &str, job: fn(TcpStream) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let listener = listen(address)?;
    loop {
        let (connection, from) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = job(connection) {
                eprintln!("{from}: {error:#}");
            }
        });
    }
}
