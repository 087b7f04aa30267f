//! What a running program says of itself: the JSON of `status --json`, and the same as a table.
//!
//! The names are an interface. Words that other crates own (the kind of a NAT, of a path, how it was found)
//! are strings here, so that each is written once, where it is decided.

use std::{fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use crate::nat_status::{NatStatus, PortMappingStatus};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `client` or `server`.
    pub role: String,
    /// The version of the program.
    pub version: String,
    /// How far it is.
    pub state: State,
    /// What it waits for, or why the path is not direct and what would help.
    pub reason: Option<String>,
    /// The NAT in front of this machine.
    pub nat: NatStatus,
    /// The other side's processes.
    pub peers: Vec<PeerStatus>,
    /// The committed version of the mapping table; 0 before the first.
    pub mapping_version: u64,
    /// The mappings in the order of the table.
    pub mappings: Vec<MappingStatus>,
    /// What the program holds at the moment.
    #[serde(default)]
    pub process: ProcessStatus,
}

/// What the program holds, so that a leak shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Tasks of the thread that moves the data.
    pub tasks: u64,
    /// Open TCP connections and UDP flows.
    pub flows: u64,
    /// Connections that were reset since the program started because there were too many at once.
    pub refused_connections: u64,
}

/// How far the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No peer is known.
    Waiting,
    /// A peer is known; the first table version is not committed yet.
    Connecting,
    /// The table is committed and every accepted mapping carries.
    Connected,
}

/// One process of the other side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its identity, short.
    pub id: String,
    /// How far it is.
    pub state: PeerState,
    /// The path that carries QUIC.
    pub path: Option<PathStatus>,
    /// The TCP lane beside it, when one is used.
    pub tcp_lane: Option<LaneStatus>,
    /// What it waits for, or why its path is not direct and what would help.
    pub reason: Option<String>,
    /// Forwarded bytes received from it.
    pub bytes_in: u64,
    /// Forwarded bytes sent to it.
    pub bytes_out: u64,
    /// How many times another path took over.
    pub path_changes: u64,
}

/// How far a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// No carrier is proven and agreed on a table yet, or none works at the moment.
    Connecting,
    /// It forwards.
    Connected,
}

/// The path that carries QUIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStatus {
    /// `lan`, `direct` or `relay`.
    pub kind: String,
    /// How the relay is reached when `kind` is `relay`, else `udp`.
    pub transport: String,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// What kind of candidate won.
    pub via: String,
    /// Round trip in milliseconds; `None` before the first measurement.
    pub rtt_ms: Option<f64>,
    /// For how many milliseconds it has been the path.
    pub since_ms: u64,
}

/// A TCP lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStatus {
    /// `lan` or `direct`.
    pub kind: String,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Round trip in milliseconds; `None` before the first measurement.
    pub rtt_ms: Option<f64>,
    /// Open TCP connections of the lane.
    pub connections: u64,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingStatus {
    /// Its place in the table, counted from 0.
    pub index: u64,
    /// The rule.
    pub spec: String,
    /// Whether it carries.
    pub state: MappingState,
    /// Why it does not.
    pub error: Option<String>,
    /// What the client listens on; on the server as the client's rule says.
    pub listen: Option<String>,
    /// Open flows.
    pub connections: u64,
    /// Forwarded bytes received from the peer.
    pub bytes_in: u64,
    /// Forwarded bytes sent to the peer.
    pub bytes_out: u64,
}

/// Whether a mapping carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingState {
    /// Committed on both ends.
    Active,
    /// Not committed yet.
    Pending,
    /// Refused, or its address is taken.
    Error,
}

/// Returns a duration as the JSON has it: milliseconds with three decimals.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The plain text of `status`. What the peer wrote is stripped of control characters.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stunfwd-{} {}: {}", self.role, self.version, self.state)?;
        if let Some(reason) = &self.reason {
            writeln!(f, "  {}", plain(reason))?;
        }
        writeln!(f, "{}", self.nat)?;
        self.write_surroundings(f)?;
        for peer in &self.peers {
            writeln!(f, "{peer}")?;
        }
        if self.mappings.is_empty() {
            write!(f, "No mappings.")?;
        } else {
            match self.mapping_version {
                0 => writeln!(f, "Mappings, not agreed on with a peer yet:")?,
                version => writeln!(f, "Mappings, version {version}:")?,
            }
            write!(f, "{}", mapping_table(&self.mappings))?;
        }
        match self.process.refused_connections {
            0 => Ok(()),
            refused => write!(
                f,
                "\n{refused} connections were reset: more than maxConnections at once"
            ),
        }
    }
}

impl Status {
    /// What else is known of the network, once something is.
    fn write_surroundings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ipv6 = self.nat.ipv6.map(|works| {
            let words = if works {
                "works"
            } else {
                "does not lead to the internet"
            };
            format!("IPv6 {words}")
        });
        let asked = &self.nat.port_mapping;
        let gateway = (*asked != PortMappingStatus::default()).then(|| asked.to_string());
        let known: Vec<_> = [ipv6, gateway].into_iter().flatten().collect();
        if known.is_empty() {
            return Ok(());
        }
        writeln!(f, "  {}", known.join("; "))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        })
    }
}

impl fmt::Display for PeerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            PeerState::Connecting => "connecting",
            PeerState::Connected => "connected",
        };
        write!(f, "Peer {}: {state}", plain(&self.id))?;
        if let Some(path) = &self.path {
            write!(f, ", {path}")?;
        }
        if let Some(lane) = &self.tcp_lane {
            let LaneStatus {
                kind,
                local,
                remote,
                connections,
                rtt_ms: _,
            } = lane;
            write!(
                f,
                "\n  TCP lane: {kind}, {local} to {remote}, {connections} connections"
            )?;
        }
        let (received, sent) = (bytes(self.bytes_in), bytes(self.bytes_out));
        let changes = self.path_changes;
        write!(f, "\n  {received} in, {sent} out, {changes} path changes")?;
        let relayed = self.path.as_ref().is_some_and(|path| path.kind == "relay");
        match &self.reason {
            Some(reason) if relayed => write!(f, "\n  not direct: {}", plain(reason)),
            Some(reason) => write!(f, "\n  {}", plain(reason)),
            None => Ok(()),
        }
    }
}

/// What the less usual ways to a direct path are, for people.
fn via_words(via: &str) -> &'static str {
    match via {
        "port-mapped" => ": the router forwards a port",
        "predicted" => ": the next port was guessed",
        "birthday" => ": many ports were tried",
        _ => "",
    }
}

impl fmt::Display for PathStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            transport,
            local,
            remote,
            via,
            rtt_ms,
            since_ms,
        } = self;
        let words = via_words(via);
        write!(
            f,
            "{kind} over {transport} ({via}{words}), {local} to {remote}"
        )?;
        if let Some(rtt) = rtt_ms {
            write!(f, ", {rtt:.1} ms")?;
        }
        write!(f, ", for {}", age(*since_ms))
    }
}

fn mapping_table(mappings: &[MappingStatus]) -> String {
    let mut rows =
        vec![["#", "rule", "state", "listens on", "open", "in", "out"].map(String::from)];
    for mapping in mappings {
        let state = match mapping.state {
            MappingState::Active => "active",
            MappingState::Pending => "pending",
            MappingState::Error => "error",
        };
        rows.push([
            mapping.index.to_string(),
            plain(&mapping.spec),
            state.to_owned(),
            mapping.listen.clone().unwrap_or_else(|| "-".to_owned()),
            mapping.connections.to_string(),
            bytes(mapping.bytes_in),
            bytes(mapping.bytes_out),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut lines = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        lines.push(format!(
            "  {}",
            cells.collect::<Vec<_>>().join("  ").trim_end()
        ));
        let error = index
            .checked_sub(1)
            .and_then(|index| mappings[index].error.as_ref());
        if let Some(error) = error {
            lines.push(format!("     {}", plain(error)));
        }
    }
    lines.join("\n")
}

/// Returns a count of bytes in the largest unit below it.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| count >= *size) {
        // Tenths by integers: a count above 2^53 keeps its digits.
        Some((size, unit)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

/// Returns an age in its largest unit.
fn age(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1000, "s"),
    ];
    match UNITS.into_iter().find(|(size, _)| millis >= *size) {
        Some((size, unit)) => format!("{} {unit}", millis / size),
        None => format!("{millis} ms"),
    }
}

/// What a peer wrote, fit for a line of a terminal or a log.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        Status {
            role: "client".into(),
            version: "0.1.0".into(),
            state: State::Connected,
            reason: None,
            nat: NatStatus {
                kind: "Port Restricted Cone NAT".into(),
                mapping: "endpoint-independent".into(),
                filtering: "address-and-port-dependent".into(),
                public: vec!["203.0.113.5:4242".parse().unwrap()],
                hairpin: Some(false),
                ports: "preserving".into(),
                ..NatStatus::default()
            },
            peers: vec![PeerStatus {
                id: "1a2b".into(),
                state: PeerState::Connected,
                path: Some(PathStatus {
                    kind: "direct".into(),
                    transport: "udp".into(),
                    local: "192.168.1.5:4242".parse().unwrap(),
                    remote: "203.0.113.9:1234".parse().unwrap(),
                    via: "server-reflexive".into(),
                    rtt_ms: Some(millis(Duration::from_micros(1234))),
                    since_ms: 61_000,
                }),
                tcp_lane: None,
                reason: None,
                bytes_in: 3 << 19,
                bytes_out: 7,
                path_changes: 1,
            }],
            mapping_version: 3,
            mappings: vec![MappingStatus {
                index: 0,
                spec: "tcp:8080:22".into(),
                state: MappingState::Error,
                error: Some("address\nin use".into()),
                listen: Some("127.0.0.1:8080".into()),
                connections: 2,
                bytes_in: 0,
                bytes_out: 1 << 20,
            }],
            process: ProcessStatus {
                tasks: 12,
                flows: 2,
                refused_connections: 4,
            },
        }
    }

    #[test]
    fn the_json_has_the_names_of_the_manual() {
        let expected = serde_json::json!({
            "role": "client", "version": "0.1.0", "state": "connected", "reason": null,
            "nat": { "type": "Port Restricted Cone NAT", "mapping": "endpoint-independent",
                     "filtering": "address-and-port-dependent", "public": ["203.0.113.5:4242"],
                     "hairpin": false, "ports": "preserving", "portRange": null, "portStride": null,
                     "ipv6": null, "doubleNat": null,
                     "portMapping": { "pcp": null, "natPmp": null, "upnp": null } },
            "peers": [ { "id": "1a2b", "state": "connected",
                         "path": { "kind": "direct", "transport": "udp", "local": "192.168.1.5:4242",
                                   "remote": "203.0.113.9:1234", "via": "server-reflexive",
                                   "rttMs": 1.234, "sinceMs": 61000 },
                         "tcpLane": null, "reason": null, "bytesIn": 1_572_864, "bytesOut": 7,
                         "pathChanges": 1 } ],
            "mappingVersion": 3,
            "mappings": [ { "index": 0, "spec": "tcp:8080:22", "state": "error",
                            "error": "address\nin use", "listen": "127.0.0.1:8080",
                            "connections": 2, "bytesIn": 0, "bytesOut": 1_048_576 } ],
            "process": { "tasks": 12, "flows": 2, "refusedConnections": 4 }
        });
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), example());
    }

    #[test]
    fn the_table_says_the_same_to_people() {
        assert_eq!(
            example().to_string(),
            "stunfwd-client 0.1.0: connected\n\
             NAT: Port Restricted Cone NAT (mapping endpoint-independent, filtering \
             address-and-port-dependent, ports preserving), seen as 203.0.113.5:4242\n\
             Peer 1a2b: connected, direct over udp (server-reflexive), 192.168.1.5:4242 to \
             203.0.113.9:1234, 1.2 ms, for 1 min\n\
             \x20 1.5 MiB in, 7 B out, 1 path changes\n\
             Mappings, version 3:\n\
             \x20 #  rule         state  listens on      open  in   out\n\
             \x20 0  tcp:8080:22  error  127.0.0.1:8080  2     0 B  1.0 MiB\n\
             \x20    address in use\n\
             4 connections were reset: more than maxConnections at once"
        );
    }

    #[test]
    fn the_table_tells_at_a_glance_whether_a_path_is_direct_how_it_was_found_and_why_not() {
        let with = |kind: &str, via: &str, reason: Option<&str>| {
            let mut status = example();
            let peer = &mut status.peers[0];
            let path = peer.path.as_mut().unwrap();
            (path.kind, path.via) = (kind.to_owned(), via.to_owned());
            peer.reason = reason.map(str::to_owned);
            status.nat.ipv6 = Some(false);
            status.nat.port_mapping.upnp = Some(true);
            status.to_string()
        };
        let direct = with("direct", "birthday", None);
        let path = "connected, direct over udp (birthday: many ports were tried), ";
        assert!(direct.contains(path), "{direct}");
        let network = "\n  IPv6 does not lead to the internet; the router speaks UPnP\n";
        assert!(direct.contains(network), "{direct}");
        let relayed = with("relay", "relayed", Some("both NATs are symmetric"));
        assert!(
            relayed.contains("\n  not direct: both NATs are symmetric\n"),
            "{relayed}"
        );
    }

    #[test]
    fn a_program_that_waits_says_for_what() {
        let waiting = Status {
            state: State::Waiting,
            reason: Some("waiting for a server in this room".into()),
            nat: NatStatus::default(),
            peers: Vec::new(),
            mappings: Vec::new(),
            mapping_version: 0,
            process: ProcessStatus::default(),
            ..example()
        };
        assert_eq!(
            waiting.to_string(),
            "stunfwd-client 0.1.0: waiting\n  waiting for a server in this room\n\
             NAT: Unknown (mapping unknown, filtering unknown, ports unknown)\nNo mappings."
        );
        let with_mappings = Status {
            mappings: example().mappings,
            ..waiting
        };
        let text = with_mappings.to_string();
        assert!(
            text.contains("\nMappings, not agreed on with a peer yet:\n"),
            "{text}"
        );
    }
}
