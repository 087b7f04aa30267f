//! A NAT, STUN servers and the network between them, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use natprobe::{Event, FilteringBehavior, MappingBehavior, ProbeConfig, Prober, Report};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sansio::{Datagram, Handled, Transmit};
use stunwire::attributes::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, XorMappedAddress,
};
use stunwire::{AttributeType, Class, Message, MessageBuilder};

pub(crate) const INSIDE: &str = "10.0.0.2:5000";
pub(crate) const OUTSIDE: &str = "203.0.113.9";

/// One way between the NAT and a server.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(20);

/// How a NAT chooses ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Preserving,
    Sequential,
    Random,
}

#[derive(Clone, Debug)]
pub(crate) struct Nat {
    pub(crate) public: IpAddr,
    pub(crate) mapping: MappingBehavior,
    pub(crate) filtering: FilteringBehavior,
    pub(crate) ports: Ports,
    pub(crate) hairpin: bool,
    mappings: BTreeMap<(SocketAddr, Option<IpAddr>, Option<u16>), u16>,
    contacts: BTreeMap<u16, BTreeSet<SocketAddr>>,
    next_port: u16,
}

impl Nat {
    pub(crate) fn new(mapping: MappingBehavior, filtering: FilteringBehavior) -> Self {
        Self {
            public: OUTSIDE.parse().expect("an address"),
            mapping,
            filtering,
            ports: Ports::Random,
            hairpin: false,
            mappings: BTreeMap::new(),
            contacts: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    /// Loses all state, as after a reboot.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
        self.contacts.clear();
        self.next_port += 1000;
    }

    fn outbound(&mut self, from: SocketAddr, to: SocketAddr, rng: &mut StdRng) -> SocketAddr {
        let key = match self.mapping {
            MappingBehavior::EndpointIndependent | MappingBehavior::Unknown => (from, None, None),
            MappingBehavior::AddressDependent => (from, Some(to.ip()), None),
            MappingBehavior::AddressAndPortDependent => (from, Some(to.ip()), Some(to.port())),
        };
        let port = match self.mappings.get(&key) {
            Some(port) => *port,
            None => {
                let taken = self.contacts.contains_key(&from.port());
                self.next_port += 1;
                let port = match self.ports {
                    Ports::Preserving if !taken => from.port(),
                    Ports::Preserving | Ports::Random => rng.random_range(30_000..60_000),
                    Ports::Sequential => self.next_port,
                };
                self.mappings.insert(key, port);
                port
            }
        };
        self.contacts.entry(port).or_default().insert(to);
        SocketAddr::new(self.public, port)
    }

    fn inbound(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let contacts = self.contacts.get(&to.port())?;
        let open = match self.filtering {
            FilteringBehavior::EndpointIndependent | FilteringBehavior::Unknown => true,
            FilteringBehavior::AddressDependent => contacts.iter().any(|c| c.ip() == from.ip()),
            FilteringBehavior::AddressAndPortDependent => contacts.contains(&from),
        };
        let inside = self.mappings.iter().find(|(_, port)| **port == to.port());
        inside.filter(|_| open).map(|((inside, _, _), _)| *inside)
    }
}

/// What a STUN server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RFC 5780 with this other address and port.
    Full(SocketAddr),
    /// RFC 3489 with this other address and port: no XOR-MAPPED-ADDRESS, CHANGED-ADDRESS.
    Old(SocketAddr),
    /// Names this other address, but nobody is there.
    DeadAlternate(SocketAddr),
    /// One address; answers CHANGE-REQUEST with 420.
    Single,
    /// One address; ignores CHANGE-REQUEST, but names another address (RFC 5780 forbids it).
    Ignorant(SocketAddr),
    /// Not there.
    Dead,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
}

impl Server {
    pub(crate) fn new(address: &str, kind: Kind) -> Self {
        Self {
            address: address.parse().expect("an address"),
            kind,
        }
    }

    fn listens_at(&self, at: SocketAddr) -> bool {
        match self.kind {
            Kind::Full(other) | Kind::Old(other) => {
                [self.address.ip(), other.ip()].contains(&at.ip())
                    && [self.address.port(), other.port()].contains(&at.port())
            }
            Kind::DeadAlternate(_) | Kind::Single | Kind::Ignorant(_) => at == self.address,
            Kind::Dead => false,
        }
    }

    /// Returns where the answer comes from, and the answer.
    fn answer(&self, at: SocketAddr, from: SocketAddr, bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
        let request = Message::decode(bytes).expect("the prober sends STUN");
        let change = request.read().unwrap_or(ChangeRequest {
            ip: false,
            port: false,
        });
        let mut buffer = [0; 128];
        if self.kind == Kind::Single && request.contains(AttributeType::CHANGE_REQUEST) {
            let error = ErrorCode {
                code: ErrorCode::UNKNOWN_ATTRIBUTE,
                reason: "",
            };
            let answer = MessageBuilder::answer(&mut buffer, &request, Class::ErrorResponse)
                .and_then(|builder| builder.attribute(&error));
            return (at, answer.expect("it fits").finish().to_vec());
        }
        let builder = MessageBuilder::answer(&mut buffer, &request, Class::SuccessResponse);
        let opposite = |other: SocketAddr| {
            let swap = |a, b, value| if value == a { b } else { a };
            let ip = swap(self.address.ip(), other.ip(), at.ip());
            let port = if at.port() == other.port() {
                self.address.port()
            } else {
                other.port()
            };
            (ip, port)
        };
        let (answer, source) = match self.kind {
            Kind::Full(other) => {
                let (ip, port) = opposite(other);
                let answer = builder
                    .and_then(|builder| builder.attribute(&XorMappedAddress(from)))
                    .and_then(|builder| {
                        builder.attribute(&OtherAddress(SocketAddr::new(ip, port)))
                    });
                (answer, changed(at, ip, port, change))
            }
            Kind::Old(other) => {
                let (ip, port) = opposite(other);
                let answer = builder
                    .and_then(|builder| builder.attribute(&MappedAddress(from)))
                    .and_then(|builder| {
                        builder.attribute(&ChangedAddress(SocketAddr::new(ip, port)))
                    });
                (answer, changed(at, ip, port, change))
            }
            Kind::DeadAlternate(other) => {
                let answer = builder
                    .and_then(|builder| builder.attribute(&XorMappedAddress(from)))
                    .and_then(|builder| builder.attribute(&OtherAddress(other)));
                // Nobody: the packet leaves from an address that does not reach the client.
                let lost = SocketAddr::from(([0, 0, 0, 0], 0));
                (answer, if change.ip || change.port { lost } else { at })
            }
            Kind::Ignorant(other) => {
                let answer = builder
                    .and_then(|builder| builder.attribute(&XorMappedAddress(from)))
                    .and_then(|builder| builder.attribute(&OtherAddress(other)));
                (answer, at)
            }
            Kind::Single | Kind::Dead => (
                builder.and_then(|builder| builder.attribute(&XorMappedAddress(from))),
                at,
            ),
        };
        (source, answer.expect("it fits").finish().to_vec())
    }
}

fn changed(at: SocketAddr, ip: IpAddr, port: u16, change: ChangeRequest) -> SocketAddr {
    SocketAddr::new(
        if change.ip { ip } else { at.ip() },
        if change.port { port } else { at.port() },
    )
}

#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    /// Toward the client, behind the NAT's filter.
    inward: bool,
}

/// Everything around one prober.
pub(crate) struct World {
    pub(crate) nat: Nat,
    pub(crate) servers: Vec<Server>,
    /// Of a hundred packets in each direction.
    pub(crate) loss_percent: u32,
    pub(crate) blocked: bool,
    pub(crate) prober: Prober,
    pub(crate) now: Instant,
    pub(crate) epoch: Instant,
    /// What was reported, and when.
    pub(crate) events: Vec<(Duration, Event)>,
    /// What was sent, and when.
    pub(crate) sent: Vec<(Duration, Transmit)>,
    packets: BTreeMap<(Instant, u64), Packet>,
    packet_count: u64,
    rng: StdRng,
}

impl World {
    pub(crate) fn new(nat: Nat, servers: Vec<Server>, seed: u8) -> Self {
        Self::with_local(nat, servers, seed, INSIDE, Vec::new())
    }

    pub(crate) fn with_local(
        nat: Nat,
        servers: Vec<Server>,
        seed: u8,
        local: &str,
        local_addresses: Vec<IpAddr>,
    ) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
        let epoch = Instant::now();
        let config = ProbeConfig {
            servers: servers.iter().map(|server| server.address).collect(),
            local_addresses,
            ..ProbeConfig::default()
        };
        let local = local.parse().expect("an address");
        Self {
            nat,
            servers,
            loss_percent: 0,
            blocked: false,
            prober: Prober::new(config, local, [seed; 32], epoch),
            now: epoch,
            epoch,
            events: Vec::new(),
            sent: Vec::new(),
            packets: BTreeMap::new(),
            packet_count: 0,
            rng: StdRng::from_seed([seed ^ 0x5A; 32]),
        }
    }

    /// Lets the time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.drain();
            let packet = self.packets.keys().next().map(|(at, _)| *at);
            let deadline = self.prober.poll_timeout().map(|deadline| deadline.at);
            let Some(at) = [packet, deadline]
                .into_iter()
                .flatten()
                .min()
                .filter(|at| *at <= end)
            else {
                break;
            };
            assert!(at >= self.now, "a deadline lies in the past");
            self.now = at;
            if packet == Some(at) {
                self.deliver_next();
            } else {
                self.prober.handle_timeout(self.now);
                self.drain();
                let moved = self.prober.poll_timeout().is_none_or(|next| next.at > at);
                assert!(moved, "no progress at {:?}", self.prober.poll_timeout());
            }
        }
        self.now = end;
    }

    /// Lets the time pass until there is a verdict.
    pub(crate) fn run_to_verdict(&mut self) -> (Duration, Report) {
        for _ in 0..1000 {
            if let Some(verdict) = self.verdicts().pop() {
                return verdict;
            }
            self.run_for(Duration::from_millis(10));
        }
        panic!("no verdict in 10 s");
    }

    pub(crate) fn verdicts(&self) -> Vec<(Duration, Report)> {
        self.events
            .iter()
            .filter_map(|(at, event)| {
                let Event::Classified(report) = event else {
                    return None;
                };
                Some((*at, report.clone()))
            })
            .collect()
    }

    pub(crate) fn inject(&mut self, from: SocketAddr, bytes: &[u8]) -> Handled {
        let local = INSIDE.parse().expect("an address");
        let datagram = Datagram {
            local,
            remote: from,
            payload: bytes,
        };
        self.prober.handle_datagram(datagram, self.now)
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.prober.poll_transmit() {
            let elapsed = self.now - self.epoch;
            self.sent.push((elapsed, transmit.clone()));
            self.leave(transmit);
        }
        while let Some(event) = self.prober.poll_event() {
            self.events.push((self.now - self.epoch, event));
        }
    }

    fn leave(&mut self, transmit: Transmit) {
        if self.blocked {
            return;
        }
        let source = transmit.source;
        let source = if source.ip().is_unspecified() {
            SocketAddr::new(self.nat.public, source.port())
        } else {
            source
        };
        let from = self
            .nat
            .outbound(source, transmit.destination, &mut self.rng);
        if transmit.destination.ip() == self.nat.public {
            if self.nat.hairpin {
                self.travel(from, transmit.destination, transmit.payload, true);
            }
        } else {
            self.travel(from, transmit.destination, transmit.payload, false);
        }
    }

    fn travel(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, inward: bool) {
        if self.rng.random_range(0..100) < self.loss_percent {
            return;
        }
        self.packet_count += 1;
        let at = self.now + ONE_WAY;
        self.packets.insert(
            (at, self.packet_count),
            Packet {
                from,
                to,
                bytes,
                inward,
            },
        );
    }

    fn deliver_next(&mut self) {
        let Some((_, packet)) = self.packets.pop_first() else {
            return;
        };
        if packet.inward {
            let Some(inside) = self.nat.inbound(packet.from, packet.to) else {
                return;
            };
            let datagram = Datagram {
                local: inside,
                remote: packet.from,
                payload: &packet.bytes,
            };
            let _ = self.prober.handle_datagram(datagram, self.now);
            return;
        }
        let Some(server) = self
            .servers
            .iter()
            .find(|server| server.listens_at(packet.to))
        else {
            return;
        };
        let (source, bytes) = server.answer(packet.to, packet.from, &packet.bytes);
        if !source.ip().is_unspecified() {
            self.travel(source, packet.from, bytes, true);
        }
    }
}
