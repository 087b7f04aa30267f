//! The forwarders behind the carriers: one ingress for the process, or one egress per peer run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mapping_core::{AllowList, MappingId, MappingTable};
use session::{InstanceId, PeerId};
use tokio::sync::mpsc;
use tracing::debug;
use tunnel::carrier::{Carrier, CarrierId};
use tunnel::forward::{
    Egress, EgressConfig, ForwardEvents, Ingress, IngressConfig, MappingState, PeerInstance,
};

use super::Driver;
use super::changes::WantedTable;
use super::input::Input;
use crate::clock::now;
use crate::run::{Role, RunError};
use crate::status::plain;

/// What the egress side needs for each new peer run.
pub(super) struct EgressSettings {
    allow: AllowList,
    resume: Duration,
    max_connections: u32,
}

/// One peer run's egress.
pub(super) struct EgressEntry {
    pub(super) egress: Egress,
    /// Whose run it is.
    key: [u8; 32],
    /// When its last carrier went; `None` while it has one.
    alone_since: Option<Instant>,
}

/// The forwarders of this process.
pub(super) enum Forwarding {
    Ingress {
        ingress: Ingress,
        wanted: WantedTable,
        connected: Option<InstanceId>,
        /// How long our flows wait for a path; the peer may allow less.
        resume: Duration,
    },
    Egress {
        settings: EgressSettings,
        peers: BTreeMap<InstanceId, EgressEntry>,
        /// Connections beyond the limit, of peer runs that are over.
        refused: u64,
        inputs_tx: mpsc::Sender<Input>,
    },
}

/// Whose forwarder reports something.
pub(super) struct Reporter<'a> {
    pub(super) forwarding: &'a Forwarding,
    /// The peer run on the egress side, which has a forwarder for each.
    pub(super) instance: Option<InstanceId>,
    /// The peer at the other end, while there is one.
    pub(super) peer: Option<PeerId>,
}

/// What was forwarded for one peer run.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    /// Whether a table version is committed with it.
    pub(super) committed: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Forwarding {
    /// Opens the listening ports of a client; a server waits for peers.
    pub(super) fn start(role: &Role, inputs_tx: mpsc::Sender<Input>) -> Result<Self, RunError> {
        let common = role.common();
        Ok(match role {
            Role::Ingress(config) => {
                let table = MappingTable::from_mappings(config.mappings.iter().cloned())
                    .map_err(|(index, source)| RunError::Mapping { index, source })?;
                let (ingress, events) = Ingress::new(IngressConfig {
                    resume: common.resume,
                    max_connections: common.max_connections,
                    ..IngressConfig::default()
                });
                pass_on(events, None, inputs_tx);
                ingress.set_table(&table);
                Self::Ingress {
                    ingress,
                    wanted: WantedTable::new(table),
                    connected: None,
                    resume: common.resume,
                }
            }
            Role::Egress(config) => Self::Egress {
                settings: EgressSettings {
                    allow: config.allow.clone(),
                    resume: common.resume,
                    max_connections: common.max_connections,
                },
                peers: BTreeMap::new(),
                refused: 0,
                inputs_tx,
            },
        })
    }

    /// Gives a proven carrier to the forwarder of its peer run.
    pub(super) fn add_carrier(&mut self, instance: InstanceId, carrier: Carrier) {
        match self {
            Self::Ingress {
                ingress,
                connected,
                resume,
                ..
            } => {
                if *connected != Some(instance) {
                    ingress.peer_connected(PeerInstance(instance.0));
                    *connected = Some(instance);
                }
                ingress.set_resume(carrier.peer_resume().min(*resume));
                ingress.add_carrier(carrier);
            }
            Self::Egress {
                settings,
                peers,
                refused,
                inputs_tx,
            } => {
                let key = carrier.peer_key();
                if !peers.contains_key(&instance) {
                    // A new run is proven: the older ones under its key are over, even those that have left
                    // the room and were kept only because they might have come back.
                    peers.retain(|_, old| {
                        let is_over = old.key == key;
                        if is_over {
                            *refused += old.end();
                        }
                        !is_over
                    });
                }
                let entry = peers.entry(instance).or_insert_with(|| {
                    let (egress, events) = Egress::new(EgressConfig {
                        resume: settings.resume,
                        max_connections: settings.max_connections,
                        allow: settings.allow.clone(),
                        ..EgressConfig::default()
                    });
                    pass_on(events, Some(instance), inputs_tx.clone());
                    EgressEntry {
                        egress,
                        key,
                        alone_since: None,
                    }
                });
                entry.alone_since = None;
                let resume = carrier.peer_resume().min(settings.resume);
                entry.egress.set_resume(resume);
                entry.egress.add_carrier(carrier);
            }
        }
    }

    /// Says whether a carrier of this peer run may be added. Whoever knows the room reads everybody's instance id,
    /// and could else take the connections of another by naming its run.
    pub(super) fn may_add_carrier(&self, instance: InstanceId, key: [u8; 32]) -> bool {
        match self {
            Self::Ingress { .. } => true,
            Self::Egress { peers, .. } => peers.get(&instance).is_none_or(|it| it.key == key),
        }
    }

    pub(super) fn prefer(&self, instance: InstanceId, carrier: CarrierId) {
        match self {
            Self::Ingress { ingress, .. } => ingress.prefer(carrier),
            Self::Egress { peers, .. } => {
                if let Some(entry) = peers.get(&instance) {
                    entry.egress.prefer(carrier);
                }
            }
        }
    }

    /// The peer run is over: its connections are reset.
    pub(super) fn peer_gone(&mut self, instance: InstanceId) {
        match self {
            Self::Ingress {
                ingress, connected, ..
            } => {
                if *connected == Some(instance) {
                    *connected = None;
                    ingress.peer_gone(PeerInstance(instance.0));
                }
            }
            Self::Egress { peers, refused, .. } => {
                if let Some(entry) = peers.remove(&instance) {
                    *refused += entry.end();
                }
            }
        }
    }

    /// Ends the egress of peer runs that have had no carrier for as long as their flows may wait.
    pub(super) fn forget_expired(&mut self, connected: &BTreeSet<InstanceId>, at: Instant) {
        let Self::Egress {
            settings,
            peers,
            refused,
            ..
        } = self
        else {
            return;
        };
        for (instance, entry) in peers.iter_mut() {
            let alone = !connected.contains(instance);
            entry.alone_since = alone.then(|| entry.alone_since.unwrap_or(at));
        }
        let resume = settings.resume;
        peers.retain(|_, entry| {
            let expired = entry.alone_since.is_some_and(|since| at >= since + resume);
            if expired {
                *refused += entry.end();
            }
            !expired
        });
    }

    /// Returns what was forwarded for a peer run; `None` when it never proved itself.
    pub(super) fn traffic(&self, instance: InstanceId) -> Option<Traffic> {
        match self {
            Self::Ingress {
                ingress, connected, ..
            } => {
                let snapshot = (*connected == Some(instance)).then(|| ingress.snapshot())?;
                Some(Traffic {
                    committed: snapshot.committed.is_some(),
                    bytes_in: snapshot.bytes_in,
                    bytes_out: snapshot.bytes_out,
                })
            }
            Self::Egress { peers, .. } => {
                let snapshot = peers.get(&instance)?.egress.snapshot();
                Some(Traffic {
                    committed: snapshot.committed.is_some(),
                    bytes_in: snapshot.bytes_in,
                    bytes_out: snapshot.bytes_out,
                })
            }
        }
    }

    /// Returns the version of the table in force; the highest one where there are several peers.
    pub(super) fn committed(&self) -> Option<u64> {
        match self {
            Self::Ingress { ingress, .. } => ingress.committed_version(),
            Self::Egress { peers, .. } => {
                let versions = peers.values().map(|entry| entry.egress.committed_version());
                versions.max().flatten()
            }
        }
    }

    /// Returns how many flows are open, and how many connections were refused so far since there were too
    /// many.
    pub(super) fn flows(&self) -> (u64, u64) {
        match self {
            Self::Ingress { ingress, .. } => {
                let snapshot = ingress.snapshot();
                let flows = u64::from(snapshot.tcp_flows) + u64::from(snapshot.udp_flows);
                (flows, snapshot.refused_connections)
            }
            Self::Egress { peers, refused, .. } => {
                let snapshots = peers.values().map(|entry| entry.egress.snapshot());
                snapshots.fold((0, *refused), |(flows, refused), it| {
                    let open = u64::from(it.tcp_flows) + u64::from(it.udp_flows);
                    (flows + open, refused + it.refused_connections)
                })
            }
        }
    }

    /// Returns the text of a mapping: ours, or on the egress side that of a peer run.
    pub(super) fn mapping_name(&self, id: u32, instance: Option<InstanceId>) -> String {
        let name = match self {
            Self::Ingress { wanted, .. } => {
                let mapping = wanted.table().get(MappingId::new(id));
                mapping.map(ToString::to_string)
            }
            Self::Egress { peers, .. } => instance
                .and_then(|instance| peers.get(&instance))
                .and_then(|entry| {
                    let mappings = entry.egress.snapshot().mappings;
                    mappings.into_iter().find(|it| it.mapping.id.value() == id)
                })
                .map(|it| plain(&it.mapping.spec)),
        };
        name.unwrap_or_else(|| format!("#{id}"))
    }

    /// Returns the texts of the mappings that are in force with a peer run.
    pub(super) fn mapping_names(&self, instance: Option<InstanceId>) -> BTreeSet<String> {
        match self {
            Self::Ingress {
                ingress, wanted, ..
            } => {
                let mut carries = ingress.snapshot().mappings;
                carries.retain(|row| row.state != MappingState::Error);
                wanted
                    .table()
                    .iter()
                    .filter(|(id, _)| carries.iter().any(|row| row.id == id.value()))
                    .map(|(_, mapping)| mapping.to_string())
                    .collect()
            }
            Self::Egress { peers, .. } => instance
                .and_then(|instance| peers.get(&instance))
                .into_iter()
                .flat_map(|entry| entry.egress.snapshot().mappings)
                .filter(|mapping| mapping.error.is_none())
                .map(|mapping| plain(&mapping.mapping.spec))
                .collect(),
        }
    }

    pub(super) fn shutdown(&self) {
        match self {
            Self::Ingress { ingress, .. } => ingress.shutdown(),
            Self::Egress { peers, .. } => {
                for entry in peers.values() {
                    entry.egress.shutdown();
                }
            }
        }
    }
}

impl EgressEntry {
    /// Ends the peer run's flows; returns how many connections it was refused beyond the limit.
    fn end(&self) -> u64 {
        self.egress.shutdown();
        self.egress.snapshot().refused_connections
    }
}

impl Driver {
    pub(super) fn on_forward_event(
        &mut self,
        instance: Option<InstanceId>,
        event: tunnel::forward::ForwardEvent,
    ) {
        use tunnel::forward::ForwardEvent;
        if let ForwardEvent::ControlFailed { reason } = &event {
            debug!(reason, "the control flow broke: starting over");
            self.start_over(instance);
        }
        let connected = match &self.forwarding {
            Forwarding::Ingress { connected, .. } => *connected,
            Forwarding::Egress { .. } => instance,
        };
        let peer = connected.and_then(|instance| self.peers.by_instance(instance));
        let from = Reporter {
            forwarding: &self.forwarding,
            instance,
            peer,
        };
        self.journal.forward_event(&event, &from);
        self.settle_changes(now());
    }

    /// Nothing can be agreed with this peer run any more: close its carriers, so that new ones are made.
    fn start_over(&mut self, instance: Option<InstanceId>) {
        let instance = match &self.forwarding {
            Forwarding::Ingress { connected, .. } => *connected,
            Forwarding::Egress { .. } => instance,
        };
        let Some(instance) = instance else { return };
        if let Some(peer) = self.peers.by_instance(instance) {
            self.start_over_with(peer, instance);
        } else {
            self.forwarding.peer_gone(instance);
        }
    }
}

fn pass_on(
    mut events: ForwardEvents,
    instance: Option<InstanceId>,
    inputs_tx: mpsc::Sender<Input>,
) {
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if inputs_tx
                .send(Input::Forward { instance, event })
                .await
                .is_err()
            {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use session::Hex;

    use super::*;

    #[tokio::test]
    async fn a_peer_run_belongs_to_the_key_that_proved_it_first() {
        let (egress, _events) = Egress::new(EgressConfig::default());
        let (owner, other) = ([1; 32], [2; 32]);
        let entry = EgressEntry {
            egress,
            key: owner,
            alone_since: None,
        };
        let forwarding = Forwarding::Egress {
            settings: EgressSettings {
                allow: AllowList::default(),
                resume: Duration::from_secs(1),
                max_connections: 1,
            },
            peers: BTreeMap::from([(Hex([7; 16]), entry)]),
            refused: 0,
            inputs_tx: mpsc::channel(1).0,
        };
        assert!(forwarding.may_add_carrier(Hex([7; 16]), owner));
        assert!(!forwarding.may_add_carrier(Hex([7; 16]), other));
        assert!(forwarding.may_add_carrier(Hex([8; 16]), other));
    }
}
