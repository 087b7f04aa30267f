//! Ground truth about a NAT, measured without the product: an observer with two addresses and two ports, a probe in
//! the manner of RFC 5780, and a plain simultaneous punch.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::Arguments;

/// How long a silent answer is waited for: no packet is lost or late in the lab.
const SILENCE: Duration = Duration::from_millis(250);

/// How often a question is asked before silence counts.
const TRIES: usize = 2;

/// The observer's four sockets: two addresses, each with two neighbouring ports.
fn observer(arguments: &Arguments) -> anyhow::Result<[SocketAddr; 4]> {
    let addresses: [IpAddr; 2] = [
        arguments.position(1)?.parse()?,
        arguments.position(2)?.parse()?,
    ];
    let port: u16 = arguments.position(3)?.parse()?;
    Ok([0, 1, 2, 3].map(|index| SocketAddr::new(addresses[index / 2], port + (index % 2) as u16)))
}

/// Tells every sender its address as seen from here. The question's first byte says which socket answers: `s` the one
/// that was asked, `0` to `3` that one.
pub(crate) fn observe(arguments: &Arguments) -> anyhow::Result<()> {
    let mut sockets = Vec::new();
    for address in observer(arguments)? {
        sockets.push(UdpSocket::bind(address).with_context(|| address.to_string())?);
    }
    println!("listening");
    thread::scope(|scope| {
        for index in 0..sockets.len() {
            let sockets = &sockets;
            scope.spawn(move || answer(sockets, index));
        }
    });
    Ok(())
}

/// Answers what arrives at one of the sockets, until the process ends.
fn answer(sockets: &[UdpSocket], index: usize) {
    let mut question = [0; 64];
    loop {
        let Ok((length, from)) = sockets[index].recv_from(&mut question) else {
            continue;
        };
        let answering = match question[0] {
            digit @ b'0'..=b'3' => usize::from(digit - b'0'),
            _ => index,
        };
        let mut answer = question[..length].to_vec();
        let _ = write!(answer, " {from}");
        let _ = sockets[answering].send_to(&answer, from);
    }
}

/// One socket that asks an observer.
struct Prober {
    socket: UdpSocket,
    questions: u32,
}

impl Prober {
    /// A socket of the server's address family.
    fn toward(server: SocketAddr) -> anyhow::Result<Self> {
        let unspecified: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Ok(Self {
            socket: UdpSocket::bind((unspecified, 0))?,
            questions: 0,
        })
    }

    /// Asks `server` to answer from a socket of its choice or of ours; the answer is our address as the server sees it.
    fn ask(&mut self, server: SocketAddr, answering: char) -> anyhow::Result<Option<SocketAddr>> {
        for _ in 0..TRIES {
            self.questions += 1;
            let question = format!("{answering}{:08}", self.questions);
            self.socket.send_to(question.as_bytes(), server)?;
            let deadline = Instant::now() + SILENCE;
            while let Some((text, _)) = receive(&self.socket, deadline)? {
                if let Some(seen) = text.strip_prefix(&question) {
                    return Ok(Some(seen.trim().parse()?));
                }
            }
        }
        Ok(None)
    }
}

fn receive(socket: &UdpSocket, deadline: Instant) -> anyhow::Result<Option<(String, SocketAddr)>> {
    let mut buffer = [0; 128];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                return Ok(Some((
                    String::from_utf8_lossy(&buffer[..length]).into_owned(),
                    from,
                )));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reports mapping, filtering and addresses of the NAT in front of this machine.
pub(crate) fn probe(arguments: &Arguments) -> anyhow::Result<()> {
    let servers = observer(arguments)?;
    let mut prober = Prober::toward(servers[0])?;
    let local = prober.socket.local_addr()?;
    let Some(first) = prober.ask(servers[0], 's')? else {
        println!("{}", json!({ "answered": false }));
        return Ok(());
    };
    // Filtering comes first: asking the other address would open the filter for it.
    let from_elsewhere = prober.ask(servers[0], '3')?.is_some();
    let from_other_port = prober.ask(servers[0], '1')?.is_some();
    let filtering = match (from_elsewhere, from_other_port) {
        (true, _) => "endpoint-independent",
        (false, true) => "address-dependent",
        (false, false) => "address-and-port-dependent",
    };
    let mut seen = vec![Some(first)];
    for server in &servers[1..] {
        seen.push(prober.ask(*server, 's')?);
    }
    let by_port: BTreeSet<_> = [seen[0], seen[1]].into();
    let by_address: BTreeSet<_> = [seen[0], seen[2]].into();
    let mapping = match (by_address.len(), by_port.len()) {
        (1, 1) => "endpoint-independent",
        (_, 1) => "address-dependent",
        _ => "address-and-port-dependent",
    };
    let texts: Vec<Value> = seen
        .iter()
        .map(|seen| json!(seen.map(|seen| seen.to_string())))
        .collect();
    println!(
        "{}",
        json!({ "answered": true, "localPort": local.port(), "mapping": mapping,
                "filtering": filtering, "seen": texts })
    );
    Ok(())
}

/// How often a punch sends.
const PUNCH_INTERVAL: Duration = Duration::from_millis(50);

/// Prints its address as an observer sees it, reads the peer's from standard input, sends there (and to wherever the
/// peer is heard from) for two seconds, and reports whether packets flowed both ways.
pub(crate) fn punch(arguments: &Arguments) -> anyhow::Result<()> {
    let server = arguments.position(1)?.parse()?;
    let mut prober = Prober::toward(server)?;
    let reflexive = prober.ask(server, 's')?;
    println!(
        "{}",
        json!({ "reflexive": reflexive.map(|address| address.to_string()) })
    );
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let mut targets: BTreeSet<SocketAddr> = line.trim().parse().ok().into_iter().collect();
    let mut open = None;
    let socket = prober.socket;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for target in &targets {
            let _ = socket.send_to(b"knock", target);
        }
        let pause = Instant::now() + PUNCH_INTERVAL;
        while let Some((text, from)) = receive(&socket, pause)? {
            targets.insert(from);
            if text == "knock" {
                let _ = socket.send_to(b"heard", from);
            } else {
                // An answer to a knock of ours: packets flow both ways.
                open = Some(from);
            }
        }
    }
    let open = open.map(|address| address.to_string());
    println!("{}", json!({ "direct": open.is_some(), "remote": open }));
    Ok(())
}
