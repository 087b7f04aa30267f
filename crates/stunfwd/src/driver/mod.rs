//! The loop around the sans-IO machines: sockets, clock and tasks on one side, [`session::Node`] on the
//! other, carriers and forwarders between.
//!
//! Everything here runs on the data thread. The loop itself only dispatches; what it dispatches to is
//! told apart by question: who is there (`peers`), over what (`paths`, `carriers`), found from where (`extra_sockets`,
//! `gateway`), through which relay connection (`relay_stream`), for whom (`forwarding`), what people change
//! (`changes`), and what they are told (`journal`, `report`).

mod carriers;
mod changes;
mod command;
mod extra_sockets;
mod forwarding;
mod gateway;
mod input;
mod journal;
mod paths;
mod peers;
mod relay_stream;
mod report;
mod signaling_log;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mapping_core::config::DirectPolicy;
use sansio::Datagram;
use session::{Hex, Node, NodeConfig, NodeTransmit, Policy, Side};
use signal_client::Identity;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use tunnel::carrier::{CarrierConfig, CarrierEndpoint, ControlDatagram, DemuxSocket, KnownKeys};

use self::carriers::Carriers;
pub(crate) use self::command::Command;
use self::forwarding::Forwarding;
use self::gateway::GatewayWatch;
use self::input::Input;
use self::journal::Journal;
use self::paths::Paths;
use self::peers::PeerBook;
use self::relay_stream::{Destination, RelayStreams};
use crate::clock::{now, until};
use crate::interfaces;
use crate::randomness::random_seed;
use crate::rendezvous::RoomEvent;
use crate::run::{Role, RunError};
use crate::strategies::Strategies;

/// Tasks report to the loop through a queue of this length; they wait when it is full.
const INPUTS_MAX: usize = 256;
/// How often carriers are asked whether they wait for an answer: the granularity of noticing a silent path.
const TICK: Duration = Duration::from_millis(100);
/// How long the last words to peers and relays may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Features of the carriers' hello that this version has: none yet.
const FEATURES: u64 = 0;

/// What the driver needs to know at the start.
pub(crate) struct DriverConfig {
    pub(crate) role: Role,
    pub(crate) identity: Identity,
    pub(crate) proof_password: [u8; 32],
    pub(crate) signaling_urls: Vec<String>,
    pub(crate) offer_loopback: bool,
    pub(crate) strategies: Strategies,
    /// For what must not run on the data thread.
    pub(crate) runtime: Handle,
}

/// The driver's connections to the rest of the process.
pub(crate) struct DriverHandles {
    pub(crate) room_rx: mpsc::Receiver<RoomEvent>,
    pub(crate) description_tx: watch::Sender<Option<Vec<u8>>>,
    /// Counts what asks for newer credentials.
    pub(crate) renewals_tx: watch::Sender<u64>,
    pub(crate) commands_rx: mpsc::Receiver<Command>,
    pub(crate) shutdown: CancellationToken,
}

/// Runs until shutdown.
pub(crate) async fn run(config: DriverConfig, handles: DriverHandles) -> Result<(), RunError> {
    let (inputs_tx, inputs_rx) = mpsc::channel(INPUTS_MAX);
    let driver = Driver::start(
        config,
        handles.description_tx,
        handles.renewals_tx,
        inputs_tx,
    )?;
    driver
        .run(
            handles.room_rx,
            handles.commands_rx,
            inputs_rx,
            handles.shutdown,
        )
        .await;
    Ok(())
}

struct Driver {
    side: Side,
    node: Node,
    /// The main sockets, as bound.
    bases: Vec<SocketAddr>,
    socket: Arc<DemuxSocket>,
    endpoint: CarrierEndpoint,
    known_keys: Arc<KnownKeys>,
    peers: PeerBook,
    paths: Paths,
    carriers: Carriers,
    streams: RelayStreams,
    /// Sockets that are to be opened again.
    failed_sockets: BTreeSet<SocketAddr>,
    /// The system once gave fewer extra sockets than were wanted, and people were told.
    sockets_short: bool,
    gateway: GatewayWatch,
    strategies: Strategies,
    forwarding: Forwarding,
    journal: Journal,
    description_tx: watch::Sender<Option<Vec<u8>>>,
    renewals_tx: watch::Sender<u64>,
    description_dirty: bool,
    /// A later run with our key has the room: nobody in it is ours any more.
    replaced: bool,
    inputs_tx: mpsc::Sender<Input>,
}

impl Driver {
    fn start(
        config: DriverConfig,
        description_tx: watch::Sender<Option<Vec<u8>>>,
        renewals_tx: watch::Sender<u64>,
        inputs_tx: mpsc::Sender<Input>,
    ) -> Result<Self, RunError> {
        let side = config.role.side();
        let common = config.role.common();
        let socket = DemuxSocket::new();
        let bases = bind_sockets(&socket)?;
        let interfaces = interfaces::list();
        let identity_seed = *config.identity.seed();
        let node_config = NodeConfig {
            side,
            identity: Hex(config.identity.public_key().0),
            bases: bases.clone(),
            interfaces: interfaces.clone(),
            offer_loopback: config.offer_loopback,
            policy: policy(common.direct),
        };
        let asks_gateway = common.port_mapping && common.direct != DirectPolicy::Never;
        let gateway = GatewayWatch::new(asks_gateway.then_some(config.runtime));
        let mut node = Node::new(node_config, random_seed(), now());
        node.remember(config.strategies.all());
        let known_keys = KnownKeys::new();
        let endpoint = CarrierEndpoint::new(
            socket.clone(),
            CarrierConfig {
                side: carriers::side(side),
                identity_seed,
                known_keys: known_keys.clone(),
                proof_password: config.proof_password,
                instance: node.instance().0,
                resume: common.resume,
                features: FEATURES,
                max_connections: common.max_connections,
                seed: random_seed(),
            },
        )?;
        let journal = Journal::new(side, config.signaling_urls.clone(), &interfaces);
        let forwarding = Forwarding::start(&config.role, inputs_tx.clone())?;
        let mut driver = Self {
            side,
            node,
            bases,
            socket,
            endpoint,
            known_keys,
            peers: PeerBook::default(),
            paths: Paths::default(),
            carriers: Carriers::default(),
            streams: RelayStreams::default(),
            failed_sockets: BTreeSet::new(),
            sockets_short: false,
            gateway,
            strategies: config.strategies,
            forwarding,
            journal,
            description_tx,
            renewals_tx,
            description_dirty: true,
            replaced: false,
            inputs_tx,
        };
        driver.accept_carriers();
        driver.drain();
        Ok(driver)
    }

    async fn run(
        mut self,
        mut room_rx: mpsc::Receiver<RoomEvent>,
        mut commands_rx: mpsc::Receiver<Command>,
        mut inputs_rx: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let socket = self.socket.clone();
        loop {
            let wake = self.node.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = until(wake) => self.node.handle_timeout(now()),
                // Before the queues, which strangers can keep full.
                _ = tick.tick() => self.on_tick(),
                Some(command) = commands_rx.recv() => self.on_command(command),
                Some(event) = room_rx.recv() => self.on_room_event(event),
                Some(input) = inputs_rx.recv() => self.on_input(input),
                event = self.gateway.event() => self.on_port_mapper_event(event),
                datagram = socket.recv_control() => self.on_datagram(&datagram),
                failed = socket.socket_failed() => self.on_socket_failed(failed),
            }
            self.drain();
        }
        self.close().await;
    }

    fn on_datagram(&mut self, datagram: &ControlDatagram) {
        let ControlDatagram {
            local,
            remote,
            payload,
            ..
        } = datagram;
        let datagram = Datagram {
            local: *local,
            remote: *remote,
            payload,
        };
        self.node.handle_datagram(datagram, now());
    }

    /// The system took a socket away: another one at the same port, which the paths know, now or later.
    fn on_socket_failed(&mut self, local: SocketAddr) {
        warn!(%local, "a socket failed; opening it again");
        self.failed_sockets.insert(local);
        self.reopen_sockets();
    }

    fn reopen_sockets(&mut self) {
        let socket = &self.socket;
        self.failed_sockets.retain(|local| {
            let opened = socket.bind(*local);
            opened
                .inspect_err(|error| tracing::trace!(%local, %error, "not opened again"))
                .is_err()
        });
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Dialled {
                path,
                address,
                result,
            } => self.on_dialled(path, address, result),
            Input::Accepted(carrier) => self.on_accepted(carrier),
            Input::Notice { carrier, notice } => self.on_notice(carrier, notice),
            Input::CarrierClosed { carrier, reason } => self.on_carrier_closed(carrier, &reason),
            Input::Forward { instance, event } => self.on_forward_event(instance, event),
            Input::StreamOpened { stream } => {
                self.streams.opened(stream);
                self.node.relay_stream_opened(stream, now());
            }
            Input::StreamClosed { stream, reason } => {
                debug!(%reason, "a connection to a relay ended");
                if let Some(destination) = self.streams.failed(stream) {
                    let (server, transport) = (destination.server, destination.transport());
                    self.journal.relay_unavailable(server, transport, &reason);
                }
                self.streams.forget(stream);
                self.node.relay_stream_closed(stream, now());
            }
            Input::SocketsOpened {
                request,
                wanted,
                sockets,
            } => self.on_sockets_opened(request, wanted, sockets),
            Input::StreamFrame { stream, frame } => {
                self.node.handle_relay_frame(stream, &frame, now());
            }
        }
    }

    fn on_room_event(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Servers(servers) => {
                let relays = servers.relays;
                self.on_stun_servers(servers.stun);
                self.node.set_relay_servers(relays, now());
                self.socket.set_relay_servers(&self.node.relay_addresses());
            }
            RoomEvent::Opened {
                slot,
                key,
                plaintext,
            } => self.on_opened(slot, key, &plaintext),
            RoomEvent::Removed { slot } => self.on_slot_removed(slot),
            RoomEvent::Reachable { place } => {
                self.node.others_answer(now());
                self.journal.signaling.reachable(place);
            }
            RoomEvent::Unreachable { place, text } => {
                self.journal.signaling.unreachable(place, text);
            }
            RoomEvent::Published { place } => {
                self.replaced = false;
                self.journal.signaling.published(place);
            }
            RoomEvent::Replaced(text) => self.on_replaced(text),
            RoomEvent::Refused { place, text } => self.journal.signaling.refused(place, text),
        }
    }

    fn on_tick(&mut self) {
        let at = now();
        self.reopen_sockets();
        self.watch_carriers(at);
        self.forget_old_peers(at);
        self.forwarding
            .forget_expired(&self.carriers.instances(), at);
        self.settle_changes(at);
        self.explain_relays(at);
    }

    /// One mutation, then drain.
    fn drain(&mut self) {
        loop {
            while let Some(transmit) = self.node.poll_transmit(now()) {
                self.send(transmit);
            }
            let Some(event) = self.node.poll_event() else {
                break;
            };
            self.on_node_event(event);
        }
        if std::mem::take(&mut self.description_dirty) {
            let plaintext = self.node.description().encode();
            self.description_tx.send_if_modified(|present| {
                let changed = present.as_ref() != Some(&plaintext);
                *present = Some(plaintext);
                changed
            });
        }
    }

    fn send(&mut self, transmit: NodeTransmit) {
        match transmit {
            NodeTransmit::Udp(transmit) => {
                let sent = self.socket.send_control(
                    transmit.source,
                    transmit.destination,
                    transmit.ttl,
                    &transmit.payload,
                );
                if let Err(error) = sent {
                    tracing::trace!(destination = %transmit.destination, %error, "not sent");
                }
            }
            NodeTransmit::Stream { stream, frame } => self.streams.send(stream, frame),
        }
    }

    fn on_node_event(&mut self, event: session::Event) {
        use session::Event;
        match event {
            Event::DescriptionChanged => self.description_dirty = true,
            Event::NatClassified(report) => self.journal.nat_classified(&report),
            Event::Ipv6Classified(report) => self.journal.ipv6_classified(&report),
            Event::RelayReady {
                server,
                transport,
                relayed,
            } => {
                self.journal.relay_ready(server, transport, relayed);
            }
            Event::RelayUnavailable {
                server,
                transport,
                reason,
                credentials_refused,
            } => {
                self.journal.relay_unavailable(server, transport, &reason);
                if credentials_refused {
                    self.renewals_tx.send_modify(|renewals| *renewals += 1);
                }
            }
            Event::OpenRelayStream {
                stream,
                server,
                tls_name,
            } => {
                let destination = Destination { server, tls_name };
                let socket = self.socket.clone();
                self.streams
                    .open(stream, destination, socket, self.inputs_tx.clone());
            }
            Event::CloseRelayStream { stream } => self.streams.forget(stream),
            Event::PathReady {
                peer,
                path,
                route,
                view,
            } => {
                self.on_path_ready(peer, path, route, view);
            }
            Event::PathChosen { peer, path } => self.on_path_chosen(peer, path),
            Event::StandbyChosen { path, .. } => self.dial(path),
            Event::PathDropped { path, cause, .. } => self.on_path_dropped(path, cause),
            Event::RttMeasured { path, rtt, .. } => self.paths.set_rtt(path, rtt),
            Event::OpenSockets {
                request,
                ipv6,
                count,
            } => self.on_open_sockets(request, ipv6, count),
            Event::CloseSockets { sockets } => self.on_close_sockets(&sockets),
            Event::StrategyWorked {
                peer,
                identity,
                strategy,
            } => {
                self.strategies.remember(identity, strategy);
                self.journal.strategy_worked(peer, strategy);
            }
            Event::PortMappingVerified { external } => self.on_port_mapping_verified(external),
            Event::PortMappingRefuted { external, reason } => {
                self.on_port_mapping_refuted(external, &reason);
            }
            Event::PortMappingUndecided {
                external,
                offered,
                reason,
            } => self.on_port_mapping_undecided(external, offered, &reason),
            other => debug!(?other, "an event of a later version"),
        }
    }

    /// Says goodbye to peers and relays.
    async fn close(mut self) {
        self.forwarding.shutdown();
        self.carriers.close_all();
        self.node.close(now());
        while let Some(transmit) = self.node.poll_transmit(now()) {
            self.send(transmit);
        }
        let goodbye = self.endpoint.close(carriers::CODE_GOING_AWAY, "stopped");
        let goodbye = timeout(CLOSE_TIMEOUT, goodbye);
        let _ = tokio::join!(goodbye, self.gateway.release());
    }
}

/// Opens one socket per address family; IPv6 may be missing.
fn bind_sockets(socket: &Arc<DemuxSocket>) -> Result<Vec<SocketAddr>, RunError> {
    let v4 = socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let v6 = socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let (v4_base, v6_base) = (
        v4.as_ref().ok().map(|it| it.local),
        v6.ok().map(|it| it.local),
    );
    let bases: Vec<_> = [v4_base, v6_base].into_iter().flatten().collect();
    match (bases.is_empty(), v4) {
        (true, Err(error)) => Err(RunError::Socket(error)),
        _ => Ok(bases),
    }
}

const fn policy(direct: DirectPolicy) -> Policy {
    match direct {
        DirectPolicy::Preferred => Policy::Any,
        DirectPolicy::Never => Policy::RelayOnly,
        DirectPolicy::Required => Policy::DirectOnly,
    }
}
