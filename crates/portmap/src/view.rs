//! What this crate reports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// By which protocol a gateway is asked, the preferred one first. Prints as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

impl Protocol {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// A port that a gateway claims to forward to one of our sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The socket it leads to, as bound.
    pub base: SocketAddr,
    /// Where the gateway claims to listen.
    pub external: SocketAddr,
    /// How it was made.
    pub protocol: Protocol,
}

/// What a gateway speaks; `None` is "not known yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Whether it answers PCP.
    pub pcp: Option<bool>,
    /// Whether it answers NAT-PMP.
    pub nat_pmp: Option<bool>,
    /// Whether it is a UPnP IGD.
    pub upnp: Option<bool>,
    /// The outside address that it claims.
    pub external_ip: Option<IpAddr>,
}

impl Presence {
    /// Returns what is known of one protocol.
    #[must_use]
    pub const fn of(&self, protocol: Protocol) -> Option<bool> {
        match protocol {
            Protocol::Pcp => self.pcp,
            Protocol::NatPmp => self.nat_pmp,
            Protocol::Upnp => self.upnp,
        }
    }

    pub(crate) const fn set(&mut self, protocol: Protocol, present: bool) {
        let place = match protocol {
            Protocol::Pcp => &mut self.pcp,
            Protocol::NatPmp => &mut self.nat_pmp,
            Protocol::Upnp => &mut self.upnp,
        };
        *place = Some(present);
    }

    /// The state of somebody who has no gateway to ask.
    pub(crate) const fn absent() -> Self {
        Self {
            pcp: Some(false),
            nat_pmp: Some(false),
            upnp: Some(false),
            external_ip: None,
        }
    }

    /// Puts the views of an IPv4 and an IPv6 gateway together: what either speaks is spoken.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            pcp: either(self.pcp, other.pcp),
            nat_pmp: either(self.nat_pmp, other.nat_pmp),
            upnp: either(self.upnp, other.upnp),
            external_ip: self.external_ip.or(other.external_ip),
        }
    }
}

const fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        (None, _) | (_, None) => None,
    }
}

/// Returns whether an address can be reached from anywhere, as far as its range says: behind one that cannot stands
/// another NAT, and no port opened here is open there.
pub(crate) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: the range between a home and its carrier.
            let is_shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || is_shared
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || a == 0)
        }
        // 2000::/3 is all that is given out.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_the_neighbourhood_can_reach_is_not_global() {
        let near = [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "fe80::1",
            "fd00::1",
            "::1",
            "::",
        ];
        for ip in near {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["100.63.0.1", "100.128.0.1", "203.0.113.7", "2001:db8::1"] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn what_one_of_two_gateways_speaks_is_spoken() {
        let known = Presence {
            pcp: Some(true),
            ..Presence::absent()
        };
        assert_eq!(known.or(Presence::absent()), known);
        assert_eq!(Presence::absent().or(known), known);
        assert_eq!(known.or(Presence::default()).upnp, None);
        assert_eq!(known.or(Presence::default()).pcp, Some(true));
    }
}
