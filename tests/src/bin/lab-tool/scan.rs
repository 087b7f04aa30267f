//! Port scans: connections that say nothing.

use std::{
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::Arguments;

/// How many connections are opened at once.
const WORKERS: u64 = 16;
/// How long an answer to a SYN is waited for: both ends are on one machine.
const PATIENCE: Duration = Duration::from_secs(1);
/// Source ports of SYNs begin here, below those that the system gives to others.
const FIRST_PORT: u16 = 10_000;

/// Opens `--count` connections and ends each at once, `--how` `close` or `reset`.
pub(crate) fn connect(arguments: &Arguments) -> anyhow::Result<()> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    let count: u64 = arguments.option("count", 1_000)?;
    let how: String = arguments.option("how", "close".to_owned())?;
    let reset = match how.as_str() {
        "close" => false,
        "reset" => true,
        other => bail!("--how cannot be `{other}`"),
    };
    let started = Instant::now();
    let (next, connected) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let Ok(stream) = TcpStream::connect(address) else {
                        continue;
                    };
                    connected.fetch_add(1, Ordering::Relaxed);
                    if reset {
                        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    }
                }
            });
        }
    });
    println!(
        "{}",
        json!({ "connected": connected.into_inner(), "ms": started.elapsed().as_millis() as u64 })
    );
    Ok(())
}

/// Lists the open ports of an address between two numbers.
pub(crate) fn ports(arguments: &Arguments) -> anyhow::Result<()> {
    let ip: Ipv4Addr = arguments.position(1)?.parse()?;
    let (low, high): (u16, u16) = (
        arguments.position(2)?.parse()?,
        arguments.position(3)?.parse()?,
    );
    let is_open = |port: &u16| TcpStream::connect((ip, *port)).is_ok();
    let open: Vec<u16> = (low..=high).filter(is_open).collect();
    println!("{}", json!({ "open": open }));
    Ok(())
}

/// Half-opens `--count` connections to a port of this machine: a SYN of ours, the answer, and the RST with which the
/// system answers what it knows nothing of.
pub(crate) fn syn(arguments: &Arguments) -> anyhow::Result<()> {
    let target: SocketAddrV4 = arguments.position(1)?.parse()?;
    let count: u16 = arguments.option("count", 1_000)?;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))
        .context("a raw socket needs CAP_NET_RAW")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let to = SockAddr::from(SocketAddrV4::new(*target.ip(), 0));
    let mut answered = 0;
    for number in 0..count {
        let port = FIRST_PORT + number;
        socket.send_to(&syn_segment(target, port), &to)?;
        answered += u32::from(await_syn_ack(&socket, target.port(), port)?);
    }
    println!("{}", json!({ "sent": count, "answered": answered }));
    Ok(())
}

/// A TCP header that asks for a connection, with the checksum for both ends at the target's address.
fn syn_segment(target: SocketAddrV4, from: u16) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&target.port().to_be_bytes());
    segment[4..8].copy_from_slice(&u32::from(from).to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 0x02;
    segment[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let ip = target.ip().octets();
    let pseudo = [
        [ip[0], ip[1]],
        [ip[2], ip[3]],
        [ip[0], ip[1]],
        [ip[2], ip[3]],
        [0, 6],
        [0, 20],
    ];
    let words = pseudo.iter().chain(segment.as_chunks::<2>().0);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// A raw socket hears every segment of the machine: waits for the SYN-ACK of this one.
fn await_syn_ack(mut socket: &Socket, from: u16, to: u16) -> anyhow::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut packet = [0; 128];
    while Instant::now() < deadline {
        let length = match socket.read(&mut packet) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let head = usize::from(packet[0] & 0x0f) * 4;
        let Some(segment) = packet[..length].get(head..head + 14) else {
            continue;
        };
        let ports = [from.to_be_bytes(), to.to_be_bytes()];
        if segment[..4] == *ports.as_flattened() && segment[13] == 0x12 {
            return Ok(true);
        }
    }
    Ok(false)
}
