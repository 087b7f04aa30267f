//! The NAT in front of this machine, as `status` and `netcheck` show it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use natprobe::{PortAllocation, Report};
use serde::{Deserialize, Serialize};
use session::GatewayView;

/// The NAT in front of this machine, in the words of `natprobe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatStatus {
    /// The classic name, `Full Cone NAT` for example.
    #[serde(rename = "type")]
    pub kind: String,
    /// Mapping behaviour (RFC 4787, section 4.1).
    pub mapping: String,
    /// Filtering behaviour (RFC 4787, section 5).
    pub filtering: String,
    /// Where STUN servers see us, IPv4 first.
    pub public: Vec<SocketAddr>,
    /// Whether the NAT turns packets to its own outside address back.
    pub hairpin: Option<bool>,
    /// How it gives ports out.
    pub ports: String,
    /// The range that it gives this machine ports from, the lowest and the highest seen, where it is a small one.
    #[serde(default)]
    pub port_range: Option<(u16, u16)>,
    /// The step from one port to the next, where they are sequential.
    #[serde(default)]
    pub port_stride: Option<i32>,
    /// Whether IPv6 leads to the internet; `None` while that is not known.
    #[serde(default)]
    pub ipv6: Option<bool>,
    /// Whether there is a second NAT behind the first; `None` while that is not known.
    #[serde(default)]
    pub double_nat: Option<bool>,
    /// What the gateway understands.
    #[serde(default)]
    pub port_mapping: PortMappingStatus,
}

/// How a gateway can be asked to forward a port; `None` while that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMappingStatus {
    /// Whether it speaks PCP (RFC 6887).
    pub pcp: Option<bool>,
    /// Whether it speaks NAT-PMP (RFC 6886).
    pub nat_pmp: Option<bool>,
    /// Whether it is a UPnP IGD.
    pub upnp: Option<bool>,
    /// The addresses that it forwards to us, as seen from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified: Vec<SocketAddr>,
}

impl Default for NatStatus {
    /// Nothing was measured yet.
    fn default() -> Self {
        Self::of(&Report::default(), &GatewayView::default()).with_kind(natprobe::NatType::Unknown)
    }
}

impl NatStatus {
    /// Puts together what was found out about the NAT and from its gateway.
    pub(crate) fn of(report: &Report, gateway: &GatewayView) -> Self {
        let (port_range, port_stride) = match report.ports {
            PortAllocation::Block { first, last } => (Some((first, last)), None),
            PortAllocation::Sequential { stride } => (None, Some(stride)),
            PortAllocation::Preserving | PortAllocation::Random | PortAllocation::Unknown => {
                (None, None)
            }
        };
        Self {
            kind: report.nat_type().to_string(),
            mapping: report.mapping.to_string(),
            filtering: report.filtering.to_string(),
            public: report.reflexive.clone(),
            hairpin: report.hairpin,
            ports: report.ports.to_string(),
            port_range,
            port_stride,
            ipv6: None,
            double_nat: double_nat(report, gateway.external_ip),
            port_mapping: PortMappingStatus {
                pcp: gateway.pcp,
                nat_pmp: gateway.nat_pmp,
                upnp: gateway.upnp,
                verified: Vec::new(),
            },
        }
    }

    /// Adds the forwarded addresses that somebody outside came in through.
    pub(crate) fn with_verified(mut self, external: impl Iterator<Item = SocketAddr>) -> Self {
        self.port_mapping.verified = external.collect();
        self
    }

    /// Adds what was found out about IPv6.
    pub(crate) fn with_ipv6(mut self, works: Option<bool>, report: Option<&Report>) -> Self {
        self.ipv6 = works;
        let more = report.into_iter().flat_map(|report| &report.reflexive);
        for address in more {
            if !self.public.contains(address) {
                self.public.push(*address);
            }
        }
        self
    }

    pub(crate) fn with_kind(mut self, kind: natprobe::NatType) -> Self {
        self.kind = kind.to_string();
        self
    }
}

/// Says whether what the gateway calls its outside address is the inside of another NAT.
fn double_nat(report: &Report, external: Option<IpAddr>) -> Option<bool> {
    if report.behind_nat == Some(false) {
        return Some(false);
    }
    let external = external.filter(IpAddr::is_ipv4)?;
    let seen = report.reflexive.iter().map(SocketAddr::ip);
    let mut seen = seen.filter(IpAddr::is_ipv4).peekable();
    seen.peek()?;
    // One of several pooled addresses is enough.
    Some(!seen.any(|ip| ip == external))
}

impl fmt::Display for NatStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            mapping,
            filtering,
            public,
            ports,
            port_range,
            port_stride,
            ..
        } = self;
        write!(
            f,
            "NAT: {kind} (mapping {mapping}, filtering {filtering}, ports {ports}"
        )?;
        match (port_range, port_stride) {
            (Some((first, last)), _) => write!(f, " within {first}-{last}")?,
            (None, Some(stride)) => write!(f, " in steps of {stride}")?,
            (None, None) => {}
        }
        f.write_str(")")?;
        for (index, address) in public.iter().enumerate() {
            let before = if index == 0 { ", seen as " } else { ", " };
            write!(f, "{before}{address}")?;
        }
        if self.double_nat == Some(true) {
            f.write_str(", behind a second NAT")?;
        }
        Ok(())
    }
}

impl fmt::Display for PortMappingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("UPnP", self.upnp),
            ("NAT-PMP", self.nat_pmp),
            ("PCP", self.pcp),
        ];
        let named = |wanted| {
            let those = all.iter().filter(move |(_, known)| *known == wanted);
            those.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let (spoken, unknown) = (named(Some(true)), named(None));
        match (spoken.is_empty(), unknown.is_empty()) {
            (false, _) => write!(f, "the router speaks {}", spoken.join(", "))?,
            (true, true) => f.write_str("no router here answers UPnP, NAT-PMP or PCP")?,
            (true, false) => f.write_str("not known")?,
        }
        for external in &self.verified {
            write!(f, " and forwards {external}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(public: &[&str]) -> Report {
        Report {
            behind_nat: Some(true),
            udp: true,
            reflexive: public.iter().map(|text| text.parse().unwrap()).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_gateway_whose_outside_address_the_internet_does_not_see_is_behind_another_nat() {
        let seen = report(&["203.0.113.5:4242", "203.0.113.6:4243"]);
        fn double(report: &Report, ip: Option<&str>) -> Option<bool> {
            double_nat(report, ip.map(|it| it.parse().unwrap()))
        }
        assert_eq!(double(&seen, Some("100.64.0.7")), Some(true));
        assert_eq!(double(&seen, Some("203.0.113.6")), Some(false));
        assert_eq!(double(&seen, None), None);
        assert_eq!(double(&report(&[]), Some("100.64.0.7")), None);
        let without_nat = Report {
            behind_nat: Some(false),
            ..report(&["203.0.113.5:4242"])
        };
        assert_eq!(double(&without_nat, None), Some(false));
    }

    #[test]
    fn the_pattern_of_the_ports_is_told_with_its_figures() {
        let with = |ports| {
            let report = Report {
                ports,
                ..report(&["203.0.113.5:4242"])
            };
            NatStatus::of(&report, &GatewayView::default())
        };
        let sequential = with(PortAllocation::Sequential { stride: 2 });
        assert_eq!(sequential.port_stride, Some(2));
        let text = sequential.to_string();
        assert!(text.contains("ports sequential in steps of 2)"), "{text}");
        let block = with(PortAllocation::Block {
            first: 40_000,
            last: 40_127,
        });
        assert_eq!(
            (block.ports.as_str(), block.port_range),
            ("random", Some((40_000, 40_127)))
        );
        let text = block.to_string();
        assert!(text.contains("ports random within 40000-40127)"), "{text}");
    }
}
