//! UDP in datagrams: one flow per local source address, whole payloads or none.
//!
//! A payload goes into one carrier datagram, or into several where it is larger than the carrier takes. The
//! ingress says with every datagram what the flow is (the long form) until the egress has answered, since the
//! first one may be lost and the egress may have forgotten. Ids hold on every carrier, so that fragments of
//! one payload may come over two.
//!
//! * [`Datagram`] is the wire form, [`fragments()`] cuts a payload;
//! * [`Reassembler`] joins fragments and drops repetitions, within bounds;
//! * [`DatagramIngress`] knows which source has which flow, [`DatagramEgress`] which flows are asked for, open
//!   or refused. Both forget a flow after 120 s without a packet.
//!
//! # The wire
//!
//! ```text
//! 0x01 SHORT         flow, packet, offset (varints), bytes
//! 0x02 LONG          flow, table version, mapping, port offset (varints), local peer (address),
//!                    packet, offset (varints), bytes
//! 0x03 UNKNOWN-FLOW  flow                              egress to ingress: send the long form
//! 0x04 FLOW-KNOWN    flow                              egress to ingress: the short form will do
//! 0x05 REFUSED       flow, code (varints), text        egress to ingress
//! ```
//!
//! Bit 0x10 on SHORT and LONG marks the fragment that ends the payload. `packet` counts the payloads of a flow
//! in one direction from 0, `offset` is where the fragment's bytes belong in the payload. Addresses and varints
//! are those of [`crate::flow`]. The egress sends SHORT only. A datagram of any other type is dropped.

mod egress;
mod fragments;
mod frame;
mod ingress;
mod reassembly;

pub use egress::{DatagramEgress, EgressStep};
pub use fragments::{Fragments, fragments};
pub use frame::{Body, Datagram, PAYLOAD_MAX};
pub use ingress::{DatagramIngress, IngressStep, Source};
pub use reassembly::{Fragment, Reassembler, ReassemblyStats};

use std::time::Duration;

/// How long a UDP flow lives without a packet in either direction: 120 s, what RFC 4787 (REQ-5) asks of a NAT
/// at least, and what the user is told.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often flows are looked over for their idle time; a flow may live so much longer.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
