//! Where a TURN server is, and how it is reached.

use std::{fmt, str::FromStr};

use crate::{
    GrammarError, Host, grammar_error::shown, host::fields, port_mapping::check_target, port_range,
};

/// The port of TURN over UDP and TCP (RFC 8656, section 3.1).
const PORT: u16 = 3478;

/// The port of TURN over TLS (RFC 8656, section 3.1).
const TLS_PORT: u16 = 5349;

/// What may follow a `turn:` URL's question mark; the name in the case of RFC 7065.
const TRANSPORT: &str = "transport=";

/// How a TURN server is reached. Prints as `udp`, `tcp` or `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayTransport {
    /// Datagrams.
    Udp,
    /// A plain TCP connection.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl RelayTransport {
    /// Returns the word that `status --json` has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for RelayTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A TURN server as RFC 7065 writes it: `turn:host[:port][?transport=udp|tcp]` or `turns:host[:port]`.
///
/// Without a port it is 3478, or 5349 for `turns`. Without a transport it is UDP; `turns` is always TLS over
/// TCP. Parsing and `Display` round-trip; `Display` always writes the port, and the transport of `turn:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayUrl {
    /// Who.
    pub host: Host,
    /// Which port, never zero.
    pub port: u16,
    /// How; [`RelayTransport::Tls`] is what `turns:` says.
    pub transport: RelayTransport,
}

impl RelayUrl {
    /// Says whether it is a `turns:` URL.
    #[must_use]
    pub const fn tls(&self) -> bool {
        matches!(self.transport, RelayTransport::Tls)
    }

    /// Returns how the server is reached.
    #[must_use]
    pub const fn transport(&self) -> RelayTransport {
        self.transport
    }
}

/// Why a text is not a [`RelayUrl`]. It never repeats the whole text, which may hold a password by mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayUrlError {
    /// It begins with neither `turn:` nor `turns:`.
    #[error("is not a turn: or turns: URL: {EXAMPLE}")]
    Scheme,
    /// `turn://host`, which RFC 7065 does not know.
    #[error("has no `//` after `turn:`: {EXAMPLE}")]
    Slashes,
    /// `turn:user:password@host`.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// A path, or a fragment.
    #[error("must end after the port or `?transport=udp` or `?transport=tcp`: {EXAMPLE}")]
    Rest,
    /// A query other than `transport=udp` and `transport=tcp`.
    #[error("`?{}` is neither `?transport=udp` nor `?transport=tcp`", shown(.0))]
    Query(String),
    /// `turns:` over UDP would be DTLS.
    #[error("`turns:` is TLS over TCP: leave `?transport=udp` out, or write `turn:`")]
    TlsOverUdp,
    /// The host or the port is wrong.
    #[error("{0}: {EXAMPLE}")]
    Authority(GrammarError),
}

const EXAMPLE: &str =
    "write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443";

impl FromStr for RelayUrl {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        let (tls, rest) = scheme(text.trim())?;
        if rest.starts_with("//") {
            return Err(RelayUrlError::Slashes);
        }
        if rest.contains('@') {
            return Err(RelayUrlError::UserInfo);
        }
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        if authority.contains(['/', '#']) {
            return Err(RelayUrlError::Rest);
        }
        let transport = transport(tls, query)?;
        let (host, port) = host_and_port(authority).map_err(RelayUrlError::Authority)?;
        let default_port = if tls { TLS_PORT } else { PORT };
        Ok(Self {
            host,
            port: port.unwrap_or(default_port),
            transport,
        })
    }
}

/// Takes the scheme off; says whether it is `turns`.
fn scheme(text: &str) -> Result<(bool, &str), RelayUrlError> {
    let (scheme, rest) = text.split_once(':').ok_or(RelayUrlError::Scheme)?;
    if scheme.eq_ignore_ascii_case("turn") {
        Ok((false, rest))
    } else if scheme.eq_ignore_ascii_case("turns") {
        Ok((true, rest))
    } else {
        Err(RelayUrlError::Scheme)
    }
}

fn transport(tls: bool, query: Option<&str>) -> Result<RelayTransport, RelayUrlError> {
    let Some(query) = query else {
        return Ok(if tls {
            RelayTransport::Tls
        } else {
            RelayTransport::Udp
        });
    };
    match (query.strip_prefix(TRANSPORT), tls) {
        (Some("udp"), false) => Ok(RelayTransport::Udp),
        (Some("tcp"), false) => Ok(RelayTransport::Tcp),
        (Some("tcp"), true) => Ok(RelayTransport::Tls),
        (Some("udp"), true) => Err(RelayUrlError::TlsOverUdp),
        _ => Err(RelayUrlError::Query(query.to_owned())),
    }
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), GrammarError> {
    let (host, port) = match fields(authority)?[..] {
        [host] => (host, None),
        [host, port] => (host, Some(port_range::port(port, port)?)),
        // Colons without brackets.
        _ => return Err(GrammarError::Brackets),
    };
    let host: Host = host.parse()?;
    if let Host::Ip(address) = &host {
        check_target(*address)?;
    }
    Ok((host, port))
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            transport,
        } = self;
        match transport {
            RelayTransport::Tls => write!(f, "turns:{host}:{port}"),
            RelayTransport::Udp | RelayTransport::Tcp => {
                write!(f, "turn:{host}:{port}?{TRANSPORT}{transport}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_printed_in_full() {
        for (text, printed) in [
            (
                "turn:turn.example.org",
                "turn:turn.example.org:3478?transport=udp",
            ),
            (
                "turn:TURN.example.org:80",
                "turn:turn.example.org:80?transport=udp",
            ),
            (
                "turn:192.0.2.1?transport=tcp",
                "turn:192.0.2.1:3478?transport=tcp",
            ),
            (
                " turn:[2001:db8::1]:99?transport=udp ",
                "turn:[2001:db8::1]:99?transport=udp",
            ),
            ("TURNS:h", "turns:h:5349"),
            ("turns:h:443", "turns:h:443"),
            ("turns:h:443?transport=tcp", "turns:h:443"),
        ] {
            let url: RelayUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(url), "{text}");
        }
        let url: RelayUrl = "turns:h".parse().unwrap();
        assert!(url.tls());
        assert_eq!(url.transport().to_string(), "tls");
    }

    #[test]
    fn a_malformed_url_says_what_is_wrong() {
        let error = |text: &str| text.parse::<RelayUrl>().unwrap_err();
        let authority = |text: &str| {
            let RelayUrlError::Authority(error) = error(text) else {
                panic!("{text}");
            };
            error
        };
        for text in [
            "",
            "turn.example.org",
            "turn.example.org:3478",
            "stun:h:1",
            "http://h",
        ] {
            assert_eq!(error(text), RelayUrlError::Scheme, "{text}");
        }
        assert_eq!(error("turn://h:3478"), RelayUrlError::Slashes);
        assert_eq!(error("turn:user:hunter2@h"), RelayUrlError::UserInfo);
        assert_eq!(error("turn:h/path"), RelayUrlError::Rest);
        assert_eq!(error("turn:h#x"), RelayUrlError::Rest);
        assert_eq!(
            error("turn:h?transport=sctp"),
            RelayUrlError::Query("transport=sctp".into())
        );
        assert_eq!(error("turn:h?"), RelayUrlError::Query(String::new()));
        assert_eq!(error("turns:h?transport=udp"), RelayUrlError::TlsOverUdp);
        assert_eq!(authority("turn:"), GrammarError::NotAHost(String::new()));
        assert_eq!(authority("turn:h:"), GrammarError::NotAPort(String::new()));
        assert_eq!(authority("turn:h:0"), GrammarError::PortZero);
        assert_eq!(
            authority("turn:h:70000"),
            GrammarError::PortTooLarge("70000".into())
        );
        assert_eq!(authority("turn:2001:db8::1"), GrammarError::Brackets);
        assert_eq!(
            authority("turn:bad host"),
            GrammarError::NotAHost("bad host".into())
        );
        assert_eq!(
            authority("turn:0.0.0.0"),
            GrammarError::NotATarget([0, 0, 0, 0].into())
        );
    }
}
