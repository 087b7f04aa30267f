//! The kernel NAT laboratory and what drives the real programs in it.
//!
//! A [`lab::Lab`] is a small internet made of network namespaces: a router `inet`, a public machine `pub` with
//! two addresses, and two homes, each with a router whose NAT is one of [`lab::Nat`] and two hosts behind it.
//! [`lab::test`] gives a test a private world to build it in (as root, or rootless in a user namespace) that
//! the kernel tears down with the test, however it ends.
//!
//! [`process`] runs programs in such a place and keeps their logs, [`product`] knows the flags, configuration
//! and status of the stunfwd programs, [`tool`] starts the traffic generators of `lab-tool`, [`bed`] puts these together into what most
//! end-to-end tests need, [`matrix`] sets every NAT against every other, [`crowd`] leads many conversations at once and [`footprint`] sees what they leave, [`gateway`] opens ports when it is asked, or says so, [`loopback`] is this machine without a lab, [`wait`] polls with a
//! deadline, [`artifacts`] finds the built programs, and [`workspace`] reads the source tree for the rules
//! that a machine can check.
//!
//! ```no_run
//! use stunfwd_tests::lab::{self, Home, Lab, Nat};
//! use stunfwd_tests::tool;
//!
//! lab::test(|| {
//!     let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::FullCone));
//!     let echo = tool::serve(lab.public(), "tcp-echo", "203.0.113.10:7");
//!     let answer = tool::run(lab.a(), &["first-byte", "203.0.113.10:7"]);
//!     assert!(answer["ms"].is_number());
//!     drop(echo);
//! });
//! ```

pub mod artifacts;
pub mod bed;
pub mod coturn;
pub mod crowd;
pub mod footprint;
pub mod gateway;
pub mod lab;
pub mod loopback;
pub mod matrix;
pub mod process;
pub mod product;
pub mod tool;
pub mod wait;
pub mod workspace;
