//! Pairs of NATs: a TCP and a UDP port forwarded between two homes, directly where the NATs allow it and through the
//! relay where they do not, with every byte compared. `lab_nat.rs` proves by a plain punch which is which.

use std::time::Duration;

use stunfwd_tests::{
    bed::Pair,
    lab::{self, Home, Lab, Nat},
    product::Signaling,
};

/// What is moved each way.
const TRANSFER_BYTES: u64 = 20_000_000;

/// How long a path may take to be reported after the first byte has gone over it.
const REPORT: Duration = Duration::from_secs(2);

#[derive(PartialEq, Eq)]
enum Expected {
    Direct,
    Relay,
}

fn forwards(client: Nat, server: Nat, expected: Expected) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(client), Home::behind(server));
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        pair.assert_first_byte();
        let kind = match expected {
            Expected::Direct => {
                pair.assert_kind_at_once("direct");
                "direct"
            }
            Expected::Relay => {
                pair.client.await_kind(REPORT, "relay");
                pair.server.await_kind(REPORT, "relay");
                "relay"
            }
        };
        pair.await_connected(REPORT);
        pair.transfer(TRANSFER_BYTES);
        pair.half_close();
        pair.assert_udp_echoes();
        pair.assert_kind(kind);
    });
}

#[test]
fn port_restricted_with_port_restricted_is_direct() {
    forwards(Nat::PortRestricted, Nat::PortRestricted, Expected::Direct);
}

#[test]
fn random_ports_with_a_host_firewall_is_direct() {
    forwards(Nat::PortRestrictedRandom, Nat::Firewall, Expected::Direct);
}

#[test]
fn symmetric_with_address_restricted_is_direct() {
    forwards(Nat::Symmetric, Nat::AddressRestricted, Expected::Direct);
}

#[test]
fn no_nat_with_full_cone_is_direct() {
    forwards(Nat::None, Nat::FullCone, Expected::Direct);
}

#[test]
fn symmetric_with_symmetric_is_relayed() {
    forwards(Nat::Symmetric, Nat::Symmetric, Expected::Relay);
}

#[test]
fn blocked_udp_with_port_restricted_is_relayed() {
    forwards(Nat::UdpBlocked, Nat::PortRestricted, Expected::Relay);
}

#[test]
fn blocked_udp_with_blocked_udp_is_relayed() {
    forwards(Nat::UdpBlocked, Nat::UdpBlocked, Expected::Relay);
}
