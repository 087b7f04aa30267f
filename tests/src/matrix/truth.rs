//! What a program ought to say of its NAT, from what the lab made it of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use natlab::{Behavior, Filtering, Mapping, PortAllocation};
use serde_json::Value;

/// The NAT in front of a machine, in the words of `status --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// `type`
    pub kind: &'static str,
    /// `mapping`
    pub mapping: &'static str,
    /// `filtering`
    pub filtering: &'static str,
    /// `ports`
    pub ports: &'static str,
    /// The address of every IPv4 entry of `public`; none when no STUN server can be reached.
    pub public: Option<Ipv4Addr>,
    /// The address of every IPv6 entry of `public`, which need not have one.
    pub public_6: Option<Ipv6Addr>,
    /// The router takes packets of no binding for its own. A check that the peer's relay sends (which cannot have a low
    /// TTL) may come before our socket has written to that relay; then the socket gets another port for that flow, and
    /// on Linux for all later ones. Whoever sees two ports in such a run says the truth.
    pub may_shift: bool,
}

impl Truth {
    /// What is true behind a box, seen from outside as `public`.
    pub const fn of(behavior: &Behavior, public: Ipv4Addr) -> Self {
        if !behavior.udp {
            return Self {
                kind: "UDP Blocked",
                mapping: "unknown",
                filtering: "unknown",
                ports: "unknown",
                public: None,
                public_6: None,
                may_shift: false,
            };
        }
        let kind = match (behavior.mapping, behavior.filtering) {
            (Mapping::Untranslated, _) => "No NAT",
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent) => "Full Cone NAT",
            (Mapping::EndpointIndependent, Filtering::AddressDependent) => "Restricted Cone NAT",
            (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent) => {
                "Port Restricted Cone NAT"
            }
            (Mapping::AddressDependent | Mapping::AddressAndPortDependent, _) => "Symmetric NAT",
        };
        Self {
            kind,
            mapping: match behavior.mapping {
                Mapping::Untranslated | Mapping::EndpointIndependent => "endpoint-independent",
                Mapping::AddressDependent => "address-dependent",
                Mapping::AddressAndPortDependent => "address-and-port-dependent",
            },
            filtering: match behavior.filtering {
                Filtering::EndpointIndependent => "endpoint-independent",
                Filtering::AddressDependent => "address-dependent",
                Filtering::AddressAndPortDependent => "address-and-port-dependent",
            },
            ports: match behavior.ports {
                PortAllocation::Preserving => "preserving",
                PortAllocation::Sequential { .. } => "sequential",
                PortAllocation::Block { .. } | PortAllocation::Random => "random",
            },
            public: Some(public),
            public_6: None,
            may_shift: behavior.accepts_unsolicited
                && !matches!(behavior.mapping, Mapping::Untranslated),
        }
    }

    /// The same on a machine that has this IPv6 address too.
    #[must_use]
    pub const fn with_ipv6(self, address: Option<Ipv6Addr>) -> Self {
        Self {
            public_6: address,
            ..self
        }
    }

    /// What of the `nat` object of a status is not true, in one line each.
    pub fn contradictions(&self, nat: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let has_shifted = self.may_shift
            && nat["type"] == "Symmetric NAT"
            && nat["public"].as_array().is_some_and(|seen| seen.len() > 1);
        for (key, truth) in [
            ("type", self.kind),
            ("mapping", self.mapping),
            ("filtering", self.filtering),
        ] {
            if nat[key] != truth && !(has_shifted && key != "filtering") {
                wrong.push(format!("{key} is {truth}, not {}", nat[key]));
            }
        }
        let public: Vec<Option<SocketAddr>> = nat["public"]
            .as_array()
            .map(|addresses| addresses.iter().map(parsed).collect())
            .unwrap_or_default();
        let (four, six): (Vec<_>, Vec<_>) = public
            .into_iter()
            .partition(|address| !matches!(address, Some(SocketAddr::V6(_))));
        let are_all = |addresses: &[Option<SocketAddr>], ip: Option<IpAddr>| {
            let mut ips = addresses.iter().map(|it| it.map(|it| it.ip()));
            ips.all(|seen| seen.is_some() && seen == ip)
        };
        let is_right = four.is_empty() == self.public.is_none()
            && are_all(&four, self.public.map(IpAddr::from))
            && are_all(&six, self.public_6.map(IpAddr::from));
        if !is_right {
            let truth = self.public.map(|ip| ip.to_string());
            let truth = truth.as_deref().unwrap_or("nowhere");
            wrong.push(format!("it is seen at {truth}, not {}", nat["public"]));
        }
        wrong
    }

    /// The same, and of how ports are chosen too.
    pub fn contradictions_and_of_ports(&self, nat: &Value) -> Vec<String> {
        let mut wrong = self.contradictions(nat);
        if nat["ports"] != self.ports {
            wrong.push(format!("ports is {}, not {}", self.ports, nat["ports"]));
        }
        wrong
    }
}

fn parsed(address: &Value) -> Option<SocketAddr> {
    address.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lab::{Home, Nat};

    const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    #[test]
    fn only_a_router_without_a_wan_firewall_may_have_moved_a_socket_to_a_second_port() {
        let shifted = json!({
            "type": "Symmetric NAT", "mapping": "address-dependent",
            "filtering": "address-and-port-dependent",
            "public": ["198.51.100.2:5", "198.51.100.2:6"],
        });
        let home = Home::behind(Nat::PortRestricted).behavior();
        assert_eq!(Truth::of(&home, HERE).contradictions(&shifted).len(), 2);
        let open = Truth::of(&home.without_wan_firewall(), HERE);
        assert_eq!(open.contradictions(&shifted), Vec::<String>::new());
        let mut unproven = shifted;
        unproven["public"] = json!(["198.51.100.2:5"]);
        assert_eq!(open.contradictions(&unproven).len(), 2);
    }

    #[test]
    fn every_kind_has_the_name_that_users_read() {
        let named = |home: Home| Truth::of(&home.behavior(), HERE).kind;
        for (nat, name) in [
            (Nat::None, "No NAT"),
            (Nat::Firewall, "No NAT"),
            (Nat::FullCone, "Full Cone NAT"),
            (Nat::AddressRestricted, "Restricted Cone NAT"),
            (Nat::PortRestricted, "Port Restricted Cone NAT"),
            (Nat::PortRestrictedRandom, "Port Restricted Cone NAT"),
            (Nat::Symmetric, "Symmetric NAT"),
            (Nat::UdpBlocked, "UDP Blocked"),
        ] {
            assert_eq!(named(Home::behind(nat)), name);
        }
        let carried = Home::behind(Nat::FullCone).with_carrier(Nat::Symmetric);
        assert_eq!(named(carried), "Symmetric NAT");
    }

    #[test]
    fn each_contradiction_is_named() {
        let truth = Truth::of(&Nat::PortRestricted.behavior(), HERE);
        let right = json!({ "type": "Port Restricted Cone NAT", "mapping": "endpoint-independent",
            "filtering": "address-and-port-dependent", "public": ["198.51.100.2:4000"] });
        assert_eq!(truth.contradictions(&right), [""; 0]);
        let wrong = json!({ "type": "Unknown", "mapping": "endpoint-independent",
            "filtering": "unknown", "public": ["198.51.100.2:4000", "192.0.2.2:1"], "ports": "random" });
        assert_eq!(truth.contradictions(&wrong).len(), 3);
        assert_eq!(truth.contradictions_and_of_ports(&wrong).len(), 4);
    }

    #[test]
    fn an_ipv6_address_may_be_seen_where_there_is_one() {
        let nat = json!({ "type": "Symmetric NAT", "mapping": "address-and-port-dependent",
            "filtering": "address-and-port-dependent", "public": ["198.51.100.2:4000", "[2001:db8::5]:1"] });
        let truth = Truth::of(&Nat::Symmetric.behavior(), HERE);
        assert_eq!(truth.contradictions(&nat).len(), 1);
        let own = truth.with_ipv6("2001:db8::5".parse().ok());
        assert_eq!(own.contradictions(&nat), [""; 0]);
        let other = truth.with_ipv6("2001:db8::6".parse().ok());
        assert_eq!(other.contradictions(&nat).len(), 1);
    }
}
