//! Which addresses a peer may be reached at, and in which order they are preferred.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How an address was learnt (RFC 8445, section 4, and what a hard NAT needs beyond it); the declaration order
/// is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of one of the machine's own interfaces.
    Host,
    /// An address first seen as the source of a verified check.
    PeerReflexive,
    /// What a STUN server saw.
    ServerReflexive,
    /// An address that the router promised for this socket, by PCP, NAT-PMP or UPnP.
    PortMapped,
    /// An address that the peer's NAT was expected to give out next, or one of the block it gives out from.
    Predicted,
    /// An address found by many sockets on one side and many guesses on the other.
    Birthday,
    /// An address allocated at a TURN server.
    Relayed,
}

impl CandidateKind {
    /// Returns the type preference: what RFC 8445, section 5.1.2.2, recommends for its four kinds, and between
    /// reflexive and relayed ones the others.
    ///
    /// A port mapping is below the server-reflexive address of the same socket: where both are answered the one
    /// that lives by its own traffic does not end with a router's lease. A predicted or guessed address is
    /// worth any other direct one once it is answered, but before that it is a guess, and guesses are checked
    /// after everything that is known.
    #[must_use]
    pub const fn type_preference(self) -> u8 {
        match self {
            Self::Host => 126,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::PortMapped => 90,
            Self::Predicted => 80,
            Self::Birthday => 70,
            Self::Relayed => 0,
        }
    }
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::PeerReflexive => "peer-reflexive",
            Self::ServerReflexive => "server-reflexive",
            Self::PortMapped => "port-mapped",
            Self::Predicted => "predicted",
            Self::Birthday => "birthday",
            Self::Relayed => "relayed",
        })
    }
}

/// An address that a peer may be reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How the address was learnt.
    pub kind: CandidateKind,
    /// The address that the other side sends to.
    pub address: SocketAddr,
    /// The local socket it was learnt from; for a relayed candidate the relayed address itself. It means
    /// nothing in a remote candidate.
    pub base: SocketAddr,
    /// The priority of RFC 8445, section 5.1.2: higher is preferred.
    pub priority: u32,
}

impl Candidate {
    /// Makes a candidate and computes its priority (RFC 8445, section 5.1.2.1, component 1);
    /// `local_preference` ranks the interfaces of one machine, 65535 being the best.
    ///
    /// The base of a relayed candidate is the relayed address, whatever `base` says (RFC 8445, section 4).
    #[must_use]
    pub const fn new(
        kind: CandidateKind,
        address: SocketAddr,
        base: SocketAddr,
        local_preference: u16,
    ) -> Self {
        let base = if matches!(kind, CandidateKind::Relayed) {
            address
        } else {
            base
        };
        Self {
            kind,
            address,
            base,
            priority: priority(kind, local_preference),
        }
    }
}

/// Component 1 of 1: 256 − 1.
const COMPONENT_TERM: u32 = 255;

const fn priority(kind: CandidateKind, local_preference: u16) -> u32 {
    ((kind.type_preference() as u32) << 24) | ((local_preference as u32) << 8) | COMPONENT_TERM
}

/// Returns the priority that the other side shall give to an unknown source address of this local
/// candidate's checks (RFC 8445, section 7.1.1).
///
/// Here it differs from the RFC for one kind: what leaves through a relay keeps the type preference 0, so
/// that the other side knows it for relayed before signaling says so, and does not take it for a direct
/// path.
pub(crate) const fn peer_reflexive_priority(local: &Candidate) -> u32 {
    let preference = if matches!(local.kind, CandidateKind::Relayed) {
        0
    } else {
        CandidateKind::PeerReflexive.type_preference() as u32
    };
    (preference << 24) | (local.priority & 0x00ff_ffff)
}

/// Returns the kind of an unknown source address from the PRIORITY of its check: the inverse of
/// [`peer_reflexive_priority`].
pub(crate) const fn kind_of_unknown(priority: u32) -> CandidateKind {
    if priority >> 24 == 0 {
        CandidateKind::Relayed
    } else {
        CandidateKind::PeerReflexive
    }
}

/// Returns whether datagrams can be sent to an address at all; a candidate that fails this is refused.
pub(crate) fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Returns an IPv4-mapped IPv6 address as the IPv4 address that it is.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Returns whether no NAT of the open internet lies before this address, so that no low-TTL opener is
/// needed: loopback, RFC 1918, link-local, ULA and 100.64.0.0/10.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && second & 0xc0 == 64; // RFC 6598
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn priority_is_the_formula_of_rfc8445() {
        let a = address("192.0.2.1:1");
        let host = Candidate::new(CandidateKind::Host, a, a, 65535);
        assert_eq!(host.priority, 2_130_706_431); // the number every ICE implementation prints
        assert_eq!(
            Candidate::new(CandidateKind::Relayed, a, a, 0).priority,
            255
        );
    }

    #[test]
    fn kinds_are_declared_in_the_order_of_their_type_preference() {
        let kinds = [
            CandidateKind::Host,
            CandidateKind::PeerReflexive,
            CandidateKind::ServerReflexive,
            CandidateKind::PortMapped,
            CandidateKind::Predicted,
            CandidateKind::Birthday,
            CandidateKind::Relayed,
        ];
        assert!(kinds.is_sorted());
        assert!(kinds.is_sorted_by(|a, b| a.type_preference() > b.type_preference()));
    }

    #[test]
    fn an_unknown_source_behind_a_relay_is_told_from_a_direct_one() {
        let a = address("192.0.2.1:1");
        for (kind, seen) in [
            (CandidateKind::Host, CandidateKind::PeerReflexive),
            (CandidateKind::ServerReflexive, CandidateKind::PeerReflexive),
            (CandidateKind::Relayed, CandidateKind::Relayed),
        ] {
            let local = Candidate::new(kind, a, a, 7);
            assert_eq!(kind_of_unknown(peer_reflexive_priority(&local)), seen);
        }
    }

    #[test]
    fn private_ranges_end_where_the_rfcs_say() {
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.0.1",
        ] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "100.64.0.0",
            "100.127.255.255",
            "::1",
            "fe80::1",
            "fd00::1",
            "fc00::1",
        ] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "203.0.113.1",
            "2001:db8::1",
        ] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn addresses_that_nobody_can_send_to_are_unusable() {
        for text in [
            "0.0.0.0:1",
            "192.0.2.1:0",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "[::]:9",
        ] {
            assert!(!is_usable(address(text)), "{text}");
        }
        assert!(is_usable(address("[2001:db8::1]:9")));
        assert_eq!(
            canonical(address("[::ffff:192.0.2.1]:9")),
            address("192.0.2.1:9")
        );
    }
}
