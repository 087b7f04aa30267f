//! Which addresses of this machine are worth offering, and in which order?

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Host candidates beyond this number are not offered: containers and VPNs make dozens of addresses, and
/// each is a pair that must be checked (iroh#3979: twelve Docker addresses starved the real ones).
pub(crate) const HOST_CANDIDATES_MAX: usize = 8;

/// Likely addresses of one family: a machine with many IPv6 addresses must not lose its IPv4 one, nor the
/// other way round.
const FAMILY_MAX: usize = HOST_CANDIDATES_MAX / 2;

/// Unlikely addresses beside likely ones. A VPN that both ends are in is worth a try; a machine with thirty
/// containers is no reason for thirty pairs.
const UNLIKELY_MAX: usize = 2;

/// IPv6 addresses of one network of one interface: a temporary one (RFC 8981) and the stable one.
const PER_NETWORK_MAX: usize = 2;

/// Name prefixes, in small letters, of interfaces that seldom lead to a peer: bridges, containers, virtual
/// machines, VPNs; on Linux, macOS and Windows.
const UNLIKELY_NAMES: [&str; 38] = [
    "docker",
    "br-",
    "veth",
    "virbr",
    "vmnet",
    "vboxnet",
    "cni",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "lxd",
    "incus",
    "podman",
    "kube",
    "nodelocaldns",
    "dummy",
    "ifb",
    "tun",
    "tap",
    "utun",
    "wg",
    "tailscale",
    "zt",
    "feth",
    "wt0",
    "netbird",
    "nebula",
    "ham",
    "ipsec",
    "gre",
    "sit",
    "ip6tnl",
    "bridge",
    "awdl",
    "llw",
    "vethernet",
    "zerotier",
];

/// Names that look like one of those and are the real network: the LAN bridge of a router.
const LIKELY_NAMES: [&str; 1] = ["br-lan"];

/// Point-to-point interfaces that are how a machine reaches the internet: dial-up, PPPoE and mobile modems.
/// Every other is a VPN.
const UPLINK_NAMES: [&str; 5] = ["ppp", "pppoe", "wwan", "rmnet", "pdp_ip"];

/// What the system says about an address beside its prefix; all `false` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressTraits {
    /// The interface has one other end, as VPNs and modems have.
    pub point_to_point: bool,
    /// An IPv6 address that is not used for anything new (RFC 4862, section 5.5.4).
    pub deprecated: bool,
    /// An IPv6 address that is given up after a day or so (RFC 8981): what packets leave from by default.
    pub temporary: bool,
}

/// One address of one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name the system gives it.
    pub name: String,
    /// Its address and prefix length.
    pub net: IpNet,
    /// What else is known of the address.
    pub traits: AddressTraits,
}

impl Interface {
    /// Makes an ordinary address.
    #[must_use]
    pub fn new(name: impl Into<String>, net: IpNet) -> Self {
        Self {
            name: name.into(),
            net,
            traits: AddressTraits::default(),
        }
    }

    fn is_unlikely(&self) -> bool {
        let name = self.name.to_lowercase();
        let is_one_of = |names: &[&str]| names.iter().any(|prefix| name.starts_with(prefix));
        let by_name = is_one_of(&UNLIKELY_NAMES) && !is_one_of(&LIKELY_NAMES);
        let is_vpn = self.traits.point_to_point && !is_one_of(&UPLINK_NAMES);
        by_name || is_vpn || is_tunnelled_or_unconfigured(self.net.addr())
    }
}

/// Picks the addresses to offer, the best first; `seen` are those from which packets are known to reach a STUN
/// server. Loopback addresses are not among them.
pub(crate) fn worth_offering(interfaces: &[Interface], seen: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let mut usable: Vec<_> = interfaces
        .iter()
        .filter(|it| can_be_reached(it.net.addr()))
        .collect();
    // Likely interfaces first, then what is known to work. IPv6 before IPv4 among equals, since an address
    // without a NAT is worth more; and of one network's addresses those that packets leave from.
    usable.sort_by_key(|it| {
        let ip = it.net.addr();
        let traits = it.traits;
        let unseen = !seen.contains(&ip);
        (
            it.is_unlikely(),
            unseen,
            ip.is_ipv4(),
            traits.deprecated,
            !traits.temporary,
        )
    });
    let mut picked = Picked::default();
    for interface in &usable {
        picked.add(interface);
    }
    picked.finish()
}

#[derive(Default)]
struct Picked<'a> {
    likely: Vec<IpAddr>,
    unlikely: Vec<IpAddr>,
    taken: Vec<&'a Interface>,
}

impl<'a> Picked<'a> {
    fn add(&mut self, interface: &'a Interface) {
        let ip = interface.net.addr();
        let is_known = self.likely.contains(&ip) || self.unlikely.contains(&ip);
        let same_network =
            |it: &&&Interface| it.name == interface.name && it.net.trunc() == interface.net.trunc();
        let beside = self.taken.iter().filter(same_network).count();
        let is_spare = ip.is_ipv6()
            && (beside >= PER_NETWORK_MAX || beside > 0 && interface.traits.deprecated);
        if is_known || is_spare {
            return;
        }
        if interface.is_unlikely() {
            self.unlikely.push(ip);
        } else if self
            .likely
            .iter()
            .filter(|it| it.is_ipv4() == ip.is_ipv4())
            .count()
            < FAMILY_MAX
        {
            self.likely.push(ip);
        } else {
            return;
        }
        self.taken.push(interface);
    }

    fn finish(self) -> Vec<IpAddr> {
        let Self {
            mut likely,
            mut unlikely,
            ..
        } = self;
        if !likely.is_empty() {
            unlikely.truncate(UNLIKELY_MAX);
        }
        likely.append(&mut unlikely);
        likely.truncate(HOST_CANDIDATES_MAX);
        likely
    }
}

/// Returns whether somebody could send to an address, in our network or beyond. IPv6 link-local addresses need
/// a zone, which means nothing to a peer.
fn can_be_reached(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !is_reserved(ip),
        IpAddr::V6(ip) => {
            !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none() && !is_discarded(ip)
        }
    }
}

/// 240.0.0.0/4 (RFC 1112, section 4), with the broadcast address.
const fn is_reserved(ip: Ipv4Addr) -> bool {
    ip.octets()[0] >= 240
}

/// 100::/64 (RFC 6666): routers throw it away.
const fn is_discarded(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0x100, 0, 0, 0, ..])
}

/// IPv4 link-local means that no server gave an address (RFC 3927). Teredo (RFC 4380) and 6to4 (RFC 3056) are
/// IPv6 over IPv4, behind the same NAT and worse than it.
fn is_tunnelled_or_unconfigured(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => matches!(ip.segments(), [0x2001, 0, ..] | [0x2002, ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(interfaces: &[Interface]) -> Vec<String> {
        let offered = worth_offering(interfaces, &BTreeSet::new());
        offered.iter().map(IpAddr::to_string).collect()
    }

    fn interface(name: &str, net: &str) -> Interface {
        Interface::new(name, net.parse().unwrap())
    }

    fn with(name: &str, net: &str, traits: AddressTraits) -> Interface {
        Interface {
            traits,
            ..interface(name, net)
        }
    }

    const POINT_TO_POINT: AddressTraits = AddressTraits {
        point_to_point: true,
        deprecated: false,
        temporary: false,
    };
    const TEMPORARY: AddressTraits = AddressTraits {
        point_to_point: false,
        deprecated: false,
        temporary: true,
    };
    const DEPRECATED: AddressTraits = AddressTraits {
        point_to_point: false,
        deprecated: true,
        temporary: false,
    };

    #[test]
    fn thirty_containers_leave_room_for_every_real_address() {
        let mut interfaces: Vec<_> = (0..30)
            .map(|number| {
                interface(
                    &format!("br-{number:012x}"),
                    &format!("172.{}.0.1/16", 17 + number),
                )
            })
            .collect();
        interfaces.push(interface("eth0", "192.168.1.2/24"));
        interfaces.push(interface("wlan0", "192.168.2.2/24"));
        let offered = offered(&interfaces);
        assert_eq!(offered[..2], ["192.168.1.2", "192.168.2.2"]);
        assert_eq!(offered.len(), 4, "two of the unlikely ones: {offered:?}");
    }

    #[test]
    fn many_ipv6_addresses_do_not_crowd_out_the_ipv4_one() {
        let mut interfaces: Vec<_> = (1..20)
            .map(|number| interface(&format!("eth{number}"), &format!("2001:db8:{number}::1/64")))
            .collect();
        interfaces.push(interface("eth0", "192.168.1.2/24"));
        let offered = offered(&interfaces);
        assert!(offered.contains(&"192.168.1.2".to_owned()), "{offered:?}");
        assert_eq!(offered.len(), FAMILY_MAX + 1);
    }

    #[test]
    fn of_one_ipv6_network_the_address_that_packets_leave_from_comes_first() {
        let interfaces = [
            interface("eth0", "2001:db8::1/64"),
            with("eth0", "2001:db8::dead/64", DEPRECATED),
            with("eth0", "2001:db8::2/64", TEMPORARY),
            interface("eth0", "2001:db8::3/64"),
        ];
        assert_eq!(offered(&interfaces), ["2001:db8::2", "2001:db8::1"]);
        assert_eq!(
            offered(&interfaces[1..2]),
            ["2001:db8::dead"],
            "better than nothing"
        );
        let seen = BTreeSet::from(["2001:db8::3".parse().unwrap()]);
        assert_eq!(
            worth_offering(&interfaces, &seen)[0].to_string(),
            "2001:db8::3"
        );
    }

    #[test]
    fn a_vpn_is_told_by_its_kind_as_well_as_by_its_name() {
        for vpn in [
            with("corp0", "10.8.0.2/32", POINT_TO_POINT),
            interface("utun3", "100.64.0.9/32"),
            interface("vEthernet (WSL)", "172.20.0.1/20"),
            interface("ZeroTier One [1]", "10.147.17.2/24"),
            interface("eth1", "169.254.7.7/16"),
        ] {
            let name = vpn.name.clone();
            let offered = offered(&[vpn, interface("eth0", "192.168.1.2/24")]);
            assert_eq!(offered[0], "192.168.1.2", "{name}");
            assert_eq!(offered.len(), 2, "{name}");
        }
        let modem = with("ppp0", "198.51.100.7/32", POINT_TO_POINT);
        assert_eq!(
            offered(&[interface("eth0", "192.168.1.2/24"), modem]).len(),
            2
        );
        let router = interface("br-lan", "192.168.1.1/24");
        assert!(!router.is_unlikely());
        assert!(interface("br-0123456789ab", "172.18.0.1/16").is_unlikely());
    }

    #[test]
    fn addresses_that_nobody_can_send_to_are_not_offered_and_none_twice() {
        let interfaces = [
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.9/4",
            "240.1.2.3/8",
            "255.255.255.255/32",
            "::1/128",
            "fe80::1/64",
            "ff02::1/16",
            "100::5/64",
            "::ffff:192.0.2.1/128",
            "198.51.100.7/24",
            "198.51.100.7/32",
            "fd00::7/64",
        ]
        .map(|net| interface("eth0", net));
        assert_eq!(offered(&interfaces), ["fd00::7", "198.51.100.7"]);
    }

    #[test]
    fn what_is_unlikely_is_offered_when_there_is_nothing_else() {
        let interfaces: Vec<_> = (0..5)
            .map(|number| interface(&format!("tun{number}"), &format!("10.{number}.0.2/24")))
            .collect();
        assert_eq!(offered(&interfaces).len(), 5);
    }
}
