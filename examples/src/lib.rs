//! What the example programs share: a small service to forward to.
//!
//! `cargo run -p stunfwd-examples --example demo` runs all three programs of stunfwd on this machine.

pub mod demo_service;
