//! The user's rule: what is listened on here and what is reached there.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use crate::{
    GrammarError, Host, PortRange, Protocol,
    host::{bracketed, fields},
    port_range::looks_like_ports,
};

/// Where a mapping listens unless it says otherwise: reachable by this machine alone.
pub const DEFAULT_BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `proto:[bind:]localPort:[host:]serverPort`, with ranges of equal length for the ports.
///
/// Parsing and `Display` round-trip; `Display` leaves out the default bind address, writes the protocol
/// and names in lower case and puts IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    protocol: Protocol,
    bind: IpAddr,
    local: PortRange,
    host: Option<Host>,
    target: PortRange,
}

impl PortMapping {
    /// Makes a mapping; `bind` is [`DEFAULT_BIND`] when absent.
    ///
    /// # Errors
    /// [`GrammarError::RangeLengths`] when the ranges differ in length, [`GrammarError::NotATarget`]
    /// when nothing can be reached at `host`.
    pub fn new(
        protocol: Protocol,
        bind: Option<IpAddr>,
        local: PortRange,
        host: Option<Host>,
        target: PortRange,
    ) -> Result<Self, GrammarError> {
        if local.len() != target.len() {
            return Err(GrammarError::RangeLengths { local, target });
        }
        if let Some(Host::Ip(address)) = &host {
            check_target(*address)?;
        }
        let bind = bind.unwrap_or(DEFAULT_BIND).to_canonical();
        Ok(Self {
            protocol,
            bind,
            local,
            host,
            target,
        })
    }

    /// Returns the transport.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the address listened on.
    #[must_use]
    pub const fn bind(&self) -> IpAddr {
        self.bind
    }

    /// Returns the ports listened on.
    #[must_use]
    pub const fn local_ports(&self) -> PortRange {
        self.local
    }

    /// Returns the host reached from the server; `None` is the server's own loopback, 127.0.0.1 and then
    /// ::1.
    #[must_use]
    pub const fn target_host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Returns the ports of the service, as many as [`PortMapping::local_ports`].
    #[must_use]
    pub const fn target_ports(&self) -> PortRange {
        self.target
    }

    /// Returns the sockets to listen on, the port with offset 0 first.
    pub fn local_sockets(&self) -> impl ExactSizeIterator<Item = SocketAddr> {
        let bind = self.bind;
        self.local
            .iter()
            .map(move |port| SocketAddr::new(bind, port))
    }

    /// Returns what is listened on, for people: `127.0.0.1:8080`, `[::1]:8000-8010`.
    #[must_use]
    pub fn listen_text(&self) -> String {
        format!("{}:{}", Host::Ip(self.bind), self.local)
    }

    /// Says whether both want a same local socket. The wildcard address of a family takes all of them.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let same_address = self.bind == other.bind
            || (self.bind.is_ipv4() == other.bind.is_ipv4()
                && (self.bind.is_unspecified() || other.bind.is_unspecified()));
        self.protocol == other.protocol && same_address && self.local.overlaps(other.local)
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        if self.bind != DEFAULT_BIND {
            write!(f, "{}:", Host::Ip(self.bind))?;
        }
        write!(f, "{}:", self.local)?;
        if let Some(host) = &self.host {
            write!(f, "{host}:")?;
        }
        self.target.fmt(f)
    }
}

impl FromStr for PortMapping {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let fields = fields(text.trim())?;
        let (protocol, rest) = protocol(&fields)?;
        match *rest {
            [local, target] => Self::new(protocol, None, local.parse()?, None, target.parse()?),
            // The first of three is the bind address or the local port; no address looks like a port.
            [local, host, target] if looks_like_ports(local) => Self::new(
                protocol,
                None,
                local.parse()?,
                Some(host.parse()?),
                target.parse()?,
            ),
            [address, local, target] => Self::new(
                protocol,
                Some(bind(address)?),
                local.parse()?,
                None,
                target.parse()?,
            ),
            [address, local, host, target] => Self::new(
                protocol,
                Some(bind(address)?),
                local.parse()?,
                Some(host.parse()?),
                target.parse()?,
            ),
            _ => Err(GrammarError::MappingFields(fields.len())),
        }
    }
}

/// Takes the protocol off the front of the fields.
pub(crate) fn protocol<'f, 'a>(
    fields: &'f [&'a str],
) -> Result<(Protocol, &'f [&'a str]), GrammarError> {
    let Some((first, rest)) = fields.split_first().filter(|(first, rest)| {
        // `split` of nothing is one empty field.
        !(first.is_empty() && rest.is_empty())
    }) else {
        return Err(GrammarError::Empty);
    };
    match first.parse() {
        Ok(protocol) => Ok((protocol, rest)),
        Err(_) if first.is_empty() || looks_like_ports(first) || is_address(first) => {
            Err(GrammarError::MissingProtocol)
        }
        Err(unknown) => Err(unknown),
    }
}

/// Refuses addresses that lead nowhere. The unspecified one leads to the machine's own loopback on some
/// systems, which would be a way around the allow-list.
pub(crate) fn check_target(address: IpAddr) -> Result<(), GrammarError> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(GrammarError::NotATarget(address));
    }
    Ok(())
}

fn is_address(field: &str) -> bool {
    field.starts_with('[') || field.parse::<IpAddr>().is_ok()
}

/// Parses the address to listen on. A name is not resolved, since it may change; `localhost` cannot.
fn bind(field: &str) -> Result<IpAddr, GrammarError> {
    if field.starts_with('[') {
        return bracketed(field);
    }
    if field.eq_ignore_ascii_case("localhost") {
        return Ok(DEFAULT_BIND);
    }
    field
        .parse()
        .map_err(|_| GrammarError::NotABindAddress(field.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_grammar_is_read_and_printed() {
        for (text, printed) in [
            ("tcp:8080:22", "tcp:8080:22"),
            ("UDP:6000:80", "udp:6000:80"),
            (" tcp:8080:22 ", "tcp:8080:22"),
            ("tcp:0.0.0.0:8080:22", "tcp:0.0.0.0:8080:22"),
            ("tcp:127.0.0.1:8080:22", "tcp:8080:22"),
            ("tcp:localhost:8080:22", "tcp:8080:22"),
            ("tcp:[::1]:8080:22", "tcp:[::1]:8080:22"),
            ("tcp:8080:nas.lan:22", "tcp:8080:nas.lan:22"),
            ("tcp:8080:NAS:22", "tcp:8080:nas:22"),
            ("tcp:8080:192.168.1.10:80", "tcp:8080:192.168.1.10:80"),
            ("tcp:8080:[fd00::1]:80", "tcp:8080:[fd00::1]:80"),
            (
                "udp:[::]:53:[2001:db8::1]:53",
                "udp:[::]:53:[2001:db8::1]:53",
            ),
            ("tcp:8000-8010:9000-9010", "tcp:8000-8010:9000-9010"),
            ("tcp:8000-8000:80", "tcp:8000:80"),
            (
                "tcp:10.0.0.1:8000-8010:nas:9000-9010",
                "tcp:10.0.0.1:8000-8010:nas:9000-9010",
            ),
        ] {
            let mapping: PortMapping = text.parse().unwrap();
            assert_eq!(mapping.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<PortMapping>().unwrap(), mapping, "{text}");
        }
    }

    #[test]
    fn the_fields_land_where_they_belong() {
        let mapping: PortMapping = "tcp:[::1]:8000-8001:nas:9000-9001".parse().unwrap();
        assert_eq!(mapping.protocol(), Protocol::Tcp);
        assert_eq!(mapping.listen_text(), "[::1]:8000-8001");
        assert_eq!(mapping.target_host().unwrap().to_string(), "nas");
        assert_eq!(mapping.target_ports(), PortRange::new(9000, 9001).unwrap());
        let sockets: Vec<_> = mapping
            .local_sockets()
            .map(|socket| socket.to_string())
            .collect();
        assert_eq!(sockets, ["[::1]:8000", "[::1]:8001"]);
    }

    #[test]
    fn a_malformed_mapping_names_the_part_at_fault() {
        let error = |text: &str| text.parse::<PortMapping>().unwrap_err();
        assert_eq!(error(""), GrammarError::Empty);
        assert_eq!(error("   "), GrammarError::Empty);
        assert_eq!(error("8080:80"), GrammarError::MissingProtocol);
        assert_eq!(error(":8080:80"), GrammarError::MissingProtocol);
        assert_eq!(error("127.0.0.1:8080:80"), GrammarError::MissingProtocol);
        assert_eq!(
            error("sctp:8080:80"),
            GrammarError::UnknownProtocol("sctp".into())
        );
        assert_eq!(error("tcp"), GrammarError::MappingFields(1));
        assert_eq!(error("tcp:8080"), GrammarError::MappingFields(2));
        assert_eq!(error("tcp:1:2:3:4:5"), GrammarError::MappingFields(6));
        assert_eq!(error("tcp:::1:8080:80"), GrammarError::MappingFields(6));
        assert_eq!(
            error("udp:70000:80"),
            GrammarError::PortTooLarge("70000".into())
        );
        assert_eq!(
            error("udp:80:99999999999999"),
            GrammarError::PortTooLarge("99999999999999".into())
        );
        assert_eq!(error("udp:0:80"), GrammarError::PortZero);
        assert_eq!(error("udp::80"), GrammarError::MissingPort);
        assert_eq!(error("udp:80:"), GrammarError::MissingPort);
        assert_eq!(error("udp:http:80"), GrammarError::NotAPort("http".into()));
        assert_eq!(error("udp:-5:80"), GrammarError::NotAPort("-5".into()));
        assert_eq!(error("udp:+5:80"), GrammarError::NotAPort("+5".into()));
        assert_eq!(
            error("tcp:10-5:80-85"),
            GrammarError::RangeReversed { first: 10, last: 5 }
        );
        assert_eq!(
            error("tcp:eth0:8080:80"),
            GrammarError::NotABindAddress("eth0".into())
        );
        assert_eq!(error("tcp:8080:81:80"), GrammarError::NotAHost("81".into()));
        assert_eq!(
            error("tcp:8080:1-2:80"),
            GrammarError::NotAHost("1-2".into())
        );
        assert_eq!(
            error("tcp:8080:0.0.0.0:80"),
            GrammarError::NotATarget([0, 0, 0, 0].into())
        );
        assert_eq!(error("tcp:[::1:8080:80"), GrammarError::Brackets);
        assert_eq!(
            error("tcp:[1.2.3.4]:8080:80"),
            GrammarError::NotAnIpv6Address("1.2.3.4".into())
        );
        assert_eq!(
            error("tcp:8000-8010:9000").to_string(),
            "8000-8010 is 11 port(s) but 9000 is 1: both need the same number"
        );
        assert_eq!(
            error("udp:70000:80").to_string(),
            "port 70000 is above 65535"
        );
    }

    #[test]
    fn conflicts_follow_the_local_sockets() {
        let conflict = |a: &str, b: &str| {
            let (a, b): (PortMapping, PortMapping) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.conflicts_with(&b), b.conflicts_with(&a));
            a.conflicts_with(&b)
        };
        assert!(conflict("tcp:80:1", "tcp:80:2"));
        assert!(conflict("tcp:80-90:1-11", "tcp:90:2"));
        assert!(conflict("tcp:0.0.0.0:80:1", "tcp:80:1"));
        assert!(!conflict("tcp:80:1", "udp:80:1"));
        assert!(!conflict("tcp:80:1", "tcp:[::1]:80:1"));
        assert!(!conflict("tcp:127.0.0.2:80:1", "tcp:80:1"));
    }
}
