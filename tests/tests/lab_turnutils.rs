//! Coturn's clients, and the classic STUN client, against our server: what they send comes back, and what they say about
//! NATs is what they say with coturn's own server.

use std::time::Duration;

use stunfwd_tests::{
    coturn::{self, Access, Coturn, Discovery, Messages, PORT, SECRET, discover_nat},
    lab::{self, Home, Host, Lab, Nat},
    product::Signaling,
    wait,
};

/// Messages per connection.
const MESSAGES: &str = "50";

/// Where `turnutils_peer` echoes.
const PEER: &str = "192.0.2.130";

/// Home A behind `nat`, a public home B with an echo, and our signaling with the secret.
fn with_server(nat: Nat, body: impl FnOnce(&Lab)) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(nat), Home::behind(Nat::None));
        let stun = ["203.0.113.10:3478", "203.0.113.11:3478"];
        let flags = ["--turn-secret", SECRET];
        let _signaling = Signaling::start_with(lab.public(), "203.0.113.10:8080", &stun, &flags);
        body(&lab);
    });
}

/// Runs `turnutils_uclient` once with each of these sets of flags, all at the same time, and asserts that all that each
/// sent came back.
fn assert_all_back(host: &Host, runs: &[&[&str]]) {
    let run = |number: usize, flags: &[&str]| {
        let user = format!("user-{number}");
        let mut args = vec!["-u", &user, "-W", SECRET, "-n", MESSAGES, "-e", PEER];
        args.extend(flags);
        args.push("203.0.113.10");
        coturn::uclient(host, &args)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(number, flags)| (flags, scope.spawn(move || run(number, flags))))
            .collect();
        for (flags, thread) in running {
            let Messages { sent, received } = thread.join().expect("uclient ran to its end");
            assert!(sent >= 50, "{flags:?}: {sent} messages sent");
            assert_eq!(received, sent, "{flags:?}");
        }
    });
}

/// Starts the echo of coturn's package on home B and waits until it listens.
fn with_echo(lab: &Lab, body: impl FnOnce()) {
    let mut echo = coturn::peer(lab.b(), PEER);
    wait::until(Duration::from_secs(5), "the echo to run", || {
        echo.ended().is_none() && lab.b().run("ss", &["-uln"]).contains("3480")
    });
    body();
}

#[test]
fn what_uclient_sends_over_udp_comes_back() {
    with_server(Nat::PortRestricted, |lab| {
        with_echo(lab, || {
            let runs: [&[&str]; 9] = [
                // Channels, and a pair of ports: EVEN-PORT with its R bit, then RESERVATION-TOKEN.
                &[],
                &["-c"],
                &["-s"],
                &["-s", "-c"],
                &["-X", "-c"],
                &["-G", "-c"],
                &["-D", "-c"],
                &["-c", "-m", "5"],
                &["-m", "3"],
            ];
            assert_all_back(lab.a(), &runs);
        });
    });
}

#[test]
fn what_uclient_sends_over_tcp_comes_back() {
    with_server(Nat::UdpBlocked, |lab| {
        with_echo(lab, || {
            let runs: [&[&str]; 4] = [
                &["-t"],
                &["-t", "-c"],
                &["-t", "-s"],
                &["-t", "-c", "-m", "5"],
            ];
            assert_all_back(lab.a(), &runs);
        });
    });
}

#[test]
fn two_uclients_reach_each_other_through_two_allocations() {
    with_server(Nat::Symmetric, |lab| {
        let runs: [&[&str]; 7] = [
            &["-y"],
            &["-y", "-c"],
            &["-y", "-s"],
            &["-y", "-c", "-s"],
            &["-y", "-t"],
            &["-y", "-t", "-c"],
            &["-y", "-c", "-m", "4"],
        ];
        assert_all_back(lab.a(), &runs);
    });
}

/// What must be found behind a NAT.
type Row = (Nat, &'static str, &'static str, bool);

const OURS: &str = "our server";

/// The one difference: natdiscovery goes on with OTHER-ADDRESS of its second answer. Ours is what RFC 5780, section 7.4
/// says, both address and port changed, so back at the first address; coturn changes the port alone.
fn mapping_by_ours(nat: Nat, mapping: &'static str) -> &'static str {
    if nat == Nat::SymmetricAddressDependent {
        BY_PORT
    } else {
        mapping
    }
}

/// Runs `turnutils_natdiscovery` behind two NATs at once, in each against our server and against coturn's.
fn discovers(rows: [Row; 2]) {
    lab::test(|| {
        let [(first, ..), (second, ..)] = rows;
        let lab = Lab::new(Home::behind(first), Home::behind(second));
        let _signaling = Signaling::start(lab.public());
        let addresses = ["203.0.113.10", "203.0.113.11"];
        let _coturn = Coturn::start_at(lab.public(), &addresses, PORT, Access::StunOnly, &[]);
        let hosts = [[lab.a(), lab.a2()], [lab.b(), lab.b2()]];
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for (row, hosts) in rows.into_iter().zip(hosts) {
                for (host, (server, port)) in
                    hosts.into_iter().zip([(OURS, 3478), ("coturn", PORT)])
                {
                    let found = scope.spawn(move || discover_nat(host, "203.0.113.10", port));
                    running.push((row, server, found));
                }
            }
            for ((nat, mapping, filtering, hairpin), server, found) in running {
                let mapping = if server == OURS {
                    mapping_by_ours(nat, mapping)
                } else {
                    mapping
                };
                let expected = Discovery {
                    mapping: Some(mapping.to_owned()),
                    filtering: Some(filtering.to_owned()),
                    hairpin,
                };
                let found = found.join().expect("natdiscovery ran to its end");
                assert_eq!(found, expected, "{nat:?} by {server}");
            }
        });
    });
}

const INDEPENDENT: &str = "Endpoint Independent";
const BY_ADDRESS: &str = "Address Dependent";
const BY_PORT: &str = "Address and Port Dependent";

#[test]
fn natdiscovery_says_of_no_nat_and_a_firewall_what_it_says_with_coturn() {
    discovers([
        (Nat::None, INDEPENDENT, INDEPENDENT, true),
        (Nat::Firewall, INDEPENDENT, BY_PORT, true),
    ]);
}

#[test]
fn natdiscovery_says_of_full_cones_what_it_says_with_coturn() {
    discovers([
        (Nat::FullCone, INDEPENDENT, INDEPENDENT, false),
        (Nat::FullConeRandom, INDEPENDENT, INDEPENDENT, false),
    ]);
}

#[test]
fn natdiscovery_says_of_restricted_nats_what_it_says_with_coturn() {
    discovers([
        (Nat::AddressRestricted, INDEPENDENT, BY_ADDRESS, false),
        (Nat::PortRestricted, INDEPENDENT, BY_PORT, false),
    ]);
}

#[test]
fn natdiscovery_says_of_random_and_sequential_ports_what_it_says_with_coturn() {
    discovers([
        (Nat::PortRestrictedRandom, INDEPENDENT, BY_PORT, false),
        (Nat::SymmetricSequential, BY_PORT, BY_PORT, false),
    ]);
}

#[test]
fn natdiscovery_says_of_symmetric_nats_what_it_says_with_coturn() {
    discovers([
        (Nat::SymmetricAddressDependent, BY_ADDRESS, BY_PORT, false),
        (Nat::Symmetric, BY_PORT, BY_PORT, false),
    ]);
}

/// What the classic client of RFC 3489 (Debian's stun-client 0.97) calls it.
fn classic(nat: Nat, expected: &str) {
    with_server(nat, |lab| {
        let said = coturn::classic_stun(lab.a(), "203.0.113.10");
        assert!(
            said.contains(&format!("Primary: {expected}")),
            "{nat:?}: {said}"
        );
    });
}

#[test]
fn the_classic_client_names_a_full_cone() {
    classic(Nat::FullCone, "Independent Mapping, Independent Filter");
}

#[test]
fn the_classic_client_names_a_port_restricted_cone() {
    classic(
        Nat::PortRestricted,
        "Independent Mapping, Port Dependent Filter",
    );
}

#[test]
fn the_classic_client_names_a_symmetric_nat() {
    classic(Nat::Symmetric, "Dependent Mapping");
}

#[test]
fn the_classic_client_names_blocked_udp() {
    classic(Nat::UdpBlocked, "Blocked");
}
