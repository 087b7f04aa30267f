//! The command line that `stunfwd-client` and `stunfwd-server` share: all of it but the role.
//!
//! [`main`] parses the arguments ([`args`]), and either runs the program until a signal ends it (`run`), asks
//! one that is running (`status`, `map`), reads the configuration alone (`check`), looks at the network (`netcheck`), or
//! prints completions.
//! Nothing below this crate knows a command line.
//!
//! A client that runs has its mappings changed from three sides, which all end in `stunfwd::Mappings`: lines
//! of standard input (`prompt`), the configuration file being saved (`reload`), and `map` through the control
//! socket. `save` goes the other way and writes the table to the file.
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
mod control;
mod failure;
mod log_sink;
mod logging;
mod map;
mod netcheck;
mod prompt;
mod reload;
mod run;
mod save;
mod status;
mod table;

pub use command::main;
pub use mapping_core::Side;
