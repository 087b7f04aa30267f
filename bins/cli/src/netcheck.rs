//! Looks at the network once, and says with whom direct connections will work.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, anyhow};
use mapping_core::{HostPort, Side};
use stunfwd::netcheck::{Netcheck, ServerChoice, Step};

use crate::{
    args::{Args, NetcheckArgs},
    command::print,
    config_file::{self, Config},
    failure::Failure,
    logging,
};

/// The port of a STUN server that is named without one (RFC 8489, section 8).
const STUN_PORT: u16 = 3478;

/// Runs a netcheck and prints what it found. A network that answers nothing is an answer.
pub(crate) fn netcheck(side: Side, args: &Args, asked: &NetcheckArgs) -> Result<(), Failure> {
    let servers = servers(side, args, asked)?;
    if args.log.is_some() || std::env::var_os("RUST_LOG").is_some() {
        // Without being asked for it no line of a log stands between the lines of the answer.
        logging::start(args.log, args.log_format)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime can be started")
        .map_err(Failure::other)?;
    let check = Netcheck {
        servers,
        lifetime: asked.lifetime,
    };
    let progress = Progress::start();
    let findings = runtime.block_on(check.run(|step| progress.tell(step)));
    progress.clear();
    // A resolver that does not answer must not hold up the end.
    runtime.shutdown_background();
    let answer = if asked.json {
        findings.to_json().to_string()
    } else {
        findings.to_string()
    };
    print(format!("{answer}\n").as_bytes())
}

fn servers(side: Side, args: &Args, asked: &NetcheckArgs) -> Result<ServerChoice, Failure> {
    match (&args.config, asked.stun.is_empty()) {
        (Some(_), false) => Err(Failure::usage(anyhow!(
            "`--config` and `--stun` cannot both say whom to ask: leave one out"
        ))),
        (None, false) => {
            let servers: Result<Vec<_>, _> = asked.stun.iter().map(|text| server(text)).collect();
            servers.map(ServerChoice::Named)
        }
        (Some(file), true) => configured(side, file),
        (None, true) => {
            let file = config_file::named(args);
            // Who has no configuration yet may want to know whether one is worth writing.
            if file.exists() {
                configured(side, file)
            } else {
                Ok(ServerChoice::Fallback)
            }
        }
    }
}

fn configured(side: Side, file: &Path) -> Result<ServerChoice, Failure> {
    let config = Config::load(side, file).map_err(Failure::usage)?;
    Ok(ServerChoice::Configured(Box::new(config.common().clone())))
}

fn server(text: &str) -> Result<HostPort, Failure> {
    let host = || {
        let host = text.parse().ok()?;
        Some(HostPort {
            host,
            port: STUN_PORT,
        })
    };
    text.parse::<HostPort>()
        .or_else(|error| host().ok_or_else(|| Failure::usage(anyhow!("`--stun {text}`: {error}"))))
}

/// One line on a terminal that says what is being done, and is gone in the end.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn start() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
        }
    }

    fn tell(&self, step: Step) {
        let text = match step {
            Step::FindingServers => "looking for servers to ask…".to_owned(),
            Step::Asking => "asking them…".to_owned(),
            Step::WaitingForBindings { waited, longest } => format!(
                "watching how long a silent binding lives: {} s of at most {} s…",
                waited.as_secs(),
                longest.as_secs()
            ),
            _ => return,
        };
        self.write(&text);
    }

    fn clear(&self) {
        self.write("");
    }

    /// Back to the beginning of the line, which is erased.
    fn write(&self, text: &str) {
        if self.terminal {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "\r\x1b[K{text}");
            let _ = stderr.flush();
        }
    }
}
