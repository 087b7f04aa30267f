//! The machines of this crate behind every kind of NAT, in virtual time.

mod lifetime;
mod loss;
mod mapping_check;
mod model;
mod prober;
mod report;
mod sampler;
mod strangers;
