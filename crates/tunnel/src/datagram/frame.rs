//! One datagram on the wire.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::flow::{
    FlowId, OpenRequest, RefuseCode, TEXT_MAX, cut, decode_address, decode_varint, encode_address,
    encode_varint,
};

/// The largest UDP payload over IPv4: 65,535 less the headers.
pub const PAYLOAD_MAX: usize = 65_507;

const SHORT: u8 = 0x01;
const LONG: u8 = 0x02;
const UNKNOWN_FLOW: u8 = 0x03;
const FLOW_KNOWN: u8 = 0x04;
const REFUSED: u8 = 0x05;
const LAST: u8 = 0x10;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Which flow it is about.
    pub flow: FlowId,
    /// What it says.
    pub body: Body,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A payload or a fragment of one.
    Payload {
        /// What the flow is, in the long form.
        request: Option<OpenRequest>,
        /// The number of the payload within the flow and direction.
        packet: u64,
        /// Where the bytes belong in the payload.
        offset: usize,
        /// They end it.
        last: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// The egress does not know the flow.
    UnknownFlow,
    /// The egress knows the flow.
    FlowKnown,
    /// The egress will not open the flow.
    Refused {
        /// Why.
        code: RefuseCode,
        /// Why, for a person.
        text: String,
    },
}

impl Datagram {
    /// Reads one; `None` when it is none of ours.
    #[must_use]
    pub fn decode(mut datagram: Bytes) -> Option<Self> {
        let kind = datagram.try_get_u8().ok()?;
        let flow = FlowId::new(take_varint(&mut datagram)?)?;
        let last = kind & LAST != 0;
        let body = match kind {
            UNKNOWN_FLOW => Body::UnknownFlow,
            FLOW_KNOWN => Body::FlowKnown,
            REFUSED => Body::Refused {
                code: RefuseCode::from_value(take_small(&mut datagram)?),
                text: cut(&String::from_utf8_lossy(&datagram), TEXT_MAX).to_owned(),
            },
            _ if kind & !LAST == SHORT => take_payload(None, last, datagram)?,
            _ if kind & !LAST == LONG => {
                let request = take_request(&mut datagram)?;
                take_payload(Some(request), last, datagram)?
            }
            _ => return None,
        };
        Some(Self { flow, body })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match &self.body {
            Body::Payload {
                request,
                packet,
                offset,
                last,
                bytes,
            } => {
                encode_head(self.flow, request.as_ref(), *packet, &mut out);
                finish_head(*offset, *last, &mut out);
                out.put_slice(bytes);
            }
            Body::UnknownFlow => self.encode_kind(UNKNOWN_FLOW, &mut out),
            Body::FlowKnown => self.encode_kind(FLOW_KNOWN, &mut out),
            Body::Refused { code, text } => {
                self.encode_kind(REFUSED, &mut out);
                encode_varint(u64::from(code.value()), &mut out);
                out.put_slice(cut(text, TEXT_MAX).as_bytes());
            }
        }
        out.freeze()
    }

    fn encode_kind(&self, kind: u8, out: &mut BytesMut) {
        out.put_u8(kind);
        encode_varint(self.flow.value(), out);
    }
}

/// Writes what all fragments of a payload share; the type is completed by [`finish_head`].
pub(super) fn encode_head(
    flow: FlowId,
    request: Option<&OpenRequest>,
    packet: u64,
    out: &mut BytesMut,
) {
    out.put_u8(if request.is_some() { LONG } else { SHORT });
    encode_varint(flow.value(), out);
    if let Some(request) = request {
        encode_varint(request.table_version, out);
        encode_varint(u64::from(request.mapping), out);
        encode_varint(u64::from(request.port_offset), out);
        encode_address(request.local_peer, out);
    }
    encode_varint(packet, out);
}

/// Writes the offset and marks the last fragment.
pub(super) fn finish_head(offset: usize, last: bool, out: &mut BytesMut) {
    encode_varint(offset as u64, out);
    if last {
        out[0] |= LAST;
    }
}

fn take_payload(request: Option<OpenRequest>, last: bool, mut datagram: Bytes) -> Option<Body> {
    let packet = take_varint(&mut datagram)?;
    let offset = take_small(&mut datagram)?;
    Some(Body::Payload {
        request,
        packet,
        offset,
        last,
        bytes: datagram,
    })
}

fn take_request(datagram: &mut Bytes) -> Option<OpenRequest> {
    let table_version = take_varint(datagram)?;
    let mapping = take_small(datagram)?;
    let port_offset = take_small(datagram)?;
    let (local_peer, rest) = decode_address(datagram)?;
    let taken = datagram.len() - rest.len();
    datagram.advance(taken);
    Some(OpenRequest {
        table_version,
        mapping,
        port_offset,
        local_peer,
    })
}

fn take_varint(datagram: &mut Bytes) -> Option<u64> {
    let (value, length) = decode_varint(datagram)?;
    datagram.advance(length);
    Some(value)
}

fn take_small<T: TryFrom<u64>>(datagram: &mut Bytes) -> Option<T> {
    T::try_from(take_varint(datagram)?).ok()
}
