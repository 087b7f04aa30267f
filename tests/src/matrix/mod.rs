//! The matrix of NATs in the kernel lab: every kind in front of the client against every kind in front of the server, and
//! the cases that one NAT alone does not show.
//!
//! A [`Scenario`] says what lies in front of both ends and what is possible there (the oracle is `natlab`'s), [`draw`]
//! picks pairs by a seed so that every kind occurs on both sides, [`trial::run`] starts the real programs in one
//! scenario and measures, [`truth`] knows what a program ought to say of its NAT, and [`table`] writes what was measured
//! for people, [`summary`] of several rounds. [`hard`] runs the pairs that need luck often enough to count it.

pub mod draw;
pub mod hard;
pub mod scenario;
pub mod summary;
pub mod table;
pub mod trial;
pub mod truth;

pub use scenario::Scenario;
pub use trial::Row;
