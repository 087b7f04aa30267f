//! Finds the running program that a command line means, and asks it.

use std::path::PathBuf;

use anyhow::Context;
use mapping_core::Side;
use stunfwd::control::{self, ControlClient, FindError, RequestError};

use crate::{args::Args, config_file::Config, failure::Failure};

/// Returns the client of the program at `--control`, else of the one with `--config`, else of the only one
/// that runs.
pub(crate) fn client(side: Side, args: &Args) -> Result<ControlClient, Failure> {
    let path = match &args.control {
        Some(path) => path.clone(),
        None => find(side, args)?,
    };
    Ok(ControlClient::new(path))
}

/// Waits for an answer.
pub(crate) fn ask<T>(answer: impl Future<Output = Result<T, RequestError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime can be started")
        .map_err(Failure::other)?;
    runtime.block_on(answer).map_err(Failure::other)
}

fn find(side: Side, args: &Args) -> Result<PathBuf, Failure> {
    let config_file = args.config.as_deref();
    match control::find(side.role(), config_file, args.state_dir.as_deref()) {
        Ok(program) => Ok(program.socket),
        Err(error @ FindError::NoneRunning { .. }) => {
            // One that was started in another environment left its sign elsewhere; the file may still
            // say where its socket is. A mistyped name of it is worth knowing.
            let Some(file) = config_file else {
                return Err(not_found(error));
            };
            let config = Config::load(side, file).map_err(Failure::usage)?;
            config.control(file).ok_or_else(|| not_found(error))
        }
        Err(error) => Err(not_found(error)),
    }
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
