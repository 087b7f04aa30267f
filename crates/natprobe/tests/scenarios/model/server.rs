//! A STUN server.

use std::net::{IpAddr, SocketAddr};

use stunwire::attributes::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, ResponsePort,
    XorMappedAddress,
};
use stunwire::{AttributeType, Class, Message, MessageBuilder};

/// What a STUN server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RFC 5780 with this other address and port.
    Full(SocketAddr),
    /// RFC 3489 with this other address and port: no XOR-MAPPED-ADDRESS, CHANGED-ADDRESS.
    Old(SocketAddr),
    /// Names this other address, but nobody is there.
    DeadAlternate(SocketAddr),
    /// One address; answers CHANGE-REQUEST and RESPONSE-PORT with 420.
    Single,
    /// One address; answers to another port, and from this one when it is asked for that as well.
    TwoPorts(u16),
    /// One address; answers to another port, and CHANGE-REQUEST with 420.
    OnePort,
    /// One address; ignores CHANGE-REQUEST and RESPONSE-PORT, but names another address (RFC 5780 forbids it).
    Ignorant(SocketAddr),
    /// Not there.
    Dead,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
}

/// Where an answer leaves from, where it goes, and what it says.
pub(crate) type Answer = (SocketAddr, SocketAddr, Vec<u8>);

impl Server {
    pub(crate) fn new(address: &str, kind: Kind) -> Self {
        Self {
            address: address.parse().expect("an address"),
            kind,
        }
    }

    pub(crate) fn listens_at(&self, at: SocketAddr) -> bool {
        match self.kind {
            Kind::Full(other) | Kind::Old(other) => {
                [self.address.ip(), other.ip()].contains(&at.ip())
                    && [self.address.port(), other.port()].contains(&at.port())
            }
            Kind::DeadAlternate(_)
            | Kind::Single
            | Kind::TwoPorts(_)
            | Kind::OnePort
            | Kind::Ignorant(_) => at == self.address,
            Kind::Dead => false,
        }
    }

    /// Answers; `None` where the answer leaves from an address that does not reach the client.
    pub(crate) fn answer(&self, at: SocketAddr, from: SocketAddr, bytes: &[u8]) -> Option<Answer> {
        let request = Message::decode(bytes).expect("the machines send STUN");
        let change = request.read().unwrap_or(ChangeRequest {
            ip: false,
            port: false,
        });
        let port = request.read::<ResponsePort>().map(|port| port.0);
        let to = port.map_or(from, |port| SocketAddr::new(from.ip(), port));
        let changes = request.contains(AttributeType::CHANGE_REQUEST);
        match self.kind {
            Kind::Full(other) => {
                let opposite = self.opposite(other, at);
                let source = changed(at, opposite, change);
                Some((source, to, modern(&request, from, Some(opposite))))
            }
            Kind::Old(other) => {
                let opposite = self.opposite(other, at);
                let source = changed(at, opposite, change);
                Some((source, from, old(&request, from, opposite)))
            }
            Kind::DeadAlternate(other) => {
                let lost = change.ip || change.port;
                (!lost).then(|| (at, to, modern(&request, from, Some(other))))
            }
            Kind::Ignorant(other) => Some((at, from, modern(&request, from, Some(other)))),
            Kind::Single if changes || port.is_ok() => Some((at, from, refusal(&request))),
            Kind::OnePort if changes => Some((at, from, refusal(&request))),
            Kind::TwoPorts(_) if changes && (change.ip || port.is_err()) => {
                Some((at, from, refusal(&request)))
            }
            Kind::TwoPorts(second) => {
                let source = changed(at, SocketAddr::new(at.ip(), second), change);
                Some((source, to, modern(&request, from, None)))
            }
            Kind::Single | Kind::OnePort | Kind::Dead => {
                Some((at, to, modern(&request, from, None)))
            }
        }
    }

    fn opposite(&self, other: SocketAddr, at: SocketAddr) -> SocketAddr {
        let swap = |a: IpAddr, b, value| if value == a { b } else { a };
        let ip = swap(self.address.ip(), other.ip(), at.ip());
        let port = if at.port() == other.port() {
            self.address.port()
        } else {
            other.port()
        };
        SocketAddr::new(ip, port)
    }
}

fn changed(at: SocketAddr, opposite: SocketAddr, change: ChangeRequest) -> SocketAddr {
    SocketAddr::new(
        if change.ip { opposite.ip() } else { at.ip() },
        if change.port {
            opposite.port()
        } else {
            at.port()
        },
    )
}

fn modern(request: &Message<'_>, from: SocketAddr, other: Option<SocketAddr>) -> Vec<u8> {
    let mut buffer = [0; 160];
    let builder = MessageBuilder::answer(&mut buffer, request, Class::SuccessResponse)
        .and_then(|builder| builder.attribute(&XorMappedAddress(from)))
        .expect("it fits");
    match other {
        Some(other) => builder
            .attribute(&MappedAddress(from))
            .and_then(|builder| builder.attribute(&OtherAddress(other)))
            .expect("it fits"),
        None => builder,
    }
    .finish()
    .to_vec()
}

fn old(request: &Message<'_>, from: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let mut buffer = [0; 128];
    MessageBuilder::answer(&mut buffer, request, Class::SuccessResponse)
        .and_then(|builder| builder.attribute(&MappedAddress(from)))
        .and_then(|builder| builder.attribute(&ChangedAddress(other)))
        .expect("it fits")
        .finish()
        .to_vec()
}

fn refusal(request: &Message<'_>) -> Vec<u8> {
    let mut buffer = [0; 128];
    let error = ErrorCode {
        code: ErrorCode::UNKNOWN_ATTRIBUTE,
        reason: "",
    };
    MessageBuilder::answer(&mut buffer, request, Class::ErrorResponse)
        .and_then(|builder| builder.attribute(&error))
        .expect("it fits")
        .finish()
        .to_vec()
}

/// What an ALG makes of an answer on its way in: MAPPED-ADDRESS becomes the address inside.
pub(crate) fn rewrite(bytes: &[u8], public: SocketAddr, inside: SocketAddr) -> Vec<u8> {
    let text = |address: SocketAddr| {
        let IpAddr::V4(ip) = address.ip() else {
            panic!("the ALG of the tests knows IPv4")
        };
        [&address.port().to_be_bytes()[..], &ip.octets()].concat()
    };
    let (old, new) = (text(public), text(inside));
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(6).position(|window| window == old) {
        bytes[at..at + 6].copy_from_slice(&new);
    }
    bytes
}
