//! `stunfwd-client`: see [`stunfwd_cli`].

use std::process::ExitCode;

/// Gives pages back to the system a moment after they were freed: a program that runs for months must not keep what its
/// busiest minute needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stunfwd_cli::main(stunfwd_cli::Side::Ingress)
}
