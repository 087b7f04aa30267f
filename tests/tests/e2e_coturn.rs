//! Coturn as the relay and as the STUN server of the real programs: `use-auth-secret` and a static user, over UDP and
//! TCP, with permissions, stale nonces, short allocations and credentials that end.

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    bed::{ECHO, MAPPINGS, Pair, ROOM, START},
    coturn::{Access, Coturn, PORT, SECRET, USER},
    lab::{self, Home, Lab, Nat, capture::contains},
    product::{Config, Peer, Role, Signaling},
    tool,
};

/// What is moved each way.
const TRANSFER_BYTES: u64 = 10_000_000;

/// How long a path may take to be reported after the first byte has gone over it.
const REPORT: Duration = Duration::from_secs(2);

const STUN: [&str; 2] = ["203.0.113.10:3478", "203.0.113.11:3478"];

/// Signaling that offers these TURN servers instead of its own.
fn signaling_with<'a>(lab: &'a Lab, urls: &[String], flags: &[&str]) -> Signaling<'a> {
    let mut all = vec!["--turn-secret", SECRET];
    for url in urls {
        all.extend(["--turn-url", url]);
    }
    all.extend(flags);
    Signaling::start_with(lab.public(), "203.0.113.10:8080", &STUN, &all)
}

/// Two homes with a coturn and signaling that knows it.
fn with_coturn(
    nats: [Nat; 2],
    coturn_flags: &[&str],
    signaling_flags: &[&str],
    body: impl FnOnce(&Lab, &Coturn<'_>, &Signaling<'_>),
) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(nats[0]), Home::behind(nats[1]));
        let coturn = Coturn::start(lab.public(), Access::SharedSecret, coturn_flags);
        let urls = ["udp", "tcp"].map(|transport| coturn.url(transport));
        let signaling = signaling_with(&lab, &urls, signaling_flags);
        body(&lab, &coturn, &signaling);
    });
}

/// How the relay is reached, as a peer says it.
fn transport(status: &Value) -> Option<&str> {
    let peers = status["peers"].as_array()?;
    peers.first()?["path"]["transport"].as_str()
}

fn assert_relays(pair: &Pair<'_>, over_streams: bool) {
    pair.assert_first_byte();
    pair.client.await_kind(REPORT, "relay");
    pair.server.await_kind(REPORT, "relay");
    pair.await_connected(REPORT);
    pair.transfer(TRANSFER_BYTES);
    pair.half_close();
    if over_streams {
        pair.assert_udp_echoes_over_a_stream();
    } else {
        pair.assert_udp_echoes();
    }
    pair.assert_kind("relay");
}

/// Coturn's log says that both ends, or as many as `allocations`, allocated at it, and that a channel was bound.
fn assert_used(coturn: &Coturn<'_>, allocations: usize) {
    let log = coturn.log();
    assert!(
        coturn.count(&["ALLOCATE processed, success"]) >= allocations,
        "{log}"
    );
    assert!(
        coturn.count(&["CHANNEL_BIND processed, success"]) >= 1,
        "{log}"
    );
}

fn relays_over(nats: [Nat; 2], expected: [&[&str]; 2]) {
    with_coturn(nats, &[], &[], |lab, coturn, signaling| {
        let pair = Pair::start(lab, signaling);
        assert_relays(&pair, expected.iter().any(|words| words.contains(&"tcp")));
        assert_used(coturn, 2);
        for (peer, expected) in [&pair.client, &pair.server].into_iter().zip(expected) {
            let status = peer.status().expect("the program answers");
            let used = transport(&status).unwrap_or_default();
            assert!(expected.contains(&used), "{expected:?}: {status:#}");
        }
    });
}

#[test]
fn two_symmetric_nats_meet_at_coturn_over_udp() {
    relays_over([Nat::Symmetric, Nat::Symmetric], [&["udp"], &["udp"]]);
}

#[test]
fn an_end_without_udp_reaches_coturn_over_tcp() {
    // Who relays is the client's choice: the other end then sees plain datagrams or its own relay.
    relays_over(
        [Nat::UdpBlocked, Nat::Symmetric],
        [&["tcp"], &["udp", "tcp"]],
    );
}

#[test]
fn two_ends_without_udp_meet_at_coturn_over_tcp() {
    relays_over([Nat::UdpBlocked, Nat::UdpBlocked], [&["tcp"], &["tcp"]]);
}

#[test]
fn the_relay_of_the_configuration_is_used_with_its_user() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric);
        let lab = Lab::new(home, home);
        let coturn = Coturn::start(lab.public(), Access::StaticUser, &[]);
        let signaling =
            Signaling::start_with(lab.public(), "203.0.113.10:8080", &STUN, &["--no-relay"]);
        let (user, password) = USER;
        let relay = format!(
            "relay:\n  - url: \"{}\"\n    username: \"{user}\"\n    credential: \"{password}\"",
            coturn.url("udp")
        );
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&MAPPINGS)
            .with_line(&relay);
        let pair = Pair::start_on(lab.a(), lab.b(), &config);
        assert_relays(&pair, false);
        assert_used(&coturn, 2);
        assert!(coturn.count(&[&format!("username=<{user}>")]) >= 2);
    });
}

#[test]
fn a_strangers_packet_to_a_relayed_address_goes_no_further_than_coturn() {
    const MARK: &str = "a-stranger-at-the-door";
    with_coturn(
        [Nat::Symmetric, Nat::Symmetric],
        &[],
        &[],
        |lab, coturn, signaling| {
            let pair = Pair::start(lab, signaling);
            pair.assert_first_byte();
            pair.client.await_kind(REPORT, "relay");
            let at_coturn = lab.public().capture("eth0");
            let at_homes = [lab.a(), lab.b()].map(|host| host.capture("eth0"));
            let relayed = coturn.relayed();
            assert!(relayed.len() >= 2, "{relayed:?}");
            for address in &relayed {
                let answer = tool::run(lab.inet(), &["udp-say", address, MARK, "--secs", "0.3"]);
                assert_eq!(answer["answer"], Value::Null, "{address}");
            }
            pair.assert_udp_echoes();
            assert!(
                contains(&at_coturn.finish(), MARK.as_bytes()),
                "coturn received it"
            );
            for capture in at_homes {
                assert!(!contains(&capture.finish(), MARK.as_bytes()));
            }
        },
    );
}

/// Lets one connection beat through the relay for `secs` and asserts that no beat was late, and that the allocations are
/// those of the beginning.
fn assert_steady(lab: &Lab, coturn: &Coturn<'_>, pair: &Pair<'_>, secs: u32) {
    let allocations = coturn.relayed().len();
    let secs_text = secs.to_string();
    let pulse = ["pulse", ECHO, "--secs", &secs_text, "--interval-ms", "50"];
    let mut pulse = tool::start(lab.a(), &pulse);
    let patience = Duration::from_secs(u64::from(secs) + 10);
    let beats = tool::finish(&mut pulse, patience);
    assert!(beats["slowestMs"].as_f64() < Some(1_000.0), "{beats}");
    pair.assert_kind("relay");
    assert_eq!(coturn.relayed().len(), allocations, "{}", coturn.log());
    assert_eq!(coturn.count(&["closed"]), 0, "{}", coturn.log());
}

#[test]
fn stale_nonces_and_short_allocations_leave_no_gap() {
    with_coturn(
        [Nat::Symmetric, Nat::Symmetric],
        &["--stale-nonce=5", "--max-allocate-lifetime=12"],
        &[],
        |lab, coturn, signaling| {
            let pair = Pair::start(lab, signaling);
            pair.assert_first_byte();
            pair.client.await_kind(REPORT, "relay");
            assert_steady(lab, coturn, &pair, 30);
            assert!(
                coturn.count(&["lifetime=12"]) >= 2,
                "coturn shortens every lifetime"
            );
            // Two ends, thirty seconds, a refresh at half of twelve seconds.
            assert!(coturn.count(&["REFRESH processed, success"]) >= 6);
            assert!(coturn.count(&["error 438"]) >= 2, "{}", coturn.log());
        },
    );
}

#[test]
fn credentials_that_end_are_renewed_and_the_allocation_goes_on() {
    with_coturn(
        [Nat::Symmetric, Nat::Symmetric],
        &["--max-allocate-lifetime=12"],
        &["--turn-ttl", "5s"],
        |lab, coturn, signaling| {
            let pair = Pair::start(lab, signaling);
            pair.assert_first_byte();
            pair.client.await_kind(REPORT, "relay");
            // Six lives of the credentials, and refreshes with each.
            assert_steady(lab, coturn, &pair, 30);
            assert!(coturn.count(&["REFRESH processed, success"]) >= 6);
            // Whoever comes later has newer ones.
            let config = Config::new(ROOM, &signaling.url()).with_mappings(&MAPPINGS);
            let newcomer = Peer::start(Role::Client, lab.a2(), &config);
            newcomer.await_kind(START, "relay");
            tool::run(lab.a2(), &["first-byte", ECHO, "--secs", "3"]);
        },
    );
}

fn nat_types(nats: [Nat; 2], expected: [&str; 2]) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(nats[0]), Home::behind(nats[1]));
        let addresses = ["203.0.113.10", "203.0.113.11"];
        let coturn = Coturn::start_at(lab.public(), &addresses, PORT, Access::StunOnly, &[]);
        let elsewhere = ["203.0.113.10:3478"];
        let flags = ["--no-relay"];
        let signaling =
            Signaling::start_with(lab.public(), "203.0.113.10:8080", &elsewhere, &flags);
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&MAPPINGS)
            .with_line(&format!("stunServer: \"203.0.113.10:{PORT}\""));
        let client = Peer::start(Role::Client, lab.a(), &config);
        let server = Peer::start(Role::Server, lab.b(), &config);
        for (peer, expected) in [&client, &server].into_iter().zip(expected) {
            let known = Duration::from_secs(10);
            peer.await_status(known, expected, |status| status["nat"]["type"] == expected);
        }
        drop(coturn);
    });
}

#[test]
fn coturn_as_stun_server_tells_full_cone_from_symmetric() {
    nat_types(
        [Nat::FullCone, Nat::Symmetric],
        ["Full Cone NAT", "Symmetric NAT"],
    );
}

#[test]
fn coturn_as_stun_server_tells_the_restricted_kinds() {
    nat_types(
        [Nat::PortRestricted, Nat::AddressRestricted],
        ["Port Restricted Cone NAT", "Restricted Cone NAT"],
    );
}
