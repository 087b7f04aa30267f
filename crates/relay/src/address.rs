//! Which role an address has: mixing them up compiles only on purpose.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a peer as the relay sees it (RFC 8656, section 3): where relayed packets go to and come
/// from.
///
/// An IPv4 address in its IPv6-mapped form is the IPv4 address: no rule can be walked around by spelling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr(SocketAddr);

impl PeerAddr {
    /// Takes an address, mapped forms normalised.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self(canonical(address))
    }

    /// Returns the address.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }

    /// Returns the IP address, to which permissions are tied.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::new(address)
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A relayed address as the world sees it: what an Allocate answer says, behind which one allocation
/// stands. The relay's own socket may have another address (a 1:1 NAT before the relay).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayedAddr(SocketAddr);

impl RelayedAddr {
    /// Takes an address, mapped forms normalised.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self(canonical(address))
    }

    /// Returns the address.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Debug for RelayedAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relayed {}", self.0)
    }
}

/// Returns the address without the IPv6-mapped form of IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = PeerAddr::new("[::ffff:10.0.0.1]:53".parse().unwrap());
        assert_eq!(mapped, PeerAddr::new("10.0.0.1:53".parse().unwrap()));
        assert_eq!(mapped.ip().to_string(), "10.0.0.1");
    }
}
