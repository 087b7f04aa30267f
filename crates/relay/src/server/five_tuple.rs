//! Who a client is, and which socket an allocation has.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::Transport;
use crate::address::canonical;

/// A client of the server: the five-tuple that identifies an allocation (RFC 8656, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddr {
    /// The client's address as the server sees it.
    pub remote: SocketAddr,
    /// The server's address that the packet arrived at. On a wildcard socket the destination address of the
    /// packet, not the wildcard: relayed addresses are made from it.
    pub local: SocketAddr,
    /// UDP, or a stream (TCP and TLS alike).
    pub transport: Transport,
}

impl ClientAddr {
    /// The client's address without the mapped form: its reflexive address.
    pub(super) fn reflexive(&self) -> SocketAddr {
        canonical(self.remote)
    }

    /// The client's IP address without the mapped form.
    pub(super) fn source_ip(&self) -> IpAddr {
        self.reflexive().ip()
    }

    /// The server's IP address without the mapped form.
    pub(super) fn local_ip(&self) -> IpAddr {
        canonical(self.local).ip()
    }
}

/// The local address of an allocation's own UDP socket, toward peers. What the world sees of it is the
/// relayed address, which differs behind a 1:1 NAT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayPort(SocketAddr);

impl RelayPort {
    pub(super) const fn new(ip: IpAddr, port: u16) -> Self {
        Self(SocketAddr::new(ip, port))
    }

    /// Returns the address to bind.
    #[must_use]
    pub const fn local(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Debug for RelayPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay port {}", self.0)
    }
}
