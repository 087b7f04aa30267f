//! From names to addresses: STUN servers and TURN URLs.

use std::net::SocketAddr;
use std::time::Duration;

use mapping_core::config::FALLBACK_STUN_SERVER;
use relay::Credential;
use session::RelayServer;
use signal_client::{Info, TurnServer};
use tokio::time::timeout;
use tracing::{debug, warn};

/// RFC 8489, section 8 and RFC 8656, section 3: the default port of STUN and TURN.
const STUN_PORT: u16 = 3478;
/// A resolver that takes longer is treated as one that fails; the next round asks again.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers to gather with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) stun: Vec<SocketAddr>,
    pub(crate) relays: Vec<RelayServer>,
}

/// Resolves what the configuration names, else what signaling offers.
pub(crate) async fn servers(configured_stun: &[String], info: &Info) -> Servers {
    let mut stun_names: Vec<String> = configured_stun.to_vec();
    if stun_names.is_empty() {
        stun_names.clone_from(&info.stun);
    }
    if stun_names.is_empty() {
        stun_names.push(FALLBACK_STUN_SERVER.to_owned());
    }
    let mut stun = Vec::new();
    for name in stun_names {
        stun.extend(addresses(&name).await);
    }
    let mut relays: Vec<RelayServer> = Vec::new();
    for server in &info.turn {
        add_relay(&mut relays, server).await;
    }
    Servers { stun, relays }
}

/// One relay may be offered under two URLs, one per transport: they become one entry.
async fn add_relay(relays: &mut Vec<RelayServer>, server: &TurnServer) {
    let Some(url) = TurnUrl::parse(&server.url) else {
        warn!(url = %server.url, "signaling offers a relay in a form that this version does not know");
        return;
    };
    let Some(address) = addresses(&url.host_port).await.into_iter().next() else {
        return;
    };
    let position = relays.iter().position(|relay| {
        let host = address.ip();
        relay.username == server.username
            && [relay.udp, relay.tcp]
                .into_iter()
                .flatten()
                .all(|known| known.ip() == host)
    });
    let index = position.unwrap_or_else(|| {
        relays.push(RelayServer {
            udp: None,
            tcp: None,
            username: server.username.clone(),
            credential: Credential::new(server.credential.clone()),
        });
        relays.len() - 1
    });
    let slot = if url.tcp {
        &mut relays[index].tcp
    } else {
        &mut relays[index].udp
    };
    slot.get_or_insert(address);
}

/// `turn:host[:port][?transport=udp|tcp]` (RFC 7065).
#[derive(Debug, PartialEq, Eq)]
struct TurnUrl {
    host_port: String,
    tcp: bool,
}

impl TurnUrl {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("turn:")?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let tcp = match query {
            "" | "transport=udp" => false,
            "transport=tcp" => true,
            _ => return None,
        };
        Some(Self {
            host_port: authority.to_owned(),
            tcp,
        })
    }
}

/// Resolves `host:port`, `host`, `1.2.3.4:5` or `[v6]:port`; nothing when the name does not resolve now.
async fn addresses(host_port: &str) -> Vec<SocketAddr> {
    let has_port = host_port.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let with_port = if has_port {
        host_port.to_owned()
    } else {
        format!("{host_port}:{STUN_PORT}")
    };
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(with_port)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            debug!(host_port, %error, "name does not resolve");
            Vec::new()
        }
        Err(_) => {
            debug!(host_port, "name resolution timed out");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_urls_name_host_port_and_transport() {
        let url = TurnUrl::parse("turn:198.51.100.1:3478?transport=tcp").unwrap();
        assert_eq!(
            url,
            TurnUrl {
                host_port: "198.51.100.1:3478".to_owned(),
                tcp: true
            }
        );
        assert!(!TurnUrl::parse("turn:relay.example").unwrap().tcp);
        assert_eq!(TurnUrl::parse("turns:relay.example:443"), None);
        assert_eq!(TurnUrl::parse("turn:relay.example?transport=sctp"), None);
    }

    #[tokio::test]
    async fn both_transports_of_one_relay_become_one_entry() {
        let offer = |transport: &str| TurnServer {
            url: format!("turn:127.0.0.1:3478?transport={transport}"),
            username: "1:a".to_owned(),
            credential: "secret".to_owned(),
            expires_at_unix: 1,
        };
        let info = Info {
            version: String::new(),
            stun: vec!["127.0.0.1".to_owned(), "[::1]:9".to_owned()],
            turn: vec![offer("udp"), offer("tcp")],
        };
        let servers = servers(&[], &info).await;
        assert_eq!(servers.relays.len(), 1);
        assert!(servers.relays[0].udp.is_some() && servers.relays[0].tcp.is_some());
        let expected: Vec<SocketAddr> = vec![
            "127.0.0.1:3478".parse().unwrap(),
            "[::1]:9".parse().unwrap(),
        ];
        assert_eq!(servers.stun, expected);
    }
}
