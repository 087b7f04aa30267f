//! What clients may reach through this server.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use crate::{
    GrammarError, Host, HostName, PortRange, Protocol, WireMapping,
    grammar_error::shown,
    host::{bracketed, fields},
    port_mapping::{check_target, protocol},
};

/// Most entries of one list: each is looked at for every new connection.
pub const ALLOW_ENTRIES_MAX: usize = 1024;

/// What may be reached. Without a list of the user's: any port on the server's own loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Rules);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rules {
    AnyLoopbackPort,
    Entries(Vec<AllowEntry>),
}

/// One entry: `tcp:22`, `tcp:8000-8100`, `tcp:192.168.1.10:80`, `udp:nas.lan:53`, `tcp:[fd00::1]:80`,
/// `tcp:192.168.1.0/24:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    protocol: Protocol,
    scope: Scope,
    ports: PortRange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Loopback,
    Network(IpNet),
    Name(HostName),
}

/// Why a proposed mapping is refused; its text goes to the client's user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No entry covers it.
    #[error("the server does not allow {protocol}:{}{port}; its `allow` needs `{protocol}:{}{port}`",
        host_part(.host.as_deref()), host_part(.host.as_deref()))]
    NotAllowed {
        /// The transport.
        protocol: Protocol,
        /// The host; `None` is the server's loopback.
        host: Option<String>,
        /// The first port that no entry covers.
        port: u16,
    },
    /// The host is neither an address nor a name.
    #[error("host `{}`: {reason}", shown(.host))]
    BadHost {
        /// As proposed.
        host: String,
        /// What is wrong with it.
        reason: GrammarError,
    },
}

impl Default for AllowList {
    fn default() -> Self {
        Self(Rules::AnyLoopbackPort)
    }
}

impl AllowList {
    /// Makes a list of entries; an empty one permits nothing.
    #[must_use]
    pub const fn new(entries: Vec<AllowEntry>) -> Self {
        Self(Rules::Entries(entries))
    }

    /// Says whether a proposed mapping may be accepted, before any name is resolved.
    ///
    /// Each of its ports must be permitted. A host given by name must be `localhost` or stand in the list
    /// by that name: what it resolves to is judged later, by [`AllowList::permits`].
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub fn permits_mapping(&self, mapping: &WireMapping) -> Result<(), Refusal> {
        let bad = |text: &str, reason| Refusal::BadHost {
            host: text.to_owned(),
            reason,
        };
        let host = match &mapping.target_host {
            None => None,
            Some(text) => Some(text.parse::<Host>().map_err(|reason| bad(text, reason))?),
        };
        if let (Some(Host::Ip(address)), Some(text)) = (&host, &mapping.target_host) {
            check_target(*address).map_err(|reason| bad(text, reason))?;
        }
        let covered = |port: u16| {
            self.any(mapping.protocol, port, |scope| match &host {
                None => matches!(scope, Scope::Loopback),
                Some(Host::Ip(address)) => scope.covers_address(*address),
                Some(Host::Name(name)) if name.is_localhost() => {
                    matches!(scope, Scope::Loopback) || scope.names(name)
                }
                Some(Host::Name(name)) => scope.names(name),
            })
        };
        match mapping.target_ports.iter().find(|port| !covered(*port)) {
            None => Ok(()),
            Some(port) => Err(Refusal::NotAllowed {
                protocol: mapping.protocol,
                host: host.map(|host| host.to_string()),
                port,
            }),
        }
    }

    /// Says whether one connection may be made, after its name was resolved to `resolved`.
    ///
    /// `named_host` is the name that the mapping gave, if it gave one: an entry with that name covers
    /// whatever it resolves to, and no other entry trusts a name. IPv4-mapped addresses count as IPv4;
    /// unspecified, multicast and broadcast addresses are never permitted.
    #[must_use]
    pub fn permits(
        &self,
        protocol: Protocol,
        resolved: SocketAddr,
        named_host: Option<&str>,
    ) -> bool {
        let address = resolved.ip().to_canonical();
        if check_target(address).is_err() {
            return false;
        }
        let name = named_host.and_then(|text| text.parse::<HostName>().ok());
        self.any(protocol, resolved.port(), |scope| {
            scope.covers_address(address) || name.as_ref().is_some_and(|name| scope.names(name))
        })
    }

    fn any(&self, protocol: Protocol, port: u16, covers: impl Fn(&Scope) -> bool) -> bool {
        match &self.0 {
            Rules::AnyLoopbackPort => covers(&Scope::Loopback),
            Rules::Entries(entries) => entries.iter().any(|entry| {
                entry.protocol == protocol && entry.ports.contains(port) && covers(&entry.scope)
            }),
        }
    }
}

impl Scope {
    fn covers_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Loopback => address.is_loopback(),
            Self::Network(network) => network.contains(&address),
            Self::Name(_) => false,
        }
    }

    fn names(&self, name: &HostName) -> bool {
        matches!(self, Self::Name(own) if own == name)
    }
}

impl FromStr for AllowEntry {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let fields = fields(text.trim())?;
        let (protocol, rest) = protocol(&fields)?;
        match *rest {
            [ports] => Ok(Self {
                protocol,
                scope: Scope::Loopback,
                ports: ports.parse()?,
            }),
            [host, ports] => Ok(Self {
                protocol,
                scope: host.parse()?,
                ports: ports.parse()?,
            }),
            _ => Err(GrammarError::AllowFields(fields.len())),
        }
    }
}

impl FromStr for Scope {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        if let Some((address, length)) = text.split_once('/') {
            return network(address, length, text).map(Self::Network);
        }
        match text.parse()? {
            Host::Ip(address) => {
                check_target(address)?;
                Ok(Self::Network(IpNet::from(address)))
            }
            Host::Name(name) if name.is_localhost() => Ok(Self::Loopback),
            Host::Name(name) => Ok(Self::Name(name)),
        }
    }
}

/// Parses `192.168.1.0/24` and `[fd00::]/8`, the brackets already split from the length.
fn network(address: &str, length: &str, whole: &str) -> Result<IpNet, GrammarError> {
    let wrong = || GrammarError::NotANetwork(whole.to_owned());
    let address: IpAddr = if address.starts_with('[') {
        bracketed(address)?
    } else {
        address.parse().map_err(|_| wrong())?
    };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    IpNet::new(address, length)
        .map(|network| network.trunc())
        .map_err(|_| wrong())
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        match &self.scope {
            Scope::Loopback => {}
            Scope::Name(name) => write!(f, "{name}:")?,
            Scope::Network(network) => {
                write!(f, "{}", Host::Ip(network.addr()))?;
                if network.prefix_len() != network.max_prefix_len() {
                    write!(f, "/{}", network.prefix_len())?;
                }
                f.write_str(":")?;
            }
        }
        self.ports.fmt(f)
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rules::AnyLoopbackPort => f.write_str("any port on the server's own loopback"),
            Rules::Entries(entries) if entries.is_empty() => f.write_str("nothing"),
            Rules::Entries(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    write!(f, "{}{entry}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

fn host_part(host: Option<&str>) -> String {
    host.map(|host| format!("{}:", shown(host)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MappingId, PortMapping};

    fn list(entries: &[&str]) -> AllowList {
        AllowList::new(entries.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn proposed(text: &str) -> WireMapping {
        WireMapping::new(MappingId::new(0), &text.parse::<PortMapping>().unwrap())
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn by_default_every_loopback_port_and_nothing_else_is_permitted() {
        let default = AllowList::default();
        for text in [
            "tcp:1:22",
            "udp:1:53",
            "tcp:1:127.0.0.1:80",
            "tcp:1:localhost:80",
            "tcp:1:[::1]:80",
        ] {
            assert_eq!(default.permits_mapping(&proposed(text)), Ok(()), "{text}");
        }
        for text in [
            "tcp:1:192.168.1.10:80",
            "tcp:1:nas:80",
            "tcp:1:[fd00::1]:80",
        ] {
            assert!(default.permits_mapping(&proposed(text)).is_err(), "{text}");
        }
        assert!(default.permits(Protocol::Tcp, address("127.0.0.2:22"), None));
        assert!(default.permits(Protocol::Udp, address("[::1]:53"), Some("localhost")));
        assert!(default.permits(Protocol::Tcp, address("[::ffff:127.0.0.1]:22"), None));
        assert!(!default.permits(Protocol::Tcp, address("10.0.0.1:22"), Some("localhost")));
        assert!(!default.permits(Protocol::Tcp, address("[::ffff:10.0.0.1]:22"), None));
        assert!(!default.permits(Protocol::Tcp, address("0.0.0.0:22"), None));
        assert!(!default.permits(Protocol::Tcp, address("[::]:22"), None));
    }

    #[test]
    fn entries_cover_protocol_host_and_every_port_of_a_range() {
        let allow = list(&[
            "tcp:22",
            "tcp:8000-8050",
            "tcp:8051-8100",
            "tcp:192.168.1.10:80",
        ]);
        assert_eq!(allow.permits_mapping(&proposed("tcp:1:22")), Ok(()));
        assert_eq!(
            allow.permits_mapping(&proposed("tcp:1-101:8000-8100")),
            Ok(())
        );
        assert_eq!(
            allow.permits_mapping(&proposed("tcp:1:192.168.1.10:80")),
            Ok(())
        );
        let refusal = |text: &str| {
            allow
                .permits_mapping(&proposed(text))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal("udp:1:22"),
            "the server does not allow udp:22; its `allow` needs `udp:22`"
        );
        assert_eq!(
            refusal("tcp:1-102:8000-8101"),
            "the server does not allow tcp:8101; its `allow` needs `tcp:8101`"
        );
        assert_eq!(
            refusal("tcp:1:192.168.1.10:81"),
            "the server does not allow tcp:192.168.1.10:81; its `allow` needs `tcp:192.168.1.10:81`"
        );
        assert!(!allow.permits(Protocol::Tcp, address("192.168.1.11:80"), None));
        assert!(!allow.permits(Protocol::Tcp, address("192.168.1.10:22"), None));
    }

    #[test]
    fn a_name_is_permitted_by_name_and_an_address_by_address() {
        let allow = list(&["tcp:nas.lan:80", "tcp:10.0.0.5:80", "udp:[fd00::]/8:53"]);
        assert_eq!(allow.permits_mapping(&proposed("tcp:1:NAS.lan:80")), Ok(()));
        assert!(allow.permits_mapping(&proposed("tcp:1:other:80")).is_err());
        assert!(allow.permits(Protocol::Tcp, address("172.16.0.9:80"), Some("Nas.Lan")));
        assert!(!allow.permits(Protocol::Tcp, address("172.16.0.9:80"), Some("other")));
        assert!(!allow.permits(Protocol::Tcp, address("172.16.0.9:80"), None));
        assert!(allow.permits(Protocol::Tcp, address("10.0.0.5:80"), Some("other")));
        assert!(allow.permits(Protocol::Udp, address("[fd12::1]:53"), None));
        assert!(!allow.permits(Protocol::Tcp, address("127.0.0.1:80"), None));
    }

    #[test]
    fn an_empty_list_permits_nothing() {
        assert!(list(&[]).permits_mapping(&proposed("tcp:1:22")).is_err());
        assert!(!list(&[]).permits(Protocol::Tcp, address("127.0.0.1:22"), None));
    }

    #[test]
    fn what_a_peer_invents_as_a_host_is_refused() {
        for host in [
            "",
            "a b",
            "0.0.0.0",
            "[::]",
            "224.0.0.1",
            "1.2.3",
            "[",
            "::ffff:0.0.0.0",
            "x\n",
        ] {
            let wire = WireMapping {
                target_host: Some(host.into()),
                ..proposed("tcp:1:22")
            };
            let everything = list(&["tcp:0.0.0.0/0:1-65535", "tcp:[::]/0:1-65535"]);
            let refused = everything.permits_mapping(&wire);
            assert!(
                matches!(refused, Err(Refusal::BadHost { .. })),
                "{host:?} {refused:?}"
            );
        }
    }

    #[test]
    fn entries_round_trip_and_say_what_is_wrong() {
        for text in [
            "tcp:22",
            "udp:1-2",
            "tcp:10.0.0.1:80",
            "tcp:10.0.0.0/8:80",
            "tcp:nas:1",
            "tcp:[fd00::]/8:1",
            "udp:[::1]:1",
        ] {
            assert_eq!(text.parse::<AllowEntry>().unwrap().to_string(), text);
        }
        let error = |text: &str| text.parse::<AllowEntry>().unwrap_err();
        assert_eq!(error("22"), GrammarError::MissingProtocol);
        assert_eq!(error(""), GrammarError::Empty);
        assert_eq!(error("tcp"), GrammarError::AllowFields(1));
        assert_eq!(error("tcp:1:2:3"), GrammarError::AllowFields(4));
        assert_eq!(
            error("tcp:99999"),
            GrammarError::PortTooLarge("99999".into())
        );
        assert_eq!(
            error("tcp:10.0.0.0/33:80"),
            GrammarError::NotANetwork("10.0.0.0/33".into())
        );
        assert_eq!(
            error("tcp:nas/8:80"),
            GrammarError::NotANetwork("nas/8".into())
        );
        assert_eq!(error("tcp:80:80"), GrammarError::NotAHost("80".into()));
    }
}
