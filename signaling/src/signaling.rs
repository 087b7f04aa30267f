//! All of it together: sockets first, then two places where they are served.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use rand::Rng;
use relay::server::{BindingResponder, ExternalAddresses, ServerConfig, SharedSecret};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::http::{Advertised, ApiState, Relays, RoomService, build_router, run_http};
use crate::rooms::RoomLimits;
use crate::turn::{DataSockets, OpenError, PlaneConfig, run_plane};

/// REALM, short because every challenge to a stranger carries it.
const REALM: &str = "stunfwd";
/// How often addresses that have been quiet are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// A signaling server whose sockets are open.
#[derive(Debug)]
pub struct Signaling {
    config: Config,
    listener: TcpListener,
    http: SocketAddr,
    sockets: DataSockets,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A socket cannot be opened.
    #[error("cannot open {address} for {what}")]
    Open {
        /// What it is for.
        what: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a running server ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A socket that was open cannot be served.
    #[error("cannot serve a socket")]
    Socket(#[source] io::Error),
    /// The thread for STUN and TURN cannot be started.
    #[error("cannot start the thread for STUN and TURN")]
    Thread(#[source] io::Error),
    /// The thread for STUN and TURN ended before it was told to.
    #[error("STUN and TURN ended unexpectedly")]
    DataPlane,
}

impl From<OpenError> for StartError {
    fn from(
        OpenError {
            what,
            address,
            source,
        }: OpenError,
    ) -> Self {
        Self::Open {
            what,
            address,
            source,
        }
    }
}

impl Signaling {
    /// Opens all sockets. Nothing is answered yet.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        crate::open_files::raise_limit();
        let listener = crate::turn::open_tcp(config.listen, "the HTTP API")?;
        let http = listener.local_addr().map_err(|source| StartError::Open {
            what: "the HTTP API",
            address: config.listen,
            source,
        })?;
        let sockets = DataSockets::open(&config.stun)?;
        Ok(Self {
            config,
            listener,
            http,
            sockets,
        })
    }

    /// Returns the address of the HTTP API, with the port that the system chose if 0 was asked for.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Returns the addresses of STUN and TURN, the primary first, with actual ports.
    #[must_use]
    pub fn stun_addrs(&self) -> &[SocketAddr] {
        &self.sockets.primary
    }

    /// Serves until `shutdown` is cancelled.
    ///
    /// # Errors
    /// When a part of it ends by itself, which leaves the server useless.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.say_hello();
        let Self {
            config,
            listener,
            sockets,
            ..
        } = self;
        listener.set_nonblocking(true).map_err(RunError::Socket)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(RunError::Socket)?;

        let secret = shared_secret(&config);
        let advertised = Advertised {
            stun: sockets.primary.clone(),
            external_ip: config.external_ip,
            relays: config.relay.then(|| Relays {
                secret: secret.clone(),
                ttl: config.turn_ttl,
                others: config.turn_urls.clone(),
            }),
        };
        let plane = plane_config(&config, &sockets, secret);
        // Whatever ends first ends the rest.
        let stop = shutdown.child_token();
        let data_plane = start_data_plane(sockets, plane, stop.clone())?;

        let rooms = RoomService::new(RoomLimits::default());
        let state = ApiState::new(
            std::sync::Arc::clone(&rooms),
            advertised,
            config.access_token,
            stop.clone(),
        );
        let housekeeping = async {
            loop {
                tokio::time::sleep(FORGET_EVERY).await;
                state.limiter.forget_quiet();
            }
        };
        let router = build_router(std::sync::Arc::clone(&state));
        let outcome = tokio::select! {
            () = run_http(listener, router, stop.clone()) => Ok(()),
            () = rooms.run_expiry(stop.clone()) => Ok(()),
            () = housekeeping => Ok(()),
            ended = data_plane => ended.unwrap_or(Err(RunError::DataPlane)),
        };
        stop.cancel();
        debug!(stats = ?rooms.stats(), "stopped");
        if shutdown.is_cancelled() {
            Ok(())
        } else {
            outcome
        }
    }

    fn say_hello(&self) {
        let Self {
            config,
            http,
            sockets,
            ..
        } = self;
        let stun: Vec<String> = sockets.primary.iter().map(SocketAddr::to_string).collect();
        let relay = match (config.relay, config.turn_urls.as_slice()) {
            (false, _) => "none".to_owned(),
            (true, []) => "here".to_owned(),
            (true, others) => others
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        info!(http = %http, stun = stun.join(", "), relay, "listening");
        let open_to_all = config.access_token.is_none() && !http.ip().is_loopback();
        if open_to_all {
            warn!(
                "anybody who reaches {http} can use the rooms and the relay; \
                 set --access-token to keep strangers off"
            );
        }
    }
}

fn shared_secret(config: &Config) -> SharedSecret {
    match &config.turn_secret {
        Some(secret) => SharedSecret::new(secret.expose().as_bytes()),
        None => {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            SharedSecret::new(secret)
        }
    }
}

fn plane_config(config: &Config, sockets: &DataSockets, secret: SharedSecret) -> PlaneConfig {
    let external = config
        .external_ip
        .map_or_else(ExternalAddresses::default, |ip| {
            ExternalAddresses::default().everywhere(ip)
        });
    let mut responder = BindingResponder::new(sockets.alternates, external.clone());
    if let Some(port) = sockets.second_port {
        responder = responder.with_second_port(port);
    }
    // Where others relay, our own server would only be one more way in.
    let is_embedded = config.relay && config.turn_urls.is_empty();
    let server = is_embedded.then(|| {
        let mut server = ServerConfig::new(REALM, secret, wall_clock());
        server.relay_ports = config.relay_ports.clone();
        server.external = external;
        server.allow.clone_from(&config.relay_allow);
        server.own_addresses = own_addresses();
        server
    });
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    PlaneConfig {
        responder,
        server,
        seed,
    }
}

/// The addresses of our interfaces, which nobody may be relayed to.
fn own_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            warn!(%error, "cannot list the interfaces: only addresses in use count as our own");
            Vec::new()
        }
    }
}

/// Starts the thread of STUN and TURN; what it returns ends when the thread does.
fn start_data_plane(
    sockets: DataSockets,
    config: PlaneConfig,
    stop: CancellationToken,
) -> Result<tokio::sync::oneshot::Receiver<Result<(), RunError>>, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Thread)?;
    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("stunfwd-relay".to_owned())
        .spawn(move || {
            let local = LocalSet::new();
            let ended = local.block_on(&runtime, run_plane(sockets, config, stop));
            // Nobody listens any more when HTTP ended first.
            let _ = ended_tx.send(ended.map_err(RunError::Socket));
        })
        .map_err(RunError::Thread)?;
    Ok(ended_rx)
}

#[expect(
    clippy::disallowed_methods,
    reason = "credentials expire by the wall clock"
)]
fn wall_clock() -> (std::time::Instant, u64) {
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    (std::time::Instant::now(), unix)
}
