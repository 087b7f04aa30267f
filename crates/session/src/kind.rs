//! Is this address in our own network?

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The addresses of this machine's interfaces, with their prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    prefixes: Vec<IpNet>,
}

impl Interfaces {
    /// Keeps the given prefixes, each an interface address with its prefix length.
    #[must_use]
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        Self { prefixes }
    }

    /// Returns the addresses of the interfaces.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.prefixes.iter().map(IpNet::addr)
    }

    /// Returns whether a path to `remote` stays in the local network: loopback, link-local, RFC 1918,
    /// ULA, or a prefix of one of our interfaces (the only way for 100.64.0.0/10 to count).
    #[must_use]
    pub fn is_local(&self, remote: SocketAddr) -> bool {
        let ip = remote.ip().to_canonical();
        is_private(ip) || self.prefixes.iter().any(|prefix| on_link(prefix, ip))
    }
}

/// A prefix of full length says only "this is me": a host behind a NAT has it on a point-to-point link.
fn on_link(prefix: &IpNet, ip: IpAddr) -> bool {
    prefix.prefix_len() < prefix.max_prefix_len() && prefix.contains(&ip) || prefix.addr() == ip
}

/// Returns whether an address is loopback, link-local, RFC 1918 or ULA.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

/// Returns whether an address is of the shared space between carriers and their customers (RFC 6598).
pub(crate) fn is_shared(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => matches!(ip.octets(), [100, second, ..] if second & 0xc0 == 64),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carrier_grade_addresses_are_local_only_on_our_own_link() {
        let remote = "100.64.0.7:1".parse().unwrap();
        assert!(!Interfaces::default().is_local(remote));
        let on_link = Interfaces::new(vec!["100.64.0.9/24".parse().unwrap()]);
        assert!(on_link.is_local(remote));
    }

    #[test]
    fn private_addresses_are_local_and_public_ones_are_not() {
        let nowhere = Interfaces::default();
        for local in [
            "127.0.0.1:1",
            "10.1.2.3:1",
            "169.254.1.1:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
        ] {
            assert!(nowhere.is_local(local.parse().unwrap()), "{local}");
        }
        for public in ["203.0.113.1:1", "[2001:db8::1]:1", "100.64.0.1:1"] {
            assert!(!nowhere.is_local(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_public_address_on_our_own_link_is_local() {
        let interfaces = Interfaces::new(vec!["198.51.100.7/24".parse().unwrap()]);
        assert!(interfaces.is_local("198.51.100.9:5".parse().unwrap()));
    }
}
