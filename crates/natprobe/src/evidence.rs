//! What was observed of one binding.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Everything observed since the binding began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What each destination saw, in the order in which they were first written to, since that is the order in
    /// which a NAT makes its mappings. Bounded by the destinations: the servers and two alternates.
    pub(crate) destinations: Vec<Destination>,
    /// The filtering test, once it ran.
    pub(crate) filtering: Option<FilteringEvidence>,
    /// Our own request came back.
    pub(crate) hairpinned: bool,
    /// So many requests to ourselves were sent that their absence means something.
    pub(crate) hairpin_silence_counts: bool,
    /// MAPPED-ADDRESS differed from XOR-MAPPED-ADDRESS; `None` when no server sent both.
    pub(crate) rewritten: Option<bool>,
}

/// An address that was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    /// What it saw, once it answered.
    pub(crate) mapped: Option<SocketAddr>,
}

/// What the filtering test of RFC 5780, section 4.4, showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilteringEvidence {
    /// Who was asked.
    pub(crate) server: SocketAddr,
    /// The server's other address and port.
    pub(crate) both_changed: SocketAddr,
    /// The server's other port on its own address.
    pub(crate) port_changed: SocketAddr,
    /// Test II: the answer from the other address and port came.
    pub(crate) both_answered: bool,
    /// Test III: the answer from the other port came.
    pub(crate) port_answered: bool,
    /// The server showed that it does not change addresses: it answered from where it was asked, or refused.
    pub(crate) unsupported: bool,
    /// So many answers came back to ordinary requests meanwhile that silence means something.
    pub(crate) silence_counts: bool,
    /// How often each question was asked.
    pub(crate) rounds: u32,
    /// How many ordinary requests were answered meanwhile, of one a round.
    pub(crate) controls_answered: u32,
}

impl Evidence {
    /// Notes that something is sent to `address`.
    pub(crate) fn touch(&mut self, address: SocketAddr) {
        if !self.is_touched(address) {
            self.destinations.push(Destination {
                address,
                mapped: None,
            });
        }
    }

    /// Returns whether anything was sent to an address.
    pub(crate) fn is_touched(&self, address: SocketAddr) -> bool {
        self.destinations
            .iter()
            .any(|known| known.address == address)
    }

    /// Returns what an address saw.
    pub(crate) fn mapped(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.destinations
            .iter()
            .find(|known| known.address == address)?
            .mapped
    }

    /// Notes what an address saw; returns whether it saw something else before.
    pub(crate) fn observe(&mut self, address: SocketAddr, mapped: SocketAddr) -> Observed {
        let Some(known) = self
            .destinations
            .iter_mut()
            .find(|known| known.address == address)
        else {
            return Observed::Known;
        };
        match known.mapped.replace(mapped) {
            None => Observed::New,
            Some(before) if before == mapped => Observed::Known,
            Some(_) => Observed::Changed,
        }
    }

    /// Returns whether the filter may already be open for answers from `alternate`'s address or from its port
    /// on the server's own, so that they would prove nothing.
    pub(crate) fn is_tainted(&self, server: SocketAddr, alternate: SocketAddr) -> bool {
        let port_changed = SocketAddr::new(server.ip(), alternate.port());
        self.destinations
            .iter()
            .any(|known| known.address.ip() == alternate.ip() || known.address == port_changed)
    }

    /// Returns what was seen, as pairs of destination and mapped address.
    pub(crate) fn observations(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.destinations
            .iter()
            .filter_map(|known| Some((known.address, known.mapped?)))
    }

    /// Returns the reflexive addresses without repetition.
    pub(crate) fn reflexive(&self) -> Vec<SocketAddr> {
        let mut seen = BTreeSet::new();
        self.observations()
            .map(|(_, mapped)| mapped)
            .filter(|mapped| seen.insert(*mapped))
            .collect()
    }
}

/// What an observation adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// The first of this destination.
    New,
    /// The same as before.
    Known,
    /// The binding is another one now.
    Changed,
}

/// Whose address the local socket has, for telling whether there is a NAT.
#[derive(Clone, Debug)]
pub(crate) struct LocalAddresses {
    pub(crate) socket: SocketAddr,
    pub(crate) interfaces: Vec<IpAddr>,
}

impl LocalAddresses {
    /// Returns whether a public address is our own.
    pub(crate) fn contain(&self, mapped: SocketAddr) -> bool {
        mapped.port() == self.socket.port()
            && (mapped.ip() == self.socket.ip()
                || (self.socket.ip().is_unspecified() && self.interfaces.contains(&mapped.ip())))
    }
}
