//! The HTTP side: who is let in, what is asked, and how watchers are told.

mod accept;
mod advertise;
mod answer;
mod handlers;
mod rate_limit;
mod router;
mod service;
#[cfg(test)]
mod tests;
mod watch_stream;

pub(crate) use accept::run_http;
pub(crate) use advertise::{Advertised, Relays};
pub(crate) use router::{ApiState, build_router};
pub(crate) use service::RoomService;
