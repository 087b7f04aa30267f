//! Who is to be reached: an address or a name.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::{GrammarError, port_range};

/// An IP address or a host name.
///
/// Names are kept in lower case; IPv4-mapped IPv6 addresses become IPv4 ones. Two hosts that are equal
/// in text after that are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name to be resolved where it is used.
    Name(HostName),
}

/// A host name: 1 to 253 ASCII characters in labels of at most 63 (RFC 1123, section 2.1, with the
/// underscore that many networks use), at least one of them a letter, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether this is the name of the machine's own loopback (RFC 6761, section 6.3).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl FromStr for HostName {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name without a letter, or with a number as its last label, was meant as an address or port.
        let last_is_number = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let good = name.len() <= 253
            && name.split('.').all(label)
            && name.bytes().any(|byte| byte.is_ascii_alphabetic())
            && !last_is_number;
        if good {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(GrammarError::NotAHost(text.to_owned()))
        }
    }
}

impl FromStr for Host {
    type Err = GrammarError;

    /// Parses an IPv4 address, an IPv6 address with or without brackets, or a name.
    fn from_str(text: &str) -> Result<Self, GrammarError> {
        if text.starts_with('[') || text.ends_with(']') {
            return Ok(Self::Ip(bracketed(text)?));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Ip(address.to_canonical())),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints IPv6 addresses in brackets, so that a port can follow.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A host and a port: `stun.example.org:3478`, `192.0.2.1:3478`, `[2001:db8::1]:3478`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Who.
    pub host: Host,
    /// Which port, never zero.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(GrammarError::HostWithoutPort);
        }
        for scheme in [
            "http://", "https://", "stun://", "stun:", "stuns:", "turn:", "turns:",
        ] {
            if text
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            {
                return Err(GrammarError::SchemeNotWanted(scheme));
            }
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(GrammarError::Brackets);
        }
        let fields = fields(text)?;
        let [host, port] = fields[..] else {
            return Err(match fields.len() {
                1 => {
                    fields[0].parse::<Host>()?;
                    GrammarError::HostWithoutPort
                }
                _ => GrammarError::NotAHost(text.to_owned()),
            });
        };
        let host = host.parse()?;
        if port.is_empty() {
            return Err(GrammarError::HostWithoutPort);
        }
        Ok(Self {
            host,
            port: port_range::port(port, port)?,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits a text at its colons, leaving those inside brackets alone.
pub(crate) fn fields(text: &str) -> Result<Vec<&str>, GrammarError> {
    let mut fields = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' if inside || at != start => return Err(GrammarError::Brackets),
            b'[' => inside = true,
            b']' if !inside => return Err(GrammarError::Brackets),
            b']' => inside = false,
            b':' if !inside => {
                fields.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(GrammarError::Brackets);
    }
    fields.push(&text[start..]);
    Ok(fields)
}

/// Parses `[v6]`.
pub(crate) fn bracketed(text: &str) -> Result<IpAddr, GrammarError> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(GrammarError::Brackets)?;
    match inner.parse::<Ipv6Addr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(GrammarError::NotAnIpv6Address(inner.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_round_trip() {
        for text in [
            "stun.l.google.com:19302",
            "192.0.2.1:3478",
            "[2001:db8::1]:3478",
            "a_b-c:1",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("HOST.:1".parse::<HostPort>().unwrap().to_string(), "host:1");
        assert_eq!(
            "[::ffff:192.0.2.1]:1"
                .parse::<HostPort>()
                .unwrap()
                .to_string(),
            "192.0.2.1:1"
        );
    }

    #[test]
    fn a_malformed_host_and_port_says_what_is_wrong() {
        let error = |text: &str| text.parse::<HostPort>().unwrap_err();
        assert_eq!(error(""), GrammarError::HostWithoutPort);
        assert_eq!(error("example.org"), GrammarError::HostWithoutPort);
        assert_eq!(error("example.org:"), GrammarError::HostWithoutPort);
        assert_eq!(error("[::1]"), GrammarError::HostWithoutPort);
        assert_eq!(error("::1"), GrammarError::Brackets);
        assert_eq!(error("[::1:3478"), GrammarError::Brackets);
        assert_eq!(error("x[::1]:3478"), GrammarError::Brackets);
        assert_eq!(
            error("[zz]:3478"),
            GrammarError::NotAnIpv6Address("zz".into())
        );
        assert_eq!(error("[::1]x:3478"), GrammarError::Brackets);
        assert_eq!(
            error("host:70000"),
            GrammarError::PortTooLarge("70000".into())
        );
        assert_eq!(error("host:0"), GrammarError::PortZero);
        assert_eq!(error("host:x"), GrammarError::NotAPort("x".into()));
        assert_eq!(
            error("stun:host:3478"),
            GrammarError::SchemeNotWanted("stun:")
        );
        assert_eq!(
            error("http://host:1"),
            GrammarError::SchemeNotWanted("http://")
        );
        assert_eq!(error("1.2.3:80"), GrammarError::NotAHost("1.2.3".into()));
        assert_eq!(
            error("bad host:80"),
            GrammarError::NotAHost("bad host".into())
        );
        assert_eq!(error(":80"), GrammarError::NotAHost(String::new()));
    }
}
