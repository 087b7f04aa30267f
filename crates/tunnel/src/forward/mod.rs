//! The shell of the data plane: between local sockets and flows, and between flows and carriers.
//!
//! [`Ingress`] lives as long as the process. It owns the listeners, proposes its table to whichever peer is
//! connected, and turns each accepted connection into a flow. [`Egress`] lives as long as one peer instance: it
//! accepts the streams of that peer's carriers, asks the committed table and the allow-list, and dials.
//!
//! A forwarded TCP connection is a handful of small tasks around one [`crate::flow::Flow`] in a mutex that is
//! never held across an await: one task reads the local socket while there is credit, one writes to it, one
//! writes records to each stream and one reads them, and a supervisor attaches the flow to carriers and keeps
//! its time. Streams are always read at once; a service that does not read stops its own flow by credit, and
//! nothing else. Each direction has its own task, so that a saturated one does not starve the other. A flow of
//! which a peer instance had not said anything when it went for good is opened once more, to the next instance,
//! under the same local tasks.
//!
//! Everything is `Send` and spawned on the runtime that calls; run it on one `current_thread` runtime per
//! tunnel, which moves 1.37 times as much as several threads do.
//!
//! * who holds a flow and who is woken: `shared_flow`; its tasks: `stream`, `local`, `supervise`;
//! * which carriers live and which is preferred: `carriers`; flow 0: `control_flow`;
//! * listeners: `listeners`; one peer of the ingress: `peer`; UDP at each end: `udp_ingress`, `udp_egress`;
//! * where a flow leads: `admission`, `dial`; which refusals were told: `refusals`.

mod accept;
mod admission;
mod carriers;
mod clock;
mod control_flow;
mod dial;
mod egress;
mod event;
mod ingress;
mod listeners;
mod local;
mod peer;
mod refusals;
mod shared_flow;
mod stats;
mod stream;
mod supervise;
mod udp_egress;
mod udp_ingress;

pub use egress::{Egress, EgressConfig};
pub use event::{ForwardEvent, ForwardEvents};
pub use ingress::{Ingress, IngressConfig};
pub use stats::{
    EgressMappingSnapshot, EgressSnapshot, IngressSnapshot, MappingSnapshot, MappingState,
};

/// The random id of a peer's process run, as its hello says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerInstance(pub [u8; 16]);
