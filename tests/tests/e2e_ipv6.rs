//! Homes with IPv6 behind stateful firewalls: direct where IPv4 would be relayed, and everything over IPv6 alone.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use stunfwd_tests::{
    bed::{MAPPINGS, Pair, ROOM, START},
    lab::{self, Home, Host, Lab, Nat},
    product::{Config, Peer, Signaling},
};

/// What is moved each way.
const TRANSFER_BYTES: u64 = 10_000_000;

/// How long a path may take to be reported after the first byte has gone over it.
const REPORT: Duration = Duration::from_secs(2);

const SIGNALING: &str = "[2001:db8::10]:8080";
const STUN: [&str; 2] = ["[2001:db8::10]:3478", "[2001:db8::11]:3478"];

fn address(status: &Value, end: &str) -> SocketAddr {
    let text = status["peers"][0]["path"][end].as_str();
    let address = text.and_then(|text| text.parse().ok());
    address.unwrap_or_else(|| panic!("no {end} address: {status:#}"))
}

fn assert_remote(peer: &Peer<'_>, host: &Host) {
    let status = peer.status().expect("the program answers");
    let remote = address(&status, "remote").ip();
    assert_eq!(Some(remote), host.address_6().map(Into::into), "{status:#}");
}

fn assert_carries(pair: &Pair<'_>) {
    pair.await_connected(REPORT);
    pair.transfer(TRANSFER_BYTES);
    pair.half_close();
    pair.assert_udp_echoes();
}

#[test]
fn symmetric_nats_are_passed_by_over_ipv6() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric).with_ipv6();
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        pair.assert_first_byte();
        pair.assert_kind_at_once("direct");
        assert_carries(&pair);
        pair.assert_kind("direct");
        assert_remote(&pair.client, lab.b());
        assert_remote(&pair.server, lab.a());
    });
}

/// Both programs know nothing but IPv6 addresses.
fn over_ipv6_alone(lines: &[&str], kind: &str) {
    lab::test(|| {
        let home = Home::behind(Nat::UdpBlocked).with_ipv6();
        let lab = Lab::new(home, home);
        let signaling = Signaling::start_with(lab.public(), SIGNALING, &STUN, &[]);
        let config = Config::new(ROOM, &signaling.url()).with_mappings(&MAPPINGS);
        let config = lines
            .iter()
            .fold(config, |config, line| config.with_line(line));
        let pair = Pair::start_on(lab.a(), lab.b(), &config);
        pair.assert_first_byte();
        for peer in [&pair.client, &pair.server] {
            peer.await_kind(START, kind);
        }
        assert_carries(&pair);
        pair.assert_kind(kind);
        for peer in [&pair.client, &pair.server] {
            let status = peer.await_connected(REPORT);
            assert_eq!(status["peers"][0]["path"]["transport"], "udp", "{status:#}");
            for end in ["local", "remote"] {
                assert!(address(&status, end).is_ipv6(), "{status:#}");
            }
        }
    });
}

#[test]
fn signaling_and_stun_over_ipv6_lead_to_a_direct_path() {
    over_ipv6_alone(&[], "direct");
}

#[test]
fn the_relay_works_over_ipv6_alone() {
    over_ipv6_alone(&["direct: false"], "relay");
}
