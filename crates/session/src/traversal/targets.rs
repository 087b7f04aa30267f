//! Whom we may probe.
//!
//! A round sends up to 2,048 packets to ports that somebody else names. So that a hostile member of a room cannot
//! make us scan a third party more than it could itself:
//!
//! * only an address that the peer's sealed description offers as its own public one is probed, whatever a note
//!   says, and one address per round;
//! * never a private or shared one (RFC 1918, link-local, loopback, 100.64.0.0/10), never one in a prefix of our
//!   own interfaces, never our own public address: those are other people's machines on our networks, or our router;
//! * two rounds a minute fit the budget of the whole node, whatever the peers ask, and a round that fails is
//!   followed by a rest that grows.
//!
//! That an address is really the peer's cannot be proven before a packet has come from there, which is what a
//! round is for. Whoever knows the room's secret and names a victim gains 50 kB a second for four seconds, sent
//! by one peer, and no amplification.

use std::net::{IpAddr, SocketAddr};

use punch::{Candidate, CandidateKind};

use crate::kind::{Interfaces, is_private, is_shared};

/// A NAT shows one address; two uplinks show two.
const TARGETS_MAX: usize = 4;

/// Returns the public IPv4 addresses among a peer's candidates, the most likely one first.
pub(crate) fn public_addresses(
    candidates: &[Candidate],
    interfaces: &Interfaces,
    ours: &[SocketAddr],
) -> Vec<SocketAddr> {
    let mut targets = Vec::new();
    // What a STUN server saw comes before a public address of an interface, behind which a firewall may sit.
    for wanted in [CandidateKind::ServerReflexive, CandidateKind::Host] {
        let of_kind = candidates.iter().filter(|it| it.kind == wanted);
        for address in of_kind.map(|it| it.address) {
            let is_ours = ours.iter().any(|it| it.ip() == address.ip());
            if is_public(address) && !interfaces.is_local(address) && !is_ours {
                targets.push(address);
            }
        }
    }
    targets.dedup();
    targets.truncate(TARGETS_MAX);
    targets
}

fn is_public(address: SocketAddr) -> bool {
    let IpAddr::V4(ip) = address.ip() else {
        return false;
    };
    !is_private(ip.into())
        && !is_shared(ip.into())
        && !ip.is_broadcast()
        && !ip.is_multicast()
        && !ip.is_unspecified()
        && address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: CandidateKind, address: &str) -> Candidate {
        let address = address.parse().unwrap();
        Candidate::new(kind, address, address, 1)
    }

    #[test]
    fn nobody_else_is_probed_whatever_the_peer_describes() {
        let interfaces = Interfaces::new(vec!["198.51.100.7/24".parse().unwrap()]);
        let ours = ["203.0.113.1:4000".parse().unwrap()];
        let described = [
            candidate(CandidateKind::Host, "192.168.1.1:5"),
            candidate(CandidateKind::Host, "127.0.0.1:5"),
            candidate(CandidateKind::ServerReflexive, "100.64.3.2:5"),
            candidate(CandidateKind::ServerReflexive, "198.51.100.9:5"),
            candidate(CandidateKind::ServerReflexive, "203.0.113.1:9"),
            candidate(CandidateKind::ServerReflexive, "[2001:db8::1]:5"),
            candidate(CandidateKind::Relayed, "192.0.2.200:5"),
        ];
        assert_eq!(public_addresses(&described, &interfaces, &ours), []);
    }

    #[test]
    fn a_reflexive_address_comes_before_a_public_host() {
        let described = [
            candidate(CandidateKind::Host, "192.0.2.4:5"),
            candidate(CandidateKind::ServerReflexive, "192.0.2.9:77"),
        ];
        let targets = public_addresses(&described, &Interfaces::default(), &[]);
        let ports: Vec<_> = targets.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [77, 5]);
    }
}
