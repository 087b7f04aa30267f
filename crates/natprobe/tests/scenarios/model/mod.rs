//! A NAT, STUN servers and the network between them, in virtual time, around any machine of this crate.

mod nat;
mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use natprobe::{
    Event, FilteringBehavior, LifetimeEvent, LifetimeSearch, MappingBehavior, MappingCheck,
    MappingVerdict, ProbeConfig, Prober, Report, Sampler, SamplerEvent,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sansio::{Datagram, Deadline, Handled, Transmit};

pub(crate) use nat::{Nat, Ports};
pub(crate) use server::{Kind, Server};

pub(crate) const INSIDE: &str = "10.0.0.2:5000";
pub(crate) const OUTSIDE: &str = "203.0.113.9";

pub(crate) const PRIMARY: &str = "192.0.2.1:3478";
pub(crate) const OTHER: &str = "192.0.2.2:3479";
pub(crate) const SECOND: &str = "198.51.100.1:3478";

pub(crate) const MAPPINGS: [MappingBehavior; 3] = [
    MappingBehavior::EndpointIndependent,
    MappingBehavior::AddressDependent,
    MappingBehavior::AddressAndPortDependent,
];
pub(crate) const FILTERINGS: [FilteringBehavior; 3] = [
    FilteringBehavior::EndpointIndependent,
    FilteringBehavior::AddressDependent,
    FilteringBehavior::AddressAndPortDependent,
];

/// One way between the NAT and a server.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(20);

/// What all machines have.
pub(crate) trait Machine {
    type Event;
    fn transmit(&mut self) -> Option<Transmit>;
    fn event(&mut self) -> Option<Self::Event>;
    fn timeout(&self) -> Option<Deadline>;
    fn on_timeout(&mut self, now: Instant);
    fn on_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled;
}

macro_rules! machine {
    ($machine:ty, $event:ty) => {
        impl Machine for $machine {
            type Event = $event;
            fn transmit(&mut self) -> Option<Transmit> {
                self.poll_transmit()
            }
            fn event(&mut self) -> Option<Self::Event> {
                self.poll_event()
            }
            fn timeout(&self) -> Option<Deadline> {
                self.poll_timeout()
            }
            fn on_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }
            fn on_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
                self.handle_datagram(datagram, now)
            }
        }
    };
}

machine!(Prober, Event);
machine!(Sampler, SamplerEvent);
machine!(MappingCheck, MappingVerdict);
machine!(LifetimeSearch, LifetimeEvent);

#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    /// Toward the client, behind the NAT's filter.
    inward: bool,
}

/// Everything around one machine.
pub(crate) struct World<M: Machine> {
    pub(crate) nat: Nat,
    pub(crate) servers: Vec<Server>,
    /// Of a hundred packets in each direction.
    pub(crate) loss_percent: u32,
    pub(crate) blocked: bool,
    /// How many of other people's flows take a mapping while one of ours does.
    pub(crate) crowd: u32,
    pub(crate) machine: M,
    pub(crate) now: Instant,
    pub(crate) epoch: Instant,
    /// What was reported, and when.
    pub(crate) events: Vec<(Duration, M::Event)>,
    /// What was sent, and when.
    pub(crate) sent: Vec<(Duration, Transmit)>,
    packets: BTreeMap<(Instant, u64), Packet>,
    packet_count: u64,
    rng: StdRng,
}

pub(crate) fn full() -> Server {
    Server::new(PRIMARY, Kind::Full(other()))
}

pub(crate) fn single(address: &str) -> Server {
    Server::new(address, Kind::Single)
}

pub(crate) fn primary() -> SocketAddr {
    PRIMARY.parse().expect("an address")
}

pub(crate) fn other() -> SocketAddr {
    OTHER.parse().expect("an address")
}

/// The seed of the machine and, shifted, that of the network.
pub(crate) fn seed(number: u32) -> [u8; 32] {
    let mut seed = [0x5A; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    seed
}

impl World<Prober> {
    pub(crate) fn new(nat: Nat, servers: Vec<Server>, seed: u32) -> Self {
        Self::with_local(nat, servers, seed, INSIDE, Vec::new())
    }

    pub(crate) fn with_local(
        nat: Nat,
        servers: Vec<Server>,
        number: u32,
        local: &str,
        local_addresses: Vec<IpAddr>,
    ) -> Self {
        let config = ProbeConfig {
            servers: servers.iter().map(|server| server.address).collect(),
            local_addresses,
            ..ProbeConfig::default()
        };
        let local = local.parse().expect("an address");
        Self::around(nat, servers, number, |now| {
            Prober::new(config, local, seed(number), now)
        })
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
}

impl<M: Machine> World<M> {
    pub(crate) fn around(
        nat: Nat,
        servers: Vec<Server>,
        number: u32,
        machine: impl FnOnce(Instant) -> M,
    ) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
        let epoch = Instant::now();
        Self {
            nat,
            servers,
            loss_percent: 0,
            blocked: false,
            crowd: 0,
            machine: machine(epoch),
            now: epoch,
            epoch,
            events: Vec::new(),
            sent: Vec::new(),
            packets: BTreeMap::new(),
            packet_count: 0,
            rng: StdRng::from_seed(seed(!number)),
        }
    }

    /// Lets the time pass until the machine wants nothing more.
    pub(crate) fn run_to_end(&mut self) {
        self.drain();
        while self.machine.timeout().is_some() || !self.packets.is_empty() {
            self.run_for(Duration::from_secs(1));
            assert!(self.now < self.epoch + Duration::from_secs(3600), "no end");
        }
    }

    /// Lets the time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.drain();
            let packet = self.packets.keys().next().map(|(at, _)| *at);
            let deadline = self.machine.timeout().map(|deadline| deadline.at);
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
                self.machine.on_timeout(self.now);
                self.drain();
                let moved = self.machine.timeout().is_none_or(|next| next.at > at);
                assert!(moved, "no progress at {:?}", self.machine.timeout());
            }
        }
        self.now = end;
    }

    pub(crate) fn inject(&mut self, from: SocketAddr, bytes: &[u8]) -> Handled {
        let local = INSIDE.parse().expect("an address");
        let datagram = Datagram {
            local,
            remote: from,
            payload: bytes,
        };
        self.machine.on_datagram(datagram, self.now)
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.machine.transmit() {
            let elapsed = self.now - self.epoch;
            self.sent.push((elapsed, transmit.clone()));
            self.leave(transmit);
        }
        while let Some(event) = self.machine.event() {
            self.events.push((self.now - self.epoch, event));
        }
    }

    fn leave(&mut self, transmit: Transmit) {
        if self.blocked {
            return;
        }
        let source = transmit.source;
        let source = if source.ip().is_unspecified() {
            SocketAddr::new(self.nat.public[0], source.port())
        } else {
            source
        };
        let to = transmit.destination;
        for _ in 0..self.crowd {
            self.nat.crowd(&mut self.rng);
        }
        let from = self.nat.outbound(source, to, self.now, &mut self.rng);
        if self.nat.public.contains(&to.ip()) {
            if self.nat.hairpin {
                self.travel(from, to, transmit.payload, true);
            }
        } else {
            self.travel(from, to, transmit.payload, false);
        }
    }

    fn travel(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, inward: bool) {
        if self.rng.random_range(0..100) < self.loss_percent {
            return;
        }
        self.packet_count += 1;
        let at = self.now + ONE_WAY;
        let packet = Packet {
            from,
            to,
            bytes,
            inward,
        };
        self.packets.insert((at, self.packet_count), packet);
    }

    fn deliver_next(&mut self) {
        let Some((_, packet)) = self.packets.pop_first() else {
            return;
        };
        if packet.inward {
            let Some(inside) = self.nat.inbound(packet.from, packet.to, self.now) else {
                return;
            };
            let bytes = if self.nat.alg {
                server::rewrite(&packet.bytes, packet.to, inside)
            } else {
                packet.bytes
            };
            let datagram = Datagram {
                local: inside,
                remote: packet.from,
                payload: &bytes,
            };
            let _ = self.machine.on_datagram(datagram, self.now);
            return;
        }
        let server = self
            .servers
            .iter()
            .find(|server| server.listens_at(packet.to));
        let answer = server.and_then(|server| server.answer(packet.to, packet.from, &packet.bytes));
        if let Some((source, to, bytes)) = answer {
            self.travel(source, to, bytes, true);
        }
    }
}
