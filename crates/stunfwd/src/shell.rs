//! What runs where: the data on one thread of its own, everything else beside it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mapping_core::RoomId;
use session::Side;
use signal_client::{Identity, RoomClient, RoomKeys, SignalError, SlotName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::control::{Answerer, ControlServer};
use crate::driver::{self, Command, DriverConfig, DriverHandles};
use crate::mappings::Mappings;
use crate::rendezvous::{Place, Rendezvous};
use crate::resolve::Directory;
use crate::run::{Role, RunError, RunOptions};
use crate::state_dir::StateDir;
use crate::strategies::Strategies;

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
    let control = options.control.clone().or_else(|| common.control.clone());
    if let Some(path) = &control {
        ControlServer::check_length(path).map_err(RunError::Control)?;
    }
    let state =
        StateDir::open(options.state_dir.as_deref(), role.word()).map_err(RunError::State)?;
    let identity = Identity::from_seed(*state.identity_seed());
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
    let urls = unique(&common.signaling_urls);
    let offer_loopback = urls.iter().any(|url| is_on_loopback(url));
    let places = urls
        .iter()
        .map(|url| {
            let (base, is_script) = api_base(url);
            let client = RoomClient::new(
                base,
                common.access_token.clone(),
                keys.rendezvous(),
                slot,
                identity.clone(),
            )?;
            Ok(Place { client, is_script })
        })
        .collect::<Result<Vec<_>, SignalError>>()?;
    info!(
        role = role.word(),
        version = env!("CARGO_PKG_VERSION"),
        key = %identity.public_key().short(),
        "started"
    );

    let (events_tx, room_rx) = mpsc::channel(64);
    let (description_tx, description_rx) = watch::channel(None);
    let (renewals_tx, renewals_rx) = watch::channel(0);
    let rendezvous = Rendezvous {
        places,
        keys: keys.clone(),
        slot,
        key: identity.public_key(),
        directory: Directory {
            stun: common.stun_servers.clone(),
            relays: common.relays.clone(),
        },
        events_tx,
        description_rx,
        renewals_rx,
    };
    let stop = shutdown.child_token();
    let config = DriverConfig {
        role,
        identity,
        proof_password: *keys.proof_password(),
        signaling_urls: urls,
        offer_loopback,
        strategies: Strategies::open(state.directory()),
        runtime: tokio::runtime::Handle::current(),
    };
    let handles = DriverHandles {
        room_rx,
        description_tx,
        renewals_tx,
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

/// Returns the list without what it names twice.
fn unique(urls: &[String]) -> Vec<String> {
    let mut unique: Vec<String> = Vec::new();
    for url in urls {
        if !unique.contains(url) {
            unique.push(url.clone());
        }
    }
    unique
}

/// Returns where the room API of a URL would be, and whether the URL names one of the original's PHP scripts:
/// then it is the origin that is asked, since stunfwd-signaling can stand in its place.
pub(crate) fn api_base(url: &str) -> (&str, bool) {
    let authority_at = url.find("://").map_or(0, |at| at + 3);
    let authority_end = url[authority_at..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| authority_at + at);
    let path = url[authority_end..].split(['?', '#']).next();
    let is_script = path.is_some_and(|path| path.to_ascii_lowercase().ends_with(".php"));
    if is_script {
        (&url[..authority_end], true)
    } else {
        (url, false)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_of_a_script_is_looked_for_at_its_origin() {
        assert_eq!(
            api_base("https://example.org:8443/a/signal.php?x=1"),
            ("https://example.org:8443", true)
        );
        assert_eq!(
            api_base("http://[2001:db8::1]/s.PHP"),
            ("http://[2001:db8::1]", true)
        );
        for url in ["https://php.example.org/x.phpx", "https://example.php", "x"] {
            assert_eq!(api_base(url), (url, false));
        }
    }

    #[test]
    fn a_server_that_is_named_twice_is_one() {
        let urls = ["http://a", "http://b", "http://a"].map(str::to_owned);
        assert_eq!(unique(&urls), ["http://a", "http://b"]);
    }
}
