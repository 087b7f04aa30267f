//! Resumable flows: one forwarded TCP conversation over streams that come and go.
//!
//! A [`Flow`] is one end. It keeps what it sent until the other end says that it holds it, and gives out
//! what arrived once and in order. Streams are *attachments*, numbered by a [`Generation`]: the ingress
//! opens every one of them, the highest usable generation receives new data, and lower ones are still read
//! until they end. The flow is told of each that is lost, and sends again what was only there.
//!
//! Its verbs: `attach` (a stream was opened), `handle_record`, `carrier_lost`, `stream_ended`; `write`,
//! `shutdown`, `reset`, `read`, `consumed` toward the local socket; `poll_output` per generation,
//! `poll_event`, `poll_timeout`. When the other end is gone for good, `take_back` says whether the conversation may
//! still begin with another, and `reopen` begins it. Nothing here reads a clock or knows of tokio.
//!
//! # Records on a stream
//!
//! ```text
//! record  = type (u8)  length (varint)  body (length bytes)
//! varint  = RFC 9000, section 16: 1, 2, 4 or 8 bytes, at most 2^62-1
//! address = 0 | 4 ip[4] port[2] | 6 ip[16] port[2]        (big endian)
//!
//! 0x01 OPEN       flow, generation, table version, mapping, port offset, credit (varints), local peer (address),
//!                 count (varint ≤ 8), that many generations (varints): the older ones still read
//! 0x02 OPENED     received, credit, count, generations
//! 0x03 REFUSED    code (varint), text (UTF-8, the rest of the body)
//! 0x04 ATTACH     flow, generation, received, credit, count, generations
//! 0x05 ATTACHED   received, credit, count, generations
//! 0x06 UNKNOWN    (empty)
//! 0x07 DATA       offset (varint), bytes (the rest: at most 64 KiB)
//! 0x08 ACK        received
//! 0x09 CREDIT     limit (an absolute offset)
//! 0x0a FIN        final offset
//! 0x0b FIN_ACK    (empty)
//! 0x0c RESET      final offset, code
//! 0x0d RESET_ACK  (empty)
//! 0x0e READING    count, generations: of those below this stream's own, the ones still read
//! 0x0f DONE       (empty): this end needs nothing more
//! ```
//!
//! A body other than DATA's is at most 1 KiB. Bytes after the fields above are ignored, so that fields can be
//! added. A record of an unknown type with bit 0x80 is skipped by its length; any other unknown type ends the
//! flow. The first record of a stream is OPEN or ATTACH in one direction and OPENED, REFUSED, ATTACHED or
//! UNKNOWN in the other; nothing precedes the answer.

mod attachment;
mod config;
mod decoder;
mod id_set;
mod listen;
mod machine;
mod queue;
mod receive;
mod record;
mod reopen;
mod send;
mod speak;
mod table;
mod varint;

pub use config::FlowConfig;
pub use decoder::{RecordDecoder, RecordError};
pub use id_set::IdSet;
pub use machine::{Event, Flow, FlowStats, Output};
pub use record::{
    DATA_MAX, FlowId, Generation, OpenRequest, READING_MAX, Record, RefuseCode, ResetCode, TEXT_MAX,
};
pub use table::{Admission, FlowTable};

pub(crate) use record::{cut, decode_address, encode_address};
pub(crate) use varint::{decode_varint, encode_varint, varint_len};
