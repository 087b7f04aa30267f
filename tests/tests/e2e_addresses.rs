//! Private addresses: two hosts of one home find each other there, two homes that look alike are not mixed up.

use std::time::Duration;

use stunfwd_tests::{
    bed::{Pair, ROOM, START},
    lab::{self, Home, Host, Lab, Nat},
    process::Process,
    product::{Config, Peer, Role, Signaling},
    tool,
};

#[test]
fn two_hosts_behind_one_nat_use_their_lan() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let config =
            Config::new(ROOM, &signaling.url()).with_mappings(&stunfwd_tests::bed::MAPPINGS);
        let pair = Pair::start_on(lab.a(), lab.a2(), &config);
        pair.assert_first_byte();
        pair.assert_kind_at_once("lan");
        pair.transfer(5_000_000);
        pair.half_close();
        pair.assert_udp_echoes();
        pair.assert_kind("lan");
    });
}

/// A service that says which host it is on.
fn named(host: &Host, name: &str) -> Process {
    tool::serve_args(host, &["greet", "127.0.0.1:9004", name])
}

#[test]
fn two_homes_with_one_subnet_and_one_host_address_connect_directly_and_to_the_right_host() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted).with_subnet(1);
        let lab = Lab::new(home, home);
        assert_eq!(
            [lab.a().address(), lab.a2().address()],
            [lab.b().address(), lab.b2().address()],
            "the homes look alike"
        );
        let signaling = Signaling::start(lab.public());
        let _services = [
            named(lab.a(), "wrong: a"),
            named(lab.a2(), "wrong: a2"),
            named(lab.b(), "b"),
            named(lab.b2(), "b2"),
        ];
        // Each server has its client's own address; a neighbour of each client has the other server's.
        let room = |number: u8| {
            let room = format!("{ROOM}-{number}");
            Config::new(&room, &signaling.url()).with_mappings(&["tcp:8084:9004"])
        };
        let servers = [
            Peer::start(Role::Server, lab.b(), &room(1)),
            Peer::start(Role::Server, lab.b2(), &room(2)),
        ];
        let clients = [
            Peer::start(Role::Client, lab.a(), &room(1)),
            Peer::start(Role::Client, lab.a2(), &room(2)),
        ];
        for peer in servers.iter().chain(&clients) {
            // Four programs start at once on few cores: this test is about where they arrive.
            peer.await_kind(2 * START, "direct");
        }
        for (host, name) in [(lab.a(), "b"), (lab.a2(), "b2")] {
            let said = tool::run(host, &["read", "127.0.0.1:8084"]);
            assert_eq!(said["text"], name);
        }
        for client in &clients {
            let status = client.await_connected(Duration::from_secs(1));
            let remote = status["peers"][0]["path"]["remote"]
                .as_str()
                .unwrap_or_default();
            assert!(remote.starts_with("192.0.2.2:"), "{status:#}");
        }
    });
}
