//! A machine with the STUN and TURN server of `stunfwd-signaling`: two addresses, UDP and streams.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use relay::Transport;
use relay::server::{
    BindingAddresses, BindingResponder, ClientAddr, Command, ExternalAddresses, Forward, RelayPort,
    Server, ServerConfig, SharedSecret, time_limited_credentials,
};
use session::RelayServer;

/// The primary and the alternate port of RFC 5780.
const UDP_PORTS: [u16; 2] = [3478, 3479];
/// Streams are offered on the port that the strictest networks let out.
const STREAM_PORT: u16 = 443;
/// What the wall clock says when the world begins.
const UNIX_START: u64 = 1_900_000_000;
const SECRET: &str = "the operator's";

/// Something the machine sends.
#[derive(Debug)]
pub(crate) enum Output {
    Udp {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Stream {
        client: ClientAddr,
        frame: Vec<u8>,
    },
}

/// One machine with a STUN and a TURN server.
#[derive(Debug)]
pub struct ServerBox {
    /// Two of each family, IPv4 first.
    ips: [IpAddr; 4],
    server: Server,
    /// For IPv4 and for IPv6: an alternate address is of the family of the primary one.
    responders: [BindingResponder; 2],
    ports: BTreeMap<SocketAddr, RelayPort>,
    start: Instant,
    restarts: u8,
    /// When the server wants to be called, as of the last call.
    pub(crate) deadline: Option<Instant>,
}

impl ServerBox {
    /// Makes the machine of this number; it has two addresses of 203.0.113.0/24 and two of 2001:db8::/64.
    pub(crate) fn new(number: u8, now: Instant) -> Self {
        let last = 10 + 2 * number;
        let ips = [last, last + 1].map(|last| IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)));
        let ips6 = [last, last + 1]
            .map(|last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())));
        let responders = [ips, ips6].map(|ips| {
            let ports = UDP_PORTS;
            let alternates = BindingAddresses { ips, ports };
            BindingResponder::new(Some(alternates), ExternalAddresses::default())
        });
        let ips = [ips[0], ips[1], ips6[0], ips6[1]];
        Self {
            ips,
            server: server(&ips, now, 0),
            responders,
            ports: BTreeMap::new(),
            start: now,
            restarts: 0,
            deadline: None,
        }
    }

    /// Returns where it answers STUN and TURN over UDP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ips[0], UDP_PORTS[0])
    }

    /// Returns the same for IPv6.
    #[must_use]
    pub const fn address6(&self) -> SocketAddr {
        SocketAddr::new(self.ips[2], UDP_PORTS[0])
    }

    /// Returns where it answers TURN over streams.
    #[must_use]
    pub const fn stream_address(&self) -> SocketAddr {
        SocketAddr::new(self.ips[0], STREAM_PORT)
    }

    /// Returns its addresses, two of IPv4 and two of IPv6.
    #[must_use]
    pub const fn ips(&self) -> [IpAddr; 4] {
        self.ips
    }

    /// Returns whether an address is its own.
    #[must_use]
    pub fn is_here(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip)
    }

    /// Returns how many allocations there are.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.server.allocations()
    }

    /// The program is started anew: all allocations are gone.
    pub fn restart(&mut self) {
        self.restarts += 1;
        self.server = server(&self.ips, self.start, self.restarts);
        self.ports.clear();
        self.deadline = None;
    }

    /// Returns the way to this relay, with credentials for a user until `lifetime_secs` after the start.
    #[must_use]
    pub fn offer(&self, user: &str, lifetime_secs: u64) -> RelayServer {
        let secret = SharedSecret::new(SECRET);
        let (username, password) =
            time_limited_credentials(&secret, user, UNIX_START + lifetime_secs);
        RelayServer {
            udp: Some(self.address()),
            tcp: Some(self.stream_address()),
            tls: None,
            username,
            credential: password.into(),
        }
    }

    pub(crate) fn handle_udp(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Vec<Output> {
        if let Some(port) = self.ports.get(&to).copied() {
            let output = output(self.server.handle_peer(port, from, payload, now));
            return self.with_commands(output, now);
        }
        if !UDP_PORTS.contains(&to.port()) {
            return Vec::new();
        }
        let responder = &self.responders[usize::from(to.is_ipv6())];
        if let Some(answer) = responder.respond(payload, to, from) {
            return vec![Output::Udp {
                from: answer.source,
                to: answer.destination,
                payload: answer.payload,
            }];
        }
        let client = ClientAddr {
            remote: from,
            local: to,
            transport: Transport::Udp,
        };
        let output = output(self.server.handle_client(client, payload, now));
        self.with_commands(output, now)
    }

    pub(crate) fn handle_stream(
        &mut self,
        client: ClientAddr,
        frame: &[u8],
        now: Instant,
    ) -> Vec<Output> {
        if let Some(frame) = self.responders[0].respond_on_stream(frame, client.remote) {
            return vec![Output::Stream { client, frame }];
        }
        let output = output(self.server.handle_client(client, frame, now));
        self.with_commands(output, now)
    }

    pub(crate) fn handle_stream_gone(&mut self, client: ClientAddr, now: Instant) -> Vec<Output> {
        self.server.handle_client_gone(client);
        self.with_commands(None, now)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        self.server.handle_timeout(now);
        self.with_commands(None, now)
    }

    fn with_commands(&mut self, first: Option<Output>, now: Instant) -> Vec<Output> {
        let mut outputs: Vec<_> = first.into_iter().collect();
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::Send { client, payload } => outputs.push(to_client(client, payload)),
                Command::OpenPort { port } => {
                    self.ports.insert(port.local(), port);
                    self.server.handle_port_opened(port, now);
                }
                Command::ClosePort { port } => {
                    self.ports.remove(&port.local());
                }
            }
        }
        self.deadline = self.server.poll_timeout().map(|deadline| deadline.at);
        outputs
    }
}

fn server(ips: &[IpAddr], start: Instant, seed: u8) -> Server {
    let mut config = ServerConfig::new("natlab", SharedSecret::new(SECRET), (start, UNIX_START));
    config.own_addresses = ips.to_vec();
    Server::new(config, [seed; 32], start)
}

fn output(forward: Forward<'_>) -> Option<Output> {
    match forward {
        Forward::Nothing => None,
        Forward::ToPeer {
            port,
            peer,
            payload,
        } => Some(Output::Udp {
            from: port.local(),
            to: peer.get(),
            payload: payload.to_vec(),
        }),
        Forward::ToClient { client, frame } => {
            let mut bytes = Vec::new();
            frame.write_to(&mut bytes);
            Some(to_client(client, bytes))
        }
    }
}

fn to_client(client: ClientAddr, payload: Vec<u8>) -> Output {
    match client.transport {
        Transport::Udp => Output::Udp {
            from: client.local,
            to: client.remote,
            payload,
        },
        Transport::Tcp => Output::Stream {
            client,
            frame: payload,
        },
    }
}
