//! What the parts of the command line do: run, check the configuration, show the status, look at the network, show
//! and change the mappings, write completions.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap_complete::Shell;
use mapping_core::Side;

use crate::{
    args::{self, Args, Command, LogFormat},
    check,
    failure::Failure,
    map, netcheck, run, status,
};

/// Does what the command line of this process says, for one role.
#[must_use]
pub fn main(side: Side) -> ExitCode {
    let args = match args::parse(side, std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    match dispatch(side, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever reads the log as JSON gets the end as such a line too, once there is a log.
            if args.log_format == LogFormat::Json && tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("{}", failure.message());
            } else {
                // With standard error closed there is nobody left to tell.
                let _ = writeln!(io::stderr(), "{failure}");
            }
            failure.exit_code()
        }
    }
}

fn dispatch(side: Side, args: &Args) -> Result<(), Failure> {
    match &args.command {
        None => run::run(side, args),
        Some(Command::Status { json }) => status::status(side, args, *json),
        Some(Command::Map { command }) => map::map(side, args, command),
        Some(Command::Netcheck(asked)) => netcheck::netcheck(side, args, asked),
        Some(Command::Check) => check::check(side, args),
        Some(Command::Completions { shell }) => completions(side, *shell),
    }
}

fn completions(side: Side, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut args::command(side),
        args::program(side),
        &mut script,
    );
    print(&script)
}

/// Writes an answer to standard output. A reader that has seen enough, as in `status | head`, is no failure.
pub(crate) fn print(answer: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(answer) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output").map_err(Failure::other),
    }
}
