//! Asks a running program how it is doing.

use mapping_core::Side;

use crate::{args::Args, command::print, control, failure::Failure};

/// Prints the status of a running program.
pub(crate) fn status(side: Side, args: &Args, json: bool) -> Result<(), Failure> {
    let client = control::client(side, args)?;
    let (status, line) = control::ask(client.status())?;
    let answer = if json { line } else { status.to_string() };
    print(format!("{answer}\n").as_bytes())
}
