//! Criterion benches of the paths that every packet takes.
//!
//! There is nothing here but `benches/`: `cargo bench -p stunfwd-benches --bench stun`.
