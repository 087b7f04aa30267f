//! How the program ends when it does not end well.

use std::{fmt, process::ExitCode};

/// Exit status for bad usage or configuration: nothing was started.
pub(crate) const USAGE: u8 = 2;

/// Exit status for any other failure.
const OTHER: u8 = 1;

/// A message for the user and the exit status that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit_code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Makes a failure with an exit status of its own.
    pub(crate) fn new(exit_code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit_code,
            error: error.into(),
        }
    }

    /// Makes a failure that is the fault of the command line or the configuration.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(USAGE, error)
    }

    /// Makes any other failure.
    pub(crate) fn other(error: impl Into<anyhow::Error>) -> Self {
        Self::new(OTHER, error)
    }

    /// Returns the chain from what failed to why.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Returns the exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }
}

/// Prints the chain from what failed to why. Several problems of a configuration stand one a line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {:#}", self.error)
    }
}
