//! `stunfwd-client`: see [`stunfwd_cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stunfwd_cli::main(stunfwd_cli::Side::Ingress)
}
