//! NATs whose ports have to be guessed, with the real programs in the kernel lab: direct by the way that each pair allows,
//! at no more than it may cost, and called direct only where whole packets pass. `matrix --hard` counts how often luck helps.

use std::{fs, time::Duration};

use serde_json::Value;
use stunfwd_tests::{
    bed::{ECHO, EXCHANGE, Pair},
    lab::{self, Home, Host, Lab, Meter, Nat},
    matrix::{Scenario, trial::RELAY_START},
    process::Process,
    product::{Peer, Signaling, path_kind},
    tool, wait,
};

/// What is moved each way.
const TRANSFER_BYTES: u64 = 10_000_000;

/// Within this a path that has died is left (issue 4).
const LEFT: Duration = Duration::from_secs(3);

/// The files that a program without extra sockets may have open.
const FILES_AT_REST: usize = 100;

/// New bindings that a router may be asked for in a minute.
const BINDINGS_PER_MINUTE: u64 = 1_200;

fn via(status: &Value) -> &str {
    status["peers"][0]["path"]["via"].as_str().unwrap_or("none")
}

/// How long a pair may take to its direct path.
fn bound(client: Nat, server: Nat) -> Duration {
    let scenario = Scenario::pair(Home::behind(client), Home::behind(server));
    scenario.bound().expect("the oracle knows a way")
}

/// The first byte must come over the relay while nothing else leads there.
fn assert_first_byte_at_once(pair: &Pair<'_>) {
    tool::run(pair.host, &["first-byte", ECHO, "--secs", "3"]);
    let taken = pair.age();
    assert!(taken <= RELAY_START, "the first byte took {taken:?}");
}

/// Waits until both ends are direct, and asserts that the end which searched has found it in one of these ways; to the other
/// it may be the address that it knew.
fn await_direct(pair: &Pair<'_>, bound: Duration, ways: &[&str]) {
    let ends = [&pair.client, &pair.server]
        .map(|peer| peer.await_kind(bound.saturating_sub(pair.age()), "direct"));
    eprintln!("direct after {:?}", pair.age());
    assert!(ends.iter().any(|end| ways.contains(&via(end))), "{ends:#?}");
}

/// The first byte comes over the relay at once; a direct path follows, found in one of these ways, carries everything, and
/// has cost the routers no more than it may.
fn becomes_direct(client: Nat, server: Nat, ways: &[&str]) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(client), Home::behind(server));
        let meters = [lab.router_a(), lab.router_b()].map(Meter::start);
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        assert_first_byte_at_once(&pair);
        await_direct(&pair, bound(client, server), ways);
        for spent in meters.each_ref().map(Meter::read) {
            eprintln!("{spent:?}");
            assert!(spent.bindings <= BINDINGS_PER_MINUTE, "{spent:?}");
            assert_eq!(spent.too_fast, 0, "{spent:?}");
        }
        pair.transfer(TRANSFER_BYTES);
        pair.half_close();
        pair.assert_udp_echoes();
        pair.assert_kind("direct");
        wait::until(
            Duration::from_secs(10),
            "the extra sockets to close",
            || {
                let programs = [
                    pair.client.process().open_files(),
                    pair.server.process().open_files(),
                ];
                programs.iter().all(|files| *files <= FILES_AT_REST)
            },
        );
        pair.assert_kind("direct");
    });
}

#[test]
fn a_symmetric_nat_meets_a_port_restricted_one_by_birthday() {
    becomes_direct(Nat::Symmetric, Nat::PortRestricted, &["birthday"]);
}

#[test]
fn a_host_firewall_meets_a_symmetric_nat_by_birthday() {
    becomes_direct(Nat::Firewall, Nat::Symmetric, &["birthday"]);
}

#[test]
fn a_sequential_nat_meets_a_port_restricted_one_by_prediction() {
    becomes_direct(
        Nat::SymmetricSequential,
        Nat::PortRestricted,
        &["predicted"],
    );
}

#[test]
fn a_nat_that_counts_by_two_meets_a_host_firewall_by_prediction() {
    becomes_direct(Nat::Firewall, Nat::SymmetricSequentialByTwo, &["predicted"]);
}

#[test]
fn a_block_of_ports_is_found_out_and_searched() {
    becomes_direct(
        Nat::PortRestrictedRandom,
        Nat::SymmetricBlock,
        &["predicted"],
    );
}

#[test]
fn two_sequential_nats_meet_by_prediction() {
    becomes_direct(
        Nat::SymmetricSequential,
        Nat::SymmetricSequential,
        &["predicted"],
    );
}

#[test]
fn two_nats_with_random_ports_are_relayed_without_a_storm() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric);
        let lab = Lab::new(home, home);
        let meters = [lab.router_a(), lab.router_b()].map(Meter::start);
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        assert_first_byte_at_once(&pair);
        // As long as a birthday would be tried where one can succeed.
        stays_relayed(&pair, Duration::from_secs(8));
        for spent in meters.each_ref().map(Meter::read) {
            eprintln!("{spent:?}");
            assert!(spent.bindings < 100, "{spent:?}");
        }
        for peer in [&pair.client, &pair.server] {
            peer.await_status(LEFT, "a reason that says what would help", |status| {
                let reason = status["peers"][0]["reason"].as_str().unwrap_or_default();
                reason.contains("UPnP") && reason.contains("direct path")
            });
        }
    });
}

/// Asserts that neither end ever calls its path anything but relayed.
fn stays_relayed(pair: &Pair<'_>, time: Duration) {
    let end = pair.age() + time;
    while pair.age() < end {
        for peer in [&pair.client, &pair.server] {
            let status = peer.status().expect("the program answers");
            let kind = path_kind(&status);
            assert!(kind.is_none_or(|kind| kind == "relay"), "{status:#}");
        }
    }
}

/// Lets only small packets pass between the two homes; their packets to the public machine are not touched.
fn open_black_hole(lab: &Lab) {
    lab.inet().nft(
        "table ip hole {\n chain between {\n type filter hook forward priority 5; policy accept;\n \
         ip saddr 198.51.100.0/24 ip daddr 192.0.2.0/24 ip length > 800 drop\n \
         ip saddr 192.0.2.0/24 ip daddr 198.51.100.0/24 ip length > 800 drop\n }\n}\n",
    );
}

#[test]
fn a_path_that_passes_small_packets_only_is_never_called_direct() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        open_black_hole(&lab);
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        assert_first_byte_at_once(&pair);
        stays_relayed(&pair, Duration::from_secs(5));
        pair.transfer(TRANSFER_BYTES);
        pair.assert_udp_echoes();
        pair.assert_kind("relay");
        for peer in [&pair.client, &pair.server] {
            assert_names_the_size(peer);
        }
    });
}

/// How long the status may take to say why no path is direct: checks of both sizes have to be tried until they tell.
const TOLD: Duration = Duration::from_secs(10);

/// The reason must say that it is the size of packets.
fn assert_names_the_size(peer: &Peer<'_>) {
    peer.await_status(TOLD, "a reason that names the size", |status| {
        let reason = status["peers"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("small") || reason.contains("large") || reason.contains("full-size")
    });
}

#[test]
fn a_path_that_passes_only_small_packets_any_more_is_left_and_the_transfer_goes_on() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        pair.assert_first_byte();
        pair.assert_kind_at_once("direct");
        let mut transfer = long_transfer(pair.host);
        // Well under way before, and far from its end afterwards.
        pair.client.await_status(LEFT, "data to flow", |status| {
            status["peers"][0]["bytesIn"].as_u64() > Some(5_000_000)
        });
        open_black_hole(&lab);
        let opened = pair.age();
        for peer in [&pair.client, &pair.server] {
            let left = (opened + LEFT).saturating_sub(pair.age());
            peer.await_kind(left, "relay");
        }
        eprintln!("left after {:?}", pair.age() - opened);
        assert!(transfer.ended().is_none(), "the transfer saw the change");
        // Whoever chooses paths says at once why it left this one.
        let log = pair.client.process().stderr();
        assert!(log.contains("is gone: small packets only"), "{log}");
        let report = tool::finish(&mut transfer, Duration::from_secs(60));
        assert!(report["ms"].is_number(), "{report}");
        pair.assert_kind("relay");
        // By then checks of both sizes have told it in the status, too.
        for peer in [&pair.client, &pair.server] {
            assert_names_the_size(peer);
        }
    });
}

/// So many bytes each way that they take some seconds.
fn long_transfer(host: &Host) -> Process {
    let bytes = "200000000";
    tool::start(
        host,
        &["transfer", EXCHANGE, "--up", bytes, "--down", bytes],
    )
}

#[test]
fn what_has_worked_against_a_peer_is_remembered_and_works_again() {
    lab::test(|| {
        let (client, server) = (Nat::PortRestricted, Nat::Symmetric);
        let lab = Lab::new(Home::behind(client), Home::behind(server));
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        await_direct(&pair, bound(client, server), &["birthday"]);
        let remembered = |peer: &Peer<'_>| {
            let file = peer.state_folder().join("strategies.json");
            fs::read_to_string(file).unwrap_or_default()
        };
        // One probe in a hundred hits an anchor whose port the peer's main socket has, too: that end knows the address from
        // signaling, and says so.
        let is_named = |peer: &&Peer<'_>| via(&peer.status().expect("it answers")) == "birthday";
        let named: Vec<_> = [&pair.client, &pair.server]
            .into_iter()
            .filter(is_named)
            .collect();
        assert!(!named.is_empty(), "await_direct saw it at an end");
        for peer in named {
            wait::until(LEFT, "the strategy to be written down", || {
                remembered(peer).contains("birthday")
            });
        }
        for peer in [&mut pair.client, &mut pair.server] {
            assert!(peer.stop().success());
        }
        let before = pair.age();
        pair.server.start_again();
        pair.client.start_again();
        let ends = [&pair.client, &pair.server].map(|peer| {
            let bound = before + bound(client, server);
            peer.await_kind(bound.saturating_sub(pair.age()), "direct")
        });
        assert!(ends.iter().any(|end| via(end) == "birthday"), "{ends:#?}");
        eprintln!("direct again after {:?}", pair.age() - before);
    });
}
