//! Why a text is not a port mapping, an allow entry, a host or a port.

use std::net::IpAddr;

use crate::PortRange;

/// The exact reason; its text names the part at fault and, where there is one, what would be right.
///
/// It never repeats the whole text: whoever reports it puts that in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The text has no content.
    #[error("is empty: write for example `tcp:8080:80`")]
    Empty,
    /// The text begins with a port or an address.
    #[error("the protocol is missing: write `tcp:` or `udp:` in front")]
    MissingProtocol,
    /// The first field is neither `tcp` nor `udp`.
    #[error("protocol `{}` is neither tcp nor udp", shown(.0))]
    UnknownProtocol(String),
    /// A mapping has two to four fields after its protocol.
    #[error(
        "has {0} fields, a mapping is `proto:[bind:]localPort:[host:]serverPort` (IPv6 addresses in brackets)"
    )]
    MappingFields(usize),
    /// An allow entry has one or two fields after its protocol.
    #[error("has {0} fields, an entry is `proto:[host:]port` (IPv6 addresses in brackets)")]
    AllowFields(usize),
    /// A port field has no content.
    #[error("a port is missing (1 to 65535)")]
    MissingPort,
    /// A port field holds something else.
    #[error("`{}` is not a port (1 to 65535) nor a range such as 8000-8010", shown(.0))]
    NotAPort(String),
    /// Port 0 cannot be connected to.
    #[error("port 0 cannot be used (1 to 65535)")]
    PortZero,
    /// A number above 65535, as written.
    #[error("port {} is above 65535", shown(.0))]
    PortTooLarge(String),
    /// The first port of a range is above its last.
    #[error("range {first}-{last} is reversed: write {last}-{first}")]
    RangeReversed {
        /// As written.
        first: u16,
        /// As written.
        last: u16,
    },
    /// Both ends of a mapping need the same number of ports.
    #[error(
        "{local} is {} port(s) but {target} is {}: both need the same number",
        .local.len(), .target.len()
    )]
    RangeLengths {
        /// The ports listened on.
        local: PortRange,
        /// The ports of the service.
        target: PortRange,
    },
    /// A bracket without its partner, or text beside a bracketed address.
    #[error("brackets must enclose one IPv6 address, as in `[::1]`")]
    Brackets,
    /// What is in the brackets is no IPv6 address.
    #[error("`{}` is not an IPv6 address", shown(.0))]
    NotAnIpv6Address(String),
    /// The address to listen on is not an IP address.
    #[error("`{}` is not an address to listen on: write an IP address such as 127.0.0.1 or 0.0.0.0", shown(.0))]
    NotABindAddress(String),
    /// A host is neither an IP address nor a name.
    #[error("`{}` is neither an IP address nor a host name", shown(.0))]
    NotAHost(String),
    /// An address that nothing can be reached at.
    #[error("{0} is not an address that can be connected to: write that of one machine")]
    NotATarget(IpAddr),
    /// A prefix such as `10.0.0.0/33`.
    #[error("`{}` is not a network: write for example 192.168.1.0/24", shown(.0))]
    NotANetwork(String),
    /// `host:port` without its port.
    #[error("the port is missing: write `host:port`")]
    HostWithoutPort,
    /// A URL or `stun:` where only `host:port` belongs.
    #[error("write only `host:port`, without `{0}`")]
    SchemeNotWanted(&'static str),
}

/// How much of a stranger's text a message repeats: enough to recognise it, short enough for one line.
const SHOWN_CHARS_MAX: usize = 80;

/// Returns a text fit for one line of a message: control characters escaped, the end cut off.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_text_is_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"ä".repeat(100)).chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
