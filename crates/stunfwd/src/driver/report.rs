//! The present state as [`Status`].

use std::net::{SocketAddr, UdpSocket};

use mapping_core::PortMapping;
use session::{PathKind, PathView, PeerId};
use tunnel::forward::MappingState as ForwardState;

use super::Driver;
use super::forwarding::Forwarding;
use super::peers::PeerEntry;
use crate::clock::now;
use crate::status::{
    MappingState, MappingStatus, NatStatus, PathStatus, PeerState, PeerStatus, State, Status,
    millis, plain,
};

impl Driver {
    /// Returns what `status` shows.
    pub(super) fn status(&self) -> Status {
        let peers: Vec<_> = self
            .peers
            .iter()
            .filter(|(id, _)| self.node.is_fresh(*id) || self.carriers.any_of(*id))
            .map(|(id, entry)| self.peer_status(id, entry))
            .collect();
        let connected = peers.iter().any(|peer| peer.state == PeerState::Connected);
        let state = match (connected, peers.is_empty()) {
            (true, _) => State::Connected,
            (false, false) => State::Connecting,
            (false, true) => State::Waiting,
        };
        let reason = match state {
            State::Waiting => Some(self.journal.waiting_reason()),
            State::Connecting | State::Connected => peers.iter().find_map(|it| it.reason.clone()),
        };
        let (mapping_version, mappings) = self.mapping_status();
        Status {
            role: match self.side {
                session::Side::Ingress => "client".to_owned(),
                session::Side::Egress => "server".to_owned(),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            reason,
            nat: self.nat_status(),
            peers,
            mapping_version,
            mappings,
        }
    }

    fn nat_status(&self) -> NatStatus {
        self.node
            .report()
            .map_or_else(NatStatus::default, |report| NatStatus {
                kind: report.nat_type().to_string(),
                mapping: report.mapping.to_string(),
                filtering: report.filtering.to_string(),
                public: report.reflexive.clone(),
                hairpin: report.hairpin,
                ports: report.ports.to_string(),
            })
    }

    fn peer_status(&self, id: PeerId, entry: &PeerEntry) -> PeerStatus {
        let path = self.path_status(id);
        let traffic = self.forwarding.traffic(entry.instance);
        let committed = traffic.is_some_and(|traffic| traffic.committed);
        let state = if committed && path.is_some() {
            PeerState::Connected
        } else {
            PeerState::Connecting
        };
        let reason = match (&path, state) {
            (Some(path), _) if path.kind == PathKind::Relay.as_str() => self.node.why_relayed(id),
            (Some(_), PeerState::Connected) => None,
            (Some(_), PeerState::Connecting) => {
                Some("waiting for both ends to agree on the mappings".to_owned())
            }
            (None, _) => Some(match self.journal.carrier_trouble() {
                Some(trouble) => format!("a path works, but no carrier over it: {trouble}"),
                None => self
                    .node
                    .why_unreached(id)
                    .unwrap_or_else(|| "looking for a path".to_owned()),
            }),
        };
        PeerStatus {
            id: entry.key.short(),
            state,
            path,
            tcp_lane: None,
            reason,
            bytes_in: traffic.map_or(0, |traffic| traffic.bytes_in),
            bytes_out: traffic.map_or(0, |traffic| traffic.bytes_out),
            path_changes: entry.path_changes,
        }
    }

    fn path_status(&self, id: PeerId) -> Option<PathStatus> {
        let (carrier, since) = self.carriers.current(id)?;
        let view = &self.paths.get(carrier.path)?.view;
        let kind = carrier.kind(view.kind);
        let transport = match kind {
            PathKind::Relay => view.transport.to_string(),
            PathKind::Lan | PathKind::Direct => "udp".to_owned(),
        };
        let since_ms = since.map_or(0, |since| {
            u64::try_from(now().saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
        });
        // The carrier measures all the time, but remembers for long how slow its handshake was.
        let measured = carrier.carrier.rtt();
        let rtt = view.rtt.unwrap_or(measured).min(measured);
        Some(PathStatus {
            kind: kind.to_string(),
            transport,
            local: concrete_local(view),
            remote: view.remote,
            via: if kind == PathKind::Relay {
                "relayed"
            } else {
                view.via()
            }
            .to_owned(),
            rtt_ms: Some(millis(rtt)),
            since_ms,
        })
    }

    fn mapping_status(&self) -> (u64, Vec<MappingStatus>) {
        match &self.forwarding {
            Forwarding::Ingress {
                ingress, mappings, ..
            } => {
                let snapshot = ingress.snapshot();
                let rows = (0..).zip(mappings).map(|(index, (id, mapping))| {
                    let row = snapshot.mappings.iter().find(|row| row.id == id.value());
                    MappingStatus {
                        index,
                        spec: mapping.to_string(),
                        state: row.map_or(MappingState::Pending, |row| match row.state {
                            ForwardState::Active => MappingState::Active,
                            ForwardState::Pending => MappingState::Pending,
                            ForwardState::Error => MappingState::Error,
                        }),
                        error: row.and_then(|row| row.error.clone()),
                        listen: Some(mapping.listen_text()),
                        connections: row.map_or(0, |row| u64::from(row.connections)),
                        bytes_in: row.map_or(0, |row| row.bytes_in),
                        bytes_out: row.map_or(0, |row| row.bytes_out),
                    }
                });
                (snapshot.committed.unwrap_or(0), rows.collect())
            }
            Forwarding::Egress { peers, .. } => {
                let snapshots: Vec<_> = peers
                    .values()
                    .map(|entry| entry.egress.snapshot())
                    .collect();
                let version = snapshots
                    .iter()
                    .filter_map(|it| it.committed)
                    .max()
                    .unwrap_or(0);
                let rows = snapshots.into_iter().flat_map(|snapshot| snapshot.mappings);
                let rows = (0..).zip(rows).map(|(index, row)| MappingStatus {
                    index,
                    spec: plain(&row.mapping.spec),
                    state: match row.error {
                        None => MappingState::Active,
                        Some(_) => MappingState::Error,
                    },
                    error: row.error,
                    listen: listening_at_the_client(&row.mapping.spec),
                    connections: u64::from(row.connections),
                    bytes_in: row.bytes_in,
                    bytes_out: row.bytes_out,
                });
                (version, rows.collect())
            }
        }
    }
}

/// The local address of a path as the peer's network sees the interface: our sockets are bound to the
/// wildcard address, so the system is asked which address it would use.
fn concrete_local(view: &PathView) -> SocketAddr {
    if !view.local.ip().is_unspecified() {
        return view.local;
    }
    let asked = UdpSocket::bind(SocketAddr::new(view.local.ip(), 0)).and_then(|socket| {
        socket
            .connect(view.remote)
            .and_then(|()| socket.local_addr())
    });
    asked.map_or(view.local, |address| {
        SocketAddr::new(address.ip(), view.local.port())
    })
}

/// Where the client of a mapping listens, as its own text of the rule says.
fn listening_at_the_client(spec: &str) -> Option<String> {
    spec.parse::<PortMapping>()
        .ok()
        .map(|mapping| mapping.listen_text())
}
