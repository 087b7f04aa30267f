//! The carriers: who dialled whom, which one is preferred, and whether they still hear the peer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use session::{Hex, InstanceId, PathId, PathKind, PeerId, Side};
use tracing::debug;
use tunnel::carrier::{
    Carrier, CarrierClosed, CarrierError, CarrierId, CarrierToken, KindView, Notice, VirtualAddr,
};

use super::Driver;
use super::input::Input;
use crate::clock::now;

/// Close code: the program stops; the peer's connections are over.
pub(super) const CODE_GOING_AWAY: u32 = 1;
/// Close code: the path under the carrier is dead or was replaced; flows go on elsewhere.
pub(super) const CODE_PATH_DEAD: u32 = 2;
/// Close code: a newer run of the same peer has taken over.
pub(super) const CODE_SUPERSEDED: u32 = 3;
/// Close code: the carrier belongs to no peer or path that we know.
pub(super) const CODE_UNKNOWN: u32 = 4;

/// Close code: the conversation about mappings broke; flows are reset, and both ends begin anew.
pub(super) const CODE_START_OVER: u32 = 5;

/// The egress side says at most this often that a carrier looks dead.
const DEAD_NOTICE_INTERVAL: Duration = Duration::from_secs(1);
/// Least silence before the egress side speaks up; three round trips if those are longer.
const DEAD_FLOOR: Duration = Duration::from_millis(300);

/// One carrier.
pub(super) struct CarrierEntry {
    pub(super) carrier: Carrier,
    pub(super) path: PathId,
    pub(super) peer: PeerId,
    /// What the peer judges the kind of the path to be.
    peers_view: Option<PathKind>,
    dead_noticed: Option<Instant>,
}

/// All carriers.
#[derive(Default)]
pub(super) struct Carriers {
    entries: BTreeMap<CarrierId, CarrierEntry>,
    preferred: BTreeMap<PeerId, (CarrierId, Instant)>,
}

impl Carriers {
    pub(super) fn any_of(&self, peer: PeerId) -> bool {
        self.of(peer).next().is_some()
    }

    /// Returns the peer runs that have a carrier.
    pub(super) fn instances(&self) -> BTreeSet<InstanceId> {
        self.entries
            .values()
            .map(|entry| Hex(entry.carrier.peer_instance()))
            .collect()
    }

    pub(super) fn of(&self, peer: PeerId) -> impl Iterator<Item = &CarrierEntry> {
        self.entries
            .values()
            .filter(move |entry| entry.peer == peer)
    }

    /// Returns the preferred carrier of a peer and since when; any other if that one is gone.
    pub(super) fn current(&self, peer: PeerId) -> Option<(&CarrierEntry, Option<Instant>)> {
        let preferred = self
            .preferred
            .get(&peer)
            .and_then(|(id, since)| self.entries.get(id).map(|entry| (entry, Some(*since))));
        preferred.or_else(|| self.of(peer).next().map(|entry| (entry, None)))
    }

    fn by_token(&self, peer: PeerId, token: CarrierToken) -> Option<CarrierId> {
        self.of(peer)
            .map(|entry| &entry.carrier)
            .find(|it| it.token() == token)
            .map(Carrier::id)
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.preferred.remove(&peer);
    }

    pub(super) fn close_all(&mut self) {
        for entry in std::mem::take(&mut self.entries).into_values() {
            entry.carrier.close(CODE_GOING_AWAY, "stopped");
        }
    }
}

impl CarrierEntry {
    /// Returns the kind as both ends judge it.
    pub(super) fn kind(&self, ours: PathKind) -> PathKind {
        self.peers_view.map_or(ours, |theirs| ours.agreed(theirs))
    }
}

impl Driver {
    /// Accepts carriers for as long as the process runs (the egress side; the ingress side has none).
    pub(super) fn accept_carriers(&self) {
        if self.side == Side::Ingress {
            return;
        }
        let (endpoint, inputs_tx) = (self.endpoint.clone(), self.inputs_tx.clone());
        tokio::spawn(async move {
            while let Some(carrier) = endpoint.accept().await {
                if inputs_tx.send(Input::Accepted(carrier)).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(super) fn on_dialled(
        &mut self,
        path: PathId,
        address: VirtualAddr,
        result: Result<Carrier, CarrierError>,
    ) {
        if !self.dial_ended(path, address) {
            // The path went while it was dialled, or has another route now: nobody waits for this.
            if let Ok(carrier) = result {
                carrier.close(CODE_PATH_DEAD, "path dropped");
            }
            return;
        }
        match result {
            Ok(carrier) => self.adopt(path, carrier),
            Err(error) => {
                debug!(%error, "no carrier over a path");
                self.journal.carrier_failed(&error.to_string());
                self.node.carrier_failed(path, now());
            }
        }
    }

    pub(super) fn on_accepted(&mut self, carrier: Carrier) {
        match self.paths.by_virtual_addr(carrier.virtual_addr()) {
            Some(path) => self.adopt(path, carrier),
            None => carrier.close(CODE_UNKNOWN, "no such path"),
        }
    }

    /// Takes a proven carrier into use.
    fn adopt(&mut self, path: PathId, carrier: Carrier) {
        let instance = Hex(carrier.peer_instance());
        let peer = self.paths.get(path).map(|entry| entry.peer);
        let peer = peer.filter(|peer| {
            self.peers.get(*peer).is_some_and(|entry| {
                entry.instance == instance && entry.key.0 == carrier.peer_key()
            }) && self
                .forwarding
                .may_add_carrier(instance, carrier.peer_key())
        });
        let Some(peer) = peer else {
            carrier.close(CODE_UNKNOWN, "no such peer");
            return;
        };
        let id = carrier.id();
        let first = !self.carriers.any_of(peer);
        self.follow(&carrier);
        let Some(entry) = self.paths.get_mut(path) else {
            return;
        };
        let replaced = entry.carrier.replace(id);
        let own_view = entry.view.clone();
        let dead_noticed = None;
        let peers_view = None;
        self.carriers.entries.insert(
            id,
            CarrierEntry {
                carrier: carrier.clone(),
                path,
                peer,
                peers_view,
                dead_noticed,
            },
        );
        if let Some(replaced) = replaced {
            self.close_carrier(replaced, CODE_PATH_DEAD, "replaced");
        }
        if first {
            self.supersede_others(peer);
        }
        self.forwarding.add_carrier(instance, carrier.clone());
        let _ = carrier.send_notice(Notice::Kind(KindView {
            kind: tunnel_kind(own_view.kind),
            local: None,
            remote: None,
        }));
        if self.side == Side::Ingress && self.paths.chosen(peer) == Some(path) || first {
            self.prefer(peer, id);
        }
    }

    /// Watches a carrier's end and its notices.
    fn follow(&self, carrier: &Carrier) {
        let (closed, inputs_tx) = (carrier.clone(), self.inputs_tx.clone());
        tokio::spawn(async move {
            let reason = closed.closed().await;
            let _ = inputs_tx
                .send(Input::CarrierClosed {
                    carrier: closed.id(),
                    reason,
                })
                .await;
        });
        let (noticed, inputs_tx) = (carrier.clone(), self.inputs_tx.clone());
        tokio::spawn(async move {
            while let Some(notice) = noticed.notices().await {
                let input = Input::Notice {
                    carrier: noticed.id(),
                    notice,
                };
                if inputs_tx.send(input).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Makes a carrier the one that flows use; the ingress side tells the peer.
    pub(super) fn prefer(&mut self, peer: PeerId, id: CarrierId) {
        let present = self.carriers.preferred.get(&peer).map(|(id, _)| *id);
        if present == Some(id) {
            return;
        }
        let Some(entry) = self.carriers.entries.get(&id) else {
            return;
        };
        let carrier = entry.carrier.clone();
        self.forwarding.prefer(Hex(carrier.peer_instance()), id);
        if self.side == Side::Ingress {
            // On every carrier: each keeps its own order, and an older word on another one must not be the
            // last that the peer hears.
            let token = carrier.token();
            for other in self.carriers.of(peer) {
                let _ = other.carrier.send_notice(Notice::Prefer { token });
            }
        }
        self.carriers.preferred.insert(peer, (id, now()));
        if let Some(book) = self.peers.get_mut(peer).filter(|_| present.is_some()) {
            book.path_changes += 1;
        }
        self.announce_path(peer);
    }

    /// Tells people which path a peer is on, once both ends have judged it.
    fn announce_path(&mut self, peer: PeerId) {
        let Some((entry, _)) = self.carriers.current(peer) else {
            return;
        };
        let Some(path) = self.paths.get(entry.path) else {
            return;
        };
        if entry.peers_view.is_none() {
            return;
        }
        self.journal
            .path_used(peer, entry.kind(path.view.kind), &path.view);
    }

    /// Tells people why a path has stayed relayed.
    pub(super) fn explain_relays(&mut self, at: Instant) {
        while let Some(peer) = self.journal.take_relayed(at) {
            if let Some(why) = self.node.why_relayed(peer) {
                self.journal.not_direct(&why);
            }
        }
    }

    pub(super) fn on_notice(&mut self, id: CarrierId, notice: Notice) {
        let Some(entry) = self.carriers.entries.get_mut(&id) else {
            return;
        };
        let peer = entry.peer;
        match notice {
            Notice::Kind(view) => {
                entry.peers_view = Some(session_kind(view.kind));
                self.announce_path(peer);
            }
            Notice::Prefer { token } => {
                let preferred = self.carriers.by_token(peer, token);
                if let Some(preferred) = preferred.filter(|_| self.side == Side::Egress) {
                    self.prefer(peer, preferred);
                }
            }
            Notice::Dead { token } => {
                let path = self
                    .carriers
                    .by_token(peer, token)
                    .and_then(|dead| self.carriers.entries.get(&dead))
                    .map(|dead| dead.path);
                if let Some(path) = path {
                    self.node.doubt(path, now());
                }
            }
            Notice::Close { .. } => {}
        }
    }

    pub(super) fn on_carrier_closed(&mut self, id: CarrierId, reason: &CarrierClosed) {
        let Some(entry) = self.carriers.entries.remove(&id) else {
            return;
        };
        debug!(?reason, "a carrier ended");
        let peer = entry.peer;
        if let Some(path) = self.paths.get_mut(entry.path) {
            path.carrier.take_if(|carrier| *carrier == id);
        }
        let went_away = matches!(
            reason,
            CarrierClosed::Peer { code, .. } if *code == u64::from(CODE_GOING_AWAY)
        );
        if went_away {
            self.peer_went_away(peer);
            return;
        }
        let starts_over = matches!(
            reason,
            CarrierClosed::Peer { code, .. } if *code == u64::from(CODE_START_OVER)
        );
        if starts_over {
            self.start_over_with(peer, Hex(entry.carrier.peer_instance()));
        }
        if self.side == Side::Ingress {
            self.node.carrier_failed(entry.path, now());
        }
        if !self.carriers.any_of(peer) {
            self.journal.peer_lost(peer);
        }
    }

    /// The peer's program stopped: its connections are over, and so is this run.
    fn peer_went_away(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get(peer).cloned() else {
            return;
        };
        self.journal.peer_left(entry.key);
        self.forwarding.peer_gone(entry.instance);
        self.close_carriers_of(peer, CODE_GOING_AWAY, "you left");
        self.remove_peer(peer);
    }

    /// Resets everything between us and a peer run; the ingress side dials anew after a moment.
    pub(super) fn start_over_with(&mut self, peer: PeerId, instance: InstanceId) {
        self.forwarding.peer_gone(instance);
        let paths: Vec<_> = self.carriers.of(peer).map(|entry| entry.path).collect();
        // All at once: the news of a second carrier's end must not reset what has begun anew.
        self.close_carriers_of(peer, CODE_START_OVER, "starting over");
        if self.side == Side::Ingress {
            for path in paths {
                self.node.carrier_failed(path, now());
            }
        }
    }

    pub(super) fn close_carriers_of(&mut self, peer: PeerId, code: u32, text: &str) {
        let ids: Vec<_> = self
            .carriers
            .of(peer)
            .map(|entry| entry.carrier.id())
            .collect();
        for id in ids {
            self.close_carrier(id, code, text);
        }
    }

    pub(super) fn close_carrier(&mut self, id: CarrierId, code: u32, text: &str) {
        if let Some(entry) = self.carriers.entries.remove(&id) {
            if let Some(path) = self.paths.get_mut(entry.path) {
                path.carrier.take_if(|carrier| *carrier == id);
            }
            entry.carrier.close(code, text);
        }
    }

    /// Tells session what carriers heard and what they wait for; the egress side, which does not decide,
    /// tells the peer.
    pub(super) fn watch_carriers(&mut self, at: Instant) {
        let mut dead = Vec::new();
        for (id, entry) in &mut self.carriers.entries {
            if let Some(heard) = entry.carrier.last_received() {
                self.node.heard(entry.path, heard);
            }
            let Some(silence) = entry.carrier.unanswered() else {
                continue;
            };
            let since = at.checked_sub(silence).unwrap_or(at);
            self.node.waiting(entry.path, since, at);
            if self.side == Side::Egress {
                let patience = (3 * entry.carrier.rtt()).max(DEAD_FLOOR);
                let told_lately = entry
                    .dead_noticed
                    .is_some_and(|told| at < told + DEAD_NOTICE_INTERVAL);
                if silence >= patience && !told_lately {
                    entry.dead_noticed = Some(at);
                    dead.push((*id, entry.peer, entry.carrier.token()));
                }
            }
        }
        for (id, peer, token) in dead {
            for other in self
                .carriers
                .of(peer)
                .filter(|other| other.carrier.id() != id)
            {
                let _ = other.carrier.send_notice(Notice::Dead { token });
            }
        }
    }
}

pub(super) const fn side(side: Side) -> tunnel::carrier::Side {
    match side {
        Side::Ingress => tunnel::carrier::Side::Ingress,
        Side::Egress => tunnel::carrier::Side::Egress,
    }
}

const fn tunnel_kind(kind: PathKind) -> tunnel::carrier::PathKind {
    match kind {
        PathKind::Lan => tunnel::carrier::PathKind::Lan,
        PathKind::Direct => tunnel::carrier::PathKind::Direct,
        PathKind::Relay => tunnel::carrier::PathKind::Relay,
    }
}

const fn session_kind(kind: tunnel::carrier::PathKind) -> PathKind {
    match kind {
        tunnel::carrier::PathKind::Lan => PathKind::Lan,
        tunnel::carrier::PathKind::Direct => PathKind::Direct,
        tunnel::carrier::PathKind::Relay => PathKind::Relay,
    }
}
