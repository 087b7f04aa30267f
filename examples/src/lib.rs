//! What the example programs share: a small service to forward to, and STUN and TURN on this machine.
//!
//! `cargo run -p stunfwd-examples --example demo` runs all three programs of stunfwd on this machine.

pub mod demo_service;
pub mod servers;
