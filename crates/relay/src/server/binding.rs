//! The STUN server: Binding requests, with the NAT behaviour tests of RFC 5780 where there are two
//! addresses, and old clients of RFC 3489.
//!
//! It keeps nothing. An answer goes to the address that asked, or to another port of it (RESPONSE-PORT), and
//! is at most 116 bytes beside PADDING, of which it holds no more than the request did: there is nothing to
//! gain from a forged source. RESPONSE-PORT could still make this server knock at ports of somebody else's machine,
//! so well-known ones are refused, and the layer above lets a [`RedirectLimiter`] decide about each.
//!
//! A server with one address has no alternates, and says so (420). It may have a second port for one purpose: with
//! RESPONSE-PORT, CHANGE-REQUEST for another port is answered from there. That is how a client learns whether a port
//! mapping lets strangers in: whatever it has written to before, it was not this port.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use stunwire::{
    AttributeError, AttributeType, ChangeRequest, ChangedAddress, Class, EncodeError, ErrorCode,
    FingerprintError, MappedAddress, Message, MessageBuilder, Method, Open, OtherAddress, Padding,
    ResponseOrigin, ResponsePort, SourceAddress, UnknownAttributes, XorMappedAddress,
};

use super::answer::UNKNOWN_MAX;
use super::config::ExternalAddresses;
use super::limiter::Limiter;
use crate::address::canonical;

/// Two addresses times two ports (RFC 5780, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingAddresses {
    /// The two local IP addresses, of one family.
    pub ips: [IpAddr; 2],
    /// The primary and the alternate port, open on both.
    pub ports: [u16; 2],
}

impl BindingAddresses {
    /// Returns the four sockets to open, the primary first.
    #[must_use]
    pub fn sockets(&self) -> [SocketAddr; 4] {
        let [first, second] = self.ips;
        let [primary, alternate] = self.ports;
        [
            (first, primary),
            (first, alternate),
            (second, primary),
            (second, alternate),
        ]
        .map(SocketAddr::from)
    }

    /// Finds a socket by its address.
    fn find(&self, local: SocketAddr) -> Option<Place> {
        let ip = self.ips.iter().position(|ip| *ip == local.ip())?;
        let port = self.ports.iter().position(|port| *port == local.port())?;
        Some(Place {
            second_ip: ip == 1,
            second_port: port == 1,
        })
    }

    fn address(&self, place: Place) -> SocketAddr {
        let [first, second] = self.ips;
        let [primary, alternate] = self.ports;
        let ip = if place.second_ip { second } else { first };
        let port = if place.second_port {
            alternate
        } else {
            primary
        };
        SocketAddr::new(ip, port)
    }
}

/// One of the four.
#[derive(Clone, Copy)]
struct Place {
    second_ip: bool,
    second_port: bool,
}

impl Place {
    const fn changed(self, change: ChangeRequest) -> Self {
        Self {
            second_ip: self.second_ip != change.ip,
            second_port: self.second_port != change.port,
        }
    }
}

/// An answer and the way it must take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingResponse {
    /// The local address to send from: the one the request came to, or another of the four.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// What.
    pub payload: Vec<u8>,
}

/// No NAT gives a lower port to anybody, and the services that answer strangers are there.
const RESPONSE_PORT_MIN: u16 = 1024;

/// Answers per second and address that go to another port, after a burst of twice as many. A check of a port mapping
/// takes 20 a second for three seconds, a search for a binding's lifetime less.
const REDIRECTS_PER_SECOND: u32 = 40;

/// How often an address may have answers sent to other ports of it (RFC 5780, section 9.2). Memory does not follow the
/// number of addresses.
pub struct RedirectLimiter(Limiter);

impl RedirectLimiter {
    /// Makes a limiter; `key` keeps strangers from choosing with whom they share.
    #[must_use]
    pub fn new(key: u64, now: Instant) -> Self {
        Self(Limiter::new(key, REDIRECTS_PER_SECOND, now))
    }

    /// Returns whether an answer may be sent. Such as go to where the request came from always may.
    pub fn admit(&mut self, response: &BindingResponse, from: SocketAddr, now: Instant) -> bool {
        response.destination == from || self.0.admit(canonical(from).ip(), now)
    }
}

impl std::fmt::Debug for RedirectLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedirectLimiter(..)")
    }
}

/// Answers Binding requests; a pure function with three settings.
#[derive(Clone, Debug, Default)]
pub struct BindingResponder {
    alternates: Option<BindingAddresses>,
    second_port: Option<u16>,
    external: ExternalAddresses,
}

/// What an answer says.
enum Verdict {
    Mapped {
        origin: Option<SocketAddr>,
        other: Option<SocketAddr>,
        padding: usize,
    },
    Refused(u16),
    NotUnderstood(Vec<AttributeType>),
}

impl BindingResponder {
    /// Makes a responder. Without `alternates` it offers no NAT behaviour tests: CHANGE-REQUEST is answered
    /// with 420, and there is no OTHER-ADDRESS. `external` says how local addresses are known to the world.
    #[must_use]
    pub const fn new(alternates: Option<BindingAddresses>, external: ExternalAddresses) -> Self {
        Self {
            alternates,
            second_port: None,
            external,
        }
    }

    /// Names a second port that is open on every address of a server without alternates.
    #[must_use]
    pub const fn with_second_port(mut self, port: u16) -> Self {
        self.second_port = Some(port);
        self
    }

    /// Answers a request that came to the local address `received_at` (on a wildcard socket the packet's
    /// destination) from `from`. `None` when it is not a Binding request; then it is somebody else's.
    #[must_use]
    pub fn respond(
        &self,
        request: &[u8],
        received_at: SocketAddr,
        from: SocketAddr,
    ) -> Option<BindingResponse> {
        let message = decode(request)?;
        let received_at = canonical(received_at);
        let place = self
            .alternates
            .as_ref()
            .and_then(|addresses| addresses.find(received_at));
        Some(self.answer(&message, received_at, place, from, message.read().ok()))
    }

    /// Answers a request that came on a stream, on which nothing can come from another address.
    #[must_use]
    pub fn respond_on_stream(&self, request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let message = decode(request)?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Some(self.answer(&message, nowhere, None, from, None).payload)
    }

    /// Refuses a request for now (500), for what [`RedirectLimiter`] does not admit. Silence would mean to a client
    /// that its port mapping is none.
    #[must_use]
    pub fn refuse(
        &self,
        request: &[u8],
        received_at: SocketAddr,
        from: SocketAddr,
    ) -> Option<BindingResponse> {
        let message = decode(request)?;
        let verdict = Verdict::Refused(ErrorCode::SERVER_ERROR);
        let payload = encode(&message, &verdict, canonical(from)).unwrap_or_default();
        Some(BindingResponse {
            source: canonical(received_at),
            destination: from,
            payload,
        })
    }

    fn answer(
        &self,
        message: &Message<'_>,
        received_at: SocketAddr,
        place: Option<Place>,
        from: SocketAddr,
        response_port: Option<ResponsePort>,
    ) -> BindingResponse {
        let change = message.read::<ChangeRequest>();
        let mut source = received_at;
        let mut destination = from;
        let knock = match (place, change, response_port, self.second_port) {
            // Without alternates only this is understood.
            (None, Ok(change), Some(_), Some(port)) if change.port && !change.ip => Some(port),
            _ => None,
        };
        let changes = place.is_some() || knock.is_some();
        let verdict = refusal(message, changes).unwrap_or_else(|| {
            if let (Some(addresses), Some(place), Ok(change)) = (&self.alternates, place, change) {
                source = addresses.address(place.changed(change));
            } else if let Some(port) = knock {
                source.set_port(port);
            }
            if let Some(ResponsePort(port)) = response_port {
                destination.set_port(port);
            }
            Verdict::Mapped {
                origin: self.advertised(source),
                other: self.other_address(place),
                padding: message
                    .read::<Padding<'_>>()
                    .map_or(0, |padding| padding.0.len()),
            }
        });
        let payload = encode(message, &verdict, canonical(from)).unwrap_or_default();
        BindingResponse {
            source,
            destination,
            payload,
        }
    }

    fn advertised(&self, local: SocketAddr) -> Option<SocketAddr> {
        let ip = self.external.advertised(local.ip())?;
        Some(SocketAddr::new(ip, local.port()))
    }

    /// Where an answer would come from with both changes asked for (RFC 5780, section 7.4).
    fn other_address(&self, place: Option<Place>) -> Option<SocketAddr> {
        let both = ChangeRequest {
            ip: true,
            port: true,
        };
        let addresses = self.alternates.as_ref()?;
        self.advertised(addresses.address(place?.changed(both)))
    }
}

fn decode(request: &[u8]) -> Option<Message<'_>> {
    let message = Message::decode(request).ok()?;
    let is_binding = message.class() == Class::Request && message.method() == Method::BINDING;
    let is_damaged = matches!(
        message.verify_fingerprint(),
        Err(FingerprintError::Mismatch)
    );
    (is_binding && !is_damaged).then_some(message)
}

/// Says what is wrong with a request, if anything.
fn refusal(message: &Message<'_>, changes: bool) -> Option<Verdict> {
    // Credentials are understood and not asked for; ICE's PRIORITY comes with checks that went astray.
    let mut known = vec![
        AttributeType::USERNAME,
        AttributeType::REALM,
        AttributeType::NONCE,
        AttributeType::PADDING,
        AttributeType::RESPONSE_PORT,
        AttributeType::PRIORITY,
    ];
    if changes {
        known.push(AttributeType::CHANGE_REQUEST);
    }
    let unknown: Vec<_> = message.unknown_required(&known).take(UNKNOWN_MAX).collect();
    if !unknown.is_empty() {
        return Some(Verdict::NotUnderstood(unknown));
    }
    let change_is_bad = matches!(
        message.read::<ChangeRequest>(),
        Err(AttributeError::Malformed { .. })
    );
    let port_is_bad = match message.read::<ResponsePort>() {
        Ok(ResponsePort(port)) => port < RESPONSE_PORT_MIN,
        Err(AttributeError::Missing(_)) => false,
        Err(_) => true,
    };
    // RFC 5780, section 6.1: a padded answer goes nowhere but to who asked.
    let both =
        message.contains(AttributeType::PADDING) && message.contains(AttributeType::RESPONSE_PORT);
    (change_is_bad || port_is_bad || both).then_some(Verdict::Refused(ErrorCode::BAD_REQUEST))
}

fn encode(
    message: &Message<'_>,
    verdict: &Verdict,
    reflexive: SocketAddr,
) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = vec![0; 256 + message.as_bytes().len()];
    let class = match verdict {
        Verdict::Mapped { .. } => Class::SuccessResponse,
        Verdict::Refused(_) | Verdict::NotUnderstood(_) => Class::ErrorResponse,
    };
    let builder = MessageBuilder::answer(&mut buffer, message, class)?;
    let builder = match verdict {
        Verdict::Refused(code) => builder.attribute(&ErrorCode {
            code: *code,
            reason: match *code {
                ErrorCode::BAD_REQUEST => "Bad Request",
                _ => "",
            },
        })?,
        Verdict::NotUnderstood(kinds) => builder
            .attribute(&ErrorCode {
                code: ErrorCode::UNKNOWN_ATTRIBUTE,
                reason: "",
            })?
            .attribute(&UnknownAttributes::new(kinds))?,
        Verdict::Mapped { origin, other, .. } if !message.has_cookie() => {
            addresses_of_3489(builder, reflexive, *origin, *other)?
        }
        Verdict::Mapped {
            origin,
            other,
            padding,
        } => {
            let mut builder = builder.attribute(&XorMappedAddress(reflexive))?;
            if let Some(other) = other {
                // MAPPED-ADDRESS beside it shows a gateway that rewrites addresses in payloads.
                builder = builder
                    .attribute(&MappedAddress(reflexive))?
                    .attribute(&OtherAddress(*other))?;
            }
            if let Some(origin) = origin {
                builder = builder.attribute(&ResponseOrigin(*origin))?;
            }
            if *padding > 0 {
                builder = builder.attribute(&Padding(&vec![0; *padding]))?;
            }
            builder
        }
    };
    let fingerprinted = message.contains(AttributeType::FINGERPRINT);
    Ok(if fingerprinted {
        builder.fingerprint()?.finish()
    } else {
        builder.finish()
    }
    .to_vec())
}

/// RFC 3489, section 8.1: nothing is hidden, and both addresses of the server have other names.
fn addresses_of_3489(
    builder: MessageBuilder<'_, Open>,
    reflexive: SocketAddr,
    origin: Option<SocketAddr>,
    other: Option<SocketAddr>,
) -> Result<MessageBuilder<'_, Open>, EncodeError> {
    let mut builder = builder.attribute(&MappedAddress(reflexive))?;
    if let Some(origin) = origin {
        builder = builder.attribute(&SourceAddress(origin))?;
    }
    if let Some(other) = other {
        builder = builder.attribute(&ChangedAddress(other))?;
    }
    Ok(builder)
}
