//! What goes over the wire.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::{Retransmission, Transactions};
use stunwire::attributes::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, ResponsePort,
    XorMappedAddress,
};
use stunwire::{Class, HEADER_LEN, Message, MessageBuilder, Method, TransactionId};

/// Requests that are repeated: 20 in 3 s, so that at 30 % loss each way one in a million goes unanswered, and one in
/// a hundred after a second. Brisker than RFC 8489, section 6.2.1, which names 500 ms and 39.5 s: a person waits for
/// this.
pub(crate) const REPEATED: Retransmission = Retransmission {
    rto: Duration::from_millis(100),
    rto_max: Duration::from_millis(150),
    sends: 20,
    last_wait: Duration::from_millis(250),
};

/// Requests whose repetition, if any, a test decides; an answer counts for so long.
pub(crate) const ONCE: Retransmission = Retransmission {
    rto: Duration::from_secs(6),
    rto_max: Duration::from_secs(6),
    sends: 1,
    last_wait: Duration::from_secs(6),
};

/// An outstanding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) kind: ProbeKind,
    pub(crate) destination: SocketAddr,
    pub(crate) sent_at: Instant,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// Which address do you see? Repeated until answered.
    Plain,
    /// The same, once, beside a filtering test: how many of these are answered tells how much is lost.
    Control,
    /// Filtering test II: answer from the other address and port.
    ChangeBoth,
    /// Filtering test III: answer from the other port.
    ChangePort,
    /// To ourselves.
    Hairpin,
}

impl ProbeKind {
    /// Encodes the request.
    pub(crate) fn encode(self, id: TransactionId) -> Vec<u8> {
        let change = match self {
            Self::Plain | Self::Control | Self::Hairpin => None,
            Self::ChangeBoth => Some(ChangeRequest {
                ip: true,
                port: true,
            }),
            Self::ChangePort => Some(ChangeRequest {
                ip: false,
                port: true,
            }),
        };
        encode_request(id, change, None)
    }
}

/// Encodes a Binding request. Without FINGERPRINT or SOFTWARE, since servers of RFC 3489 know neither.
pub(crate) fn encode_request(
    id: TransactionId,
    change: Option<ChangeRequest>,
    response_port: Option<u16>,
) -> Vec<u8> {
    let mut buffer = [0; HEADER_LEN + 16];
    let builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id);
    builder
        .and_then(|builder| match change {
            Some(change) => builder.attribute(&change),
            None => Ok(builder),
        })
        .and_then(|builder| match response_port {
            Some(port) => builder.attribute(&ResponsePort(port)),
            None => Ok(builder),
        })
        .expect("the buffer holds a header and two attributes of 8 bytes")
        .finish()
        .to_vec()
}

/// Returns which outstanding question a datagram answers; `None` when it is no answer to one.
pub(crate) fn question<'a, Q: Copy>(
    outstanding: &Transactions<Q>,
    payload: &'a [u8],
) -> Option<(TransactionId, Q, Message<'a>)> {
    let message = Message::decode(payload).ok()?;
    let id = message.transaction_id();
    let question = *outstanding.get(&id)?;
    let is_answer = message.method() == Method::BINDING && message.class().is_response();
    is_answer.then_some((id, question, message))
}

/// The answer to a Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was understood.
    Success {
        /// What the server sees.
        mapped: SocketAddr,
        /// Its other address and port, if it has one.
        other: Option<SocketAddr>,
        /// Whether a gateway has rewritten MAPPED-ADDRESS, which is sent beside XOR-MAPPED-ADDRESS for that.
        rewritten: Option<bool>,
    },
    /// It was refused.
    Error {
        /// The server does not know an attribute of the request (420).
        not_understood: bool,
    },
}

impl Answer {
    /// Reads an answer. XOR-MAPPED-ADDRESS is preferred, since some routers rewrite the plain one; the latter is
    /// all that a server of RFC 3489 has. `None` when it says nothing.
    pub(crate) fn read(message: &Message<'_>) -> Option<Self> {
        if message.class() == Class::ErrorResponse {
            let code = message.read::<ErrorCode<'_>>().map(|error| error.code);
            return Some(Self::Error {
                not_understood: code == Ok(ErrorCode::UNKNOWN_ATTRIBUTE),
            });
        }
        let hidden = message.read::<XorMappedAddress>().map(|mapped| mapped.0);
        let plain = message.read::<MappedAddress>().map(|mapped| mapped.0);
        let mapped = hidden.or(plain).ok()?;
        let rewritten = match (hidden, plain) {
            (Ok(hidden), Ok(plain)) => Some(hidden != plain),
            (Err(_), _) | (_, Err(_)) => None,
        };
        let other = message
            .read::<OtherAddress>()
            .map(|other| other.0)
            .or_else(|_| message.read::<ChangedAddress>().map(|other| other.0))
            .ok();
        Some(Self::Success {
            mapped,
            other,
            rewritten,
        })
    }
}

/// Returns whether a server's other address can be tested with: another IP address and another port, of the
/// same family and such that one may write to it.
pub(crate) fn is_usable_alternate(server: SocketAddr, other: SocketAddr) -> bool {
    let ip = other.ip();
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 0)).ip();
    other.is_ipv4() == server.is_ipv4()
        && ip != server.ip()
        && other.port() != server.port()
        && other.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != broadcast
        // A public server has no business to send us into our own machine.
        && (!ip.is_loopback() || server.ip().is_loopback())
}
