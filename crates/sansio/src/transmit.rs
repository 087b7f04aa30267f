//! What goes in and out of a machine.

use std::net::SocketAddr;

/// A datagram that a machine wants to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The base: the local address of the socket to send from, or a relayed address, in which case the
    /// layer above sends it through that allocation.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// The IP time to live (IPv4) or hop limit (IPv6) for this packet alone; the system's default when
    /// `None`.
    pub ttl: Option<u8>,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Transmit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transmit")
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("ttl", &self.ttl)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The base it arrived at: the local address of the socket, as in [`Transmit::source`].
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// What a machine did with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Handled {
    /// It was for this machine (and may have been dropped by it).
    Consumed,
    /// It is somebody else's: offer it to the next machine.
    NotMine,
}
