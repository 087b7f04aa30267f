//! The data plane of stunfwd: forwarded conversations that outlive the connections which carry them.
//!
//! Three words, three jobs. A **path** is a pair of addresses that works; finding one is the work of
//! `session`. A **carrier** is an authenticated, encrypted connection over one path. A **flow** is one
//! forwarded conversation, TCP or UDP, and rides on carriers without belonging to any.
//!
//! The life of a forwarded TCP connection: the [`forward::Ingress`] accepts it, gives it a flow id that is
//! never used again, and opens a stream on the preferred carrier whose first record is OPEN. The
//! [`forward::Egress`] asks its committed table and its allow-list, dials the service, and answers OPENED or
//! REFUSED. From then on both ends write records: data with offsets, acknowledgements, credit. When the
//! carrier dies or a better one appears, the ingress opens a stream there, says ATTACH with what it holds,
//! hears what the other end holds, and goes on at that byte. The applications see nothing.
//!
//! * [`flow`]: one end of a resumable flow, as a pure state machine, and its records;
//! * [`datagram`]: UDP payloads in datagrams: fragments, reassembly, who knows which flow; pure;
//! * [`control`]: how a table of mappings is committed on both ends or on neither; pure;
//! * [`carrier`]: QUIC connections, one per path, on a socket that tells packets apart;
//! * [`forward`]: the tokio shell: listeners, services, and the tasks between them and the carriers.
//!
//! The bytes on the wire are written down in `PROTOCOL.md` beside this crate's manifest.
//!
//! ```
//! use tunnel::flow::{Record, RecordDecoder};
//!
//! let mut wire = bytes::BytesMut::new();
//! Record::Ack { received: 4096 }.encode(&mut wire);
//!
//! let mut decoder = RecordDecoder::new();
//! let mut chunk = wire.freeze();
//! assert_eq!(decoder.decode(&mut chunk), Ok(Some(Record::Ack { received: 4096 })));
//! assert_eq!(decoder.decode(&mut chunk), Ok(None));
//! ```

pub mod carrier;
pub mod control;
pub mod datagram;
pub mod flow;
pub mod forward;
