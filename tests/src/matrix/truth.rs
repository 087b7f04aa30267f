//! What a program ought to say of its NAT, from what the lab made it of.

use std::net::{Ipv4Addr, SocketAddr};

use natlab::{Behavior, Filtering, Mapping};
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
    /// The address of every entry of `public`; none when no STUN server can be reached.
    pub public: Option<Ipv4Addr>,
}

impl Truth {
    /// What is true behind a box, seen from outside as `public`.
    pub const fn of(behavior: &Behavior, public: Ipv4Addr) -> Self {
        if !behavior.udp {
            return Self {
                kind: "UDP Blocked",
                mapping: "unknown",
                filtering: "unknown",
                public: None,
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
            public: Some(public),
        }
    }

    /// What of the `nat` object of a status is not true, in one line each.
    pub fn contradictions(&self, nat: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, truth) in [
            ("type", self.kind),
            ("mapping", self.mapping),
            ("filtering", self.filtering),
        ] {
            if nat[key] != truth {
                wrong.push(format!("{key} is {truth}, not {}", nat[key]));
            }
        }
        let public: Vec<Option<SocketAddr>> = nat["public"]
            .as_array()
            .map(|addresses| addresses.iter().map(parsed).collect())
            .unwrap_or_default();
        let is_right = match self.public {
            None => public.is_empty(),
            Some(ip) => {
                let seen_there = |address: &Option<SocketAddr>| {
                    address.is_some_and(|address| address.ip() == ip)
                };
                !public.is_empty() && public.iter().all(seen_there)
            }
        };
        if !is_right {
            let truth = self.public.map(|ip| ip.to_string());
            let truth = truth.as_deref().unwrap_or("nowhere");
            wrong.push(format!("it is seen at {truth}, not {}", nat["public"]));
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
            "filtering": "unknown", "public": ["198.51.100.2:4000", "192.0.2.2:1"] });
        assert_eq!(truth.contradictions(&wrong).len(), 3);
    }
}
