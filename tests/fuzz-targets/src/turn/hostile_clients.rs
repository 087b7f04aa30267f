//! Clients with and without credentials, peers and strangers, against one server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Result, Unstructured};
use relay::Transport;
use relay::server::{
    BindingResponder, ClientAddr, Command, Forward, Quotas, RelayPort, Server, ServerConfig,
    SharedSecret, time_limited_credentials,
};
use stunwire::{
    Attribute as _, ChannelData, ChannelNumber, Class, ErrorCode, IntegrityKey, Message, Method,
    Nonce, XorPeerAddress,
};

use super::request::{Draft, Part, Place, Signature, encode, method, parts};
use crate::target::epoch;

const REALM: &str = "stunfwd";
const UNIX_START: u64 = 1_800_000_000;
const CLIENTS: usize = 4;

/// What one packet may add: header, XOR-PEER-ADDRESS of IPv6, the head of DATA, and padding.
const OVERHEAD_MAX: usize = 20 + 24 + 4 + 3;
/// What somebody without credentials is answered with: a challenge, which must not be worth forging an address for.
const CHALLENGE_MAX: usize = 100;
/// A permission lasts this long (RFC 8656, section 9), a channel longer, but it needs one.
const PERMISSION: Duration = Duration::from_secs(600);

const ALLOCATIONS: u32 = 3;

fn quotas() -> Quotas {
    Quotas {
        allocations: ALLOCATIONS,
        allocations_per_user: 2,
        allocations_per_source: 3,
        permissions: 4,
        channels: 4,
        refusals_per_second: 5,
        ..Quotas::default()
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Ask {
        client: u8,
        method: u8,
        signed: Signed,
        ports_work: bool,
    },
    Bytes {
        client: u8,
        bytes: Vec<u8>,
    },
    Channel {
        client: u8,
        number: u8,
        length: u8,
        claimed: i8,
    },
    Send {
        client: u8,
        peer: Place,
        length: u8,
    },
    FromPeer {
        port: u8,
        peer: Place,
        length: u8,
    },
    Gone {
        client: u8,
    },
    Wait {
        secs: u16,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Signed {
    No,
    Right,
    Stale,
    Wrong,
    NoName,
}

struct Customer {
    addr: ClientAddr,
    username: String,
    key: IntegrityKey,
    nonce: String,
}

struct World {
    now: Instant,
    server: Server,
    clients: Vec<Customer>,
    open: BTreeSet<RelayPort>,
    /// Until when a client may hear from and speak to an address, at the most.
    permitted: BTreeMap<(ClientAddr, IpAddr), Instant>,
    asked: u8,
}

pub(super) fn play(mut u: Unstructured<'_>) -> Result<()> {
    let mut world = World::new();
    for _ in 0..64 {
        if u.is_empty() {
            break;
        }
        let step = u.arbitrary()?;
        world.step(step, &mut u)?;
        world.check();
    }
    world.end();
    Ok(())
}

impl World {
    fn new() -> Self {
        let now = epoch();
        let secret = SharedSecret::new("north");
        let mut config = ServerConfig::new(REALM, secret.clone(), (now, UNIX_START));
        config.quotas = quotas();
        config.relay_ips = vec!["2001:db8::1".parse().expect("it is written here")];
        let remotes = [
            "192.0.2.10:40000",
            "192.0.2.11:40000",
            "192.0.2.10:40001",
            "[2001:db8:2::9]:40000",
        ];
        let clients = remotes.iter().enumerate().map(|(index, remote)| {
            let user = if index < 2 { "alice" } else { "bob" };
            let (username, password) =
                time_limited_credentials(&secret, user, UNIX_START + 100_000);
            let remote: SocketAddr = remote.parse().expect("it is written here");
            let local = if remote.is_ipv4() {
                "203.0.113.1:3478"
            } else {
                "[2001:db8::1]:3478"
            };
            let addr = ClientAddr {
                remote,
                local: local.parse().expect("it is written here"),
                transport: if index == 2 {
                    Transport::Tcp
                } else {
                    Transport::Udp
                },
            };
            let key = IntegrityKey::long_term(&username, REALM, &password);
            Customer {
                addr,
                username,
                key,
                nonce: "none".to_owned(),
            }
        });
        Self {
            now,
            clients: clients.collect(),
            server: Server::new(config, [1; 32], now),
            open: BTreeSet::new(),
            permitted: BTreeMap::new(),
            asked: 0,
        }
    }

    fn step(&mut self, step: Step, u: &mut Unstructured<'_>) -> Result<()> {
        match step {
            Step::Ask {
                client,
                method: choice,
                signed,
                ports_work,
            } => {
                let parts = parts(u)?;
                self.ask(
                    usize::from(client) % CLIENTS,
                    method(choice),
                    parts,
                    signed,
                    ports_work,
                );
            }
            Step::Bytes { client, bytes } => {
                self.packet(usize::from(client) % CLIENTS, &bytes);
                self.drain(None, true);
                let client = self.clients[usize::from(client) % CLIENTS].addr;
                let _ = BindingResponder::default().respond(&bytes, client.local, client.remote);
            }
            Step::Channel {
                client,
                number,
                length,
                claimed,
            } => {
                let number = ChannelNumber::new(0x4000 | u16::from(number & 7)).expect("in range");
                let claims = u16::from(length).saturating_add_signed(claimed.into());
                let mut bytes = ChannelData::header(number, claims).to_vec();
                bytes.resize(4 + usize::from(length), 0x77);
                self.packet(usize::from(client) % CLIENTS, &bytes);
            }
            Step::Send {
                client,
                peer,
                length,
            } => {
                let parts = vec![Part::Peer(peer), Part::Data(length)];
                let draft = Draft {
                    class: Class::Indication,
                    method: Method::SEND,
                    id: [3; 12],
                    parts,
                };
                self.packet(usize::from(client) % CLIENTS, &encode(&draft, None));
            }
            Step::FromPeer { port, peer, length } => self.hear_peer(port, peer.address(), length),
            Step::Gone { client } => {
                self.server
                    .handle_client_gone(self.clients[usize::from(client) % CLIENTS].addr);
                self.drain(None, true);
            }
            Step::Wait { secs } => self.wait(Duration::from_secs(secs.into())),
        }
        Ok(())
    }

    fn ask(
        &mut self,
        who: usize,
        method: Method,
        parts: Vec<Part>,
        signed: Signed,
        ports_work: bool,
    ) {
        self.asked = self.asked.wrapping_add(1);
        let id = [self.asked; 12];
        let draft = Draft {
            class: Class::Request,
            method,
            id,
            parts,
        };
        let customer = &self.clients[who];
        let wrong = IntegrityKey::short_term("wrong");
        let signature = Signature {
            username: (!matches!(signed, Signed::NoName)).then_some(&customer.username),
            realm: REALM,
            nonce: if matches!(signed, Signed::Stale) {
                "older"
            } else {
                &customer.nonce
            },
            key: if matches!(signed, Signed::Wrong) {
                &wrong
            } else {
                &customer.key
            },
        };
        let bytes = encode(&draft, (!matches!(signed, Signed::No)).then_some(signature));
        self.packet(who, &bytes);
        self.drain(Some((who, &draft, signed)), ports_work);
    }

    /// A packet of a client, and what the server does with it at once.
    fn packet(&mut self, who: usize, bytes: &[u8]) {
        let from = self.clients[who].addr;
        let forward = self.server.handle_client(from, bytes, self.now);
        match forward {
            Forward::Nothing => {}
            Forward::ToPeer {
                port,
                peer,
                payload,
            } => {
                assert!(payload.len() <= bytes.len());
                assert!(self.open.contains(&port));
                assert_public(peer.get());
                let until = self.permitted.get(&(from, peer.ip()));
                assert!(
                    until.is_some_and(|until| *until >= self.now),
                    "no permission for {peer}"
                );
            }
            // To another allocation of this server, without the network between them.
            Forward::ToClient { frame, .. } => {
                assert!(frame.byte_len() <= bytes.len() + OVERHEAD_MAX)
            }
        }
    }

    fn hear_peer(&mut self, port: u8, peer: SocketAddr, length: u8) {
        let Some(&port) = self
            .open
            .iter()
            .nth(usize::from(port) % ALLOCATIONS as usize)
        else {
            return;
        };
        let payload = vec![0x33; usize::from(length)];
        match self.server.handle_peer(port, peer, &payload, self.now) {
            Forward::Nothing => {}
            Forward::ToPeer { .. } => panic!("a peer's packet goes to the client"),
            Forward::ToClient { client, frame } => {
                assert!(frame.byte_len() <= payload.len() + OVERHEAD_MAX);
                let mut bytes = Vec::new();
                frame.write_to(&mut bytes);
                assert_eq!(bytes.len(), frame.byte_len());
                assert!(ChannelData::decode(&bytes).is_ok() || Message::decode(&bytes).is_ok());
                let until = self.permitted.get(&(client, peer.ip().to_canonical()));
                assert!(
                    until.is_some_and(|until| *until >= self.now),
                    "no permission for {peer}"
                );
            }
        }
    }

    /// Does what the server wants; the answers, if there are any, are to `question`.
    fn drain(&mut self, question: Option<(usize, &Draft, Signed)>, ports_work: bool) {
        let mut commands = 0;
        while let Some(command) = self.server.poll_command() {
            commands += 1;
            assert!(commands < 64, "one packet keeps the server busy for ever");
            match command {
                Command::OpenPort { port } if ports_work || commands > 4 => {
                    assert!(self.open.insert(port), "{port:?} is open already");
                    self.server.handle_port_opened(port, self.now);
                }
                Command::OpenPort { port } => self.server.handle_port_failed(port),
                Command::ClosePort { port } => {
                    self.open.remove(&port);
                }
                Command::Send { client, payload } => self.answer(client, &payload, question),
            }
        }
    }

    fn answer(
        &mut self,
        client: ClientAddr,
        payload: &[u8],
        question: Option<(usize, &Draft, Signed)>,
    ) {
        let message = Message::decode(payload).expect("the server writes messages");
        assert!(message.class().is_response());
        assert!(
            payload.len() <= 1200,
            "an answer of {} bytes",
            payload.len()
        );
        let Some((who, draft, signed)) = question else {
            assert!(
                payload.len() <= CHALLENGE_MAX,
                "a stranger is told {} bytes",
                payload.len()
            );
            return;
        };
        assert_eq!(client, self.clients[who].addr);
        assert_eq!(message.transaction_id().as_bytes(), &draft.id);
        assert_eq!(message.method(), draft.method);
        if let Ok(nonce) = message.read::<Nonce<'_>>() {
            self.clients[who].nonce = nonce.0.to_owned();
        }
        let right = matches!(signed, Signed::Right);
        if !right {
            assert_eq!(
                message.class(),
                Class::ErrorResponse,
                "only a right signature is served"
            );
            assert!(
                payload.len() <= CHALLENGE_MAX,
                "a stranger is told {} bytes",
                payload.len()
            );
        }
        if message.class() == Class::SuccessResponse {
            message
                .verify_integrity(&self.clients[who].key)
                .expect("what succeeds is signed");
            self.grant(client, draft);
        } else {
            assert!(message.read::<ErrorCode<'_>>().is_ok());
        }
    }

    fn grant(&mut self, client: ClientAddr, draft: &Draft) {
        if matches!(
            draft.method,
            Method::CREATE_PERMISSION | Method::CHANNEL_BIND
        ) {
            let until = self.now + PERMISSION;
            for part in &draft.parts {
                if let Some(place) = peer_of(part, draft) {
                    assert_public(place);
                    self.permitted
                        .insert((client, place.ip().to_canonical()), until);
                }
                // A channel has one peer, the first; permissions are for all of them.
                if draft.method == Method::CHANNEL_BIND && matches!(part, Part::Peer(_)) {
                    break;
                }
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..64 {
            match self.server.poll_timeout() {
                Some(deadline) if deadline.at <= until => self.now = self.now.max(deadline.at),
                _ => break,
            }
            let before = self.server.poll_timeout().map(|deadline| deadline.at);
            self.server.handle_timeout(self.now);
            let after = self.server.poll_timeout().map(|deadline| deadline.at);
            assert_ne!(after, before, "a deadline that does not move");
            self.drain(None, true);
        }
        self.now = until;
    }

    fn check(&self) {
        let allocations = self.server.allocations();
        assert!(allocations <= ALLOCATIONS as usize);
        assert!(
            allocations <= self.open.len(),
            "an allocation without a port"
        );
        assert_eq!(self.server.stats().answers_dropped, 0);
    }

    /// Time ends everything.
    fn end(&mut self) {
        self.wait(Duration::from_secs(4000));
        self.server.handle_timeout(self.now);
        self.drain(None, true);
        assert_eq!(self.server.allocations(), 0);
        assert_eq!(self.open.len(), 0, "ports that nobody closes");
    }
}

/// Also a peer that was written by hand.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other part names a peer")]
fn peer_of(part: &Part, draft: &Draft) -> Option<SocketAddr> {
    match part {
        Part::Peer(place) => Some(place.address()),
        Part::Raw(kind, bytes, length) if *kind == XorPeerAddress::TYPE.value() => {
            let id = stunwire::TransactionId::new(draft.id);
            XorPeerAddress::decode(&bytes[..usize::from(*length % 7)], id).map(|peer| peer.0)
        }
        _ => None,
    }
}

/// A relay is no way into the network it stands in.
fn assert_public(peer: SocketAddr) {
    let ip = peer.ip().to_canonical();
    let inside = match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    assert!(!inside, "relayed to {peer}");
}
