//! Runs the program until a signal ends it.

use anyhow::Context;
use mapping_core::Side;
use stunfwd::{Client, RunError, RunOptions, Server, signals::StopSignals};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    args::Args,
    config_file::{self, Config},
    failure::Failure,
    logging,
    prompt::{self, FoundTerminal},
    reload,
};

/// Threads beside the one that moves the data: signaling and control are seldom busy.
const WORKER_THREADS: usize = 2;

/// Reads the configuration, starts the program and waits for its end.
pub(crate) fn run(side: Side, args: &Args) -> Result<(), Failure> {
    let config_file = config_file::named(args);
    let log = logging::start(args.log, args.log_format)?;
    let text = config_file::read(config_file).map_err(Failure::usage)?;
    let config = Config::parse(side, config_file, &text).map_err(Failure::usage)?;
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
    let terminal = FoundTerminal::look(log);
    let ended = runtime.block_on(run_until_signal(config, text, options, &terminal));
    terminal.give_back();
    // A resolver that does not answer must not hold up a clean stop.
    runtime.shutdown_background();
    ended
}

async fn run_until_signal(
    config: Config,
    text: String,
    options: RunOptions,
    terminal: &FoundTerminal,
) -> Result<(), Failure> {
    let signals = StopSignals::register()
        .context("the stop signals cannot be taken over")
        .map_err(Failure::other)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signals(signals, shutdown.clone(), terminal.clone()));
    let ended: Result<(), RunError> = match config {
        Config::Client(config) => {
            let start = reload::Start {
                file: options.config_file.clone(),
                text,
                config: config.clone(),
            };
            let (client, mappings) = Client::prepare(config, options);
            prompt::start(
                mappings.clone(),
                start.file.clone(),
                terminal,
                Handle::current(),
                shutdown.clone(),
            );
            let following = tokio::spawn(reload::follow(start, mappings));
            let ended = client.run_until(shutdown).await;
            following.abort();
            ended
        }
        Config::Server(config) => Server::run(config, options, shutdown).await,
    };
    ended.map_err(|error| Failure::new(error.exit_code(), error))
}

/// Stops cleanly on the first signal, unless the prompt did already, and at once on the next.
async fn stop_on_signals(
    mut signals: StopSignals,
    shutdown: CancellationToken,
    terminal: FoundTerminal,
) {
    tokio::select! {
        name = signals.next() => {
            info!("stopping on {name}");
            shutdown.cancel();
        }
        () = shutdown.cancelled() => {}
    }
    // The log tells how it goes on, and the user may type the next command.
    terminal.give_back();
    // Whoever asks twice does not want to wait for a clean end.
    let name = signals.next().await;
    info!("stopping at once on a second {name}");
    terminal.give_back();
    std::process::exit(1);
}
