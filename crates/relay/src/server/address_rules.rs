//! Which peers may be relayed to (DESIGN §6; RFC 8656, section 21.1; CVE-2020-26262).
//!
//! The relay stands where strangers do not: on its host, and in its host's network. It must not be a way
//! in. So private addresses and its own are refused, with three exceptions: what the operator allows; the
//! very sockets from which the clients of other allocations come (a server at home beside its own signaling),
//! on the loopback for clients that come from there alone; and other allocations of this server, to which packets
//! go inside the process and nowhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Where a permission lets packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// To that address, wherever it is.
    Anywhere,
    /// Only to the socket of another client, and to allocations.
    ClientsOnly,
    /// Only to an allocation of this server that has that address: never to a socket of anybody else.
    AllocationsOnly,
}

/// What the allocations of the moment say about an address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Another allocation's client comes from there.
    pub(super) is_source_of_another: bool,
    /// Another allocation's relayed address is there.
    pub(super) is_relayed_of_another: bool,
    /// It is the address that this allocation's client came to, or its relayed address.
    pub(super) is_own: bool,
    /// This allocation's client came over the loopback: what is there is its own machine's already.
    pub(super) client_is_on_loopback: bool,
}

/// What the operator says.
#[derive(Debug)]
pub(super) struct AddressRules {
    allow: Vec<IpNet>,
    own: BTreeSet<IpAddr>,
}

impl AddressRules {
    pub(super) fn new(allow: Vec<IpNet>, own: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            allow,
            own: own.into_iter().map(|ip| ip.to_canonical()).collect(),
        }
    }

    /// Judges a peer's address, mapped forms already normalised. `None` is 403.
    pub(super) fn judge(&self, peer: IpAddr, known: Known) -> Option<Scope> {
        let kind = classify(peer);
        if kind == Kind::Nobody {
            return None;
        }
        let allowed = self.allow.iter().any(|net| net.contains(&peer));
        let own = known.is_own || self.own.contains(&peer) || self.is_own_translated(peer);
        if allowed || kind == Kind::Public && !own {
            return Some(Scope::Anywhere);
        }
        if known.is_source_of_another && (known.client_is_on_loopback || !is_loopback(peer)) {
            return Some(Scope::ClientsOnly);
        }
        known
            .is_relayed_of_another
            .then_some(Scope::AllocationsOnly)
    }
}

impl AddressRules {
    /// Whether a translator would bring packets for this address back to one of our own.
    fn is_own_translated(&self, peer: IpAddr) -> bool {
        let IpAddr::V6(peer) = peer else {
            return false;
        };
        translated(peer).is_some_and(|ip| self.own.contains(&IpAddr::V4(ip)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An ordinary address. Documentation blocks are, since labs use them.
    Public,
    /// Loopback, link-local, private, shared (100.64.0.0/10), unique local, reserved.
    Private,
    /// Not one host: unspecified (which systems take for loopback), multicast, broadcast. No rule allows it.
    Nobody,
}

fn classify(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0, ..] | [224..=239, ..] | [255, 255, 255, 255] => Kind::Nobody,
        [10 | 127, ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [192, 0, 0, _]
        | [240..=255, ..] => Kind::Private,
        _ => Kind::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Kind {
    if let Some(ip) = translated(ip) {
        return classify_v4(ip);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => Kind::Nobody,
        [0, 0, 0, 0, 0, 0, 0, 1]
        | [0xfc00..=0xfdff, ..]
        | [0xfe80..=0xfeff, ..]
        | [0x64, 0xff9b, 1, ..] => Kind::Private,
        // The deprecated compatible form reaches nothing good.
        [0, 0, 0, 0, 0, 0, _, _] => Kind::Private,
        _ => Kind::Public,
    }
}

/// Whether packets for this address stay on this host, translated or not.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || translated(ip).is_some_and(|ip| ip.is_loopback()),
    }
}

/// The IPv4 address that an address in mapped, translated (RFC 6052, RFC 2765) or 6to4 (RFC 3056) form reaches.
const fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(embedded(high, low)),
        _ => None,
    }
}

const fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((high as u32) << 16 | low as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> AddressRules {
        AddressRules::new(
            vec!["10.7.0.0/16".parse().unwrap(), "fd07::/16".parse().unwrap()],
            [
                "203.0.113.1".parse().unwrap(),
                "2001:db8::1".parse().unwrap(),
            ],
        )
    }

    fn judge(peer: &str, known: Known) -> Option<Scope> {
        rules().judge(peer.parse::<IpAddr>().unwrap().to_canonical(), known)
    }

    #[test]
    fn strangers_addresses_are_judged_by_the_table() {
        let anywhere = Some(Scope::Anywhere);
        for (peer, expected) in [
            ("8.8.8.8", anywhere),
            ("192.0.2.9", anywhere),
            ("198.51.100.9", anywhere),
            ("203.0.113.9", anywhere),
            ("2001:db8::9", anywhere),
            ("2600::1", anywhere),
            ("172.15.0.1", anywhere),
            ("172.32.0.1", anywhere),
            ("100.63.255.255", anywhere),
            ("100.128.0.1", anywhere),
            ("::ffff:8.8.8.8", anywhere),
            ("64:ff9b::8.8.8.8", anywhere),
            ("127.0.0.1", None),
            ("127.255.255.254", None),
            ("::1", None),
            ("10.0.0.1", None),
            ("172.16.0.1", None),
            ("172.31.255.255", None),
            ("192.168.1.1", None),
            ("169.254.169.254", None),
            ("100.64.0.1", None),
            ("100.127.255.255", None),
            ("192.0.0.8", None),
            ("240.0.0.1", None),
            ("fe80::1", None),
            ("fec0::1", None),
            ("fc00::1", None),
            ("fd12:3456::1", None),
            ("64:ff9b::10.0.0.1", None),
            ("64:ff9b:1::1", None),
            ("64:ff9b::203.0.113.1", None),
            ("::ffff:0:203.0.113.1", None),
            ("::ffff:0:10.0.0.1", None),
            ("2002:cb00:7101::1", None),
            ("2002:a00:1::1", None),
            ("::10.0.0.1", None),
            ("::8.8.8.8", None),
            ("::ffff:127.0.0.1", None),
            ("::ffff:10.0.0.1", None),
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("::", None),
            ("224.0.0.1", None),
            ("239.255.255.250", None),
            ("ff02::1", None),
            ("255.255.255.255", None),
            ("203.0.113.1", None),
            ("::ffff:203.0.113.1", None),
            ("2001:db8::1", None),
            ("10.7.1.1", anywhere),
            ("::ffff:10.7.1.1", anywhere),
            ("fd07::1", anywhere),
        ] {
            assert_eq!(judge(peer, Known::default()), expected, "{peer}");
        }
    }

    #[test]
    fn the_source_of_another_allocation_may_be_private_but_not_loopback() {
        let known = Known {
            is_source_of_another: true,
            ..Known::default()
        };
        for peer in ["192.168.1.10", "fd00::1", "203.0.113.1"] {
            assert_eq!(judge(peer, known), Some(Scope::ClientsOnly), "{peer}");
        }
        assert_eq!(judge("8.8.8.8", known), Some(Scope::Anywhere));
        let local = Known {
            client_is_on_loopback: true,
            ..known
        };
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "64:ff9b::127.0.0.1"] {
            assert_eq!(judge(peer, known), None, "{peer}");
            assert_eq!(judge(peer, local), Some(Scope::ClientsOnly), "{peer}");
        }
        for peer in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1", "::"] {
            assert_eq!(judge(peer, known), None, "{peer}");
        }
    }

    #[test]
    fn another_allocation_at_an_own_address_is_reached_inside_the_process_only() {
        let known = Known {
            is_relayed_of_another: true,
            ..Known::default()
        };
        for peer in ["203.0.113.1", "127.0.0.1", "10.0.0.1"] {
            assert_eq!(judge(peer, known), Some(Scope::AllocationsOnly), "{peer}");
        }
    }

    #[test]
    fn the_address_that_the_client_came_to_is_our_own_without_being_listed() {
        let known = Known {
            is_own: true,
            ..Known::default()
        };
        assert_eq!(judge("203.0.113.77", known), None);
    }

    #[test]
    fn allowing_everything_still_excludes_what_is_not_a_host() {
        let rules = AddressRules::new(vec!["0.0.0.0/0".parse().unwrap()], []);
        let judge = |peer: &str| rules.judge(peer.parse().unwrap(), Known::default());
        assert_eq!(judge("127.0.0.1"), Some(Scope::Anywhere));
        assert_eq!(judge("0.0.0.0"), None);
        assert_eq!(judge("224.0.0.1"), None);
        assert_eq!(judge("255.255.255.255"), None);
    }
}
