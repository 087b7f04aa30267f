//! The paths that session has validated, and the virtual addresses under which carriers see them.

use std::collections::BTreeMap;
use std::time::Duration;

use session::{DropCause, PathId, PathView, PeerId, Route, Side};
use tracing::{debug, warn};
use tunnel::carrier::{CarrierId, DialOptions, RouteError, VirtualAddr};

use super::input::Input;
use super::{Driver, carriers};
use crate::clock::now;

/// One path.
#[derive(Clone, Debug)]
pub(super) struct PathEntry {
    pub(super) peer: PeerId,
    pub(super) virtual_addr: VirtualAddr,
    pub(super) view: PathView,
    pub(super) carrier: Option<CarrierId>,
    dialling: bool,
}

/// All paths.
#[derive(Default)]
pub(super) struct Paths {
    entries: BTreeMap<PathId, PathEntry>,
    chosen: BTreeMap<PeerId, PathId>,
}

impl Paths {
    pub(super) fn get(&self, id: PathId) -> Option<&PathEntry> {
        self.entries.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PathId) -> Option<&mut PathEntry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn by_virtual_addr(&self, address: VirtualAddr) -> Option<PathId> {
        self.entries
            .iter()
            .find(|(_, entry)| entry.virtual_addr == address)
            .map(|(id, _)| *id)
    }

    pub(super) fn chosen(&self, peer: PeerId) -> Option<PathId> {
        self.chosen.get(&peer).copied()
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.chosen.remove(&peer);
    }

    pub(super) fn set_rtt(&mut self, id: PathId, rtt: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.view.rtt = Some(rtt);
        }
    }
}

impl Driver {
    pub(super) fn on_path_ready(&mut self, peer: PeerId, id: PathId, route: Route, view: PathView) {
        let old = self.paths.entries.remove(&id);
        if let Some(old) = &old {
            self.abandon(old);
        }
        let virtual_addr = self.socket.allocate();
        if let Err(error) = self.install_route(virtual_addr, tunnel_route(route)) {
            warn!(%error, "a path could not be used");
            self.node.carrier_failed(id, now());
            return;
        }
        debug!(kind = %view.kind, local = %view.local, remote = %view.remote, "path ready");
        let entry = PathEntry {
            peer,
            virtual_addr,
            view,
            carrier: None,
            dialling: false,
        };
        self.paths.entries.insert(id, entry);
        if old.is_some_and(|old| old.dialling || old.carrier.is_some()) {
            // The path is in use, and session does not choose it a second time.
            self.dial(id);
        }
    }

    /// Installs a route. A new run of a peer may stand at the addresses of an old one, whose packets are
    /// then nobody's any more.
    fn install_route(
        &self,
        address: VirtualAddr,
        route: tunnel::carrier::Route,
    ) -> Result<(), RouteError> {
        match self.socket.install(address, route) {
            Err(RouteError::Taken(old)) => {
                self.socket.remove(old);
                self.socket.install(address, route)
            }
            installed => installed,
        }
    }

    pub(super) fn on_path_chosen(&mut self, peer: PeerId, id: PathId) {
        self.paths.chosen.insert(peer, id);
        match self.paths.get(id).and_then(|entry| entry.carrier) {
            Some(carrier) => self.prefer(peer, carrier),
            None => self.dial(id),
        }
    }

    /// Opens a carrier over a path, in the background.
    pub(super) fn dial(&mut self, id: PathId) {
        let Some(entry) = self.paths.entries.get_mut(&id) else {
            return;
        };
        if self.side == Side::Egress || entry.dialling || entry.carrier.is_some() {
            return;
        }
        let Some(peer) = self.peers.get(entry.peer) else {
            return;
        };
        entry.dialling = true;
        let options = DialOptions {
            peer_key: Some(peer.key.0),
            peer_instance: Some(peer.instance.0),
            rtt: entry.view.rtt,
        };
        let (endpoint, virtual_addr) = (self.endpoint.clone(), entry.virtual_addr);
        let inputs_tx = self.inputs_tx.clone();
        tokio::spawn(async move {
            let result = endpoint.dial(virtual_addr, options).await;
            let input = Input::Dialled {
                path: id,
                address: virtual_addr,
                result,
            };
            let _ = inputs_tx.send(input).await;
        });
    }

    /// Takes note of the end of a dial; returns whether the path is still there, at the address dialled.
    pub(super) fn dial_ended(&mut self, id: PathId, address: VirtualAddr) -> bool {
        let entry = self.paths.entries.get_mut(&id);
        let Some(entry) = entry.filter(|entry| entry.virtual_addr == address) else {
            return false;
        };
        entry.dialling = false;
        true
    }

    pub(super) fn on_path_dropped(&mut self, id: PathId, cause: DropCause) {
        let Some(entry) = self.paths.entries.remove(&id) else {
            return;
        };
        debug!(kind = %entry.view.kind, remote = %entry.view.remote, cause = cause.as_str(),
            "path dropped");
        if self.paths.chosen(entry.peer) == Some(id) {
            self.paths.chosen.remove(&entry.peer);
            self.journal.path_lost(entry.peer, &entry.view, cause);
        }
        self.abandon(&entry);
        // The carrier was closed here, so nobody will tell of its end.
        if cause != DropCause::PeerRemoved && !self.carriers.any_of(entry.peer) {
            self.journal.peer_lost(entry.peer);
        }
    }

    fn abandon(&mut self, entry: &PathEntry) {
        if let Some(carrier) = entry.carrier {
            self.close_carrier(carrier, carriers::CODE_PATH_DEAD, "path dropped");
        }
        self.socket.remove(entry.virtual_addr);
    }
}

const fn tunnel_route(route: Route) -> tunnel::carrier::Route {
    match route {
        Route::Direct { local, remote } => tunnel::carrier::Route::Direct { local, remote },
        Route::RelayedUdp {
            local,
            server,
            channel,
        } => tunnel::carrier::Route::RelayedUdp {
            local,
            server,
            channel,
        },
        Route::RelayedStream { stream, channel } => {
            let stream = tunnel::carrier::RelayStreamId(stream.0);
            tunnel::carrier::Route::RelayedStream { stream, channel }
        }
    }
}
