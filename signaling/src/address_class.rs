//! Which addresses count as one stranger.

use std::net::{IpAddr, Ipv6Addr};

/// An address as limits see it: one IPv4 address, or a /64, which is what one IPv6 site gets at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AddressClass(IpAddr);

impl AddressClass {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & !u128::from(u64::MAX);
                Self(Ipv6Addr::from(prefix).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_is_one_stranger_and_a_mapped_address_is_the_address() {
        let class = |text: &str| AddressClass::of(text.parse().unwrap());
        assert_eq!(class("2001:db8:1:2::3"), class("2001:db8:1:2:ffff::9"));
        assert_ne!(class("2001:db8:1:2::3"), class("2001:db8:1:3::3"));
        assert_eq!(class("::ffff:192.0.2.1"), class("192.0.2.1"));
        assert_ne!(class("192.0.2.1"), class("192.0.2.2"));
    }
}
