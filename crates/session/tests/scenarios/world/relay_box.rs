//! The machine with the STUN and TURN server: two addresses, UDP and streams.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use relay::Transport;
use relay::server::{
    BindingAddresses, BindingResponder, ClientAddr, Command, ExternalAddresses, Forward, RelayPort,
    Server, ServerConfig, SharedSecret, time_limited_credentials,
};
use session::RelayServer;

const IPS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 10),
    Ipv4Addr::new(203, 0, 113, 11),
];
const PORTS: [u16; 2] = [3478, 3479];
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

#[derive(Debug)]
pub(crate) struct RelayBox {
    server: Server,
    responder: BindingResponder,
    ports: BTreeMap<SocketAddr, RelayPort>,
    start: Instant,
    restarts: u8,
}

impl RelayBox {
    pub(crate) fn new(now: Instant) -> Self {
        let alternates = BindingAddresses {
            ips: IPS.map(IpAddr::V4),
            ports: PORTS,
        };
        Self {
            server: server(now, 0),
            responder: BindingResponder::new(Some(alternates), ExternalAddresses::default()),
            ports: BTreeMap::new(),
            start: now,
            restarts: 0,
        }
    }

    pub(crate) const fn address() -> SocketAddr {
        SocketAddr::new(IpAddr::V4(IPS[0]), PORTS[0])
    }

    pub(crate) fn is_here(ip: IpAddr) -> bool {
        IPS.map(IpAddr::V4).contains(&ip)
    }

    /// The program is started anew: all allocations are gone.
    pub(crate) fn restart(&mut self) {
        self.restarts += 1;
        self.server = server(self.start, self.restarts);
        self.ports.clear();
    }

    pub(crate) fn allocations(&self) -> usize {
        self.server.allocations()
    }

    /// The way to this relay, with credentials for a user until `lifetime_secs` after the start.
    pub(crate) fn offer(user: &str, lifetime_secs: u64) -> RelayServer {
        let secret = SharedSecret::new(SECRET);
        let (username, password) =
            time_limited_credentials(&secret, user, UNIX_START + lifetime_secs);
        RelayServer {
            udp: Some(Self::address()),
            tcp: Some(Self::address()),
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
        if let Some(answer) = self.responder.respond(payload, to, from) {
            let (from, to) = (answer.source, answer.destination);
            return vec![Output::Udp {
                from,
                to,
                payload: answer.payload,
            }];
        }
        let client = ClientAddr {
            remote: from,
            local: to,
            transport: Transport::Udp,
        };
        self.handle_client(client, payload, now)
    }

    pub(crate) fn handle_client(
        &mut self,
        client: ClientAddr,
        payload: &[u8],
        now: Instant,
    ) -> Vec<Output> {
        let output = output(self.server.handle_client(client, payload, now));
        self.with_commands(output, now)
    }

    pub(crate) fn handle_client_gone(&mut self, client: ClientAddr, now: Instant) {
        self.server.handle_client_gone(client);
        let outputs = self.with_commands(None, now);
        assert!(outputs.is_empty(), "nobody is told");
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
        outputs
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout().map(|deadline| deadline.at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
        let outputs = self.with_commands(None, now);
        assert!(outputs.is_empty(), "the passing of time sends nothing");
    }
}

fn server(start: Instant, seed: u8) -> Server {
    let mut config = ServerConfig::new("stunfwd", SharedSecret::new(SECRET), (start, UNIX_START));
    config.own_addresses = IPS.map(IpAddr::V4).to_vec();
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
