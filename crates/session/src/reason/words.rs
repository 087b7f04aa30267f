//! Causes and remedies in words for people, the same at both ends: the ends are called client and server.

use std::fmt;

use super::Diagnosis;
use super::cause::{Cause, Tried};
use super::end::Ends;
use super::remedy::Remedy;
use crate::description::Side;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Trying => f.write_str("direct paths are being tried; none has answered yet"),
            Self::Examining(ends) => write!(
                f,
                "{} still being examined; direct paths are being tried",
                nat_is(ends)
            ),
            Self::Configured(ends) => write!(f, "{} configured with `direct: false`", are(ends)),
            Self::UdpBlocked(ends) => write!(f, "UDP is blocked on {}", networks(ends)),
            Self::NoCommonFamily { ipv6_only } => write!(
                f,
                "the {} can be reached over IPv6 only, and the {} over IPv4 only",
                word(ipv6_only),
                word(ipv6_only.other())
            ),
            Self::SmallPacketsOnly => f.write_str(
                "small packets pass between client and server, and packets of 1200 bytes do not",
            ),
            Self::OneDirection { arrives_at } => {
                let (there, back) = (word(arrives_at), word(arrives_at.other()));
                write!(
                    f,
                    "direct packets pass in one direction only: they arrive at the {there}, and nothing \
                     comes back to the {back}"
                )
            }
            Self::PooledAddresses(ends) => write!(
                f,
                "{} several public addresses in turn, so that none is right for a direct path",
                nat_uses(ends)
            ),
            Self::BothUnpredictable => f.write_str(
                "both NATs pick a new port for every destination, and these ports cannot be foreseen",
            ),
            Self::BothSequential(tried) => write!(
                f,
                "both NATs pick a new port for every destination, one after the other; {}",
                search(tried)
            ),
            Self::PortUnknown { picks, tried } => write!(
                f,
                "the {}'s NAT picks a new port for every destination and the {}'s filters by port; {}",
                word(picks),
                word(picks.other()),
                search(tried)
            ),
            Self::NothingArrives => f.write_str(
                "direct packets are sent by both ends and none arrives: a firewall between them \
                 stops them",
            ),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AllowDirect(ends) => {
                write!(f, "without that on {} a direct path may work", sides(ends))
            }
            Self::AllowUdp(ends) => write!(
                f,
                "allow outgoing UDP on {} for a direct path",
                networks(ends)
            ),
            Self::UseIpv6(side) => {
                write!(f, "use IPv6 on the {}'s network for a direct path", word(side))
            }
            Self::EnablePortMapping { at, port } => write!(
                f,
                "enable UPnP on the {}'s router, or {} there, for a direct path",
                word(at),
                open(port)
            ),
            Self::ForwardPort { at, port } => write!(
                f,
                "{} on the {}'s router for a direct path",
                open(port),
                word(at)
            ),
            Self::OpenFirewall { at, port } => write!(
                f,
                "{} in the {}'s firewall for a direct path",
                open(port),
                word(at)
            ),
            Self::AskProvider { ipv6_at: None } => f.write_str(
                "ask the provider of either network for a public address, or use IPv6 on both, for a \
                 direct path",
            ),
            Self::AskProvider {
                ipv6_at: Some(side),
            } => write!(
                f,
                "use IPv6 on the {}'s network, or ask the provider of either for a public address, for \
                 a direct path",
                word(side)
            ),
            Self::RaiseMtu => f.write_str(
                "a VPN or tunnel on the way with a larger MTU, or none, would give a direct path",
            ),
        }
    }
}

const fn word(side: Side) -> &'static str {
    match side {
        Side::Ingress => "client",
        Side::Egress => "server",
    }
}

/// "the client is", as the beginning of a sentence.
pub(super) const fn are(ends: Ends) -> &'static str {
    match ends {
        Ends::Ingress => "the client is",
        Ends::Egress => "the server is",
        Ends::Both => "client and server are",
    }
}

const fn sides(ends: Ends) -> &'static str {
    match ends {
        Ends::Ingress => "the client",
        Ends::Egress => "the server",
        Ends::Both => "both ends",
    }
}

const fn networks(ends: Ends) -> &'static str {
    match ends {
        Ends::Ingress => "the client's network",
        Ends::Egress => "the server's network",
        Ends::Both => "the networks of both ends",
    }
}

const fn nat_is(ends: Ends) -> &'static str {
    match ends {
        Ends::Ingress => "the client's NAT is",
        Ends::Egress => "the server's NAT is",
        Ends::Both => "both NATs are",
    }
}

const fn nat_uses(ends: Ends) -> &'static str {
    match ends {
        Ends::Ingress => "the client's NAT uses",
        Ends::Egress => "the server's NAT uses",
        Ends::Both => "both NATs use",
    }
}

const fn search(tried: Tried) -> &'static str {
    match tried {
        Tried::Running => "the port is being searched for",
        Tried::NeverSent => {
            "the port was not searched for, as too few sockets or packets are allowed"
        }
        Tried::NeverArrived => "the port was searched for, and no probe arrived",
        Tried::Unanswered => {
            "the port was searched for, and probes arrived but no answer came back"
        }
    }
}

fn open(port: Option<u16>) -> String {
    match port {
        Some(port) => format!("open UDP {port}"),
        None => "open a UDP port".to_owned(),
    }
}
