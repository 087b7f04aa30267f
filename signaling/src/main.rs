//! `stunfwd-signaling`: the command line around the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use signaling::{Config, ConfigError, Settings, Signaling};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Rendezvous, STUN and TURN in one process: where stunfwd-client and stunfwd-server find each other.
///
/// Every option can also stand in the --config file, under the same name without the dashes.
#[derive(Debug, Parser)]
#[command(
    name = "stunfwd-signaling",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Options from a YAML or JSON file; those of the command line count more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the HTTP API listens [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where STUN and TURN listen, over UDP and TCP [default: 0.0.0.0:3478]. Given twice with two IP
    /// addresses, clients can measure what their NATs do (RFC 5780), with the next port as the alternate one.
    #[arg(long, value_name = "ADDR:PORT")]
    stun: Vec<String>,
    /// The address that is advertised, when this machine is behind a one-to-one NAT.
    #[arg(long, value_name = "IP")]
    external_ip: Option<String>,
    /// The ports of relayed addresses [default: 49152-65535].
    #[arg(long, value_name = "LO-HI")]
    relay_ports: Option<String>,
    /// Relay to these peers although they are private; can be given several times.
    #[arg(long, value_name = "CIDR")]
    relay_allow: Vec<String>,
    /// The secret of TURN credentials, shared with coturn's use-auth-secret; random when absent.
    #[arg(
        long,
        value_name = "SECRET",
        env = "STUNFWD_TURN_SECRET",
        hide_env_values = true
    )]
    turn_secret: Option<String>,
    /// Offer no TURN.
    #[arg(long)]
    no_relay: bool,
    /// Where rooms are kept.
    #[arg(long, value_name = "memory")]
    store: Option<String>,
    /// What clients must show (their `accessToken`) for rooms and relay; everybody is served when absent.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STUNFWD_ACCESS_TOKEN",
        hide_env_values = true
    )]
    access_token: Option<String>,
    /// How much is logged: error, warn, info, debug, trace, or a filter as in RUST_LOG.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(flatten)]
    later: LaterOptions,
}

/// Options of later versions, which are refused by name.
#[derive(Debug, clap::Args)]
struct LaterOptions {
    #[arg(long, hide = true)]
    turn_url: Vec<String>,
    #[arg(long, hide = true)]
    tls_cert: Option<String>,
    #[arg(long, hide = true)]
    tls_key: Option<String>,
    #[arg(long, hide = true)]
    metrics: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Subcommands::Completions { shell }) = cli.command {
        let mut command = Cli::command();
        clap_complete::generate(
            shell,
            &mut command,
            "stunfwd-signaling",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    let config = match configure(cli.options) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = start_log(&config) {
        eprintln!("--log: {error:#}");
        return ExitCode::from(2);
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configure(options: Options) -> Result<Config, ConfigError> {
    let file = match &options.config {
        Some(path) => Settings::read_file(path)?,
        None => Settings::default(),
    };
    file.overlaid_with(options.into_settings()).resolve()
}

impl Options {
    fn into_settings(self) -> Settings {
        let mut settings = Settings::default();
        let once = [
            ("listen", self.listen),
            ("external-ip", self.external_ip),
            ("relay-ports", self.relay_ports),
            ("turn-secret", self.turn_secret),
            ("no-relay", self.no_relay.then(|| "true".to_owned())),
            ("store", self.store),
            ("access-token", self.access_token),
            ("log", self.log),
            ("log-format", self.log_format),
            ("tls-cert", self.later.tls_cert),
            ("tls-key", self.later.tls_key),
            ("metrics", self.later.metrics),
        ];
        let often = [
            ("stun", self.stun),
            ("relay-allow", self.relay_allow),
            ("turn-url", self.later.turn_url),
        ];
        for (key, value) in once {
            value
                .into_iter()
                .for_each(|value| settings.flag(key, value));
        }
        for (key, values) in often {
            values
                .into_iter()
                .for_each(|value| settings.flag(key, value));
        }
        settings
    }
}

/// Logs go to standard error; `--log` counts more than `RUST_LOG`, and `info` is the default.
fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = match &config.log {
        Some(log) => EnvFilter::try_new(log)?,
        None => match std::env::var(EnvFilter::DEFAULT_ENV) {
            Ok(log) if !log.is_empty() => EnvFilter::try_new(log).context("RUST_LOG")?,
            _ => EnvFilter::new("info"),
        },
    };
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    if config.log_json {
        registry.with(layer.json()).init();
    } else {
        registry.with(layer).init();
    }
    Ok(())
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let signals = Signals::listen().context("cannot listen for signals")?;
        tokio::spawn(async move {
            signals.wait().await;
            stop.cancel();
        });
        let signaling = Signaling::bind(config)?;
        signaling.run(shutdown).await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// What asks the process to stop.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            interrupt,
            terminate,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What asks the process to stop.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn wait(self) {
        // Without a handler Ctrl-C ends the process anyway.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
