//! One box: its bindings, who may use them, and how long.
//!
//! * `binding`: what one binding lets in; `ports`: which outside port the next one gets; `load`: what all
//!   that asks of the box.
//!
//! What has run out is dead at once and swept away now and then, so that no packet costs more for the
//! hundreds of bindings of others.

mod binding;
mod load;
mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};

use crate::behavior::{Behavior, Mapping};
use binding::{Binding, Scope};
pub use load::Load;
use load::Meter;
use ports::{Ports, Request};

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(5);

/// A way in that a gateway was asked for.
#[derive(Clone, Copy, Debug)]
struct PortMapping {
    inside: SocketAddr,
    until: Option<Instant>,
}

/// A box between a site and what lies outside.
#[derive(Debug)]
pub struct NatBox {
    behavior: Behavior,
    outside: Ipv4Addr,
    bindings: BTreeMap<SocketAddr, Binding>,
    by_inside: BTreeMap<(SocketAddr, Scope), SocketAddr>,
    /// Flows that the router took for its own: outside address and remote, until when.
    own_flows: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    port_mappings: BTreeMap<SocketAddr, PortMapping>,
    /// Who came in by a port mapping: inside and remote, and by which; answers leave there.
    mapped_flows: BTreeMap<(SocketAddr, SocketAddr), (SocketAddr, Instant)>,
    ports: Ports,
    meter: Meter,
    refused: u64,
    next_sweep: Option<Instant>,
}

impl NatBox {
    /// Makes a box with its (first) outside address, which only counts when it translates.
    #[must_use]
    pub fn new(behavior: Behavior, outside: Ipv4Addr) -> Self {
        Self {
            behavior,
            outside,
            bindings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            own_flows: BTreeMap::new(),
            port_mappings: BTreeMap::new(),
            mapped_flows: BTreeMap::new(),
            ports: Ports::new(),
            meter: Meter::default(),
            refused: 0,
            next_sweep: None,
        }
    }

    /// Returns what it does.
    #[must_use]
    pub const fn behavior(&self) -> &Behavior {
        &self.behavior
    }

    /// Returns its first outside address.
    #[must_use]
    pub const fn outside(&self) -> IpAddr {
        IpAddr::V4(self.outside)
    }

    /// Returns all its outside addresses.
    pub fn outsides(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let first = self.outside.to_bits();
        let count = u32::from(self.behavior.pool.addresses.max(1));
        (0..count).map(move |nth| IpAddr::V4(Ipv4Addr::from_bits(first + nth)))
    }

    /// Returns whether an address is one of its outside addresses.
    #[must_use]
    pub fn is_outside(&self, ip: IpAddr) -> bool {
        self.outside() == ip || self.outsides().any(|it| it == ip)
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

    /// Returns what it had to bear so far.
    #[must_use]
    pub const fn load(&self) -> Load {
        self.meter.load
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
        self.port_mappings.clear();
        self.mapped_flows.clear();
    }

    /// Lets everybody in at a port of the outside, to one inside socket. Returns where that is; `None` when the
    /// port is another's.
    pub fn map_port(
        &mut self,
        inside: SocketAddr,
        port: u16,
        until: Option<Instant>,
        now: Instant,
    ) -> Option<SocketAddr> {
        let outside = SocketAddr::new(self.outside_ip_of(inside.ip(), None), port);
        let is_anothers = self.port_mappings.get(&outside).is_some_and(|known| {
            known.inside != inside && known.until.is_none_or(|until| now < until)
        });
        let is_used = self
            .live_binding(outside, now)
            .is_some_and(|binding| binding.inside != inside);
        if is_anothers || is_used {
            return None;
        }
        let mapping = PortMapping { inside, until };
        self.port_mappings.insert(outside, mapping);
        Some(outside)
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
        let limit = self.behavior.limits.packets_per_second;
        if limit.is_some_and(|limit| self.meter.packets_in_last_second(now) >= limit.into()) {
            self.meter.load.over_limit += 1;
            return None;
        }
        self.meter.packet(now);
        if self.behavior.is_open() {
            return Some(from);
        }
        self.sweep_sometimes(now);
        let idle = self.behavior.lifetime.idle;
        if let Some((outside, until)) = self.mapped_flows.get_mut(&(from, to))
            && now < *until
        {
            *until = now + idle;
            return Some(*outside);
        }
        let outside = self.outside_address(from, to, now, rng)?;
        let binding = self.bindings.get_mut(&outside)?;
        binding.sent(to, idle, now);
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
        self.sweep_sometimes(now);
        let inside = self
            .admit(from, to, now)
            .or_else(|| self.admit_mapped(from, to, now));
        if inside.is_none() {
            self.refused += 1;
            if self.behavior.accepts_unsolicited {
                let idle = self.behavior.lifetime.idle;
                self.own_flows.insert((to, from), now + idle);
            }
        }
        inside
    }

    fn admit(&mut self, from: SocketAddr, to: SocketAddr, now: Instant) -> Option<SocketAddr> {
        if self.is_own_flow(to, from, now) {
            return None;
        }
        let behavior = self.behavior;
        let binding = self.bindings.get_mut(&to)?;
        let lets_in =
            binding.lives(behavior.lifetime, now) && binding.lets_in(from, behavior.filtering, now);
        if lets_in && behavior.lifetime.inbound_refreshes {
            binding.received(from, behavior.lifetime.idle, now);
        }
        lets_in.then_some(binding.inside)
    }

    /// By a port mapping; a remote that the inside has written to itself keeps the flow it has.
    fn admit_mapped(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let mapping = self.port_mappings.get(&to)?;
        if mapping.until.is_some_and(|until| now >= until) {
            return None;
        }
        let inside = mapping.inside;
        let has_flow = self.scopes_of(from).into_iter().any(|scope| {
            let outside = self.by_inside.get(&(inside, scope));
            let binding = outside.and_then(|outside| self.live_binding(*outside, now));
            binding.is_some_and(|binding| binding.has_written_to(from, now))
        });
        if !has_flow {
            let until = now + self.behavior.lifetime.idle;
            self.mapped_flows.insert((inside, from), (to, until));
        }
        Some(inside)
    }

    /// Finds the binding of a flow, or makes it.
    fn outside_address(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<SocketAddr> {
        let [displaced, scope] = self.scopes_of(to);
        if let Some(outside) = self.known(from, displaced, now) {
            return Some(outside);
        }
        let outside = match self.known(from, scope, now) {
            Some(outside) => outside,
            None if self.is_full(from.ip(), now) => {
                self.meter.load.over_limit += 1;
                return None;
            }
            None if self.behavior.mapping == Mapping::Untranslated => from,
            None => self.draw(from, now, rng)?,
        };
        if self.behavior.mapping != Mapping::Untranslated && self.is_own_flow(outside, to, now) {
            let is_free = |port| self.is_free(SocketAddr::new(outside.ip(), port), from, now);
            let other = SocketAddr::new(outside.ip(), ports::random(is_free, rng)?);
            self.bind(from, displaced, other, now);
            return Some(other);
        }
        self.bind(from, scope, outside, now);
        Some(outside)
    }

    /// Returns what may tell the flow to `to` from others of its socket: the exception, then the rule.
    const fn scopes_of(&self, to: SocketAddr) -> [Scope; 2] {
        let rule = match self.behavior.mapping {
            Mapping::Untranslated | Mapping::EndpointIndependent => Scope::All,
            Mapping::AddressDependent => Scope::Address(to.ip()),
            Mapping::AddressAndPortDependent => Scope::AddressAndPort(to),
        };
        [Scope::Displaced(to), rule]
    }

    fn known(&self, from: SocketAddr, scope: Scope, now: Instant) -> Option<SocketAddr> {
        let outside = self.by_inside.get(&(from, scope)).copied()?;
        self.live_binding(outside, now)?;
        Some(outside)
    }

    fn live_binding(&self, outside: SocketAddr, now: Instant) -> Option<&Binding> {
        let binding = self.bindings.get(&outside)?;
        binding
            .lives(self.behavior.lifetime, now)
            .then_some(binding)
    }

    fn is_own_flow(&self, outside: SocketAddr, remote: SocketAddr, now: Instant) -> bool {
        let until = self.own_flows.get(&(outside, remote));
        until.is_some_and(|until| now < *until)
    }

    /// Only a box with a limit is asked to count what its host has.
    fn is_full(&self, host: IpAddr, now: Instant) -> bool {
        let Some(limit) = self.behavior.limits.bindings else {
            return false;
        };
        let lifetime = self.behavior.lifetime;
        let own = self.bindings.values();
        let own = own.filter(|it| it.inside.ip() == host && it.lives(lifetime, now));
        own.count() >= limit.into()
    }

    fn is_free(&self, outside: SocketAddr, inside: SocketAddr, now: Instant) -> bool {
        let mapping = self.port_mappings.get(&outside);
        mapping.is_none_or(|mapping| mapping.inside == inside)
            && self.live_binding(outside, now).is_none()
    }

    fn draw(&mut self, from: SocketAddr, now: Instant, rng: &mut StdRng) -> Option<SocketAddr> {
        let ip = self.outside_ip_of(from.ip(), Some(rng));
        let request = Request {
            inside: from.ip(),
            port: from.port(),
            other_flows: self.behavior.other_flows,
            now,
        };
        let mut ports = std::mem::replace(&mut self.ports, Ports::new());
        let is_free = |port| self.is_free(SocketAddr::new(ip, port), from, now);
        let port = ports.draw(self.behavior.ports, &request, is_free, rng);
        self.ports = ports;
        Some(SocketAddr::new(ip, port?))
    }

    /// Picks the outside address for an inside host; by chance where the box does.
    fn outside_ip_of(&self, inside: IpAddr, rng: Option<&mut StdRng>) -> IpAddr {
        let pool = self.behavior.pool;
        let paired = match inside {
            IpAddr::V4(ip) => u32::from(ip.octets()[3]),
            IpAddr::V6(_) => 0,
        };
        let nth = match rng {
            Some(rng) if pool.scatters() => rng.random_range(0..u32::from(pool.addresses)),
            _ => paired % u32::from(pool.addresses.max(1)),
        };
        IpAddr::V4(Ipv4Addr::from_bits(self.outside.to_bits() + nth))
    }

    /// Makes a binding where there is none that lives.
    fn bind(&mut self, inside: SocketAddr, scope: Scope, outside: SocketAddr, now: Instant) {
        if self.live_binding(outside, now).is_none() {
            self.meter.binding(now);
            let binding = Binding::new(inside, scope, now);
            if let Some(dead) = self.bindings.insert(outside, binding) {
                forget(&mut self.by_inside, &dead, outside);
            }
        }
        self.by_inside.insert((inside, scope), outside);
    }

    fn sweep_sometimes(&mut self, now: Instant) {
        if self.next_sweep.is_some_and(|at| now < at) {
            return;
        }
        self.next_sweep = Some(now + SWEEP);
        let lifetime = self.behavior.lifetime;
        let by_inside = &mut self.by_inside;
        self.bindings.retain(|outside, binding| {
            binding.forget_strangers(now);
            let lives = binding.lives(lifetime, now);
            if !lives {
                forget(by_inside, binding, *outside);
            }
            lives
        });
        self.own_flows.retain(|_, until| now < *until);
        self.mapped_flows.retain(|_, (_, until)| now < *until);
        self.port_mappings
            .retain(|_, mapping| mapping.until.is_none_or(|until| now < until));
    }
}

/// Its socket may have a new binding already.
fn forget(
    by_inside: &mut BTreeMap<(SocketAddr, Scope), SocketAddr>,
    dead: &Binding,
    outside: SocketAddr,
) {
    let key = (dead.inside, dead.scope);
    if by_inside.get(&key) == Some(&outside) {
        by_inside.remove(&key);
    }
}
