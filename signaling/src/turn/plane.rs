//! The data plane: whose packet it is, and where it goes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use relay::Transport;
use relay::server::{
    BindingResponder, ClientAddr, Command, Forward, RedirectLimiter, RelayPort, Server,
    ServerConfig,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::egress::Egress;
use super::open::DataSockets;
use super::relay_ports::RelayPorts;
use super::streams::{self, Streams};
use super::udp_socket::{Arrived, ReceiveBuffer, UdpSocket};

/// What the data plane is made of.
#[derive(Debug)]
pub(crate) struct PlaneConfig {
    pub(crate) responder: BindingResponder,
    /// `None` without TURN.
    pub(crate) server: Option<ServerConfig>,
    pub(crate) seed: [u8; 32],
}

/// Everything on the thread; tasks share it and take turns.
pub(super) struct Plane {
    responder: BindingResponder,
    redirects: RefCell<RedirectLimiter>,
    server: Option<RefCell<Server>>,
    sockets: Vec<Rc<UdpSocket>>,
    pub(super) buffer: ReceiveBuffer,
    egress: RefCell<Egress>,
    pub(super) streams: Streams,
    ports: RelayPorts,
    /// When the timer will wake, and how to make it look again.
    wake_at: Cell<Option<Instant>>,
    wake: Notify,
}

/// Serves STUN and TURN until cancelled. Runs inside a `LocalSet`.
pub(crate) async fn run_plane(
    sockets: DataSockets,
    config: PlaneConfig,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listeners = sockets
        .tcp
        .into_iter()
        .map(tokio::net::TcpListener::from_std)
        .collect::<Result<Vec<_>, _>>()?;
    let udp = sockets
        .udp
        .into_iter()
        .map(|socket| UdpSocket::new(socket).map(Rc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let key = u64::from_be_bytes(std::array::from_fn(|index| config.seed[index]));
    let server = config
        .server
        .map(|server| RefCell::new(Server::new(server, config.seed, clock())));
    let plane = Rc::new(Plane {
        responder: config.responder,
        redirects: RefCell::new(RedirectLimiter::new(key, clock())),
        server,
        sockets: udp,
        buffer: ReceiveBuffer::new(),
        egress: RefCell::default(),
        streams: Streams::new(),
        ports: RelayPorts::default(),
        wake_at: Cell::new(None),
        wake: Notify::new(),
    });
    for socket in &plane.sockets {
        tokio::task::spawn_local(run_client_socket(Rc::clone(&plane), Rc::clone(socket)));
    }
    for listener in listeners {
        tokio::task::spawn_local(streams::run_listener(Rc::clone(&plane), listener));
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = run_timer(&plane) => {}
    }
    Ok(())
}

async fn run_client_socket(plane: Rc<Plane>, socket: Rc<UdpSocket>) {
    loop {
        let received = socket
            .receive(
                &plane.buffer,
                |arrived| plane.on_client_datagram(arrived),
                || plane.flush(),
            )
            .await;
        if let Err(error) = received {
            // ICMP errors and the like: the socket itself stays usable.
            debug!(%error, "cannot read a STUN socket");
            tokio::task::yield_now().await;
        }
    }
}

/// Reads one relay port until it is closed.
pub(super) async fn run_relay_port(plane: Rc<Plane>, port: RelayPort, socket: Rc<UdpSocket>) {
    loop {
        let received = socket
            .receive(
                &plane.buffer,
                |arrived| plane.on_peer_datagram(port, arrived),
                || plane.flush(),
            )
            .await;
        if let Err(error) = received {
            debug!(%error, "cannot read a relay port");
            tokio::task::yield_now().await;
        }
    }
}

async fn run_timer(plane: &Rc<Plane>) {
    loop {
        let wake_at = plane.on_timeout();
        let wait = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = plane.wake.notified() => {}
            () = wait => {}
        }
    }
}

impl Plane {
    /// Takes a frame from a client's stream.
    pub(super) fn on_stream_frame(self: &Rc<Self>, client: ClientAddr, frame: &[u8]) {
        if let Some(answer) = self.responder.respond_on_stream(frame, client.remote) {
            self.streams.send(&client, &[&answer]);
            return;
        }
        self.on_turn_message(client, frame);
    }

    /// A client's stream has ended.
    pub(super) fn on_stream_ended(self: &Rc<Self>, client: ClientAddr) {
        if let Some(server) = &self.server {
            server.borrow_mut().handle_client_gone(client);
            self.run_commands(server);
        }
    }

    /// Sends what waits to be glued.
    pub(super) fn flush(&self) {
        self.egress.borrow_mut().flush();
    }

    fn on_client_datagram(self: &Rc<Self>, arrived: Arrived<'_>) {
        let Arrived {
            local,
            from,
            payload,
        } = arrived;
        if let Some(answer) = self.responder.respond(payload, local, from) {
            let admitted = self.redirects.borrow_mut().admit(&answer, from, clock());
            let answer = if admitted {
                Some(answer)
            } else {
                debug!("too many answers to other ports of one address");
                self.responder.refuse(payload, local, from)
            };
            if let Some(answer) = answer {
                self.send_from(answer.source, answer.destination, &answer.payload);
            }
            return;
        }
        let client = ClientAddr {
            remote: from,
            local,
            transport: Transport::Udp,
        };
        self.on_turn_message(client, payload);
    }

    fn on_turn_message(self: &Rc<Self>, client: ClientAddr, payload: &[u8]) {
        let Some(server) = &self.server else { return };
        let forward = server.borrow_mut().handle_client(client, payload, clock());
        match forward {
            // Only a request leaves commands behind.
            Forward::Nothing => self.run_commands(server),
            Forward::ToPeer { .. } | Forward::ToClient { .. } => self.forward(forward),
        }
    }

    fn on_peer_datagram(self: &Rc<Self>, port: RelayPort, arrived: Arrived<'_>) {
        let Some(server) = &self.server else { return };
        let forward = server
            .borrow_mut()
            .handle_peer(port, arrived.from, arrived.payload, clock());
        self.forward(forward);
    }

    fn forward(&self, forward: Forward<'_>) {
        match forward {
            Forward::Nothing => {}
            Forward::ToPeer {
                port,
                peer,
                payload,
            } => {
                if let Some(socket) = self.ports.socket(port) {
                    let from = port.local().ip();
                    self.egress
                        .borrow_mut()
                        .push(&socket, from, peer.get(), payload);
                }
            }
            Forward::ToClient { client, frame } => match client.transport {
                Transport::Udp => {
                    if let Some(socket) = self.socket_at(client.local) {
                        let from = client.local.ip();
                        self.egress
                            .borrow_mut()
                            .push_frame(socket, from, client.remote, &frame);
                    }
                }
                Transport::Tcp => self.streams.send(&client, &frame.slices()),
            },
        }
    }

    fn run_commands(self: &Rc<Self>, server: &RefCell<Server>) {
        let mut any = false;
        loop {
            // The borrow ends before the command runs.
            let command = server.borrow_mut().poll_command();
            let Some(command) = command else { break };
            any = true;
            self.run_command(server, command);
        }
        if any {
            let wanted = server.borrow().poll_timeout().map(|deadline| deadline.at);
            let sooner = match (wanted, self.wake_at.get()) {
                (Some(wanted), Some(at)) => wanted < at,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if sooner {
                self.wake.notify_one();
            }
        }
    }

    fn run_command(self: &Rc<Self>, server: &RefCell<Server>, command: Command) {
        match command {
            Command::Send { client, payload } => match client.transport {
                Transport::Udp => self.send_from(client.local, client.remote, &payload),
                Transport::Tcp => {
                    self.streams.note_answer(&client, &payload);
                    self.streams.send(&client, &[&payload]);
                }
            },
            Command::OpenPort { port } => match self.ports.open(self, port) {
                Ok(()) => server.borrow_mut().handle_port_opened(port, clock()),
                Err(error) => {
                    warn!(address = %port.local(), %error, "cannot open a relay port");
                    server.borrow_mut().handle_port_failed(port);
                }
            },
            Command::ClosePort { port } => self.ports.close(port),
        }
    }

    fn send_from(&self, local: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        if let Some(socket) = self.socket_at(local) {
            self.egress
                .borrow_mut()
                .push(socket, local.ip(), destination, payload);
        }
    }

    fn socket_at(&self, local: SocketAddr) -> Option<&Rc<UdpSocket>> {
        self.sockets.iter().find(|socket| socket.serves(local))
    }

    /// Ends what has run out and returns when to look again.
    fn on_timeout(self: &Rc<Self>) -> Option<Instant> {
        let server = self.server.as_ref()?;
        server.borrow_mut().handle_timeout(clock());
        self.run_commands(server);
        self.flush();
        let wake_at = server.borrow().poll_timeout().map(|deadline| deadline.at);
        self.wake_at.set(wake_at);
        wake_at
    }
}

/// The data plane's clock.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
