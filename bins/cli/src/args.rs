//! What can be written on the command line.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue},
};
use clap_complete::Shell;
use mapping_core::Side;

use crate::failure::USAGE;

/// Words of the interface that later versions will know. Who uses one is told so, rather than that it is
/// misspelt.
const LATER: [&str; 3] = ["peers", "room", "--watch"];

/// The command line; `long_about` and the name are set by [`command`].
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
pub struct Args {
    /// Configuration file, YAML or JSON (.json) [default: config.yml]; with a command, the running program
    /// that was started with it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Control socket [default: one named after the configuration, in the runtime directory]
    #[arg(long, value_name = "PATH", global = true)]
    pub control: Option<PathBuf>,
    /// State directory [default: $XDG_STATE_HOME/stunfwd or ~/.local/state/stunfwd]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// How much is logged to standard error [default: info, or what RUST_LOG says]
    #[arg(long, value_name = "LEVEL", ignore_case = true, global = true)]
    pub log: Option<LogLevel>,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// What to do instead of running
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a running program how it is doing
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List, add, remove or save the mappings of a running client; connections of others feel nothing
    Map {
        /// What to do with them
        #[command(subcommand)]
        command: MapCommand,
    },
    /// Look at the network once: which NAT it has, and with whom direct connections will work
    #[command(
        after_help = "Asked are the servers of --stun, else those of the configuration file (its stunServer, else what \
                      its signaling offers), else stun.l.google.com:19302. It takes some seconds; nothing has to run. \
                      Two addresses of one server (RFC 5780), as stunfwd-signaling has them with two --stun, tell the \
                      most; single servers cannot tell how the NAT filters."
    )]
    Netcheck(NetcheckArgs),
    /// Read the configuration file, say everything that is wrong with it, and start nothing
    Check,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// How to look at the network.
#[derive(Clone, Debug, clap::Args)]
pub struct NetcheckArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Also find out how long the NAT keeps a silent binding, which takes minutes
    #[arg(long)]
    pub lifetime: bool,
    /// Ask this STUN server; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub stun: Vec<String>,
}

/// What to do with the mappings of a running client.
#[derive(Debug, Subcommand)]
pub enum MapCommand {
    /// Show each mapping: its number, where it listens, and over which path or why not
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Add a mapping at once: tcp:8080:22 leads from port 8080 of the client's machine to port 22 of the
    /// server's
    #[command(
        after_help = "The whole form is PROTO:[BIND:]LOCALPORT:[HOST:]SERVERPORT, with IPv6 addresses in \
                      brackets and ranges as tcp:8000-8010:9000-9010. The table is in force until the \
                      program ends; `map save` writes it to the configuration file."
    )]
    Add {
        /// The mapping, for example tcp:8080:22 or udp:5353:53
        spec: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove a mapping at once
    Remove {
        /// The mapping, or its number in `map list`
        #[arg(value_name = "SPEC_OR_INDEX")]
        which: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the mappings as they are now to the configuration file of the running client
    Save {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What ends the program.
    Error,
    /// What should not happen.
    Warn,
    /// What a user would notice.
    Info,
    /// Changes of state, with addresses.
    Debug,
    /// Single packets: checks, probes and what was dropped.
    Trace,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Returns the name of the program.
#[must_use]
pub const fn program(side: Side) -> &'static str {
    match side {
        Side::Ingress => "stunfwd-client",
        Side::Egress => "stunfwd-server",
    }
}

/// Returns the command line of one role.
#[must_use]
pub fn command(side: Side) -> clap::Command {
    let about = match side {
        Side::Ingress => "Brings the services of a stunfwd-server to ports of this machine",
        Side::Egress => "Offers services of this machine to the stunfwd-clients of a room",
    };
    Args::command()
        .name(program(side))
        .bin_name(program(side))
        .about(about)
}

/// Parses a command line. What can be answered at once (`--help`, `--version`, bad usage) is answered, and
/// the exit status returned.
pub(crate) fn parse(
    side: Side,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Args, ExitCode> {
    let matches = command(side).try_get_matches_from(args);
    matches
        .and_then(|matches| Args::from_arg_matches(&matches))
        .map_err(|error| answer(&error))
}

fn answer(error: &clap::Error) -> ExitCode {
    if let Some(word) = later_word(error) {
        let _ = writeln!(io::stderr(), "error: `{word}` is not yet in this version");
        return ExitCode::from(USAGE);
    }
    // With the output closed there is nobody left to tell.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn later_word(error: &clap::Error) -> Option<&'static str> {
    [ContextKind::InvalidSubcommand, ContextKind::InvalidArg]
        .into_iter()
        .find_map(|kind| {
            let Some(ContextValue::String(word)) = error.get(kind) else {
                return None;
            };
            LATER.into_iter().find(|later| later == word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        for side in [Side::Ingress, Side::Egress] {
            command(side).debug_assert();
        }
    }

    #[test]
    fn options_of_a_run_may_stand_anywhere() {
        let parse = |line: &str| {
            parse(Side::Ingress, line.split(' ').map(OsString::from)).expect("good usage")
        };
        let args = parse("x --log DEBUG --config a.json --log-format json --state-dir s");
        assert_eq!(
            (args.log, args.log_format),
            (Some(LogLevel::Debug), LogFormat::Json)
        );
        assert_eq!(args.config, Some(PathBuf::from("a.json")));
        for line in ["x --config a.yml status", "x status --config a.yml"] {
            assert_eq!(parse(line).config, Some(PathBuf::from("a.yml")));
        }
        let args = parse("x status --json --control c.sock");
        assert_eq!(args.control, Some(PathBuf::from("c.sock")));
        assert!(matches!(args.command, Some(Command::Status { json: true })));
        assert_eq!(
            parse("x --control c.sock status").control,
            Some(PathBuf::from("c.sock"))
        );
    }
}
