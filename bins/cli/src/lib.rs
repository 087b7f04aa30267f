//! The command line that `stunfwd-client` and `stunfwd-server` share: all of it but the role.
//!
//! [`main`] parses the arguments ([`args`]), and either runs the program until a signal ends it (`run`), asks
//! one that is running (`status`), or prints completions. Nothing below this crate knows a command line.
//!
//! Exit status: 0 after a clean end, 2 for bad usage or configuration (nothing was started), 1 for any
//! other failure (`failure`). Logs and messages go to standard error, answers to standard output.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     stunfwd_cli::main(stunfwd_cli::Side::Ingress)
//! }
//! ```

pub mod args;

mod config_file;
mod failure;
mod logging;
mod run;
mod status;

use std::{
    io::{self, Write},
    process::ExitCode,
};

pub use mapping_core::Side;

use anyhow::Context;
use args::{Args, Command};
use clap_complete::Shell;
use failure::Failure;

/// Does what the command line of this process says, for one role.
#[must_use]
pub fn main(side: Side) -> ExitCode {
    let args = match args::parse(side, std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    match dispatch(side, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error closed there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(side: Side, args: Args) -> Result<(), Failure> {
    match args.command {
        None => run::run(side, &args),
        Some(Command::Status { json }) => status::status(side, args, json),
        Some(Command::Completions { shell }) => completions(side, shell),
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
fn print(answer: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(answer) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output").map_err(Failure::other),
    }
}
