//! Asks a running program how it is doing.

use anyhow::Context;
use mapping_core::Side;
use stunfwd::control::{self, ControlClient, FindError};

use crate::{args::Args, failure::Failure};

/// Prints the status of the program at `--control`, else of the only one that runs.
pub(crate) fn status(side: Side, args: Args, json: bool) -> Result<(), Failure> {
    let path = match args.control {
        Some(path) => path,
        None => control::find(side.role(), args.state_dir.as_deref()).map_err(not_found)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime can be started")
        .map_err(Failure::other)?;
    let (status, line) = runtime
        .block_on(ControlClient::new(path).status())
        .map_err(Failure::other)?;
    let answer = if json { line } else { status.to_string() };
    crate::print(format!("{answer}\n").as_bytes())
}

fn not_found(error: FindError) -> Failure {
    // With several, the command line has to say which one is meant.
    let is_usage = matches!(error, FindError::SeveralRunning { .. });
    if is_usage {
        Failure::usage(error)
    } else {
        Failure::other(error)
    }
}
