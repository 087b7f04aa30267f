//! The router on our own network: what it forwards to us, what came of it, and giving it back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use session::{GatewayView, PortMapping};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Driver;
use crate::clock::now;
use crate::port_mapping::{PortMapper, PortMapperEvent};

/// Events that wait for the loop; the router speaks once in minutes.
const EVENTS_MAX: usize = 16;

/// How long giving back may hold up the end: beside the last words to peers, within the time that a stop has.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The port mapper, if it is wanted, and what it said.
pub(super) struct GatewayWatch {
    /// For what must not run on the data thread; `None` when the router is not to be asked.
    runtime: Option<Handle>,
    mapper: Option<PortMapper>,
    events_rx: Option<mpsc::Receiver<PortMapperEvent>>,
    pub(super) view: GatewayView,
    mappings: Vec<PortMapping>,
    /// The external addresses that somebody outside came in through.
    pub(super) verified: BTreeSet<SocketAddr>,
}

impl GatewayWatch {
    /// Makes one that asks nobody yet, and never does without a runtime.
    pub(super) fn new(runtime: Option<Handle>) -> Self {
        Self {
            runtime,
            mapper: None,
            events_rx: None,
            view: GatewayView::default(),
            mappings: Vec::new(),
            verified: BTreeSet::new(),
        }
    }

    /// Starts asking for mappings to our sockets, once there is a STUN server on the other side of the router: one on this
    /// machine could verify none, and a program that talks to itself needs none.
    fn start(&mut self, bases: &[SocketAddr], stun_servers: &[SocketAddr]) {
        let outside = stun_servers.iter().any(|it| !it.ip().is_loopback());
        let Some(runtime) = self.runtime.take_if(|_| outside) else {
            return;
        };
        let (events_tx, events_rx) = mpsc::channel(EVENTS_MAX);
        self.mapper = Some(PortMapper::spawn(&runtime, bases, events_tx));
        self.events_rx = Some(events_rx);
    }

    /// Waits for the next event; for ever when nobody is asked. Cancel-safe.
    pub(super) async fn event(&mut self) -> PortMapperEvent {
        if let Some(events_rx) = &mut self.events_rx {
            if let Some(event) = events_rx.recv().await {
                return event;
            }
            self.events_rx = None;
        }
        std::future::pending().await
    }

    /// Gives every mapping back.
    pub(super) async fn release(&mut self) {
        if let Some(mapper) = self.mapper.take() {
            let _ = timeout(RELEASE_TIMEOUT, mapper.release()).await;
        }
    }
}

impl Driver {
    /// There are STUN servers, or other ones.
    pub(super) fn on_stun_servers(&mut self, servers: Vec<SocketAddr>) {
        self.gateway.start(&self.bases, &servers);
        self.node.set_stun_servers(servers, now());
    }

    pub(super) fn on_port_mapper_event(&mut self, event: PortMapperEvent) {
        match event {
            PortMapperEvent::Gateway(view) => {
                self.gateway.view = view.clone();
                self.node.set_gateway(view, now());
            }
            PortMapperEvent::Mappings(mappings) => {
                self.journal.port_mappings_claimed(&mappings);
                self.gateway.mappings.clone_from(&mappings);
                let still =
                    |external: &SocketAddr| mappings.iter().any(|it| it.external == *external);
                self.gateway.verified.retain(still);
                self.node.set_port_mappings(mappings, now());
            }
        }
    }

    pub(super) fn on_port_mapping_verified(&mut self, external: SocketAddr) {
        self.gateway.verified.insert(external);
        let mapping = self
            .gateway
            .mappings
            .iter()
            .find(|it| it.external == external);
        self.journal
            .port_mapping_verified(external, mapping.map(|it| it.protocol));
    }

    pub(super) fn on_port_mapping_refuted(&mut self, external: SocketAddr, reason: &str) {
        self.gateway.verified.remove(&external);
        self.journal.port_mapping_refuted(external, reason);
        if let Some(mapper) = &self.gateway.mapper {
            mapper.refuted(external);
        }
    }

    pub(super) fn on_port_mapping_undecided(
        &mut self,
        external: SocketAddr,
        offered: bool,
        reason: &str,
    ) {
        self.gateway.verified.remove(&external);
        self.journal
            .port_mapping_undecided(external, offered, reason);
    }
}
