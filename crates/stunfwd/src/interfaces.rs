//! The addresses of this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use session::{AddressTraits, Interface};

/// Linux' flags of an IPv6 address (`linux/if_addr.h`): given up after a day or so.
const IFA_F_TEMPORARY: u32 = 0x01;
/// Not used for anything new.
const IFA_F_DEPRECATED: u32 = 0x20;

/// Lists the addresses of the interfaces that are up; empty, and traced, when the system refuses.
pub(crate) fn list() -> Vec<Interface> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the network interfaces cannot be listed");
            return Vec::new();
        }
    };
    let flags = ipv6_flags();
    interfaces
        .into_iter()
        .filter_map(|interface| {
            let ip = interface.ip();
            let prefix_len = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => u32::from(v4.netmask).count_ones(),
                if_addrs::IfAddr::V6(v6) => u128::from(v6.netmask).count_ones(),
            };
            let prefix_len = u8::try_from(prefix_len).ok()?;
            let flags = flags.get(&ip).copied().unwrap_or(0);
            let traits = AddressTraits {
                point_to_point: interface.is_p2p,
                deprecated: flags & IFA_F_DEPRECATED != 0,
                temporary: flags & IFA_F_TEMPORARY != 0,
            };
            Some(Interface {
                traits,
                ..Interface::new(interface.name, IpNet::new(ip, prefix_len).ok()?)
            })
        })
        .collect()
}

/// Reads what Linux says of its IPv6 addresses. Elsewhere, and where it cannot be read, nothing is known.
fn ipv6_flags() -> BTreeMap<IpAddr, u32> {
    let text = if cfg!(target_os = "linux") {
        std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default()
    } else {
        String::new()
    };
    text.lines().filter_map(flags_of_line).collect()
}

/// Address, index, prefix length, scope, flags and name, the numbers in hexadecimal digits.
fn flags_of_line(line: &str) -> Option<(IpAddr, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    Some((Ipv6Addr::from_bits(address).into(), flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_an_ipv6_address_are_read_as_linux_writes_them() {
        let line = "20010db8000000000000000000000007 02 40 00 21     eth0";
        let expected = (
            "2001:db8::7".parse().unwrap(),
            IFA_F_TEMPORARY | IFA_F_DEPRECATED,
        );
        assert_eq!(flags_of_line(line), Some(expected));
        for line in [
            "",
            "zz 02 40 00 21 eth0",
            "20010db8000000000000000000000007 02",
        ] {
            assert_eq!(flags_of_line(line), None, "{line:?}");
        }
    }
}
