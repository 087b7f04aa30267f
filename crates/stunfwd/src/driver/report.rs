//! The present state as [`Status`].

use std::net::{SocketAddr, UdpSocket};

use mapping_core::{MappingId, PortMapping};
use session::{InstanceId, PathKind, PathView, PeerId};
use tunnel::forward::MappingState as ForwardState;

use super::Driver;
use super::changes::Presence;
use super::forwarding::Forwarding;
use super::peers::PeerEntry;
use crate::clock::now;
use crate::mappings::{MappingView, TableView};
use crate::status::{
    MappingState, MappingStatus, NatStatus, PathStatus, PeerState, PeerStatus, ProcessStatus,
    State, Status, millis, plain,
};

/// One mapping, as `status` and `map list` show it.
struct Row {
    id: MappingId,
    status: MappingStatus,
    via: Option<String>,
}

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
        let rows = self.mapping_rows().into_iter();
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
            mapping_version: self.forwarding.committed().unwrap_or(0),
            mappings: rows.map(|row| row.status).collect(),
            process: self.process_status(),
        }
    }

    /// Returns the mapping table: ours, or on the egress side what the peers have proposed.
    pub(super) fn table_view(&self) -> TableView {
        let committed = self.forwarding.committed();
        let rows = self.mapping_rows().into_iter();
        let mappings = rows.filter_map(|row| {
            let mapping = match &self.forwarding {
                Forwarding::Ingress { wanted, .. } => wanted.table().get(row.id)?.clone(),
                // What a peer of another version wrote may be no rule here.
                Forwarding::Egress { .. } => row.status.spec.parse().ok()?,
            };
            Some(MappingView {
                id: row.id,
                mapping,
                status: row.status,
                via: row.via,
            })
        });
        TableView {
            version: match &self.forwarding {
                Forwarding::Ingress { wanted, .. } => wanted.table().version(),
                Forwarding::Egress { .. } => committed.unwrap_or(0),
            },
            committed,
            peer: match &self.forwarding {
                Forwarding::Ingress { .. } => self.server_presence() == Presence::Connected,
                Forwarding::Egress { peers, .. } => !peers.is_empty(),
            },
            mappings: mappings.collect(),
        }
    }

    fn process_status(&self) -> ProcessStatus {
        let (flows, refused_connections) = self.forwarding.flows();
        ProcessStatus {
            // This is the data thread, so its runtime is the one asked.
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks() as u64,
            flows,
            refused_connections,
        }
    }

    /// Returns the path on which a peer run's flows ride, in words.
    fn via(&self, instance: InstanceId) -> Option<String> {
        let path = self.path_status(self.peers.by_instance(instance)?)?;
        Some(format!("{}, {}", path.kind, path.remote))
    }

    fn nat_status(&self) -> NatStatus {
        let Some(report) = self.node.report() else {
            return NatStatus::default();
        };
        NatStatus::of(report, &self.gateway.view)
            .with_ipv6(self.node.ipv6(), self.node.ipv6_report())
            .with_verified(self.gateway.verified.iter().copied())
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

    fn mapping_rows(&self) -> Vec<Row> {
        match &self.forwarding {
            Forwarding::Ingress {
                ingress,
                wanted,
                connected,
                ..
            } => {
                let snapshot = ingress.snapshot();
                let via = connected.and_then(|instance| self.via(instance));
                let rows = (0..).zip(wanted.table().iter());
                rows.map(|(index, (id, mapping))| {
                    let row = snapshot.mappings.iter().find(|row| row.id == id.value());
                    let state = row.map_or(MappingState::Pending, |row| match row.state {
                        ForwardState::Active => MappingState::Active,
                        ForwardState::Pending => MappingState::Pending,
                        ForwardState::Error => MappingState::Error,
                    });
                    let status = MappingStatus {
                        index,
                        spec: mapping.to_string(),
                        state,
                        error: row.and_then(|row| row.error.clone()),
                        listen: Some(mapping.listen_text()),
                        connections: row.map_or(0, |row| u64::from(row.connections)),
                        bytes_in: row.map_or(0, |row| row.bytes_in),
                        bytes_out: row.map_or(0, |row| row.bytes_out),
                    };
                    let via = via.clone().filter(|_| state == MappingState::Active);
                    Row { id, status, via }
                })
                .collect()
            }
            Forwarding::Egress { peers, .. } => {
                let rows = peers.iter().flat_map(|(instance, entry)| {
                    let via = self.via(*instance);
                    let mappings = entry.egress.snapshot().mappings.into_iter();
                    mappings.map(move |row| (via.clone(), row))
                });
                let rows = (0..).zip(rows);
                rows.map(|(index, (via, row))| Row {
                    id: row.mapping.id,
                    via: via.filter(|_| row.error.is_none()),
                    status: MappingStatus {
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
                    },
                })
                .collect()
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
