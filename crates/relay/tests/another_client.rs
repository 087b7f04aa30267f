//! A TURN client by somebody else (turn-client-proto) against our server, in virtual time: it allocates, binds, sends,
//! and keeps all of it for longer than anything lives by itself.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

use std::time::{Duration, Instant};

use relay::Transport;
use relay::server::{
    ClientAddr, Command, Forward, Server, ServerConfig, SharedSecret, time_limited_credentials,
};
use turn_client_proto::api::{TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::{DelayedTransmitBuild, TurnClientApi};
use turn_client_proto::stun::Instant as TheirInstant;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::stun::types::TransportType;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::udp::TurnClientUdp;

const SERVER: &str = "203.0.113.1:3478";
const UNIX_START: u64 = 1_800_000_000;
/// Steps of the virtual clock.
const STEP: Duration = Duration::from_millis(250);

struct Party {
    client: TurnClientUdp,
    addr: ClientAddr,
    events: Vec<String>,
    received: Vec<(std::net::SocketAddr, Vec<u8>)>,
}

struct World {
    server: Server,
    start: Instant,
    now: Instant,
    parties: [Party; 2],
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
    fn new() -> Self {
        let start = Instant::now();
        let secret = SharedSecret::new("north");
        let config = ServerConfig::new("stunfwd", secret.clone(), (start, UNIX_START));
        let party = |remote: &str, user: &str| {
            let (username, password) = time_limited_credentials(&secret, user, UNIX_START + 86_400);
            let config = TurnConfig::new(TurnCredentials::new(&username, &password));
            let (remote, local) = (remote.parse().unwrap(), SERVER.parse().unwrap());
            Party {
                client: TurnClientUdp::allocate(remote, local, config),
                addr: ClientAddr {
                    remote,
                    local,
                    transport: Transport::Udp,
                },
                events: Vec::new(),
                received: Vec::new(),
            }
        };
        Self {
            server: Server::new(config, [1; 32], start),
            start,
            now: start,
            parties: [
                party("192.0.2.10:40000", "alice"),
                party("198.51.100.7:5000", "bob"),
            ],
        }
    }

    fn their_now(&self) -> TheirInstant {
        TheirInstant::ZERO + (self.now - self.start) + Duration::from_secs(1)
    }

    /// Lets everybody do what is due, until nobody has anything to say.
    fn settle(&mut self) {
        self.server.handle_timeout(self.now);
        let now = self.their_now();
        loop {
            let mut quiet = true;
            for index in 0..self.parties.len() {
                let _: TurnPollRet = self.parties[index].client.poll(now);
                while let Some(transmit) = self.parties[index].client.poll_transmit(now) {
                    quiet = false;
                    self.hand_to_server(index, &transmit.data);
                }
                while let Some(event) = self.parties[index].client.poll_event() {
                    let failed = matches!(
                        event,
                        TurnEvent::AllocationCreateFailed(_)
                            | TurnEvent::PermissionCreateFailed(..)
                            | TurnEvent::ChannelCreateFailed(..)
                    );
                    assert!(!failed, "{event:?}");
                    self.parties[index].events.push(format!("{event:?}"));
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn hand_to_server(&mut self, from: usize, bytes: &[u8]) {
        let addr = self.parties[from].addr;
        match self.server.handle_client(addr, bytes, self.now) {
            Forward::Nothing => {}
            Forward::ToClient { client, frame } => {
                let mut bytes = Vec::new();
                frame.write_to(&mut bytes);
                self.hand_to_client(client, bytes);
            }
            Forward::ToPeer { peer, .. } => {
                panic!("the two meet inside the process, not at {peer}")
            }
        }
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::OpenPort { port } => self.server.handle_port_opened(port, self.now),
                Command::Send { client, payload } => self.hand_to_client(client, payload),
                Command::ClosePort { .. } => {}
            }
        }
    }

    fn hand_to_client(&mut self, client: ClientAddr, bytes: Vec<u8>) {
        let now = self.their_now();
        let party = self.parties.iter_mut().find(|party| party.addr == client);
        let party = party.unwrap();
        let datagram = Transmit::new(bytes, TransportType::Udp, client.local, client.remote);
        match party.client.recv(datagram, now) {
            TurnRecvRet::Handled => {}
            TurnRecvRet::PeerData(data) => party.received.push((data.peer, data.data().to_vec())),
            other @ (TurnRecvRet::Ignored(_) | TurnRecvRet::PeerIcmp { .. }) => {
                panic!("our server sent what it does not understand: {other:?}")
            }
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
            self.settle();
        }
    }

    fn relayed(&self, index: usize) -> std::net::SocketAddr {
        let mut all = self.parties[index].client.relayed_addresses();
        all.next().expect("an allocation").1
    }

    /// Sends from one to the other, and asserts that it arrives.
    fn assert_passes(&mut self, from: usize, payload: &[u8]) {
        let (to, now) = (1 - from, self.their_now());
        let (source, destination) = (self.relayed(from), self.relayed(to));
        let client = &mut self.parties[from].client;
        let built = client
            .send_to(TransportType::Udp, destination, payload.to_vec(), now)
            .unwrap()
            .unwrap();
        self.hand_to_server(from, &built.data.build());
        let received = self.parties[to].received.pop();
        assert_eq!(received, Some((source, payload.to_vec())));
    }
}

#[test]
fn two_clients_of_somebody_else_talk_for_an_hour_through_our_server() {
    let mut world = World::new();
    world.run_for(Duration::from_secs(1));
    let addresses = [world.relayed(0), world.relayed(1)];
    let now = world.their_now();
    for (index, peer) in [(0, addresses[1]), (1, addresses[0])] {
        let client = &mut world.parties[index].client;
        client
            .create_permission(TransportType::Udp, peer.ip(), now)
            .unwrap();
    }
    world.run_for(Duration::from_secs(1));
    world.assert_passes(0, b"by indication");
    world.assert_passes(1, b"and back");

    let now = world.their_now();
    for (index, peer) in [(0, addresses[1]), (1, addresses[0])] {
        let client = &mut world.parties[index].client;
        client.bind_channel(TransportType::Udp, peer, now).unwrap();
    }
    world.run_for(Duration::from_secs(1));
    for party in &world.parties {
        let bound = party
            .events
            .iter()
            .any(|event| event.contains("ChannelCreated"));
        assert!(bound, "{:?}", party.events);
    }
    for _ in 0..60 {
        world.assert_passes(0, b"by channel");
        world.assert_passes(1, &[7; 1200]);
        world.run_for(Duration::from_secs(60));
    }
    assert_eq!([world.relayed(0), world.relayed(1)], addresses);
    assert_eq!(world.server.stats().malformed, 0);

    let now = world.their_now();
    for party in &mut world.parties {
        party.client.delete(now).unwrap();
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.server.allocations(), 0);
}
