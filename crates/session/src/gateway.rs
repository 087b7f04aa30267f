//! What a gateway on our own network does for us: port mappings, and whether it can make any.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// By which protocol a gateway was asked. Prints as `pcp`, `nat-pmp` or `upnp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayProtocol {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

impl GatewayProtocol {
    const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }
}

impl fmt::Display for GatewayProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no [`GatewayProtocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a gateway protocol: pcp, nat-pmp or upnp is wanted")]
pub struct UnknownGatewayProtocol;

impl FromStr for GatewayProtocol {
    type Err = UnknownGatewayProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.as_str() == text)
            .ok_or(UnknownGatewayProtocol)
    }
}

/// A port that a gateway says it forwards to one of our sockets. It is believed only once verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The socket it leads to, as bound.
    pub base: SocketAddr,
    /// The address at which the gateway says it listens.
    pub external: SocketAddr,
    /// How it was made.
    pub protocol: GatewayProtocol,
}

/// What is known of the gateway; `None` is "not known yet".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayView {
    /// Whether it speaks PCP.
    pub pcp: Option<bool>,
    /// Whether it speaks NAT-PMP.
    pub nat_pmp: Option<bool>,
    /// Whether it is a UPnP IGD.
    pub upnp: Option<bool>,
    /// Its own outside address; a private one means that another NAT stands behind it.
    pub external_ip: Option<IpAddr>,
}

impl GatewayView {
    /// Returns whether it can be asked for a port mapping at all; `None` while that is not known.
    #[must_use]
    pub fn is_present(&self) -> Option<bool> {
        let all = [self.pcp, self.nat_pmp, self.upnp];
        if all.contains(&Some(true)) {
            Some(true)
        } else if all.contains(&None) {
            None
        } else {
            Some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_every_protocol_is_read_back() {
        for protocol in GatewayProtocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert_eq!(
            "UPnP".parse::<GatewayProtocol>(),
            Err(UnknownGatewayProtocol)
        );
    }

    #[test]
    fn a_gateway_is_absent_only_when_it_speaks_none_of_the_three() {
        let absent = GatewayView {
            pcp: Some(false),
            nat_pmp: Some(false),
            upnp: Some(false),
            external_ip: None,
        };
        assert_eq!(absent.is_present(), Some(false));
        let unknown = GatewayView {
            upnp: None,
            ..absent
        };
        assert_eq!(unknown.is_present(), None);
        let present = GatewayView {
            pcp: Some(true),
            upnp: None,
            ..absent
        };
        assert_eq!(present.is_present(), Some(true));
        assert_eq!(GatewayView::default().is_present(), None);
    }
}
