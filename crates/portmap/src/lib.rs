//! Port mappings: the gateway of our own network is asked to forward a port to one of our sockets.
//!
//! The life of one socket's mapping, each step a module:
//!
//! 1. the default `route` names the gateway;
//! 2. it is asked which protocols it speaks, all three at once: PCP and NAT-PMP (`port_control`, bytes; `ask`, the
//!    socket) and UPnP IGD (`ssdp` finds it, `igd` talks to it);
//! 3. `choice` says which of them to use, and a `lease` is taken;
//! 4. `keeper` renews it, notices a gateway that lost it (`epoch`), makes it again elsewhere when somebody who looked
//!    from outside refutes it (`standing`), and gives it back at the end;
//! 5. `mapper` keeps one keeper per socket and puts their reports together.
//!
//! A gateway's word is no proof: what it claims is reported as [`Mapping`], and whoever uses it has to look from outside
//! first. Nothing here waits for a network that does not answer: every question has an end (`timing`).
//!
//! [`probe_presence`] asks a gateway what it speaks and asks it for nothing.

mod ask;
mod choice;
mod epoch;
mod igd;
mod keeper;
mod lease;
mod mapper;
mod port_control;
mod presence;
mod route;
mod ssdp;
mod standing;
mod timing;
mod view;

pub use mapper::{PortMapper, PortMapperEvent};
pub use presence::probe_presence;
pub use route::{Gateway, Gateways};
pub use timing::Timing;
pub use view::{Mapping, Presence, Protocol};
