//! `stunfwd-signaling`: the command line around the library.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use signaling::{Config, ConfigError, LATER_KEYS, LogLevel, Settings, Signaling};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

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
    /// Read the configuration file and the options, say everything that is wrong with them, and start nothing.
    Check(Box<Options>),
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
    /// Advertise this TURN server (turn:HOST:PORT?transport=udp|tcp or turns:HOST:PORT) instead of our own; can
    /// be given several times and needs --turn-secret.
    #[arg(long, value_name = "URL")]
    turn_url: Vec<String>,
    /// How long TURN credentials hold, such as 90s or 1h [default: 12h].
    #[arg(long, value_name = "DURATION")]
    turn_ttl: Option<String>,
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
    /// How much is logged: off, error, warn, info, debug or trace [default: info, or what RUST_LOG says].
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Returns the command line with the options of later versions, which are refused by name.
///
/// They are not part of [`Cli`], since completions would offer even hidden options.
fn command_line() -> clap::Command {
    let later = |key: &'static str| {
        let option = Arg::new(key).long(key).hide(true);
        option.action(ArgAction::Append)
    };
    let later = || LATER_KEYS.iter().copied().map(later);
    Cli::command()
        .args(later())
        .mut_subcommand("check", |check| check.args(later()))
}

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(Subcommands::Completions { shell }) = &cli.command {
        let mut command = Cli::command();
        clap_complete::generate(
            *shell,
            &mut command,
            "stunfwd-signaling",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    let (options, is_check) = match cli.command {
        Some(Subcommands::Check(options)) => (*options, true),
        Some(Subcommands::Completions { .. }) | None => (cli.options, false),
    };
    let matches = match matches.subcommand() {
        Some((_, matches)) => matches,
        None => &matches,
    };
    let config = match configure(options, matches) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if is_check {
        // A reader that has seen enough is no failure.
        let _ = writeln!(
            std::io::stdout(),
            "the configuration is good: HTTP at {}",
            config.listen
        );
        return ExitCode::SUCCESS;
    }
    if let Err(error) = start_log(&config) {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    let is_log_json = config.log_json;
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads the log as JSON gets the end as such a line too.
            if is_log_json && tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("{error:#}");
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn configure(options: Options, matches: &ArgMatches) -> Result<Config, ConfigError> {
    let file = match &options.config {
        Some(path) => Settings::read_file(path),
        None => Settings::default(),
    };
    let mut settings = options.into_settings();
    for &key in LATER_KEYS {
        for value in matches.get_many::<String>(key).into_iter().flatten() {
            settings.flag(key, value);
        }
    }
    file.overlaid_with(settings).resolve()
}

impl Options {
    fn into_settings(self) -> Settings {
        let mut settings = Settings::default();
        let once = [
            ("listen", self.listen),
            ("external-ip", self.external_ip),
            ("relay-ports", self.relay_ports),
            ("turn-secret", self.turn_secret),
            ("turn-ttl", self.turn_ttl),
            ("no-relay", self.no_relay.then(|| "true".to_owned())),
            ("store", self.store),
            ("access-token", self.access_token),
            ("log", self.log),
            ("log-format", self.log_format),
        ];
        let often = [
            ("stun", self.stun),
            ("relay-allow", self.relay_allow),
            ("turn-url", self.turn_url),
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
    let filter = match (config.log, std::env::var(EnvFilter::DEFAULT_ENV)) {
        (None, Ok(directives)) if !directives.trim().is_empty() => EnvFilter::try_new(&directives)
            // Its source says the same once more.
            .map_err(|error| {
                anyhow::anyhow!("RUST_LOG: `{directives}`: write for example info: {error}")
            })?,
        (level, _) => EnvFilter::new(level.unwrap_or(LogLevel::Info).directives()),
    };
    let stderr_is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(stderr_is_terminal && std::env::var_os("NO_COLOR").is_none());
    let started = if config.log_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
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
