//! Runs the program until a signal ends it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mapping_core::{
    Side,
    config::{ClientConfig, ConfigError, ServerConfig},
};
use stunfwd::control::beside_config;
use stunfwd::{Client, RunError, RunOptions, Server, signals::StopSignals};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{args::Args, config_file, failure::Failure, logging};

/// Threads beside the one that moves the data: signaling and control are seldom busy.
const WORKER_THREADS: usize = 2;

/// The configuration file when the command line names none.
const CONFIG_FILE: &str = "config.yml";

enum Config {
    Client(ClientConfig),
    Server(ServerConfig),
}

/// Reads the configuration, starts the program and waits for its end.
pub(crate) fn run(side: Side, args: &Args) -> Result<(), Failure> {
    let config_file = args
        .config
        .as_deref()
        .unwrap_or_else(|| Path::new(CONFIG_FILE));
    let config = load(side, config_file).map_err(Failure::usage)?;
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

impl Config {
    /// Returns the path of the control socket that the configuration asks for.
    fn control(&self, config_file: &Path) -> Option<PathBuf> {
        let control = match self {
            Self::Client(config) => &config.common.control,
            Self::Server(config) => &config.common.control,
        };
        control
            .as_deref()
            .map(|control| beside_config(config_file, control))
    }
}

/// Returns the path of the control socket that a configuration asks for; `None` when it leaves that open.
///
/// # Errors
/// [`ConfigError`] when it cannot be read.
pub(crate) fn control_of(side: Side, config_file: &Path) -> Result<Option<PathBuf>, ConfigError> {
    load(side, config_file).map(|config| config.control(config_file))
}

fn load(side: Side, file: &Path) -> Result<Config, ConfigError> {
    let text = config_file::read(file)?;
    match side {
        Side::Ingress => ClientConfig::parse(file, &text).map(Config::Client),
        Side::Egress => ServerConfig::parse(file, &text).map(Config::Server),
    }
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
