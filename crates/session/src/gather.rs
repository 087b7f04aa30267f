//! Our own candidates: where a peer may reach this process.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use punch::{Candidate, CandidateKind};

use crate::kind::Interfaces;

/// Host candidates beyond this number are not offered: containers and VPNs make dozens of addresses, and
/// each is a pair that must be checked (iroh#3979: twelve Docker addresses starved the real ones).
const HOST_CANDIDATES_MAX: usize = 8;

/// Server-reflexive addresses beyond this number are not kept: a NAT that maps per destination shows one for
/// each of the four servers that are asked, and their alternates.
const REFLEXIVE_MAX: usize = 8;

/// Name prefixes of interfaces that seldom lead to a peer: bridges, containers, virtual machines, VPNs.
const UNLIKELY_INTERFACES: [&str; 12] = [
    "docker",
    "br-",
    "veth",
    "virbr",
    "vmnet",
    "vboxnet",
    "cni",
    "flannel",
    "tun",
    "tap",
    "wg",
    "tailscale",
];

/// One address of one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name the system gives it.
    pub name: String,
    /// Its address and prefix length.
    pub net: IpNet,
}

impl Interface {
    /// Likely interfaces first, IPv6 before IPv4 among equals: an address without a NAT is worth more.
    fn rank(&self) -> (bool, bool) {
        let unlikely = UNLIKELY_INTERFACES
            .iter()
            .any(|prefix| self.name.starts_with(prefix));
        (unlikely, self.net.addr().is_ipv4())
    }
}

/// What has been gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bases: Vec<SocketAddr>,
    hosts: Vec<IpAddr>,
    interfaces: Interfaces,
    /// Server-reflexive addresses and the base they were learnt from, the newest last.
    reflexive: Vec<(SocketAddr, SocketAddr)>,
    relayed: Vec<SocketAddr>,
}

impl Gathered {
    pub(crate) fn new(bases: Vec<SocketAddr>, interfaces: Vec<Interface>, loopback: bool) -> Self {
        let mut gathered = Self {
            bases,
            ..Self::default()
        };
        gathered.set_interfaces(interfaces, loopback);
        gathered
    }

    /// Replaces the interfaces; `loopback` offers loopback addresses although there are others.
    pub(crate) fn set_interfaces(&mut self, mut interfaces: Vec<Interface>, loopback: bool) {
        interfaces.sort_by_key(Interface::rank);
        self.interfaces = Interfaces::new(interfaces.iter().map(|it| it.net).collect());
        let reachable = |ip: &IpAddr| !ip.is_loopback() && !is_v6_link_local(*ip);
        let addresses: Vec<_> = interfaces.iter().map(|it| it.net.addr()).collect();
        let mut hosts: Vec<_> = addresses.iter().copied().filter(reachable).collect();
        hosts.truncate(HOST_CANDIDATES_MAX);
        if loopback || hosts.is_empty() {
            hosts.extend(addresses.into_iter().filter(IpAddr::is_loopback));
        }
        self.hosts = hosts;
    }

    pub(crate) const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    pub(crate) fn host_addresses(&self) -> &[IpAddr] {
        &self.hosts
    }

    /// Returns the base of the family of `remote`.
    pub(crate) fn base_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        self.bases
            .iter()
            .copied()
            .find(|base| base.is_ipv4() == remote.is_ipv4())
    }

    /// Notes a server-reflexive address; returns whether it is new. The oldest makes room.
    pub(crate) fn add_reflexive(&mut self, address: SocketAddr, base: SocketAddr) -> bool {
        if self.is_host_address(address) || self.reflexive.contains(&(address, base)) {
            return false;
        }
        if self.reflexive.len() >= REFLEXIVE_MAX {
            self.reflexive.remove(0);
        }
        self.reflexive.push((address, base));
        true
    }

    /// Keeps only the given server-reflexive addresses of a base.
    pub(crate) fn retain_reflexive(&mut self, base: SocketAddr, keep: &[SocketAddr]) {
        self.reflexive
            .retain(|(address, learnt_at)| *learnt_at != base || keep.contains(address));
    }

    fn is_host_address(&self, address: SocketAddr) -> bool {
        self.hosts.contains(&address.ip())
            && self.bases.iter().any(|base| base.port() == address.port())
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
            candidates.extend(self.reflexive.iter().map(|(address, base)| {
                Candidate::new(CandidateKind::ServerReflexive, *address, *base, u16::MAX)
            }));
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
}

fn is_v6_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, net: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            net: net.parse().unwrap(),
        }
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
}
