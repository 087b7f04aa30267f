//! What every sans-IO state machine of stunfwd shares.
//!
//! A machine is a value. Bytes and the current time go in; datagrams to send, events and the next
//! deadline come out. It has no clock, no socket, no task and no randomness of its own: the seed is an
//! argument, so that the same seed and the same inputs give the same bytes out.
//!
//! The verbs are the same everywhere, and fall into three kinds:
//!
//! * **input**, something happened: `handle_datagram(datagram, now)`, `handle_timeout(now)`. Input never
//!   fails because of what a stranger sent: the machine drops it, counts it, traces it.
//! * **command**, the layer above wants something: `add_remote_candidate(candidate, now)`. A command may
//!   refuse.
//! * **output**: `poll_transmit()`, `poll_event()`, `poll_timeout()`, drained in this order until `None`
//!   after every input and every command: one mutation, then drain.
//!
//! The rules that all of them keep:
//!
//! 1. `now` never goes back.
//! 2. `poll_timeout` is pure. Calling `handle_timeout` early is harmless; at the deadline it always makes
//!    progress, so that the deadline moves or disappears.
//! 3. Every queue and table has a bound, and a counter for what the bound refused.
//! 4. An answer carries the id of its question; bytes that are not authenticated never remove state.
//!
//! * [`Transmit`], [`Datagram`] and [`Handled`] are what crosses the border;
//! * [`Deadline`] says when to come back, and why;
//! * [`Retransmission`] is the schedule of RFC 8489, section 6.2.1;
//! * [`Transactions`] remembers which requests are outstanding.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use sansio::Retransmission;
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some epoch")]
//! let now = Instant::now();
//! let mut schedule = Retransmission::rfc8489().start(now);
//! assert_eq!(schedule.deadline(), Some(now + Duration::from_millis(500)));
//! ```

mod deadline;
mod retransmission;
mod transactions;
mod transmit;

pub use deadline::{Deadline, earliest};
pub use retransmission::{Retransmission, Schedule, Step};
pub use transactions::Transactions;
pub use transmit::{Datagram, Handled, Transmit};
