//! What `/v1/info` tells: where STUN and TURN are, and credentials for them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping_core::{Host, RelayUrl};
use relay::server::{SharedSecret, time_limited_credentials};
use signal_client::{Info, PublicKey, SlotName, TurnServer};

/// Which TURN servers are offered, and how credentials for them are made.
#[derive(Clone, Debug)]
pub(crate) struct Relays {
    pub(crate) secret: SharedSecret,
    /// How long credentials hold.
    pub(crate) ttl: Duration,
    /// Those of somebody else with the same secret; our own, beside STUN, when there are none.
    pub(crate) others: Vec<RelayUrl>,
}

/// What this server offers besides rooms.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    /// What the sockets are bound to, the primary first.
    pub(crate) stun: Vec<SocketAddr>,
    /// What the operator says that we are called.
    pub(crate) external_ip: Option<IpAddr>,
    /// `None` without TURN.
    pub(crate) relays: Option<Relays>,
}

impl Advertised {
    /// Makes the answer for a client that reached us as `host` (the Host header), at `now_unix` seconds.
    /// Credentials for the same key belong to the same user, so that newer ones refresh an allocation that
    /// older ones made.
    pub(crate) fn info(&self, host: Option<&str>, key: Option<PublicKey>, now_unix: u64) -> Info {
        let stun = self.addresses(host);
        let turn = self.relays.as_ref().map_or_else(Vec::new, |relays| {
            let user = key.map_or_else(random_user, |key| SlotName::client(&key).to_string());
            let expires_at_unix = now_unix.saturating_add(relays.ttl.as_secs());
            let (username, credential) =
                time_limited_credentials(&relays.secret, &user, expires_at_unix);
            let server = |url| TurnServer {
                url,
                username: username.clone(),
                credential: credential.clone(),
                expires_at_unix,
            };
            relays.urls(&stun).into_iter().map(server).collect()
        });
        Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stun,
            turn,
        }
    }

    fn addresses(&self, host: Option<&str>) -> Vec<String> {
        let Some(primary) = self.stun.first() else {
            return Vec::new();
        };
        if let Some(ip) = self.external_ip {
            return vec![SocketAddr::new(ip, primary.port()).to_string()];
        }
        if !primary.ip().is_unspecified() {
            return self.stun.iter().map(SocketAddr::to_string).collect();
        }
        host.and_then(host_without_port)
            .filter(|host| is_served(host, primary.ip()))
            .map(|host| format!("{host}:{}", primary.port()))
            .into_iter()
            .collect()
    }
}

impl Relays {
    /// Where they are; `stun` is where our own STUN server is, the primary address first.
    fn urls(&self, stun: &[String]) -> Vec<String> {
        if !self.others.is_empty() {
            return self.others.iter().map(RelayUrl::to_string).collect();
        }
        let own = |address: &String| {
            ["udp", "tcp"].map(|transport| format!("turn:{address}?transport={transport}"))
        };
        stun.first().map(own).into_iter().flatten().collect()
    }
}

/// Takes the port off a Host header; `None` when what is left is no host.
fn host_without_port(host: &str) -> Option<Host> {
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next()?
    } else {
        host.split(':').next()?
    };
    name.parse().ok()
}

/// Returns whether a socket that is bound to this wildcard is reached at a host: `[::]` serves both families,
/// `0.0.0.0` only IPv4. What a name stands for is found out by whoever asks for it.
fn is_served(host: &Host, wildcard: IpAddr) -> bool {
    match host {
        Host::Ip(ip) => wildcard.is_ipv6() || ip.is_ipv4(),
        Host::Name(_) => true,
    }
}

fn random_user() -> String {
    let mut name = [0; 8];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut name);
    data_encoding::HEXLOWER.encode(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertised(stun: &[&str], external: Option<&str>) -> Advertised {
        Advertised {
            stun: stun.iter().map(|text| text.parse().unwrap()).collect(),
            external_ip: external.map(|text| text.parse().unwrap()),
            relays: Some(Relays {
                secret: SharedSecret::new("north"),
                ttl: Duration::from_secs(12 * 3600),
                others: Vec::new(),
            }),
        }
    }

    #[test]
    fn the_operator_knows_best_then_the_sockets_then_the_client() {
        let cases: [(&[&str], Option<&str>, &[&str]); 4] = [
            (&["0.0.0.0:3478"], None, &["example.org:3478"]),
            (
                &["0.0.0.0:3478"],
                Some("203.0.113.1"),
                &["203.0.113.1:3478"],
            ),
            (
                &["192.0.2.1:3478", "192.0.2.2:3478"],
                None,
                &["192.0.2.1:3478", "192.0.2.2:3478"],
            ),
            (&["[2001:db8::1]:3478"], None, &["[2001:db8::1]:3478"]),
        ];
        for (stun, external, expected) in cases {
            let info = advertised(stun, external).info(Some("example.org:8080"), None, 0);
            assert_eq!(info.stun, expected);
        }
    }

    #[test]
    fn a_host_header_is_taken_apart_and_not_believed_blindly() {
        let host = |header| host_without_port(header).map(|host| host.to_string());
        for (header, expected) in [
            ("example.org", "example.org"),
            ("[2001:db8::1]:8080", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]:8080", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1"),
        ] {
            assert_eq!(host(header).as_deref(), Some(expected));
        }
        for header in ["a b", "", "x/?transport=tcp#", "[x]", "[2001:db8::1", "a]b"] {
            assert_eq!(host(header), None, "{header}");
        }
    }

    #[test]
    fn an_address_of_a_family_that_is_not_served_is_not_offered() {
        for (stun, host, expected) in [
            ("0.0.0.0:3478", "[2001:db8::1]:8080", None),
            ("0.0.0.0:3478", "192.0.2.1:8080", Some("192.0.2.1:3478")),
            ("[::]:3478", "192.0.2.1:8080", Some("192.0.2.1:3478")),
            (
                "[::]:3478",
                "[2001:db8::1]:8080",
                Some("[2001:db8::1]:3478"),
            ),
        ] {
            let info = advertised(&[stun], None).info(Some(host), None, 0);
            assert_eq!(info.stun.first().map(String::as_str), expected, "{host}");
            assert_eq!(info.turn.is_empty(), expected.is_none(), "{host}");
        }
    }

    #[test]
    fn credentials_hold_as_long_as_they_are_told_and_belong_to_the_key() {
        let key = PublicKey([1; 32]);
        let ask = |now| advertised(&["192.0.2.1:3478"], None).info(None, Some(key), now);
        let turn = ask(1000).turn;
        assert_eq!(turn[0].url, "turn:192.0.2.1:3478?transport=udp");
        assert_eq!(turn[1].url, "turn:192.0.2.1:3478?transport=tcp");
        assert_eq!(turn[0].expires_at_unix, 1000 + 43_200);
        assert_eq!(turn[0].username, "44200:client-72cd6e8422c407fb");
        let later = ask(2000).turn;
        assert_eq!(later[0].username, "45200:client-72cd6e8422c407fb");
    }

    #[test]
    fn relays_of_others_are_offered_instead_of_our_own() {
        let mut advertised = advertised(&["192.0.2.1:3478"], None);
        let urls = [
            "turn:turn.example.org:3478?transport=udp",
            "turns:turn.example.org:443",
        ];
        if let Some(relays) = &mut advertised.relays {
            relays.others = urls.map(|url| url.parse().unwrap()).to_vec();
            relays.ttl = Duration::from_secs(60);
        }
        let info = advertised.info(None, Some(PublicKey([1; 32])), 1000);
        assert_eq!(info.stun, ["192.0.2.1:3478"]);
        let offered: Vec<_> = info.turn.iter().map(|turn| turn.url.as_str()).collect();
        assert_eq!(offered, urls);
        for turn in &info.turn {
            assert_eq!(turn.expires_at_unix, 1060);
            assert_eq!(turn.username, "1060:client-72cd6e8422c407fb");
        }
    }

    #[test]
    fn without_a_relay_there_is_no_turn() {
        let mut advertised = advertised(&["192.0.2.1:3478"], None);
        advertised.relays = None;
        assert_eq!(advertised.info(None, None, 0).turn, []);
    }
}
