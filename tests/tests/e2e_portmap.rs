//! Port mappings with a real miniupnpd, and with a router that lies: behind two NATs that give every destination a random
//! port there is no direct path, unless one of the routers opens a port.

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    bed::{MAPPINGS, Pair, ROOM},
    gateway::{self, Miniupnpd, Side, Speaks},
    lab::{self, Home, Lab, Nat},
    product::{Config, Peer, Role, Signaling, path_kind},
    wait,
};

/// How long the way over a mapped port may take: the router is asked, our server looks from outside, the peer is told.
const MAPPED: Duration = Duration::from_secs(10);

/// As long as anybody asks for.
const TWO_HOURS: u32 = 7200;

fn symmetric_homes() -> Lab {
    Lab::new(Home::behind(Nat::Symmetric), Home::behind(Nat::Symmetric))
}

fn via(status: &Value) -> Option<&str> {
    let peers = status["peers"].as_array()?;
    let connected = peers.iter().find(|peer| peer["state"] == "connected")?;
    connected["path"]["via"].as_str()
}

fn assert_direct_over_the_port(pair: &Pair<'_>, other: &Peer<'_>) {
    pair.assert_first_byte();
    pair.client.await_kind(MAPPED, "direct");
    pair.server.await_kind(MAPPED, "direct");
    other.await_status(MAPPED, "a path through the mapped port", |status| {
        via(status) == Some("port-mapped")
    });
    pair.transfer(1_000_000);
}

/// A client whose router speaks one protocol goes direct to a server behind a symmetric NAT, and leaves nothing behind.
fn client_goes_direct(speaks: Speaks, asked: &str, never: &[&str]) {
    lab::test(|| {
        let lab = symmetric_homes();
        let router = Miniupnpd::start(&lab, Side::A, speaks, TWO_HOURS);
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        assert_direct_over_the_port(&pair, &pair.server);
        let forwarded = router.forwarded();
        assert_eq!(forwarded.len(), 1, "{forwarded:?}");
        assert!(forwarded[0].contains("192.168.1.10"), "{forwarded:?}");
        let log = router.log();
        assert!(log.contains(asked), "{asked}: {log}");
        for never in never {
            assert!(!log.contains(never), "{never}: {log}");
        }
        assert_eq!(pair.client.stop().code(), Some(0));
        let left = router.forwarded();
        assert!(left.is_empty(), "{left:?}\n{}", router.log());
    });
}

#[test]
fn a_client_behind_a_router_with_everything_goes_direct_by_pcp() {
    client_goes_direct(Speaks::Everything, "PCP MAP: added", &["AddPortMapping:"]);
}

#[test]
fn a_client_behind_a_router_with_pcp_alone_goes_direct() {
    client_goes_direct(
        Speaks::Pcp,
        "PCP MAP: added",
        &["NAT-PMP port mapping", "M-SEARCH"],
    );
}

#[test]
fn a_client_behind_a_router_with_nat_pmp_alone_goes_direct() {
    client_goes_direct(
        Speaks::NatPmp,
        "NAT-PMP port mapping request",
        &["PCP MAP: added"],
    );
}

#[test]
fn a_client_behind_a_router_with_upnp_alone_goes_direct() {
    client_goes_direct(
        Speaks::Upnp,
        "AddPortMapping",
        &["PCP MAP: added", "NAT-PMP port mapping"],
    );
}

#[test]
fn a_server_behind_a_router_with_everything_goes_direct() {
    lab::test(|| {
        let lab = symmetric_homes();
        let router = Miniupnpd::start(&lab, Side::B, Speaks::Everything, TWO_HOURS);
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        assert_direct_over_the_port(&pair, &pair.client);
        assert_eq!(pair.server.stop().code(), Some(0));
        let left = router.forwarded();
        assert!(left.is_empty(), "{left:?}\n{}", router.log());
    });
}

#[test]
fn a_mapping_is_renewed_while_it_is_used() {
    // The shortest lease that outlives the half of it and the minimum between two renewals.
    const LEASE_SECS: u32 = 12;
    lab::test(|| {
        let lab = symmetric_homes();
        let router = Miniupnpd::start(&lab, Side::A, Speaks::Everything, LEASE_SECS);
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        assert_direct_over_the_port(&pair, &pair.server);
        let begun = wait::now();
        while begun.elapsed() < Duration::from_secs(u64::from(LEASE_SECS) + 3) {
            assert_eq!(router.forwarded().len(), 1, "{}", router.log());
            std::thread::sleep(Duration::from_millis(250));
        }
        pair.assert_kind("direct");
    });
}

#[test]
fn who_does_not_want_it_asks_no_router() {
    lab::test(|| {
        let lab = symmetric_homes();
        let router = Miniupnpd::start(&lab, Side::A, Speaks::Everything, TWO_HOURS);
        let signaling = Signaling::start(lab.public());
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&MAPPINGS)
            .with_line("portMapping: false");
        let pair = Pair::start_on(lab.a(), lab.b(), &config);
        pair.assert_first_byte();
        pair.await_connected(MAPPED);
        // Longer than the router needs to be asked and to answer.
        std::thread::sleep(Duration::from_secs(4));
        pair.assert_kind("relay");
        let log = router.log();
        for asked in ["PCP", "NAT-PMP request", "M-SEARCH", "HTTP REQUEST"] {
            let lines = log.lines().filter(|line| line.contains(asked));
            let requests: Vec<&str> = lines.filter(|line| line.contains("192.168.1.")).collect();
            assert!(requests.is_empty(), "{requests:?}");
        }
    });
}

#[test]
fn a_router_that_lies_is_found_out_and_its_port_is_never_used() {
    lab::test(|| {
        let lab = symmetric_homes();
        let _liar = gateway::lie(&lab, Side::A);
        let signaling = Signaling::start(lab.public());
        let config = Config::new(ROOM, &signaling.url()).with_mappings(&MAPPINGS);
        let server = Peer::start(Role::Server, lab.b(), &config);
        let mut client = Peer::start(Role::Client, lab.a(), &config);
        client.await_connected(MAPPED);
        let mut log = String::new();
        let said = wait::answer_within(Duration::from_secs(15), || {
            for peer in [&client, &server] {
                let status = peer.status().expect("the program answers");
                assert_ne!(via(&status), Some("port-mapped"), "{status:#}");
            }
            log = client.process().stderr();
            log.contains("says that it forwards").then_some(())
        });
        assert!(said.is_some(), "{log}");
        for peer in [&client, &server] {
            let status = peer.status().expect("the program answers");
            assert_eq!(path_kind(&status), Some("relay"), "{status:#}");
        }
        assert_eq!(client.stop().code(), Some(0));
    });
}
