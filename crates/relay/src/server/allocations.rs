//! The table of allocations: found by client, by relay port, by relayed address, and by what runs out next.
//!
//! Memory: an [`Allocation`] is less than 512 bytes (a test says so) beside its user's name (at most 128
//! bytes), its remembered answer (about 120) and about 300 bytes of index. A permission takes about 60 bytes
//! and a channel about 110, so that one with 128 of each stays below 25 KiB, and one with two peers at about
//! 1 KiB. A reflected packet never adds to it: only authenticated requests do.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use stunwire::{IntegrityKey, ReservationToken, TransactionId};

use super::channels::Channels;
use super::five_tuple::{ClientAddr, RelayPort};
use super::permissions::Permissions;
use super::ports::Parity;
use crate::{RelayedAddr, Transport};

/// One allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: ClientAddr,
    pub(super) user: Box<str>,
    pub(super) port: RelayPort,
    pub(super) relayed: RelayedAddr,
    pub(super) expires: Instant,
    pub(super) state: State,
    /// The request that made it: sent again, it is answered the same.
    pub(super) transaction: TransactionId,
    pub(super) permissions: Permissions,
    pub(super) channels: Channels,
}

/// How far an allocation is.
#[derive(Debug)]
pub(super) enum State {
    /// Its port is being opened; the answer waits for it.
    Opening(Box<Opening>),
    /// It works. The answer is kept for a request that comes again.
    Open {
        /// The answer to the request that made it.
        answer: Box<[u8]>,
    },
}

/// What is needed to answer once the port is open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: IntegrityKey,
    pub(super) lifetime: Duration,
    /// What kind of port to try when this one cannot be opened; `None` when it must be this one.
    pub(super) parity: Option<Parity>,
    /// The reservation of the port's neighbour.
    pub(super) token: Option<ReservationToken>,
    pub(super) failures: u8,
}

impl Allocation {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}

/// Index of an allocation in the table; another may have it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(usize);

/// All allocations.
#[derive(Debug, Default)]
pub(super) struct Allocations {
    slots: Vec<Option<Allocation>>,
    free: Vec<Slot>,
    by_client: HashMap<ClientAddr, Slot>,
    by_port: HashMap<RelayPort, Slot>,
    by_relayed: HashMap<RelayedAddr, Slot>,
    expiries: BTreeSet<(Instant, Slot)>,
    users: Tally<Box<str>>,
    sources: Tally<IpAddr>,
    /// The addresses that clients' datagrams come from.
    udp_sources: Tally<SocketAddr>,
    source_prefixes: Tally<IpAddr>,
    relayed_ips: Tally<IpAddr>,
}

impl Allocations {
    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(super) fn of_user(&self, user: &str) -> u32 {
        self.users.0.get(user).copied().unwrap_or(0)
    }

    /// Counts per /64 for IPv6: that is what one customer has.
    pub(super) fn of_source(&self, ip: IpAddr) -> u32 {
        self.source_prefixes.count(&source_prefix(ip))
    }

    /// Returns whether a client of another allocation than this comes from that address.
    pub(super) fn is_source_of_another(&self, ip: IpAddr, this: &Allocation) -> bool {
        self.sources.count(&ip) > u32::from(this.client.source_ip() == ip)
    }

    /// Returns whether a client's datagrams come from exactly that address.
    pub(super) fn is_udp_source(&self, address: SocketAddr) -> bool {
        self.udp_sources.count(&address) > 0
    }

    /// Returns whether another allocation than this has its relayed address there.
    pub(super) fn is_relayed_of_another(&self, ip: IpAddr, this: &Allocation) -> bool {
        self.relayed_ips.count(&ip) > u32::from(this.relayed.get().ip() == ip)
    }

    /// Returns whether neither the socket's address nor the advertised one is taken: several local addresses
    /// may be advertised as one.
    pub(super) fn is_free(&self, port: RelayPort, relayed: RelayedAddr) -> bool {
        !self.by_port.contains_key(&port) && !self.by_relayed.contains_key(&relayed)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Allocation> {
        self.slots.get(slot.0)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Allocation> {
        self.slots.get_mut(slot.0)?.as_mut()
    }

    /// Finds the client's allocation, be it open or opening.
    pub(super) fn slot_of(&self, client: &ClientAddr) -> Option<Slot> {
        self.by_client.get(client).copied()
    }

    pub(super) fn slot_at(&self, port: RelayPort) -> Option<Slot> {
        self.by_port.get(&port).copied()
    }

    /// Finds the client's open allocation.
    pub(super) fn open_of(&self, client: &ClientAddr) -> Option<&Allocation> {
        self.get(self.slot_of(client)?)
            .filter(|allocation| allocation.is_open())
    }

    pub(super) fn open_of_mut(&mut self, client: &ClientAddr) -> Option<&mut Allocation> {
        let slot = self.slot_of(client)?;
        self.get_mut(slot).filter(|allocation| allocation.is_open())
    }

    pub(super) fn open_at(&self, port: RelayPort) -> Option<&Allocation> {
        self.get(self.slot_at(port)?)
            .filter(|allocation| allocation.is_open())
    }

    /// Finds the open allocation behind a relayed address.
    pub(super) fn open_behind(&self, relayed: RelayedAddr) -> Option<&Allocation> {
        self.get(*self.by_relayed.get(&relayed)?)
            .filter(|allocation| allocation.is_open())
    }

    /// Takes an allocation in. The caller has seen that client, port and relayed address are free.
    pub(super) fn insert(&mut self, allocation: Allocation) {
        let slot = self.free.pop().unwrap_or(Slot(self.slots.len()));
        self.by_client.insert(allocation.client, slot);
        self.by_port.insert(allocation.port, slot);
        self.by_relayed.insert(allocation.relayed, slot);
        self.expiries.insert((allocation.expires, slot));
        self.users.add(allocation.user.clone());
        self.sources.add(allocation.client.source_ip());
        if allocation.client.transport == Transport::Udp {
            self.udp_sources.add(allocation.client.reflexive());
        }
        self.source_prefixes
            .add(source_prefix(allocation.client.source_ip()));
        self.relayed_ips.add(allocation.relayed.get().ip());
        if slot.0 == self.slots.len() {
            self.slots.push(Some(allocation));
        } else {
            self.slots[slot.0] = Some(allocation);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Allocation> {
        let allocation = self.slots.get_mut(slot.0)?.take()?;
        self.free.push(slot);
        self.by_client.remove(&allocation.client);
        self.by_port.remove(&allocation.port);
        self.by_relayed.remove(&allocation.relayed);
        self.expiries.remove(&(allocation.expires, slot));
        self.users.remove(&allocation.user);
        self.sources.remove(&allocation.client.source_ip());
        if allocation.client.transport == Transport::Udp {
            self.udp_sources.remove(&allocation.client.reflexive());
        }
        self.source_prefixes
            .remove(&source_prefix(allocation.client.source_ip()));
        self.relayed_ips.remove(&allocation.relayed.get().ip());
        Some(allocation)
    }

    pub(super) fn set_expiry(&mut self, slot: Slot, expires: Instant) {
        let Some(allocation) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        self.expiries.remove(&(allocation.expires, slot));
        allocation.expires = expires;
        self.expiries.insert((expires, slot));
    }

    /// Gives an allocation that is opening another port on the same addresses.
    pub(super) fn move_to_port(&mut self, slot: Slot, port: RelayPort, relayed: RelayedAddr) {
        let Some(allocation) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        self.by_port.remove(&allocation.port);
        self.by_relayed.remove(&allocation.relayed);
        allocation.port = port;
        allocation.relayed = relayed;
        self.by_port.insert(port, slot);
        self.by_relayed.insert(relayed, slot);
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Takes out one allocation that has run out.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Allocation> {
        let &(at, slot) = self.expiries.first()?;
        (at <= now).then(|| self.remove(slot)).flatten()
    }
}

/// Returns what counts as one source: the address, or the /64 of an IPv6 address.
pub(super) fn source_prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// How often something is there. What is there no more takes no memory.
#[derive(Debug)]
struct Tally<K>(HashMap<K, u32>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Tally<K> {
    fn count(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_stays_below_what_the_documentation_says() {
        assert!(
            size_of::<Option<Allocation>>() <= 512,
            "{}",
            size_of::<Allocation>()
        );
    }
}
