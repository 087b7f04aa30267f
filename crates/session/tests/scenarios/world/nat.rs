//! NAT boxes, as small as the scenarios allow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};

/// The shortest-lived bindings of home gateways; only outbound packets refresh them.
const BINDING_LIFETIME: Duration = Duration::from_secs(30);

/// Who may answer (RFC 4787).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtering {
    Address,
    AddressAndPort,
}

/// What stands between a site and the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NatKind {
    /// Nothing: hosts have public addresses.
    Open,
    /// Endpoint-independent mapping.
    Cone(Filtering),
    /// A new random port for every destination.
    Symmetric(Filtering),
    /// The next port of a sequence for every destination; only ports that were written to may answer.
    Counting(i16),
    /// A random port of a block of this size for every destination; only ports that were written to may answer.
    Block(u16),
    /// No NAT, but a firewall: only ports that were written to may answer.
    Firewall,
    /// No UDP at all.
    UdpBlocked,
}

#[derive(Debug)]
struct Binding {
    internal: SocketAddr,
    /// The destination it was made for; `None` for cones.
    destination: Option<SocketAddr>,
    contacted: BTreeSet<SocketAddr>,
    expires: Instant,
}

#[derive(Debug)]
pub(crate) struct Nat {
    pub(crate) kind: NatKind,
    pub(crate) public: Ipv4Addr,
    bindings: BTreeMap<u16, Binding>,
    /// When bindings were made.
    pub(crate) made: Vec<Instant>,
    next_port: u16,
    /// Ports that the router forwards because it was asked to.
    forwarded: BTreeMap<u16, SocketAddr>,
    /// Who came in by them: answers leave by the same port.
    came_in: BTreeSet<(u16, SocketAddr)>,
}

impl Nat {
    /// Forwards a port from now on, or no longer.
    pub(crate) fn forward(&mut self, port: u16, to: Option<SocketAddr>) {
        match to {
            Some(to) => self.forwarded.insert(port, to),
            None => self.forwarded.remove(&port),
        };
    }

    pub(crate) const fn new(kind: NatKind, public: Ipv4Addr) -> Self {
        Self {
            kind,
            public,
            bindings: BTreeMap::new(),
            made: Vec::new(),
            next_port: 40_000,
            forwarded: BTreeMap::new(),
            came_in: BTreeSet::new(),
        }
    }

    /// Forgets all bindings, as a restarted router does.
    pub(crate) fn restart(&mut self) {
        self.bindings.clear();
    }

    /// Returns the source that the internet sees.
    pub(crate) fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<SocketAddr> {
        let destination = match self.kind {
            NatKind::Open => return Some(from),
            NatKind::UdpBlocked => return None,
            NatKind::Cone(_) | NatKind::Firewall => None,
            NatKind::Symmetric(_) | NatKind::Counting(_) | NatKind::Block(_) => Some(to),
        };
        self.bindings.retain(|_, binding| now < binding.expires);
        let heard = |it: &(&u16, &SocketAddr)| *it.1 == from && self.came_in.contains(&(*it.0, to));
        let known = self
            .bindings
            .iter()
            .find(|(_, binding)| binding.internal == from && binding.destination == destination);
        let answers = self.forwarded.iter().find(heard);
        if let Some((port, _)) = answers.filter(|_| known.is_none()) {
            return Some(SocketAddr::new(IpAddr::V4(self.public), *port));
        }
        let port = match known {
            Some((port, _)) => *port,
            None => {
                self.made.push(now);
                self.draw_port(from, rng)
            }
        };
        let expires = now + BINDING_LIFETIME;
        let contacted = BTreeSet::new();
        let binding = self.bindings.entry(port).or_insert(Binding {
            internal: from,
            destination,
            contacted,
            expires,
        });
        binding.expires = expires;
        binding.contacted.insert(to);
        Some(SocketAddr::new(IpAddr::V4(self.public), port))
    }

    /// Returns whom a packet from the internet is for, if anybody.
    pub(crate) fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let filtering = match self.kind {
            NatKind::Open => return Some(to),
            NatKind::UdpBlocked => return None,
            NatKind::Cone(filtering) | NatKind::Symmetric(filtering) => filtering,
            NatKind::Counting(_) | NatKind::Block(_) | NatKind::Firewall => {
                Filtering::AddressAndPort
            }
        };
        if let Some(internal) = self.forwarded.get(&to.port()) {
            self.came_in.insert((to.port(), from));
            return Some(*internal);
        }
        let binding = self
            .bindings
            .get(&to.port())
            .filter(|binding| now < binding.expires)?;
        let lets_in = match filtering {
            Filtering::Address => binding.contacted.iter().any(|peer| peer.ip() == from.ip()),
            Filtering::AddressAndPort => binding.contacted.contains(&from),
        };
        lets_in.then_some(binding.internal)
    }

    fn draw_port(&mut self, from: SocketAddr, rng: &mut StdRng) -> u16 {
        loop {
            let port = match self.kind {
                NatKind::Counting(stride) => {
                    self.next_port = self.next_port.wrapping_add_signed(stride);
                    self.next_port
                }
                NatKind::Block(size) => rng.random_range(20_480..20_480 + size),
                NatKind::Firewall => return from.port(),
                NatKind::Open | NatKind::Cone(_) | NatKind::Symmetric(_) | NatKind::UdpBlocked => {
                    rng.random_range(1_024..=u16::MAX)
                }
            };
            if !self.bindings.contains_key(&port) {
                return port;
            }
        }
    }
}
