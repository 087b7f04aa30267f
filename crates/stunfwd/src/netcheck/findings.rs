//! The answer of a netcheck: `netcheck --json`, and the same for people.

use std::fmt;
use std::net::SocketAddr;

use natprobe::{LifetimeReport, Report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outlook::Outlook;
use crate::nat_status::NatStatus;

/// What was found out. The names are an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// The NAT, with the same members as in `status`, `ipv6` and `portMapping` among them.
    #[serde(flatten)]
    pub nat: NatStatus,
    /// Whether any server answered over UDP.
    pub udp: bool,
    /// How IPv6 filters: its firewall (RFC 4787, section 5); `None` where nothing answers over IPv6.
    pub ipv6_filtering: Option<String>,
    /// `paired` or `arbitrary`: how a NAT with several outside addresses uses them.
    pub pooling: Option<String>,
    /// Whether a router rewrites addresses inside packets.
    pub alg: Option<bool>,
    /// How far the words above can be relied upon.
    pub confidence: Certainties,
    /// Why they are what they are.
    pub evidence: Vec<String>,
    /// How many seconds a binding lives without a packet at least; `None` unless it was searched for.
    pub binding_lifetime_secs: Option<u64>,
    /// After how many seconds a binding ends whatever passes; `None` when none did, or it was not searched for.
    pub absolute_lifetime_secs: Option<u64>,
    /// Why the lifetimes are what they are.
    pub lifetime_evidence: Vec<String>,
    /// The servers that were asked.
    pub servers: Vec<ServerFinding>,
    /// With whom direct connections will work.
    pub direct: Outlook,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What one server said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFinding {
    /// Its name as configured or offered.
    pub name: Option<String>,
    /// Its address.
    pub server: SocketAddr,
    /// Whether it answered.
    pub answered: bool,
    /// Round trip in milliseconds; `None` when it answered to repeated requests only, or not at all.
    pub rtt_ms: Option<f64>,
    /// Where it sees us.
    pub public: Option<SocketAddr>,
}

/// `high`, `medium` or `low`, for each word that could be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certainties {
    /// How sure the mapping behaviour is.
    pub mapping: String,
    /// How sure the filtering behaviour is.
    pub filtering: String,
    /// How sure the pattern of the ports is.
    pub ports: String,
}

impl Certainties {
    pub(super) fn of(report: &Report) -> Self {
        let confidence = report.confidence;
        Self {
            mapping: confidence.mapping.to_string(),
            filtering: confidence.filtering.to_string(),
            ports: confidence.ports.to_string(),
        }
    }
}

/// The longest silence that a binding outlived.
pub(super) fn idle_secs(report: &LifetimeReport) -> Option<u64> {
    report.idle_alive.map(|idle| idle.as_secs())
}

/// The age at which one ended although it was used.
pub(super) fn absolute_secs(report: &LifetimeReport) -> Option<u64> {
    report.absolute.map(|age| age.as_secs())
}

impl Findings {
    /// Returns the JSON: the members of `nat` at the top level, and once more as `nat`, for whoever reads `status`, too.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let both = serde_json::to_value(self).and_then(|mut all| {
            all["nat"] = serde_json::to_value(&self.nat)?;
            Ok(all)
        });
        both.expect("names and numbers are always JSON")
    }
}

/// The text for people.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.nat)?;
        let mut rows: Vec<(&str, String)> = vec![
            ("UDP", works(self.udp)),
            ("IPv6", self.ipv6_text()),
            ("Hairpin", yes_or_no(self.nat.hairpin)),
        ];
        if let Some(pooling) = &self.pooling {
            rows.push(("Outside addresses", pooling.clone()));
        }
        if self.alg == Some(true) {
            rows.push((
                "ALG",
                "a router rewrites addresses inside packets".to_owned(),
            ));
        }
        rows.push(("Port mapping", self.nat.port_mapping.to_string()));
        if let Some(secs) = self.binding_lifetime_secs {
            rows.push(("Binding lifetime", self.lifetime_text(secs)));
        }
        for sentence in &self.lifetime_evidence {
            rows.push(("", sentence.clone()));
        }
        for server in &self.servers {
            rows.push(("Server", server.to_string()));
        }
        for note in &self.notes {
            rows.push(("Note", note.clone()));
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, text) in rows {
            writeln!(f, "{name:width$}  {}", crate::status::plain(&text))?;
        }
        write!(f, "{}", self.direct)
    }
}

impl Findings {
    fn ipv6_text(&self) -> String {
        match (self.nat.ipv6, self.ipv6_filtering.as_deref()) {
            (Some(true), Some("endpoint-independent")) => "works, without a firewall".to_owned(),
            (Some(true), Some("unknown") | None) => "works".to_owned(),
            (Some(true), Some(_)) => "works, behind a firewall".to_owned(),
            (Some(false), _) => "does not lead to the internet".to_owned(),
            (None, _) => "not known: no server has an IPv6 address".to_owned(),
        }
    }

    fn lifetime_text(&self, secs: u64) -> String {
        match self.absolute_lifetime_secs {
            Some(age) => format!("{secs} s without a packet, and never more than {age} s"),
            None => format!("at least {secs} s without a packet"),
        }
    }
}

impl fmt::Display for ServerFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.server.to_string();
        match &self.name {
            Some(name) if *name != address => write!(f, "{name} ({address})")?,
            _ => f.write_str(&address)?,
        }
        match (self.answered, self.rtt_ms) {
            (false, _) => f.write_str(": no answer")?,
            (true, None) => f.write_str(": answered after losses")?,
            (true, Some(rtt)) => write!(f, ": {rtt:.1} ms")?,
        }
        match self.public {
            Some(public) => write!(f, ", sees {public}"),
            None => Ok(()),
        }
    }
}

fn works(udp: bool) -> String {
    if udp { "works" } else { "no answer" }.to_owned()
}

fn yes_or_no(known: Option<bool>) -> String {
    match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use session::GatewayView;

    use super::*;

    fn example() -> Findings {
        let report = Report {
            behind_nat: Some(true),
            mapping: natprobe::MappingBehavior::EndpointIndependent,
            filtering: natprobe::FilteringBehavior::AddressAndPortDependent,
            reflexive: vec!["203.0.113.5:4242".parse().unwrap()],
            hairpin: Some(false),
            udp: true,
            ..Report::default()
        };
        let gateway = GatewayView {
            upnp: Some(true),
            pcp: Some(false),
            ..GatewayView::default()
        };
        Findings {
            nat: NatStatus::of(&report, &gateway).with_ipv6(Some(false), None),
            udp: true,
            ipv6_filtering: None,
            pooling: None,
            alg: Some(false),
            confidence: Certainties::of(&report),
            evidence: vec!["three servers see the same address".to_owned()],
            binding_lifetime_secs: None,
            absolute_lifetime_secs: None,
            lifetime_evidence: Vec::new(),
            servers: vec![ServerFinding {
                name: Some("stun.example.org:3478".to_owned()),
                server: "192.0.2.1:3478".parse().unwrap(),
                answered: true,
                rtt_ms: Some(1.25),
                public: Some("203.0.113.5:4242".parse().unwrap()),
            }],
            direct: Outlook::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_json_has_the_names_of_the_manual() {
        let json = example().to_json();
        let nat = serde_json::json!({
            "type": "Port Restricted Cone NAT", "mapping": "endpoint-independent",
            "filtering": "address-and-port-dependent", "public": ["203.0.113.5:4242"],
            "hairpin": false, "ports": "unknown", "portRange": null, "portStride": null,
            "ipv6": false, "doubleNat": null,
            "portMapping": { "pcp": false, "natPmp": null, "upnp": true }
        });
        assert_eq!(json["nat"], nat);
        for (name, value) in nat.as_object().unwrap() {
            assert_eq!(&json[name], value, "{name} at the top level");
        }
        assert_eq!(json["udp"], true);
        assert_eq!(json["bindingLifetimeSecs"], Value::Null);
        assert!(
            json.as_object()
                .unwrap()
                .contains_key("bindingLifetimeSecs")
        );
        assert_eq!(
            json["servers"],
            serde_json::json!([{ "name": "stun.example.org:3478", "server": "192.0.2.1:3478",
                "answered": true, "rttMs": 1.25, "public": "203.0.113.5:4242" }])
        );
    }

    #[test]
    fn the_table_says_the_same_to_people() {
        assert_eq!(
            example().to_string(),
            "NAT: Port Restricted Cone NAT (mapping endpoint-independent, filtering \
             address-and-port-dependent, ports unknown), seen as 203.0.113.5:4242\n\
             UDP           works\n\
             IPv6          does not lead to the internet\n\
             Hairpin       no\n\
             Port mapping  the router speaks UPnP\n\
             Server        stun.example.org:3478 (192.0.2.1:3478): 1.2 ms, sees 203.0.113.5:4242\n\
             Direct connections: too little is known to say with whom they will work."
        );
    }
}
