//! Runs the program until a signal ends it.

use anyhow::Context;
use mapping_core::Side;
use stunfwd::{Client, RunError, RunOptions, Server, signals::StopSignals};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    args::Args,
    config_file::{self, Config},
    failure::Failure,
    logging,
};

/// Threads beside the one that moves the data: signaling and control are seldom busy.
const WORKER_THREADS: usize = 2;

/// Reads the configuration, starts the program and waits for its end.
pub(crate) fn run(side: Side, args: &Args) -> Result<(), Failure> {
    let config_file = config_file::named(args);
    let config = Config::load(side, config_file).map_err(Failure::usage)?;
    logging::start(args.log, args.log_format)?;
    let options = RunOptions {
        config_file: config_file.to_owned(),
        control: args.control.clone().or_else(|| config.control(config_file)),
        state_dir: args.state_dir.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("no runtime can be started")
        .map_err(Failure::other)?;
    let ended = runtime.block_on(run_until_signal(config, options));
    // A resolver that does not answer must not hold up a clean stop.
    runtime.shutdown_background();
    ended
}

async fn run_until_signal(config: Config, options: RunOptions) -> Result<(), Failure> {
    let mut signals = StopSignals::register()
        .context("the stop signals cannot be taken over")
        .map_err(Failure::other)?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let name = signals.next().await;
        info!("stopping on {name}");
        stop.cancel();
        // Whoever asks twice does not want to wait for a clean end.
        let name = signals.next().await;
        info!("stopping at once on a second {name}");
        std::process::exit(1);
    });
    let ended: Result<(), RunError> = match config {
        Config::Client(config) => Client::run(config, options, shutdown).await,
        Config::Server(config) => Server::run(config, options, shutdown).await,
    };
    ended.map_err(|error| Failure::new(error.exit_code(), error))
}
