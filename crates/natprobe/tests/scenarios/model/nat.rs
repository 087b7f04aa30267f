//! A NAT.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use natprobe::{FilteringBehavior, MappingBehavior, Pooling};
use rand::RngExt;
use rand::rngs::StdRng;

use super::OUTSIDE;

/// How a NAT chooses ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Preserving,
    Sequential { stride: i32 },
    Block { first: u16, last: u16 },
    Random,
}

#[derive(Clone, Debug)]
pub(crate) struct Nat {
    /// Its addresses, and how they are given out where there are several.
    pub(crate) public: Vec<IpAddr>,
    pub(crate) pooling: Pooling,
    pub(crate) mapping: MappingBehavior,
    pub(crate) filtering: FilteringBehavior,
    pub(crate) ports: Ports,
    pub(crate) hairpin: bool,
    /// Rewrites MAPPED-ADDRESS in what comes in.
    pub(crate) alg: bool,
    /// How long an unused mapping lives.
    pub(crate) idle: Option<Duration>,
    /// Packets from outside count as use.
    pub(crate) refreshed_inbound: bool,
    /// How long any mapping lives.
    pub(crate) absolute: Option<Duration>,
    /// What a port-mapping gateway has set up: public port to inside socket.
    pub(crate) forwards: BTreeMap<u16, SocketAddr>,
    mappings: BTreeMap<Key, Mapping>,
    next_port: i32,
}

type Key = (SocketAddr, Option<IpAddr>, Option<u16>);

#[derive(Clone, Debug)]
struct Mapping {
    public: SocketAddr,
    born: Instant,
    used: Instant,
    contacts: Vec<SocketAddr>,
}

impl Nat {
    pub(crate) fn new(mapping: MappingBehavior, filtering: FilteringBehavior) -> Self {
        Self {
            public: vec![OUTSIDE.parse().expect("an address")],
            pooling: Pooling::Paired,
            mapping,
            filtering,
            ports: Ports::Random,
            hairpin: false,
            alg: false,
            idle: None,
            refreshed_inbound: true,
            absolute: None,
            forwards: BTreeMap::new(),
            mappings: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    /// Loses all state, as after a reboot.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
        self.next_port += 1000;
    }

    /// Somebody else's flow takes a mapping.
    pub(crate) fn crowd(&mut self, rng: &mut StdRng) {
        let other = SocketAddr::from(([10, 0, 0, 99], 1));
        let _ = self.draw_port(other, rng);
    }

    fn is_taken(&self, public: SocketAddr) -> bool {
        self.mappings.values().any(|it| it.public == public)
    }

    fn draw_port(&mut self, from: SocketAddr, rng: &mut StdRng) -> SocketAddr {
        let ip = match self.pooling {
            Pooling::Paired => self.public[0],
            Pooling::Arbitrary => self.public[rng.random_range(0..self.public.len())],
        };
        let kept = SocketAddr::new(ip, from.port());
        loop {
            let port = match self.ports {
                Ports::Preserving if !self.is_taken(kept) => from.port(),
                Ports::Preserving | Ports::Random => rng.random_range(30_000..60_000),
                Ports::Block { first, last } => rng.random_range(first..=last),
                Ports::Sequential { stride } => {
                    self.next_port += stride;
                    u16::try_from(self.next_port).expect("the tests are short")
                }
            };
            let public = SocketAddr::new(ip, port);
            if !self.is_taken(public) {
                return public;
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        let (idle, absolute) = (self.idle, self.absolute);
        self.mappings.retain(|_, mapping| {
            idle.is_none_or(|idle| now < mapping.used + idle)
                && absolute.is_none_or(|absolute| now < mapping.born + absolute)
        });
    }

    pub(crate) fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> SocketAddr {
        self.expire(now);
        let key = match self.mapping {
            MappingBehavior::EndpointIndependent | MappingBehavior::Unknown => (from, None, None),
            MappingBehavior::AddressDependent => (from, Some(to.ip()), None),
            MappingBehavior::AddressAndPortDependent => (from, Some(to.ip()), Some(to.port())),
        };
        if !self.mappings.contains_key(&key) {
            let mapping = Mapping {
                public: self.draw_port(from, rng),
                born: now,
                used: now,
                contacts: Vec::new(),
            };
            self.mappings.insert(key, mapping);
        }
        let mapping = self.mappings.get_mut(&key).expect("it was just made");
        mapping.used = now;
        if !mapping.contacts.contains(&to) {
            mapping.contacts.push(to);
        }
        mapping.public
    }

    pub(crate) fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        self.expire(now);
        if let Some(inside) = self.forwards.get(&to.port()) {
            return Some(*inside);
        }
        let (filtering, refreshed) = (self.filtering, self.refreshed_inbound);
        let (key, mapping) = self.mappings.iter_mut().find(|(_, it)| it.public == to)?;
        let open = match filtering {
            FilteringBehavior::EndpointIndependent | FilteringBehavior::Unknown => true,
            FilteringBehavior::AddressDependent => {
                mapping.contacts.iter().any(|to| to.ip() == from.ip())
            }
            FilteringBehavior::AddressAndPortDependent => mapping.contacts.contains(&from),
        };
        if !open {
            return None;
        }
        if refreshed {
            mapping.used = now;
        }
        Some(key.0)
    }
}
