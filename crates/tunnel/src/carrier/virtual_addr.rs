//! What quinn takes for an address, and the real route behind it.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

/// The /64 of all virtual addresses: a ULA prefix spelling "stunfwd", never put on a wire.
const PREFIX: [u16; 4] = [0xfd73, 0x7475, 0x6e66, 0x7764];

/// The port of every virtual address. quinn refuses port 0, and nothing else depends on it.
const PORT: u16 = 1;

/// Names one route toward quinn; given out once per run and never again.
///
/// quinn looks reset tokens up by address, so a second use could end a stranger's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddr(u64);

impl VirtualAddr {
    /// The `number`th address of this run.
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The address as quinn sees it: flow information and scope are 0, since quinn compares both.
    pub(super) fn to_socket_addr(self) -> SocketAddr {
        let [a, b, c, d] = PREFIX;
        let part =
            |shift: u32| u16::try_from((self.0 >> shift) & 0xffff).expect("masked to 16 bits");
        let ip = Ipv6Addr::new(a, b, c, d, part(48), part(32), part(16), part(0));
        SocketAddr::V6(SocketAddrV6::new(ip, PORT, 0, 0))
    }

    /// The virtual address behind what quinn hands to the socket; `None` for any other address.
    pub(super) fn from_socket_addr(addr: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(v6) = addr else {
            return None;
        };
        let segments = v6.ip().segments();
        if segments[..4] != PREFIX || v6.port() != PORT {
            return None;
        }
        let number = segments[4..]
            .iter()
            .fold(0_u64, |number, part| number << 16 | u64::from(*part));
        Some(Self(number))
    }
}

impl fmt::Debug for VirtualAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualAddr({})", self.0)
    }
}

impl fmt::Display for VirtualAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Names one TCP or TLS connection to a TURN server; the number is the driver's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayStreamId(pub u32);

/// Where the packets of one virtual address really go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Straight to the peer.
    Direct {
        /// The socket of ours, named by the address that it is bound to.
        local: SocketAddr,
        /// The peer's address as the socket sees it.
        remote: SocketAddr,
    },
    /// Through a TURN allocation reached over UDP, in ChannelData (RFC 8656, section 12.4).
    RelayedUdp {
        /// The socket of ours, named by the address that it is bound to.
        local: SocketAddr,
        /// The TURN server.
        server: SocketAddr,
        /// The channel bound to the peer, 0x4000 to 0x4FFF.
        channel: u16,
    },
    /// Through a TURN allocation reached over TCP or TLS, in ChannelData padded to 4 bytes.
    RelayedStream {
        /// The connection to the TURN server.
        stream: RelayStreamId,
        /// The channel bound to the peer, 0x4000 to 0x4FFF.
        channel: u16,
    },
}

impl Route {
    /// Whether a TURN server stands between the peers.
    pub fn is_relayed(&self) -> bool {
        match self {
            Self::Direct { .. } => false,
            Self::RelayedUdp { .. } | Self::RelayedStream { .. } => true,
        }
    }

    /// The same route with its addresses in the form that the tables compare.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Direct { local, remote } => Self::Direct {
                local: canonical(local),
                remote: canonical(remote),
            },
            Self::RelayedUdp {
                local,
                server,
                channel,
            } => Self::RelayedUdp {
                local: canonical(local),
                server: canonical(server),
                channel,
            },
            Self::RelayedStream { stream, channel } => Self::RelayedStream { stream, channel },
        }
    }

    /// The socket that the route uses, for the two kinds that use one.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct { local, .. } | Self::RelayedUdp { local, .. } => Some(*local),
            Self::RelayedStream { .. } => None,
        }
    }
}

/// One spelling per address: v4-mapped becomes v4, and the flow label, which a sender may vary, is dropped.
/// The scope stays, since link-local addresses of two interfaces are two addresses.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_address_survives_the_way_through_quinn_with_flow_and_scope_zero() {
        for number in [0, 1, 0xffff, 0x1_0000, 0x0123_4567_89ab_cdef, u64::MAX] {
            let addr = VirtualAddr::new(number);
            let SocketAddr::V6(v6) = addr.to_socket_addr() else {
                panic!("not IPv6")
            };
            assert_eq!((v6.flowinfo(), v6.scope_id()), (0, 0));
            assert_ne!(v6.port(), 0);
            assert_eq!(
                VirtualAddr::from_socket_addr(SocketAddr::V6(v6)),
                Some(addr)
            );
        }
    }

    #[test]
    fn a_real_address_is_never_taken_for_a_virtual_one() {
        for real in [
            "127.0.0.1:1",
            "[::1]:1",
            "[fd73:7475:6e66:7765::1]:1",
            "[fd73:7475:6e66:7764::1]:2",
        ] {
            assert_eq!(
                VirtualAddr::from_socket_addr(real.parse().unwrap()),
                None,
                "{real}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_in_one_spelling() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(
            canonical(mapped),
            "192.0.2.1:7".parse::<SocketAddr>().unwrap()
        );
        let labelled = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 99, 3));
        let plain = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 3));
        assert_eq!(canonical(labelled), plain);
    }
}
