//! A server, its clients and some peers in virtual time, with loss and delay between them.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses another part of it"
)]

pub mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use relay::server::{
    ClientAddr, Command, Forward, RelayPort, Server, ServerConfig, SharedSecret,
    time_limited_credentials,
};
use relay::{Client, ClientConfig, Event, Received, Transport};
use stunwire::{Class, ErrorCode, Message, MessageBuilder};

pub const REALM: &str = "stunfwd";
pub const UNIX_START: u64 = 1_800_000_000;
pub const SERVER: &str = "203.0.113.1:3478";
/// Where clients with an IPv6 address reach it.
pub const SERVER_V6: &str = "[2001:db8::1]:3478";

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn secret() -> SharedSecret {
    SharedSecret::new("north")
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
pub fn epoch() -> Instant {
    Instant::now()
}

pub fn server_config(now: Instant) -> ServerConfig {
    ServerConfig::new(REALM, secret(), (now, UNIX_START))
}

/// Credentials that last a day from the start.
pub fn credentials(user: &str) -> (String, String) {
    time_limited_credentials(&secret(), user, UNIX_START + 86_400)
}

/// The password of a name without an id, made here by hand.
pub fn password(username: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"north").unwrap();
    mac.update(username.as_bytes());
    data_encoding::BASE64.encode(&mac.finalize().into_bytes())
}

/// Where a client reaches the server: in its own family.
pub fn server_addr(remote: &str) -> SocketAddr {
    let is_v6 = addr(remote).is_ipv6();
    addr(if is_v6 { SERVER_V6 } else { SERVER })
}

pub fn client_addr(remote: &str, transport: Transport) -> ClientAddr {
    ClientAddr {
        remote: addr(remote),
        local: server_addr(remote),
        transport,
    }
}

enum Packet {
    Upward(ClientAddr, Vec<u8>),
    Downward(ClientAddr, Vec<u8>),
    FromPeer(RelayPort, SocketAddr, Vec<u8>),
}

pub struct Node {
    pub client: Client,
    pub addr: ClientAddr,
    pub events: Vec<(Duration, Event)>,
    pub received: Vec<(SocketAddr, Vec<u8>)>,
    pub sent: usize,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub server: Server,
    pub nodes: Vec<Node>,
    /// What the relay sent to peers: from which port, to whom, what.
    pub at_peers: Vec<(RelayPort, SocketAddr, Vec<u8>)>,
    pub ports: BTreeSet<RelayPort>,
    /// Probability that a UDP packet is lost, each way.
    pub loss: f64,
    pub delay: Duration,
    /// The server is gone: packets to it vanish.
    pub server_down: bool,
    /// Answers 441 as coturn does: before it looks at the key, so unsigned.
    pub wrong_user_is_unsigned: bool,
    /// Relay ports that cannot be opened, counted down.
    pub ports_refused: u32,
    /// Decides what is lost.
    pub rng: StdRng,
    packets: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
    joined: u8,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let now = epoch();
        let mut config = server_config(now);
        change(&mut config);
        Self {
            start: now,
            now,
            server: Server::new(config, [1; 32], now),
            nodes: Vec::new(),
            at_peers: Vec::new(),
            ports: BTreeSet::new(),
            loss: 0.0,
            delay: Duration::from_millis(20),
            server_down: false,
            wrong_user_is_unsigned: false,
            ports_refused: 0,
            rng: StdRng::from_seed([9; 32]),
            packets: BTreeMap::new(),
            sequence: 0,
            joined: 0,
        }
    }

    /// Adds a client with good credentials.
    pub fn join(&mut self, remote: &str, transport: Transport) -> usize {
        let (username, credential) = credentials(&format!("user{}", self.nodes.len()));
        self.join_as(remote, transport, username, credential)
    }

    pub fn join_as(
        &mut self,
        remote: &str,
        transport: Transport,
        username: String,
        credential: String,
    ) -> usize {
        let config = ClientConfig {
            server: server_addr(remote),
            transport,
            local: addr(remote),
            username,
            credential: credential.into(),
        };
        let index = self.nodes.len();
        self.joined += 1;
        let mut client = Client::new(config, [self.joined + 10; 32], self.now);
        if transport == Transport::Tcp {
            client.reconnected(self.now);
        }
        let addr = client_addr(remote, transport);
        self.nodes.push(Node {
            client,
            addr,
            events: vec![],
            received: vec![],
            sent: 0,
        });
        self.drain(index);
        index
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Does something with a client, then drains it.
    pub fn with_client<R>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Client, Instant) -> R,
    ) -> R {
        let result = act(&mut self.nodes[index].client, self.now);
        self.drain(index);
        result
    }

    pub fn relayed(&self, index: usize) -> SocketAddr {
        self.nodes[index].client.relayed().unwrap()
    }

    pub fn events(&self, index: usize) -> Vec<Event> {
        self.nodes[index]
            .events
            .iter()
            .map(|(_, event)| event.clone())
            .collect()
    }

    /// A peer sends to a relayed address (which is the relay port's own in these tests).
    pub fn peer_sends(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        if let Some(port) = self.ports.iter().find(|port| port.local() == to).copied() {
            self.post(Packet::FromPeer(port, from, payload.to_vec()), true);
        }
    }

    /// Another server takes its place, as after a restart.
    pub fn restart_server(&mut self) {
        self.server = Server::new(server_config(self.start), [77; 32], self.now);
        self.ports.clear();
        self.packets.clear();
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    pub fn run_for_secs(&mut self, secs: u64) {
        self.run_for(Duration::from_secs(secs));
    }

    fn next_at(&self) -> Option<Instant> {
        let clients = self
            .nodes
            .iter()
            .filter_map(|node| node.client.poll_timeout());
        let packets = self.packets.keys().next().map(|(at, _)| *at);
        clients
            .chain(self.server.poll_timeout())
            .map(|deadline| deadline.at)
            .chain(packets)
            .min()
    }

    fn step(&mut self) {
        while let Some((&(at, sequence), _)) = self.packets.first_key_value()
            && at <= self.now
        {
            let packet = self.packets.remove(&(at, sequence)).unwrap();
            self.deliver(packet);
        }
        if self
            .server
            .poll_timeout()
            .is_some_and(|deadline| deadline.at <= self.now)
        {
            self.server.handle_timeout(self.now);
            self.drain_server();
        }
        for index in 0..self.nodes.len() {
            let client = &mut self.nodes[index].client;
            if let Some(deadline) = client
                .poll_timeout()
                .filter(|deadline| deadline.at <= self.now)
            {
                client.handle_timeout(self.now);
                assert_ne!(
                    client.poll_timeout(),
                    Some(deadline),
                    "no progress: {deadline:?}"
                );
                self.drain(index);
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Upward(client, bytes) => {
                if !self.server_down {
                    let forward = self.server.handle_client(client, &bytes, self.now);
                    self.forward(forward);
                }
            }
            Packet::FromPeer(port, from, bytes) => {
                let forward = self.server.handle_peer(port, from, &bytes, self.now);
                self.forward(forward);
            }
            Packet::Downward(client, bytes) => {
                let Some(index) = self.nodes.iter().position(|node| node.addr == client) else {
                    return;
                };
                let node = &mut self.nodes[index];
                match node.client.handle_message(&bytes, self.now) {
                    Received::Data { peer, payload } => {
                        node.received.push((peer, payload.to_vec()));
                    }
                    Received::Consumed | Received::NotMine => {}
                }
                self.drain(index);
            }
        }
        self.drain_server();
    }

    fn forward(&mut self, forward: Forward<'_>) {
        match forward {
            Forward::Nothing => {}
            Forward::ToPeer {
                port,
                peer,
                payload,
            } => {
                self.at_peers.push((port, peer.get(), payload.to_vec()));
            }
            Forward::ToClient { client, frame } => {
                let mut bytes = Vec::new();
                frame.write_to(&mut bytes);
                assert_eq!(bytes.len(), frame.byte_len());
                self.send_down(client, bytes);
            }
        }
    }

    fn drain_server(&mut self) {
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::Send { client, payload } => self.send_down(client, payload),
                Command::OpenPort { port } if self.ports_refused > 0 => {
                    self.ports_refused -= 1;
                    self.server.handle_port_failed(port);
                }
                Command::OpenPort { port } => {
                    assert!(self.ports.insert(port), "opened twice");
                    self.server.handle_port_opened(port, self.now);
                }
                Command::ClosePort { port } => {
                    assert!(self.ports.remove(&port), "closed twice");
                }
            }
        }
    }

    fn send_down(&mut self, client: ClientAddr, bytes: Vec<u8>) {
        let bytes = if self.wrong_user_is_unsigned {
            unsigned_wrong_credentials(&bytes).unwrap_or(bytes)
        } else {
            bytes
        };
        assert_frame(client.transport, &bytes);
        self.post(
            Packet::Downward(client, bytes),
            client.transport == Transport::Udp,
        );
    }

    fn drain(&mut self, index: usize) {
        let addr = self.nodes[index].addr;
        while let Some(transmit) = self.nodes[index].client.poll_transmit() {
            assert_frame(addr.transport, &transmit.payload);
            self.nodes[index].sent += 1;
            let packet = Packet::Upward(addr, transmit.payload);
            self.post(packet, addr.transport == Transport::Udp);
        }
        let elapsed = self.elapsed();
        let node = &mut self.nodes[index];
        while let Some(event) = node.client.poll_event() {
            node.events.push((elapsed, event));
        }
    }

    fn post(&mut self, packet: Packet, may_be_lost: bool) {
        if may_be_lost && self.rng.random_bool(self.loss) {
            return;
        }
        self.sequence += 1;
        self.packets
            .insert((self.now + self.delay, self.sequence), packet);
    }
}

/// The same answer without its signature, if it is a 441.
fn unsigned_wrong_credentials(answer: &[u8]) -> Option<Vec<u8>> {
    let message = Message::decode(answer).ok()?;
    let error = message.read::<ErrorCode<'_>>().ok()?;
    if error.code != ErrorCode::WRONG_CREDENTIALS {
        return None;
    }
    let mut buffer = [0; 128];
    let (method, id) = (message.method(), message.transaction_id());
    let builder = MessageBuilder::new(&mut buffer, Class::ErrorResponse, method, id).ok()?;
    Some(builder.attribute(&error).ok()?.finish().to_vec())
}

/// On a stream everything must be exactly one frame.
fn assert_frame(transport: Transport, bytes: &[u8]) {
    if transport == Transport::Tcp {
        assert_eq!(
            stunwire::stream::next_frame(bytes).unwrap(),
            Some(bytes.len())
        );
    }
}
