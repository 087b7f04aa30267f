//! Our own candidates: where a peer may reach this process.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use punch::{Candidate, CandidateKind};

use crate::interface::{HOST_CANDIDATES_MAX, Interface, worth_offering};
use crate::kind::{Interfaces, is_shared};

/// Server-reflexive addresses of one base beyond this number are not kept: a NAT that maps per destination
/// shows one for each of the four servers that are asked, and their alternates.
const REFLEXIVE_MAX: usize = 8;

/// One port mapping per base is what is asked for, by the first protocol that works.
pub(crate) const MAPPED_MAX: usize = 4;

/// Relays that are kept are two (see `relays`), and each may be reached in two ways for a moment.
const RELAYED_MAX: usize = 4;

// What is offered fits into what is read: two bases at most.
const _: () = assert!(
    HOST_CANDIDATES_MAX + 2 * REFLEXIVE_MAX + MAPPED_MAX + RELAYED_MAX
        <= crate::description::CANDIDATES_MAX
);

/// What has been gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bases: Vec<SocketAddr>,
    found: Vec<Interface>,
    offers_loopback: bool,
    /// Addresses of ours from which packets are known to reach a STUN server untranslated.
    seen: BTreeSet<IpAddr>,
    hosts: Vec<IpAddr>,
    interfaces: Interfaces,
    /// Server-reflexive addresses and the base they were learnt from, the newest last.
    reflexive: Vec<(SocketAddr, SocketAddr)>,
    /// Addresses that a gateway forwards to a base, which may be offered.
    mapped: Vec<(SocketAddr, SocketAddr)>,
    relayed: Vec<SocketAddr>,
}

impl Gathered {
    pub(crate) fn new(bases: Vec<SocketAddr>, interfaces: Vec<Interface>, loopback: bool) -> Self {
        let mut gathered = Self {
            bases,
            interfaces: Interfaces::new(interfaces.iter().map(|it| it.net).collect()),
            found: interfaces,
            offers_loopback: loopback,
            ..Self::default()
        };
        gathered.rank_hosts();
        gathered
    }

    /// Picks the host addresses; returns whether that changed anything.
    fn rank_hosts(&mut self) -> bool {
        let mut hosts = worth_offering(&self.found, &self.seen);
        if self.offers_loopback || hosts.is_empty() {
            let addresses = self.found.iter().map(|it| it.net.addr());
            hosts.extend(addresses.filter(IpAddr::is_loopback));
            hosts.truncate(HOST_CANDIDATES_MAX);
        }
        let changed = hosts != self.hosts;
        self.hosts = hosts;
        changed
    }

    pub(crate) const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Returns whether this machine has an address of a family that a peer might reach, and a socket for it.
    pub(crate) fn has_host_of(&self, ipv6: bool) -> bool {
        self.hosts.iter().any(|ip| ip.is_ipv6() == ipv6)
            && self.bases.iter().any(|base| base.is_ipv6() == ipv6)
    }

    /// Returns whether the best of our IPv4 addresses is one that a carrier gives to its customers.
    pub(crate) fn has_carrier_address(&self) -> bool {
        let best = self.hosts.iter().find(|ip| ip.is_ipv4());
        best.is_some_and(|ip| is_shared(*ip))
    }

    /// Returns the base of the family of `remote`.
    pub(crate) fn base_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        self.base_of(remote.is_ipv6())
    }

    /// Returns the base of a family.
    pub(crate) fn base_of(&self, ipv6: bool) -> Option<SocketAddr> {
        let mut bases = self.bases.iter().copied();
        bases.find(|base| base.is_ipv6() == ipv6)
    }

    /// Notes what a STUN server saw; returns whether the candidates have changed. The oldest makes room.
    ///
    /// An address of ours is no candidate of its own, but proves that packets leave from it.
    pub(crate) fn add_reflexive(&mut self, address: SocketAddr, base: SocketAddr) -> bool {
        let is_ours = self.interfaces.addresses().any(|ip| ip == address.ip());
        if is_ours && address.port() == base.port() {
            return self.seen.insert(address.ip()) && self.rank_hosts();
        }
        if self.reflexive.contains(&(address, base)) {
            return false;
        }
        let of_base = |it: &(SocketAddr, SocketAddr)| it.1 == base;
        if self.reflexive.iter().filter(|it| of_base(it)).count() >= REFLEXIVE_MAX
            && let Some(oldest) = self.reflexive.iter().position(of_base)
        {
            self.reflexive.remove(oldest);
        }
        self.reflexive.push((address, base));
        true
    }

    /// Keeps only the given server-reflexive addresses of a base.
    pub(crate) fn retain_reflexive(&mut self, base: SocketAddr, keep: &[SocketAddr]) {
        self.reflexive
            .retain(|(address, learnt_at)| *learnt_at != base || keep.contains(address));
    }

    /// Returns the server-reflexive addresses of a base, the newest last.
    pub(crate) fn reflexive_of(&self, base: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        let of_base = self.reflexive.iter().filter(move |it| it.1 == base);
        of_base.map(|(address, _)| *address)
    }

    /// Returns where STUN servers see a base: addresses of ours, then translated ones, the newest last.
    pub(crate) fn seen_from_outside(&self, base: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        let ours = self
            .seen
            .iter()
            .filter(move |ip| ip.is_ipv4() == base.is_ipv4());
        let ours = ours.map(move |ip| SocketAddr::new(*ip, base.port()));
        ours.chain(self.reflexive_of(base))
    }

    /// Replaces the addresses that a gateway forwards, each with its base; returns whether that changed them.
    pub(crate) fn set_mapped(&mut self, mut mapped: Vec<(SocketAddr, SocketAddr)>) -> bool {
        mapped.truncate(MAPPED_MAX);
        let changed = mapped != self.mapped;
        self.mapped = mapped;
        changed
    }

    /// Returns whether one of our sockets has this local address.
    pub(crate) fn is_base(&self, local: SocketAddr) -> bool {
        self.bases.contains(&local)
    }

    pub(crate) fn add_relayed(&mut self, relayed: SocketAddr) {
        if !self.relayed.contains(&relayed) {
            self.relayed.push(relayed);
        }
    }

    pub(crate) fn remove_relayed(&mut self, relayed: SocketAddr) {
        self.relayed.retain(|address| *address != relayed);
    }

    pub(crate) fn relayed(&self) -> &[SocketAddr] {
        &self.relayed
    }

    /// Returns the candidates to describe to peers and to give to their agents.
    pub(crate) fn candidates(&self, direct: bool, relayed: bool) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if direct {
            candidates.extend(self.host_candidates());
            candidates.extend(self.translated_candidates());
        }
        if relayed {
            candidates.extend(self.relayed.iter().map(|address| {
                Candidate::new(CandidateKind::Relayed, *address, *address, u16::MAX)
            }));
        }
        candidates
    }

    fn host_candidates(&self) -> impl Iterator<Item = Candidate> {
        self.hosts.iter().enumerate().flat_map(move |(rank, ip)| {
            let preference = u16::MAX - u16::try_from(rank).unwrap_or(u16::MAX);
            self.bases
                .iter()
                .filter(move |base| base.is_ipv4() == ip.is_ipv4())
                .map(move |base| {
                    let address = SocketAddr::new(*ip, base.port());
                    Candidate::new(CandidateKind::Host, address, *base, preference)
                })
        })
    }

    /// Port-mapped and server-reflexive ones. A router that maps a port often uses it for outgoing packets
    /// too; the address is then offered once, as what makes it open for everybody. A firewall that opens a port
    /// of our own address needs no candidate.
    fn translated_candidates(&self) -> impl Iterator<Item = Candidate> {
        let is_ours = |it: &&(SocketAddr, SocketAddr)| {
            self.hosts.contains(&it.0.ip()) && it.0.port() == it.1.port()
        };
        let mapped = self.mapped.iter().filter(move |it| !is_ours(it));
        let mapped = mapped.map(|it| (CandidateKind::PortMapped, it));
        let reflexive = self.reflexive.iter().filter(|it| !self.mapped.contains(it));
        let reflexive = reflexive.map(|it| (CandidateKind::ServerReflexive, it));
        mapped
            .chain(reflexive)
            .map(|(kind, (address, base))| Candidate::new(kind, *address, *base, u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, net: &str) -> Interface {
        Interface::new(name, net.parse().unwrap())
    }

    fn hosts(gathered: &Gathered) -> Vec<String> {
        gathered
            .candidates(true, true)
            .iter()
            .map(|c| c.address.to_string())
            .collect()
    }

    #[test]
    fn container_interfaces_come_last_and_loopback_is_left_out() {
        let gathered = Gathered::new(
            vec!["0.0.0.0:5000".parse().unwrap()],
            vec![
                interface("lo", "127.0.0.1/8"),
                interface("docker0", "172.17.0.1/16"),
                interface("eth0", "192.168.1.2/24"),
            ],
            false,
        );
        assert_eq!(hosts(&gathered), ["192.168.1.2:5000", "172.17.0.1:5000"]);
    }

    #[test]
    fn loopback_is_offered_when_there_is_nothing_else() {
        let gathered = Gathered::new(
            vec!["0.0.0.0:5000".parse().unwrap()],
            vec![interface("lo", "127.0.0.1/8")],
            false,
        );
        assert_eq!(hosts(&gathered), ["127.0.0.1:5000"]);
    }

    #[test]
    fn a_reflexive_address_that_is_our_own_is_no_candidate_of_its_own() {
        let base = "0.0.0.0:5000".parse().unwrap();
        let mut gathered = Gathered::new(
            vec![base],
            vec![interface("eth0", "198.51.100.2/24")],
            false,
        );
        assert!(!gathered.add_reflexive("198.51.100.2:5000".parse().unwrap(), base));
        assert!(gathered.add_reflexive("203.0.113.2:61000".parse().unwrap(), base));
        assert_eq!(hosts(&gathered), ["198.51.100.2:5000", "203.0.113.2:61000"]);
    }

    #[test]
    fn a_nat_that_shows_ever_new_addresses_does_not_fill_the_description() {
        let base = "0.0.0.0:5000".parse().unwrap();
        let mut gathered = Gathered::new(vec![base], Vec::new(), false);
        for port in 1..100 {
            assert!(gathered.add_reflexive(SocketAddr::from(([203, 0, 113, 2], port)), base));
        }
        let hosts = hosts(&gathered);
        assert_eq!(hosts.len(), REFLEXIVE_MAX);
        assert_eq!(
            hosts.last().unwrap(),
            "203.0.113.2:99",
            "the newest is among them"
        );
    }

    #[test]
    fn relay_only_offers_no_address_of_ours() {
        let base = "0.0.0.0:5000".parse().unwrap();
        let mut gathered = Gathered::new(
            vec![base],
            vec![interface("eth0", "198.51.100.2/24")],
            false,
        );
        gathered.add_relayed("203.0.113.9:50000".parse().unwrap());
        let candidates = gathered.candidates(false, true);
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].kind, CandidateKind::Relayed);
    }

    #[test]
    fn an_ipv6_address_that_a_server_saw_is_offered_before_its_neighbours() {
        let base = "[::]:5000".parse().unwrap();
        let interfaces = vec![
            interface("eth0", "2001:db8::1/64"),
            interface("eth0", "2001:db8::2/64"),
        ];
        let mut gathered = Gathered::new(vec![base], interfaces, false);
        assert_eq!(hosts(&gathered)[0], "[2001:db8::1]:5000");
        assert!(gathered.add_reflexive("[2001:db8::2]:5000".parse().unwrap(), base));
        assert_eq!(hosts(&gathered)[0], "[2001:db8::2]:5000");
        assert_eq!(hosts(&gathered).len(), 2);
    }

    #[test]
    fn an_address_that_is_mapped_and_seen_is_offered_once() {
        let base = "0.0.0.0:5000".parse().unwrap();
        let mut gathered = Gathered::new(vec![base], Vec::new(), false);
        let address: SocketAddr = "203.0.113.2:5000".parse().unwrap();
        gathered.add_reflexive(address, base);
        assert!(gathered.set_mapped(vec![(address, base)]));
        assert!(!gathered.set_mapped(vec![(address, base)]));
        let candidates = gathered.candidates(true, true);
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].kind, CandidateKind::PortMapped);
        assert!(gathered.set_mapped(Vec::new()));
        let candidates = gathered.candidates(true, true);
        assert_eq!(candidates[0].kind, CandidateKind::ServerReflexive);
    }
}
