//! Which STUN servers and relays there are, from names to addresses.
//!
//! Names are looked up all at once and again while they do not resolve; what is known is handed on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping_core::config::{ADDRESSES_MAX as SERVERS_MAX, FALLBACK_STUN_SERVER, RelayConfig};
use mapping_core::{Host, HostPort, RelayTransport, RelayUrl};
use relay::Credential;
use session::{RelayServer, TlsAddress};
use signal_client::Info;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::clock::{self, until};
use crate::rendezvous::RoomEvent;

/// RFC 8489, section 8: the default port of STUN.
const STUN_PORT: u16 = 3478;
/// A resolver that takes longer is treated as one that fails.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that come together become one list: every new one makes the NAT be examined anew.
const SETTLE: Duration = Duration::from_millis(20);
/// A name that does not resolve is asked for again after this, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest pause: what a person waits for who has just repaired the resolver.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Addresses of one name that are used: a pool of servers may have dozens.
const ADDRESSES_MAX: usize = 4;

/// The servers to gather with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// One address of every server first, then the further ones.
    pub(crate) stun: Vec<SocketAddr>,
    /// In the order in which they are to be tried.
    pub(crate) relays: Vec<RelayServer>,
}

/// What the configuration names, and signaling offers where it names nothing.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) stun: Vec<HostPort>,
    pub(crate) relays: Vec<RelayConfig>,
}

impl Directory {
    /// Tells which servers there are whenever that has changed, for ever.
    pub(crate) async fn run(
        self,
        mut offers_rx: watch::Receiver<Vec<Option<Info>>>,
        events_tx: mpsc::Sender<RoomEvent>,
    ) {
        let mut names = Names::default();
        let mut told = Servers::default();
        let mut wanted = self.wanted(&offers_rx.borrow_and_update(), clock::unix_millis() / 1000);
        names.look_up(wanted.hosts());
        let mut settled_at = Some(Instant::now() + SETTLE);
        loop {
            tokio::select! {
                changed = offers_rx.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    wanted = self.wanted(&offers_rx.borrow_and_update(), clock::unix_millis() / 1000);
                    names.look_up(wanted.hosts());
                    settled_at = Some(Instant::now() + SETTLE);
                }
                () = names.resolved() => settled_at = Some(Instant::now() + SETTLE),
                () = until(settled_at.map(Instant::into_std)) => {
                    settled_at = None;
                    let servers = wanted.servers(&names);
                    if servers != told {
                        told = servers.clone();
                        if events_tx.send(RoomEvent::Servers(servers)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Of what one signaling server offers no more is read than a configuration may name: each name is looked up.
    fn wanted(&self, offers: &[Option<Info>], now_unix: u64) -> Wanted {
        let mut stun = self.stun.clone();
        let mut relays: Vec<Relay> = Vec::new();
        let offers = || offers.iter().flatten();
        if stun.is_empty() {
            stun.extend(
                offers()
                    .flat_map(|info| info.stun.iter().take(SERVERS_MAX))
                    .filter_map(|text| host_port(text)),
            );
        }
        if stun.is_empty() && offers().next().is_some() {
            stun.extend(host_port(FALLBACK_STUN_SERVER));
        }
        let mut seen = BTreeSet::new();
        stun.retain(|server| seen.insert(server.clone()));
        for relay in &self.relays {
            let credentials = Credentials {
                username: &relay.username,
                password: relay.credential.expose(),
                expires_at_unix: u64::MAX,
            };
            add_relay(&mut relays, &relay.url, credentials, now_unix);
        }
        if self.relays.is_empty() {
            for server in offers().flat_map(|info| info.turn.iter().take(SERVERS_MAX)) {
                let credentials = Credentials {
                    username: &server.username,
                    password: &server.credential,
                    expires_at_unix: server.expires_at_unix,
                };
                match server.url.parse() {
                    Ok(url) => add_relay(&mut relays, &url, credentials, now_unix),
                    Err(error) => {
                        warn!(%error, "signaling offers a relay that this version does not understand");
                    }
                }
            }
        }
        Wanted { stun, relays }
    }
}

/// Takes a URL in. One relay may be named by several, one per transport: they become one. Two operators may
/// offer the same relay: the credentials of the first are used until they have ended, since a later one could
/// spoil the relay with some that merely claim to live longer.
fn add_relay(relays: &mut Vec<Relay>, url: &RelayUrl, credentials: Credentials<'_>, now_unix: u64) {
    let Credentials {
        username,
        password,
        expires_at_unix,
    } = credentials;
    let credential = Credential::new(password.to_owned());
    let transport = url.transport();
    let is_known =
        |relay: &&mut Relay| relay.host == url.host && relay.port(transport) == Some(url.port);
    if let Some(known) = relays.iter_mut().find(is_known) {
        if known.expires_at_unix <= now_unix && known.expires_at_unix < expires_at_unix {
            known.username = username.to_owned();
            known.credential = credential;
            known.expires_at_unix = expires_at_unix;
        }
        return;
    }
    let position = relays.iter().position(|relay| {
        relay.host == url.host
            && relay.username == username
            && relay.credential == credential
            && relay.port(transport).is_none()
    });
    let index = position.unwrap_or_else(|| {
        relays.push(Relay {
            host: url.host.clone(),
            udp: None,
            tcp: None,
            tls: None,
            username: username.to_owned(),
            credential,
            expires_at_unix,
        });
        relays.len() - 1
    });
    let relay = &mut relays[index];
    let port = match transport {
        RelayTransport::Udp => &mut relay.udp,
        RelayTransport::Tcp => &mut relay.tcp,
        RelayTransport::Tls => &mut relay.tls,
    };
    *port = Some(url.port);
}

/// What lets us in at a relay.
struct Credentials<'a> {
    username: &'a str,
    password: &'a str,
    expires_at_unix: u64,
}

/// A relay by name, with its port for each transport.
#[derive(Debug)]
struct Relay {
    host: Host,
    udp: Option<u16>,
    tcp: Option<u16>,
    tls: Option<u16>,
    username: String,
    credential: Credential,
    /// `u64::MAX` when they do not end.
    expires_at_unix: u64,
}

impl Relay {
    const fn port(&self, transport: RelayTransport) -> Option<u16> {
        match transport {
            RelayTransport::Udp => self.udp,
            RelayTransport::Tcp => self.tcp,
            RelayTransport::Tls => self.tls,
        }
    }

    fn at(&self, ip: IpAddr) -> RelayServer {
        let address = |port: u16| SocketAddr::new(ip, port);
        let name = match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.to_string(),
        };
        RelayServer {
            udp: self.udp.map(address),
            tcp: self.tcp.map(address),
            tls: self.tls.map(|port| TlsAddress {
                address: address(port),
                name,
            }),
            username: self.username.clone(),
            credential: self.credential.clone(),
        }
    }
}

/// The servers by name.
#[derive(Debug)]
struct Wanted {
    stun: Vec<HostPort>,
    relays: Vec<Relay>,
}

impl Wanted {
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        let stun = self.stun.iter().map(|server| &server.host);
        stun.chain(self.relays.iter().map(|relay| &relay.host))
    }

    fn servers(&self, names: &Names) -> Servers {
        let stun = self.stun.iter().map(|server| {
            let addresses = names.addresses(&server.host).into_iter();
            addresses
                .map(|ip| SocketAddr::new(ip, server.port))
                .collect()
        });
        let relays = self.relays.iter().map(|relay| {
            let addresses = names.addresses(&relay.host).into_iter();
            addresses.map(|ip| relay.at(ip)).collect()
        });
        // Only one family leaves through a socket, and each socket's servers should be different ones.
        let (v4, v6): (Vec<_>, Vec<_>) = stun
            .map(|addresses: Vec<SocketAddr>| {
                addresses
                    .into_iter()
                    .partition::<Vec<_>, _>(SocketAddr::is_ipv4)
            })
            .unzip();
        let mut stun = in_turn(v4);
        stun.extend(in_turn(v6));
        Servers {
            stun,
            relays: in_turn(relays.collect()),
        }
    }
}

/// The first of every list, then the second of every list…, each once.
pub(crate) fn in_turn<T: PartialEq>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut result = Vec::new();
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    loop {
        let before = lists.len();
        lists.retain_mut(|list| {
            let next = list.next();
            let goes_on = next.is_some();
            result.extend(next.filter(|item| !result.contains(item)));
            goes_on
        });
        if before == 0 {
            return result;
        }
    }
}

/// `host:port`, or a host with the default port.
pub(crate) fn host_port(text: &str) -> Option<HostPort> {
    let port = STUN_PORT;
    let parsed = text
        .parse()
        .or_else(|_| text.parse().map(|host| HostPort { host, port }));
    parsed
        .inspect_err(|error| warn!(%error, "a STUN server is not used"))
        .ok()
}

/// What is known of names.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, Vec<IpAddr>>,
    under_way: BTreeSet<String>,
    /// When to ask again for those that failed, and the pause that led there.
    failed: BTreeMap<String, (Instant, Duration)>,
    lookups: JoinSet<(String, Result<Vec<IpAddr>, String>)>,
}

impl Names {
    /// Asks for all of them, also for those that are known: addresses change.
    fn look_up<'a>(&mut self, hosts: impl Iterator<Item = &'a Host>) {
        let mut wanted = BTreeSet::new();
        for host in hosts {
            if let Host::Name(name) = host {
                wanted.insert(name.to_string());
            }
        }
        self.failed.retain(|name, _| wanted.contains(name));
        self.known.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.ask(name);
        }
    }

    fn ask(&mut self, name: String) {
        if !self.under_way.insert(name.clone()) {
            return;
        }
        self.lookups.spawn(async move {
            let asked = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.clone(), 0))).await;
            let result = match asked {
                Ok(Ok(addresses)) => Ok(addresses.map(|it| it.ip().to_canonical()).collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the resolver does not answer".to_owned()),
            };
            (name, result)
        });
    }

    /// Returns the addresses of a host, as far as they are known, those of different families in turn.
    fn addresses(&self, host: &Host) -> Vec<IpAddr> {
        match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => {
                let known = self.known.get(name.as_str()).cloned().unwrap_or_default();
                let first_is_v4 = known.first().is_some_and(IpAddr::is_ipv4);
                let (first, second) = known
                    .into_iter()
                    .partition(|ip| ip.is_ipv4() == first_is_v4);
                let mut addresses = in_turn(vec![first, second]);
                addresses.truncate(ADDRESSES_MAX);
                addresses
            }
        }
    }

    /// Returns when something has become known. May be dropped and called again.
    async fn resolved(&mut self) {
        loop {
            let retry_at = self.failed.values().map(|(at, _)| *at).min();
            tokio::select! {
                Some(Ok((name, result))) = self.lookups.join_next(), if !self.lookups.is_empty() => {
                    if self.note(name, result) {
                        return;
                    }
                }
                () = until(retry_at.map(Instant::into_std)) => self.ask_again(Instant::now()),
            }
        }
    }

    fn ask_again(&mut self, now: Instant) {
        let due = self.failed.iter_mut().filter(|(_, (at, _))| *at <= now);
        let mut names = Vec::new();
        for (name, (at, pause)) in due {
            // Moved on by the answer; this is for the time until then.
            *at = now + RESOLVE_TIMEOUT + *pause;
            names.push(name.clone());
        }
        for name in names {
            self.ask(name);
        }
    }

    /// Takes an answer; returns whether it says something new.
    fn note(&mut self, name: String, result: Result<Vec<IpAddr>, String>) -> bool {
        self.under_way.remove(&name);
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                if self.failed.remove(&name).is_some() {
                    info!("{name} resolves now");
                }
                self.known.insert(name, addresses.clone()) != Some(addresses)
            }
            Ok(_) => self.note(name, Err("it has no address".to_owned())),
            Err(reason) => {
                let before = self.failed.get(&name).map(|(_, pause)| *pause);
                let pause = before.map_or(RETRY_MIN, |pause| (pause * 2).min(RETRY_MAX));
                if before.is_none() {
                    warn!("{name} does not resolve: {reason}; asking again");
                } else {
                    debug!("{name} still does not resolve: {reason}");
                }
                self.failed.insert(name, (Instant::now() + pause, pause));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mapping_core::Secret;
    use signal_client::TurnServer;

    use super::*;

    fn offer(host: &str, transport: &str, username: &str) -> TurnServer {
        TurnServer {
            url: format!("turn:{host}:3478?transport={transport}"),
            username: username.to_owned(),
            credential: "secret".to_owned(),
            expires_at_unix: 1,
        }
    }

    fn info(stun: &[&str], turn: Vec<TurnServer>) -> Option<Info> {
        Some(Info {
            version: String::new(),
            stun: stun.iter().map(|text| (*text).to_owned()).collect(),
            turn,
        })
    }

    fn directory(stun: &[&str], relays: Vec<RelayConfig>) -> Directory {
        Directory {
            stun: stun.iter().map(|text| text.parse().unwrap()).collect(),
            relays,
        }
    }

    fn knowing(names: &[(&str, &[&str])]) -> Names {
        let known = names.iter().map(|(name, addresses)| {
            let addresses = addresses.iter().map(|ip| ip.parse().unwrap());
            ((*name).to_owned(), addresses.collect())
        });
        Names {
            known: known.collect(),
            ..Names::default()
        }
    }

    fn texts(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_transports_of_one_relay_become_one() {
        let mut turns = offer("192.0.2.1", "tcp", "1:a");
        turns.url = "turns:192.0.2.1:443".to_owned();
        let turn = vec![
            offer("192.0.2.1", "udp", "1:a"),
            offer("192.0.2.1", "tcp", "1:a"),
            turns,
        ];
        let wanted =
            directory(&[], Vec::new()).wanted(&[info(&["192.0.2.1", "[2001:db8::1]:9"], turn)], 0);
        let servers = wanted.servers(&Names::default());
        assert_eq!(servers.relays.len(), 1);
        let relay = &servers.relays[0];
        assert_eq!(relay.udp, relay.tcp);
        let tls = relay.tls.as_ref().unwrap();
        assert_eq!((tls.address.port(), tls.name.as_str()), (443, "192.0.2.1"));
        assert_eq!(texts(&servers.stun), ["192.0.2.1:3478", "[2001:db8::1]:9"]);
    }

    #[test]
    fn what_several_signaling_servers_offer_is_put_together_in_their_order() {
        let one = info(&["192.0.2.1:3478"], vec![offer("192.0.2.1", "udp", "1:a")]);
        let mut later = offer("192.0.2.1", "udp", "2:b");
        later.expires_at_unix = 2;
        let two = info(
            &["192.0.2.2:3478", "192.0.2.1:3478"],
            vec![offer("192.0.2.2", "udp", "2:a"), later],
        );
        let offers = [one, None, two];
        let users = |now_unix| -> Vec<_> {
            let wanted = directory(&[], Vec::new()).wanted(&offers, now_unix);
            let servers = wanted.servers(&Names::default());
            assert_eq!(texts(&servers.stun), ["192.0.2.1:3478", "192.0.2.2:3478"]);
            let relays = servers.relays.into_iter();
            relays.map(|it| it.username).collect()
        };
        assert_eq!(
            users(0),
            ["1:a", "2:a"],
            "the same relay once, as the first says"
        );
        assert_eq!(users(1), ["2:b", "2:a"], "what the first said has ended");
    }

    #[test]
    fn what_the_configuration_names_is_used_instead_of_what_signaling_offers() {
        let relay = RelayConfig {
            url: "turn:198.51.100.1?transport=tcp".parse().unwrap(),
            username: "me".to_owned(),
            credential: Secret::new("mine".to_owned()),
        };
        let offers = [info(&["192.0.2.1"], vec![offer("192.0.2.1", "udp", "1:a")])];
        let wanted = directory(&["192.0.2.9:3479"], vec![relay]).wanted(&offers, 0);
        let servers = wanted.servers(&Names::default());
        assert_eq!(texts(&servers.stun), ["192.0.2.9:3479"]);
        assert_eq!(servers.relays.len(), 1);
        assert_eq!(servers.relays[0].username, "me");
        assert!(servers.relays[0].udp.is_none());
    }

    #[test]
    fn a_signaling_server_cannot_have_any_number_of_names_looked_up() {
        let names: Vec<_> = (0..1000).map(|i| format!("n{i}.example")).collect();
        let stun: Vec<_> = names.iter().map(String::as_str).collect();
        let turn = names.iter().map(|name| offer(name, "udp", "1:a")).collect();
        let flood = info(&stun, turn);
        let modest = info(&["192.0.2.1"], vec![offer("192.0.2.1", "udp", "1:a")]);
        let wanted = directory(&[], Vec::new()).wanted(&[flood, modest], 0);
        assert_eq!(wanted.stun.len(), SERVERS_MAX + 1);
        assert_eq!(wanted.relays.len(), SERVERS_MAX + 1);
    }

    #[test]
    fn the_last_resort_is_asked_only_when_signaling_has_answered_and_offers_nothing() {
        let directory = directory(&[], Vec::new());
        assert_eq!(directory.wanted(&[None], 0).stun, []);
        let stun = directory.wanted(&[info(&[], Vec::new())], 0).stun;
        assert_eq!(stun.len(), 1);
        assert_eq!(stun[0].to_string(), FALLBACK_STUN_SERVER);
    }

    #[test]
    fn different_servers_come_before_further_addresses_of_one_and_families_apart() {
        let names = knowing(&[
            (
                "pool.example",
                &["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"],
            ),
            ("one.example", &["2001:db8::9", "192.0.2.9"]),
        ]);
        let wanted = directory(
            &["pool.example:1", "one.example:1", "192.0.2.2:1"],
            Vec::new(),
        )
        .wanted(&[], 0);
        let expected = [
            "192.0.2.1:1",
            "192.0.2.9:1",
            "192.0.2.2:1",
            "192.0.2.3:1",
            "[2001:db8::1]:1",
            "[2001:db8::9]:1",
        ];
        assert_eq!(texts(&wanted.servers(&names).stun), expected);
    }

    #[test]
    fn a_relay_with_several_addresses_is_tried_at_each_after_the_other_relays() {
        let names = knowing(&[(
            "relay.example",
            &["2001:db8::1", "2001:db8::2", "192.0.2.1"],
        )]);
        let turn = vec![
            offer("relay.example", "udp", "1:a"),
            offer("192.0.2.7", "udp", "1:a"),
        ];
        let wanted = directory(&[], Vec::new()).wanted(&[info(&["192.0.2.7"], turn)], 0);
        let servers = wanted.servers(&names);
        let addresses: Vec<_> = servers.relays.iter().filter_map(|it| it.udp).collect();
        let expected = [
            "[2001:db8::1]:3478",
            "192.0.2.7:3478",
            "192.0.2.1:3478",
            "[2001:db8::2]:3478",
        ];
        assert_eq!(texts(&addresses), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_resolve_is_asked_for_again_and_holds_up_nobody() {
        let (offers_tx, offers_rx) = watch::channel(vec![None]);
        let (events_tx, mut events_rx) = mpsc::channel(4);
        let directory = directory(&["nowhere.invalid:3478", "192.0.2.1:3478"], Vec::new());
        let running = tokio::spawn(directory.run(offers_rx, events_tx));
        let Some(RoomEvent::Servers(servers)) = events_rx.recv().await else {
            panic!("no servers");
        };
        assert_eq!(texts(&servers.stun), ["192.0.2.1:3478"]);
        drop(offers_tx);
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_questions_for_a_name_grow() {
        let mut names = Names::default();
        let name = || "relay.example".to_owned();
        assert!(!names.note(name(), Err("gone".to_owned())));
        assert_eq!(names.failed[&name()].1, RETRY_MIN);
        assert!(!names.note(name(), Ok(Vec::new())));
        assert_eq!(names.failed[&name()].1, RETRY_MIN * 2);
        assert!(names.note(name(), Ok(vec!["192.0.2.1".parse().unwrap()])));
        assert!(names.failed.is_empty());
        assert!(!names.note(name(), Ok(vec!["192.0.2.1".parse().unwrap()])));
    }
}
