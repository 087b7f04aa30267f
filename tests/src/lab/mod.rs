//! A NAT laboratory from network namespaces and nftables.
//!
//! [`world`] answers where a lab may be built, [`nat`] what the kinds of NAT are, [`ruleset`] how each is made, [`topology`] which machines there
//! are and what addresses they have, `construction` how the kernel is told, [`host`] what can be done on one of them, [`capture`] what went over a wire,
//! [`meter`] what it cost a router.

pub mod capture;
mod construction;
pub mod host;
pub mod meter;
pub mod nat;
pub mod ruleset;
pub mod topology;
pub mod world;

pub use capture::Capture;
pub use host::Host;
pub use meter::Meter;
pub use nat::Nat;
pub use topology::{Carrier, Home, Lab};
pub use world::{program, test};
