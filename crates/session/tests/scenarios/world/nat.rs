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
}

impl Nat {
    pub(crate) const fn new(kind: NatKind, public: Ipv4Addr) -> Self {
        Self {
            kind,
            public,
            bindings: BTreeMap::new(),
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
            NatKind::Cone(_) => None,
            NatKind::Symmetric(_) => Some(to),
        };
        self.bindings.retain(|_, binding| now < binding.expires);
        let known = self
            .bindings
            .iter()
            .find(|(_, binding)| binding.internal == from && binding.destination == destination);
        let port = match known {
            Some((port, _)) => *port,
            None => self.draw_port(rng),
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
        &self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let filtering = match self.kind {
            NatKind::Open => return Some(to),
            NatKind::UdpBlocked => return None,
            NatKind::Cone(filtering) | NatKind::Symmetric(filtering) => filtering,
        };
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

    fn draw_port(&self, rng: &mut StdRng) -> u16 {
        loop {
            let port = rng.random_range(20_000..60_000);
            if !self.bindings.contains_key(&port) {
                return port;
            }
        }
    }
}
