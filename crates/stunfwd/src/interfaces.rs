//! The addresses of this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use session::{AddressTraits, Interface};

/// `IFA_F_TEMPORARY` of Linux: an address of RFC 8981.
const TEMPORARY: u32 = 0x01;
/// `IFA_F_DEPRECATED` of Linux: nothing new leaves from it.
const DEPRECATED: u32 = 0x20;

/// Lists the addresses of the interfaces that are up; empty, and traced, when the system refuses.
pub(crate) fn list() -> Vec<Interface> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the network interfaces cannot be listed");
            return Vec::new();
        }
    };
    // Only Linux tells without a system call of its own; elsewhere all addresses pass for ordinary ones.
    let flags = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let flags = ipv6_flags(&flags);
    interfaces
        .into_iter()
        .filter_map(|interface| {
            let prefix_len = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => u32::from(v4.netmask).count_ones(),
                if_addrs::IfAddr::V6(v6) => u128::from(v6.netmask).count_ones(),
            };
            let prefix_len = u8::try_from(prefix_len).ok()?;
            let net = IpNet::new(interface.ip(), prefix_len).ok()?;
            let flags = match interface.ip() {
                IpAddr::V6(ip) => flags.get(&ip).copied().unwrap_or(0),
                IpAddr::V4(_) => 0,
            };
            let traits = AddressTraits {
                point_to_point: interface.is_p2p(),
                deprecated: flags & DEPRECATED != 0,
                temporary: flags & TEMPORARY != 0,
            };
            Some(Interface {
                name: interface.name,
                net,
                traits,
            })
        })
        .collect()
}

/// Reads lines of address, interface number, prefix length, scope, flags (all hexadecimal) and name.
fn ipv6_flags(lines: &str) -> BTreeMap<Ipv6Addr, u32> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        Some((Ipv6Addr::from(address), flags))
    };
    lines.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_ipv6_addresses_are_read_from_what_linux_writes() {
        let lines = "\
            00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000007 02 40 00 21     eth0\n\
            not a line\n\
            20010db8000000000000000000000008 02 40 00 80     eth0\n";
        let flags = ipv6_flags(lines);
        let of = |ip: &str| flags.get(&ip.parse().unwrap()).copied();
        assert_eq!(of("2001:db8::7"), Some(TEMPORARY | DEPRECATED));
        assert_eq!(of("2001:db8::8"), Some(0x80));
        assert_eq!(flags.len(), 3);
    }
}
