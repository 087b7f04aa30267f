//! What would make a path direct, at the least expense.

use super::cause::Cause;
use super::end::{End, Ends};
use crate::description::Side;

/// The cheapest change that would make a path direct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// Take `direct: false` out of the configuration of these.
    AllowDirect(Ends),
    /// Let UDP out of the networks of these.
    AllowUdp(Ends),
    /// Use IPv6 at this end: the other has nothing else.
    UseIpv6(Side),
    /// Turn UPnP, NAT-PMP or PCP on in the router of this end; or forward a port there.
    EnablePortMapping {
        /// Whose router.
        at: Side,
        /// The UDP port of its socket.
        port: Option<u16>,
    },
    /// Forward a port in the router of this end, which does not do it when it is asked.
    ForwardPort {
        /// Whose router.
        at: Side,
        /// The UDP port of its socket.
        port: Option<u16>,
    },
    /// Let a port in through the firewall of this end, which has a public address.
    OpenFirewall {
        /// Whose firewall.
        at: Side,
        /// The UDP port of its socket.
        port: Option<u16>,
    },
    /// The routers of both ends are behind their providers': only those can give a public address.
    AskProvider {
        /// Whether IPv6 at one of the ends would do, since the other has it.
        ipv6_at: Option<Side>,
    },
    /// Let packets of 1,200 bytes through.
    RaiseMtu,
}

impl Remedy {
    pub(super) fn of(cause: Cause, ingress: &End, egress: &End) -> Option<Self> {
        match cause {
            Cause::Trying | Cause::Examining(_) => None,
            Cause::Configured(ends) => Some(Self::AllowDirect(ends)),
            Cause::UdpBlocked(ends) => Some(Self::AllowUdp(ends)),
            Cause::NoCommonFamily { ipv6_only } => Some(Self::UseIpv6(ipv6_only.other())),
            Cause::SmallPacketsOnly => Some(Self::RaiseMtu),
            // What comes the other way is kept out where it should arrive.
            Cause::OneDirection { arrives_at } => {
                let shut = arrives_at.other();
                let end = match shut {
                    Side::Ingress => ingress,
                    Side::Egress => egress,
                };
                Some(opening(shut, end))
            }
            Cause::PooledAddresses(_)
            | Cause::BothUnpredictable
            | Cause::BothSequential(_)
            | Cause::PortUnknown { .. }
            | Cause::NothingArrives => Some(cheapest(ingress, egress)),
        }
    }
}

/// What it takes to be reached by everybody, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Price {
    Firewall,
    Switch,
    Forwarding,
    /// Packets leave from other addresses than they come in by.
    Doubtful,
    Provider,
}

fn price(end: &End) -> Price {
    if end.nat.double_nat == Some(true) {
        Price::Provider
    } else if end.nat.pooled == Some(true) {
        Price::Doubtful
    } else if !end.is_translated {
        Price::Firewall
    } else if ["", "absent"].contains(&end.nat.port_mapping.as_str()) {
        Price::Switch
    } else {
        Price::Forwarding
    }
}

/// One end that everybody reaches is enough. Among equals it is the server, which stays where it is.
fn cheapest(ingress: &End, egress: &End) -> Remedy {
    if price(ingress) < price(egress) {
        opening(Side::Ingress, ingress)
    } else if price(egress) == Price::Provider {
        let ipv6_at = match (ingress.nat.ipv6, egress.nat.ipv6) {
            (Some(true), Some(false) | None) => Some(Side::Egress),
            (Some(false) | None, Some(true)) => Some(Side::Ingress),
            _ => None,
        };
        Remedy::AskProvider { ipv6_at }
    } else {
        opening(Side::Egress, egress)
    }
}

fn opening(at: Side, end: &End) -> Remedy {
    let port = end.port;
    match price(end) {
        Price::Firewall => Remedy::OpenFirewall { at, port },
        Price::Switch => Remedy::EnablePortMapping { at, port },
        Price::Forwarding | Price::Doubtful => Remedy::ForwardPort { at, port },
        Price::Provider => Remedy::AskProvider { ipv6_at: None },
    }
}
