//! The command line that `stunfwd-client` and `stunfwd-server` share: all of it but the role.
//!
//! [`main`] parses the arguments ([`args`]), and either runs the program until a signal ends it (`run`), asks
//! one that is running (`status`), reads the configuration alone (`check`), or prints completions. Nothing below this crate knows a command line.
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

mod check;
mod command;
mod config_file;
mod failure;
mod logging;
mod run;
mod status;

pub use command::main;
pub use mapping_core::Side;
