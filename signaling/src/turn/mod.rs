//! STUN and TURN on real sockets: the shell around `relay`'s machines.
//!
//! One thread with a runtime of its own, on which nothing is ever waited for but readiness: a datagram is
//! read, judged, and sent on before the next one is looked at. What cannot be sent at once is dropped and
//! counted, as UDP does.

mod egress;
mod open;
mod plane;
mod relay_ports;
mod streams;
mod udp_socket;

pub(crate) use open::{DataSockets, OpenError, open_tcp};
pub(crate) use plane::{PlaneConfig, run_plane};
