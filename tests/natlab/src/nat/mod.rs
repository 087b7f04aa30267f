//! One box: its bindings, who may use them, and how long.

mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use rand::rngs::StdRng;

use crate::behavior::{Behavior, Filtering, Mapping};
use ports::Ports;

/// What tells the bindings of one inside socket apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// There is one.
    All,
    Address(IpAddr),
    AddressAndPort(SocketAddr),
    /// An endpoint-independent binding that this one flow could not use, because the router itself holds
    /// its port toward that remote.
    Displaced(SocketAddr),
}

#[derive(Debug)]
struct Binding {
    inside: SocketAddr,
    scope: Scope,
    made: Instant,
    expires: Instant,
    /// Remotes that were written to, each until when it may answer.
    contacted: BTreeMap<SocketAddr, Instant>,
}

/// A box between a site and what lies outside.
#[derive(Debug)]
pub struct NatBox {
    behavior: Behavior,
    outside: Ipv4Addr,
    bindings: BTreeMap<SocketAddr, Binding>,
    by_inside: BTreeMap<(SocketAddr, Scope), SocketAddr>,
    /// Flows that the router took for its own: outside port and remote, until when.
    own_flows: BTreeMap<(u16, SocketAddr), Instant>,
    ports: Ports,
    refused: u64,
}

impl NatBox {
    /// Makes a box with its outside address, which only counts when it translates.
    #[must_use]
    pub const fn new(behavior: Behavior, outside: Ipv4Addr) -> Self {
        Self {
            behavior,
            outside,
            bindings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            own_flows: BTreeMap::new(),
            ports: Ports::new(),
            refused: 0,
        }
    }

    /// Returns what it does.
    #[must_use]
    pub const fn behavior(&self) -> &Behavior {
        &self.behavior
    }

    /// Returns its outside address.
    #[must_use]
    pub const fn outside(&self) -> IpAddr {
        IpAddr::V4(self.outside)
    }

    /// Returns how many bindings it keeps.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.bindings.len()
    }

    /// Returns how many packets from outside it dropped.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// It begins to treat packets differently; what it knows stays.
    pub const fn replace_behavior(&mut self, behavior: Behavior) {
        self.behavior = behavior;
    }

    /// Forgets everything, as a restarted router does. Ports go on where they were.
    pub fn restart(&mut self) {
        self.bindings.clear();
        self.by_inside.clear();
        self.own_flows.clear();
    }

    /// Takes a packet from inside. Returns the source that the outside sees, `None` when it is dropped.
    pub fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<SocketAddr> {
        if !self.behavior.udp {
            return None;
        }
        if self.behavior.is_open() {
            return Some(from);
        }
        self.forget_expired(now);
        let outside = self.outside_address(from, to, now, rng)?;
        let lifetime = self.behavior.lifetime;
        let binding = self.bindings.get_mut(&outside)?;
        binding.expires = now + lifetime.idle;
        binding.contacted.insert(to, now + lifetime.idle);
        Some(outside)
    }

    /// Takes a packet from outside. Returns the inside socket it is for, `None` when it is dropped.
    pub fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        if !self.behavior.udp {
            return None;
        }
        if self.behavior.is_open() {
            return Some(to);
        }
        self.forget_expired(now);
        let inside = self.admit(from, to, now);
        if inside.is_none() {
            self.refused += 1;
            if self.behavior.accepts_unsolicited {
                let idle = self.behavior.lifetime.idle;
                self.own_flows.insert((to.port(), from), now + idle);
            }
        }
        inside
    }

    fn admit(&mut self, from: SocketAddr, to: SocketAddr, now: Instant) -> Option<SocketAddr> {
        if self.own_flows.contains_key(&(to.port(), from)) {
            return None;
        }
        let lifetime = self.behavior.lifetime;
        let binding = self.bindings.get_mut(&to)?;
        let lets_in = match self.behavior.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                binding.contacted.keys().any(|peer| peer.ip() == from.ip())
            }
            Filtering::AddressAndPortDependent => binding.contacted.contains_key(&from),
        };
        if lets_in && lifetime.inbound_refreshes {
            binding.expires = now + lifetime.idle;
            if let Some(until) = binding.contacted.get_mut(&from) {
                *until = now + lifetime.idle;
            }
        }
        lets_in.then_some(binding.inside)
    }

    /// Finds the binding of a flow, or makes it.
    fn outside_address(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<SocketAddr> {
        if self.behavior.mapping == Mapping::Untranslated {
            self.bind(from, Scope::All, from, now);
            return Some(from);
        }
        let displaced = Scope::Displaced(to);
        if let Some(outside) = self.by_inside.get(&(from, displaced)) {
            return Some(*outside);
        }
        let scope = match self.behavior.mapping {
            Mapping::Untranslated | Mapping::EndpointIndependent => Scope::All,
            Mapping::AddressDependent => Scope::Address(to.ip()),
            Mapping::AddressAndPortDependent => Scope::AddressAndPort(to),
        };
        let known = self.by_inside.get(&(from, scope)).copied();
        let outside = match known {
            Some(outside) => outside,
            None => self.draw(from.port(), rng)?,
        };
        if self.own_flows.contains_key(&(outside.port(), to)) {
            let other = SocketAddr::new(self.outside(), self.random_port(rng)?);
            self.bind(from, displaced, other, now);
            return Some(other);
        }
        self.bind(from, scope, outside, now);
        Some(outside)
    }

    fn draw(&mut self, inside_port: u16, rng: &mut StdRng) -> Option<SocketAddr> {
        let (bindings, ip) = (&self.bindings, IpAddr::V4(self.outside));
        let is_free = |port| !bindings.contains_key(&SocketAddr::new(ip, port));
        let port = self
            .ports
            .draw(self.behavior.ports, inside_port, is_free, rng)?;
        Some(SocketAddr::new(ip, port))
    }

    fn random_port(&self, rng: &mut StdRng) -> Option<u16> {
        let ip = self.outside();
        ports::random(
            |port| !self.bindings.contains_key(&SocketAddr::new(ip, port)),
            rng,
        )
    }

    /// Makes a binding where there is none yet.
    fn bind(&mut self, inside: SocketAddr, scope: Scope, outside: SocketAddr, now: Instant) {
        self.bindings.entry(outside).or_insert_with(|| Binding {
            inside,
            scope,
            made: now,
            expires: now,
            contacted: BTreeMap::new(),
        });
        self.by_inside.insert((inside, scope), outside);
    }

    fn forget_expired(&mut self, now: Instant) {
        let absolute = self.behavior.lifetime.absolute;
        let by_inside = &mut self.by_inside;
        self.bindings.retain(|_, binding| {
            binding.contacted.retain(|_, until| now < *until);
            let too_old = absolute.is_some_and(|absolute| now >= binding.made + absolute);
            let lives = now < binding.expires && !too_old;
            if !lives {
                by_inside.remove(&(binding.inside, binding.scope));
            }
            lives
        });
        self.own_flows.retain(|_, until| now < *until);
    }
}
