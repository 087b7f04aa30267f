//! The forms in which the client proposes its table to the server.

use serde::{Deserialize, Serialize};

use crate::{MappingId, PortMapping, PortRange, Protocol};

/// A proposed table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireTable {
    /// The version proposed.
    pub version: u64,
    /// Its mappings in ascending order of their ids.
    pub mappings: Vec<WireMapping>,
}

/// One mapping as the server needs it: what to dial, not what is listened on.
///
/// The host came from a peer and may be anything: [`AllowList::permits_mapping`](crate::AllowList::permits_mapping)
/// is asked before it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireMapping {
    /// The client's name for it.
    pub id: MappingId,
    /// The transport.
    pub protocol: Protocol,
    /// Who is to be reached, IPv6 addresses in brackets or not; `None` is the server's loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_host: Option<String>,
    /// Which ports; a flow names one by its offset from the first.
    pub target_ports: PortRange,
    /// The rule as the client's user wrote it, for the server's log.
    pub spec: String,
}

impl WireMapping {
    /// Makes the wire form.
    #[must_use]
    pub fn new(id: MappingId, mapping: &PortMapping) -> Self {
        Self {
            id,
            protocol: mapping.protocol(),
            target_host: mapping.target_host().map(ToString::to_string),
            target_ports: mapping.target_ports(),
            spec: mapping.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_fixed() {
        let mapping = "tcp:8000-8001:[::1]:9000-9001".parse().unwrap();
        let wire = WireTable {
            version: 3,
            mappings: vec![WireMapping::new(MappingId::new(7), &mapping)],
        };
        let json = serde_json::to_string(&wire).unwrap();
        assert_eq!(
            json,
            r#"{"version":3,"mappings":[{"id":7,"protocol":"tcp","targetHost":"[::1]","targetPorts":{"first":9000,"last":9001},"spec":"tcp:8000-8001:[::1]:9000-9001"}]}"#
        );
        assert_eq!(serde_json::from_str::<WireTable>(&json).unwrap(), wire);
    }
}
