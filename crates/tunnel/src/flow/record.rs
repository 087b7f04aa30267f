//! What the two ends of a flow say to each other, and how it looks on the wire.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::decoder::RecordError;
use super::varint::{VARINT_MAX, decode_varint, encode_varint, varint_len};

/// The largest DATA payload: large enough that its header is nothing, small enough that a control record
/// never waits long behind one.
pub const DATA_MAX: usize = 64 * 1024;
/// The largest body of any other record.
pub(crate) const BODY_MAX: usize = 1024;
/// The longest text of a refusal, in bytes; longer ones are cut.
pub const TEXT_MAX: usize = 512;
/// How many older generations one end reads at most. Moves faster than the old streams drain are rare, and
/// what was on a generation that fell out is sent again.
pub const READING_MAX: usize = 8;
/// Records of unknown types that carry this bit are skipped.
pub(crate) const SKIPPABLE: u8 = 0x80;

/// Names a flow within one pair of instances; given by the ingress, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

impl FlowId {
    /// The flow that carries control frames.
    pub const CONTROL: Self = Self(0);
    /// The largest id, 2^62 − 1.
    pub const MAX: Self = Self(VARINT_MAX);

    /// Makes an id; `None` above 2^62 − 1.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value <= VARINT_MAX {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}", self.0)
    }
}

/// Numbers the streams of one flow; a later stream has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// What the ingress asks for when a connection arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The version of the table that `mapping` is to be looked up in.
    pub table_version: u64,
    /// The stable id of the mapping.
    pub mapping: u32,
    /// How far into the mapping's range of ports; 0 for a single one.
    pub port_offset: u16,
    /// Who connected at the ingress, for the egress's log.
    pub local_peer: Option<SocketAddr>,
}

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A code this version does not know.
            Other(u32),
        }

        impl $name {
            /// Returns the number on the wire.
            #[must_use]
            pub const fn value(self) -> u32 {
                match self { $(Self::$variant => $value,)* Self::Other(value) => value }
            }

            /// Reads the number on the wire; every number is some code.
            #[must_use]
            pub const fn from_value(value: u32) -> Self {
                match value { $($value => Self::$variant,)* other => Self::Other(other) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Other(value) => write!(f, "code {value}"),
                }
            }
        }
    };
}

codes! {
    /// Why a flow was reset.
    ResetCode {
        /// The local application reset its connection, or its socket failed.
        Application = 0, "the connection was reset by the application";
        /// The other end broke the rules of the flow layer.
        Protocol = 1, "the flow protocol was violated";
        /// The other end sent more than it had credit for.
        Credit = 2, "more data than credit arrived";
        /// No carrier came back within `resume`.
        Expired = 3, "no path came back in time";
        /// The program at that end stops, or its peer was replaced.
        Shutdown = 4, "the peer stopped";
        /// The mapping was removed.
        Removed = 5, "the mapping was removed";
        /// The other end does not know the flow (any more).
        Unknown = 6, "the peer does not know the flow";
        /// The limit on connections.
        Limit = 7, "too many connections";
        /// Nobody needs the connection: no peer was there in time.
        NoPeer = 8, "no peer was connected in time";
    }
}

codes! {
    /// Why a flow was refused before it was opened.
    RefuseCode {
        /// The allow-list of the egress forbids the target.
        NotAllowed = 1, "not allowed by the server";
        /// No such mapping in the committed table.
        NoMapping = 2, "no such mapping";
        /// The service refused the connection.
        ConnectionRefused = 3, "connection refused";
        /// The service cannot be reached.
        Unreachable = 4, "unreachable";
        /// The service did not answer in time.
        TimedOut = 5, "timed out";
        /// The egress has as many connections as it may have.
        Limit = 6, "too many connections";
        /// The host name of the service does not resolve.
        NotResolved = 7, "host name does not resolve";
        /// Any other local failure at the egress.
        Failed = 8, "failed";
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Asks for a new flow, and attaches this stream to it.
    Open {
        /// Which flow.
        flow: FlowId,
        /// The number of this stream.
        generation: Generation,
        /// What to connect to.
        request: OpenRequest,
        /// Up to which offset the egress may send.
        credit: u64,
        /// Older generations still read by the sender of this.
        reading: Vec<Generation>,
    },
    /// Answers [`Record::Open`]: the service is connected.
    Opened {
        /// How much the egress holds.
        received: u64,
        /// Up to which offset the ingress may send.
        credit: u64,
        /// Older generations still read by the sender of this.
        reading: Vec<Generation>,
    },
    /// Answers [`Record::Open`]: it will not be.
    Refused {
        /// Why.
        code: RefuseCode,
        /// Why, for a person.
        text: String,
    },
    /// Puts a flow on another stream.
    Attach {
        /// Which flow.
        flow: FlowId,
        /// The number of this stream.
        generation: Generation,
        /// How much the ingress holds.
        received: u64,
        /// Up to which offset the egress may send.
        credit: u64,
        /// Older generations still read by the sender of this.
        reading: Vec<Generation>,
    },
    /// Answers [`Record::Attach`].
    Attached {
        /// How much the egress holds.
        received: u64,
        /// Up to which offset the ingress may send.
        credit: u64,
        /// Older generations still read by the sender of this.
        reading: Vec<Generation>,
    },
    /// Answers [`Record::Attach`]: there is no such flow.
    Unknown,
    /// Bytes of the conversation.
    Data {
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Everything below this offset is held by the receiver.
    Ack {
        /// The offset.
        received: u64,
    },
    /// Data up to this offset may be sent.
    Credit {
        /// The offset.
        limit: u64,
    },
    /// The sender of this writes no more.
    Fin {
        /// How many bytes there are in all.
        final_offset: u64,
    },
    /// [`Record::Fin`] arrived.
    FinAck,
    /// The conversation is aborted in both directions.
    Reset {
        /// How many bytes were written before.
        final_offset: u64,
        /// Why.
        code: ResetCode,
    },
    /// [`Record::Reset`] arrived.
    ResetAck,
    /// States which older generations the sender of this still reads; what was only on others is to be sent
    /// again.
    Reading {
        /// The generations.
        generations: Vec<Generation>,
    },
    /// The sender of this needs nothing more from its peer.
    Done,
}

pub(crate) mod kind {
    pub(crate) const OPEN: u8 = 0x01;
    pub(crate) const OPENED: u8 = 0x02;
    pub(crate) const REFUSED: u8 = 0x03;
    pub(crate) const ATTACH: u8 = 0x04;
    pub(crate) const ATTACHED: u8 = 0x05;
    pub(crate) const UNKNOWN: u8 = 0x06;
    pub(crate) const DATA: u8 = 0x07;
    pub(crate) const ACK: u8 = 0x08;
    pub(crate) const CREDIT: u8 = 0x09;
    pub(crate) const FIN: u8 = 0x0a;
    pub(crate) const FIN_ACK: u8 = 0x0b;
    pub(crate) const RESET: u8 = 0x0c;
    pub(crate) const RESET_ACK: u8 = 0x0d;
    pub(crate) const READING: u8 = 0x0e;
    pub(crate) const DONE: u8 = 0x0f;
}

impl Record {
    /// Appends the whole record to `out`, payload included.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_head(out);
        if let Self::Data { bytes, .. } = self {
            out.put_slice(bytes);
        }
    }

    /// Appends everything but the bytes of [`Record::Data`], which a sender passes on without a copy.
    pub fn encode_head(&self, out: &mut BytesMut) {
        if let Self::Data { offset, bytes } = self {
            out.put_u8(kind::DATA);
            encode_varint((varint_len(*offset) + bytes.len()) as u64, out);
            encode_varint(*offset, out);
            return;
        }
        out.put_u8(self.kind());
        // A body is at most 1 KiB, so two bytes hold its length; written afterwards.
        let at = out.len();
        out.put_u16(0);
        self.encode_body(out);
        let length = (out.len() - at - 2) as u16;
        debug_assert!(
            usize::from(length) <= BODY_MAX,
            "a body is bounded by its fields"
        );
        out[at..at + 2].copy_from_slice(&(0x4000 | length).to_be_bytes());
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => kind::OPEN,
            Self::Opened { .. } => kind::OPENED,
            Self::Refused { .. } => kind::REFUSED,
            Self::Attach { .. } => kind::ATTACH,
            Self::Attached { .. } => kind::ATTACHED,
            Self::Unknown => kind::UNKNOWN,
            Self::Data { .. } => kind::DATA,
            Self::Ack { .. } => kind::ACK,
            Self::Credit { .. } => kind::CREDIT,
            Self::Fin { .. } => kind::FIN,
            Self::FinAck => kind::FIN_ACK,
            Self::Reset { .. } => kind::RESET,
            Self::ResetAck => kind::RESET_ACK,
            Self::Reading { .. } => kind::READING,
            Self::Done => kind::DONE,
        }
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::Open {
                flow,
                generation,
                request,
                credit,
                reading,
            } => {
                encode_varint(flow.0, out);
                encode_varint(u64::from(generation.0), out);
                encode_varint(request.table_version, out);
                encode_varint(u64::from(request.mapping), out);
                encode_varint(u64::from(request.port_offset), out);
                encode_varint(*credit, out);
                encode_address(request.local_peer, out);
                encode_generations(reading, out);
            }
            Self::Attach {
                flow,
                generation,
                received,
                credit,
                reading,
            } => {
                encode_varint(flow.0, out);
                encode_varint(u64::from(generation.0), out);
                encode_varint(*received, out);
                encode_varint(*credit, out);
                encode_generations(reading, out);
            }
            Self::Opened {
                received,
                credit,
                reading,
            }
            | Self::Attached {
                received,
                credit,
                reading,
            } => {
                encode_varint(*received, out);
                encode_varint(*credit, out);
                encode_generations(reading, out);
            }
            Self::Refused { code, text } => {
                encode_varint(u64::from(code.value()), out);
                out.put_slice(cut(text, TEXT_MAX).as_bytes());
            }
            Self::Ack { received: offset }
            | Self::Credit { limit: offset }
            | Self::Fin {
                final_offset: offset,
            } => encode_varint(*offset, out),
            Self::Reset { final_offset, code } => {
                encode_varint(*final_offset, out);
                encode_varint(u64::from(code.value()), out);
            }
            Self::Reading { generations } => encode_generations(generations, out),
            Self::Data { .. } | Self::Unknown | Self::FinAck | Self::ResetAck | Self::Done => {}
        }
    }

    /// Reads the body of a record that is not DATA.
    pub(crate) fn decode_body(kind: u8, body: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields { kind, rest: body };
        Ok(match kind {
            kind::OPEN => Self::Open {
                flow: fields.flow()?,
                generation: fields.generation()?,
                request: OpenRequest {
                    table_version: fields.varint()?,
                    mapping: fields.small()?,
                    port_offset: fields.small()?,
                    local_peer: None,
                },
                credit: fields.varint()?,
                reading: Vec::new(),
            }
            .with_open_tail(&mut fields)?,
            kind::OPENED => Self::Opened {
                received: fields.varint()?,
                credit: fields.varint()?,
                reading: fields.generations()?,
            },
            kind::REFUSED => Self::Refused {
                code: RefuseCode::from_value(fields.small()?),
                text: cut(&String::from_utf8_lossy(fields.rest), TEXT_MAX).to_owned(),
            },
            kind::ATTACH => Self::Attach {
                flow: fields.flow()?,
                generation: fields.generation()?,
                received: fields.varint()?,
                credit: fields.varint()?,
                reading: fields.generations()?,
            },
            kind::ATTACHED => Self::Attached {
                received: fields.varint()?,
                credit: fields.varint()?,
                reading: fields.generations()?,
            },
            kind::UNKNOWN => Self::Unknown,
            kind::ACK => Self::Ack {
                received: fields.varint()?,
            },
            kind::CREDIT => Self::Credit {
                limit: fields.varint()?,
            },
            kind::FIN => Self::Fin {
                final_offset: fields.varint()?,
            },
            kind::FIN_ACK => Self::FinAck,
            kind::RESET => Self::Reset {
                final_offset: fields.varint()?,
                code: ResetCode::from_value(fields.small()?),
            },
            kind::RESET_ACK => Self::ResetAck,
            kind::READING => Self::Reading {
                generations: fields.generations()?,
            },
            kind::DONE => Self::Done,
            _ => return Err(RecordError::UnknownKind(kind)),
        })
    }

    fn with_open_tail(mut self, fields: &mut Fields<'_>) -> Result<Self, RecordError> {
        if let Self::Open {
            request, reading, ..
        } = &mut self
        {
            request.local_peer = fields.address()?;
            *reading = fields.generations()?;
        }
        Ok(self)
    }
}

struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl Fields<'_> {
    const fn malformed(&self) -> RecordError {
        RecordError::Malformed { kind: self.kind }
    }

    fn varint(&mut self) -> Result<u64, RecordError> {
        let (value, length) = decode_varint(self.rest).ok_or_else(|| self.malformed())?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, RecordError> {
        let malformed = self.malformed();
        T::try_from(self.varint()?).map_err(|_| malformed)
    }

    fn flow(&mut self) -> Result<FlowId, RecordError> {
        self.varint().map(FlowId)
    }

    fn generation(&mut self) -> Result<Generation, RecordError> {
        self.small().map(Generation)
    }

    fn generations(&mut self) -> Result<Vec<Generation>, RecordError> {
        let count: usize = self.small()?;
        if count > READING_MAX {
            return Err(self.malformed());
        }
        (0..count).map(|_| self.generation()).collect()
    }

    fn address(&mut self) -> Result<Option<SocketAddr>, RecordError> {
        let (address, rest) = decode_address(self.rest).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(address)
    }
}

fn encode_generations(generations: &[Generation], out: &mut BytesMut) {
    let newest = &generations[generations.len().saturating_sub(READING_MAX)..];
    encode_varint(newest.len() as u64, out);
    for generation in newest {
        encode_varint(u64::from(generation.0), out);
    }
}

/// Writes an address as a family byte (0 for none, 4, 6), the IP address and the port.
pub(crate) fn encode_address(address: Option<SocketAddr>, out: &mut BytesMut) {
    let Some(address) = address else {
        out.put_u8(0);
        return;
    };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

/// Reads what [`encode_address`] wrote: the address and what follows it.
pub(crate) fn decode_address(bytes: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    let (family, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, &[u8]) = match family {
        0 => return Some((None, rest)),
        4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*ip).into(), rest)
        }
        6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*ip).into(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((Some(SocketAddr::new(ip, u16::from_be_bytes(*port))), rest))
}

/// Cuts a text to at most `max` bytes, at a character's border.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
