//! `netcheck --json` against the lab's ground truth: every kind of NAT, asked of our own server, of coturn with two
//! addresses, and of two servers with one address each; blocked UDP, IPv6, and a configuration file.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, net::IpAddr, thread, time::Duration};

use serde_json::{Value, json};
use stunfwd_tests::{
    artifacts,
    coturn::{Access, Coturn, PORT},
    gateway::{Miniupnpd, Side, Speaks},
    lab::{self, Home, Host, Lab, Nat, ruleset},
    matrix::truth::Truth,
    product::Signaling,
    wait,
};

/// A netcheck takes 2 s on a clean network (issue 4); two run side by side here, debug builds, and each asks a silent
/// network several times.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs it to its end, with these words behind `--json`.
fn netcheck(host: &Host, words: &[&str]) -> Value {
    let started = wait::now();
    let mut command = host.command(artifacts::program("stunfwd-client"));
    let output = command.args(["netcheck", "--json"]).args(words).output();
    let output = output.expect("the program starts");
    let taken = started.elapsed();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let log = text(&output.stderr);
    assert!(
        output.status.success(),
        "netcheck {words:?} on {}: {}\n{log}",
        host.name(),
        output.status
    );
    assert!(taken <= PATIENCE, "netcheck took {taken:?}\n{log}");
    let report: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON and nothing else");
    eprintln!("{taken:?} on {}: {report}", host.name());
    report
}

/// A lab with the kinds in both homes, and what is true of each.
fn with_kinds(
    kinds: [Nat; 2],
    body: &(impl Fn(&Host, Nat, Truth) + Sync),
    serve: impl Fn(&Lab) -> Services<'_>,
) {
    let lab = Lab::new(Home::behind(kinds[0]), Home::behind(kinds[1]));
    let _services = serve(&lab);
    let ends = [(lab.a(), lab.router_a()), (lab.b(), lab.router_b())];
    thread::scope(|scope| {
        for (nat, (host, router)) in kinds.into_iter().zip(ends) {
            let outside = if nat.is_routed() { host } else { router };
            let truth = Truth::of(&nat.behavior(), outside.address());
            scope.spawn(move || body(host, nat, truth));
        }
    });
}

/// Servers that run as long as they are kept.
type Services<'a> = (Option<Signaling<'a>>, Vec<Coturn<'a>>);

/// Every kind, two at a time, with the servers that `serve` starts.
fn for_every_kind(
    serve: impl Fn(&Lab) -> Services<'_> + Copy,
    body: impl Fn(&Host, Nat, Truth) + Sync,
) {
    lab::test(|| {
        for kinds in Nat::ALL.chunks(2) {
            let second = kinds.get(1).copied().unwrap_or(Nat::None);
            with_kinds([kinds[0], second], &body, serve);
        }
    });
}

fn ours(lab: &Lab) -> Services<'_> {
    (Some(Signaling::start(lab.public())), Vec::new())
}

fn coturn_with_two_addresses(lab: &Lab) -> Services<'_> {
    let addresses = ["203.0.113.10", "203.0.113.11"];
    let coturn = Coturn::start_at(lab.public(), &addresses, PORT, Access::StunOnly, &[]);
    (None, vec![coturn])
}

fn two_coturns(lab: &Lab) -> Services<'_> {
    let one = |address| Coturn::start_at(lab.public(), &[address], PORT, Access::StunOnly, &[]);
    (None, vec![one("203.0.113.10"), one("203.0.113.11")])
}

/// What the words of a NAT do not tell: the pattern of its ports.
fn assert_pattern(report: &Value, nat: Nat) {
    let (stride, range) = (report["portStride"].as_i64(), &report["portRange"]);
    match nat {
        Nat::SymmetricSequential => assert_eq!(stride, Some(1), "{report}"),
        Nat::SymmetricSequentialByTwo => assert_eq!(stride, Some(2), "{report}"),
        Nat::SymmetricBlock => {
            let ends = [0, 1].map(|end| {
                range[end]
                    .as_u64()
                    .and_then(|port| u16::try_from(port).ok())
            });
            let [Some(first), Some(last)] = ends else {
                panic!("no block was found: {report}");
            };
            // What was inferred from some ports of the block cannot be far beyond it.
            assert!(
                last - first < 2 * (ruleset::BLOCK.end() - ruleset::BLOCK.start()),
                "{report}"
            );
            assert!(
                first <= *ruleset::BLOCK.end() && last >= *ruleset::BLOCK.start(),
                "{report}"
            );
        }
        Nat::None
        | Nat::Firewall
        | Nat::FullCone
        | Nat::FullConeRandom
        | Nat::AddressRestricted
        | Nat::PortRestricted
        | Nat::PortRestrictedRandom
        | Nat::SymmetricAddressDependent
        | Nat::Symmetric
        | Nat::UdpBlocked
        | Nat::WebOnly => assert_eq!((stride, range), (None, &Value::Null), "{report}"),
    }
}

/// Everything that is said is true, and nothing is left out.
fn assert_true(report: &Value, nat: Nat, truth: Truth) {
    let wrong = truth.contradictions_and_of_ports(report);
    assert!(wrong.is_empty(), "{nat:?}: {wrong:?}: {report:#}");
    assert_eq!(report["udp"], truth.public.is_some(), "{nat:?}: {report:#}");
    assert_ne!(report["ipv6"], true, "{nat:?}: {report:#}");
    assert_eq!(report["bindingLifetimeSecs"], Value::Null);
    let servers = report["servers"].as_array().unwrap();
    assert!(!servers.is_empty(), "{report:#}");
    for server in servers {
        assert_eq!(
            server["rttMs"].is_number(),
            truth.public.is_some(),
            "{nat:?}: {report:#}"
        );
    }
    assert_pattern(report, nat);
}

#[test]
fn our_own_server_tells_every_kind() {
    for_every_kind(ours, |host, nat, truth| {
        let report = netcheck(host, &["--stun", "203.0.113.10:3478"]);
        assert_true(&report, nat, truth);
    });
}

#[test]
fn a_coturn_with_two_addresses_tells_every_kind() {
    for_every_kind(coturn_with_two_addresses, |host, nat, truth| {
        let server = format!("203.0.113.10:{PORT}");
        let report = netcheck(host, &["--stun", &server]);
        assert_true(&report, nat, truth);
    });
}

#[test]
fn two_servers_with_one_address_each_tell_the_mapping_and_never_a_wrong_filtering() {
    for_every_kind(two_coturns, |host, nat, truth| {
        let servers = ["203.0.113.10", "203.0.113.11"].map(|ip| format!("{ip}:{PORT}"));
        let report = netcheck(host, &["--stun", &servers[0], "--stun", &servers[1]]);
        assert_eq!(report["udp"], truth.public.is_some(), "{nat:?}: {report:#}");
        assert_eq!(report["filtering"], "unknown", "{nat:?}: {report:#}");
        let kind = report["type"].as_str().unwrap();
        assert!(
            [truth.kind, "Unknown"].contains(&kind),
            "{nat:?}: {report:#}"
        );
        let mapping = report["mapping"].as_str().unwrap();
        if nat == Nat::SymmetricAddressDependent {
            // Whether ports matter, two servers with one port each cannot tell: it takes the stricter one, and is not sure.
            assert_ne!(mapping, "endpoint-independent", "{report:#}");
            assert_ne!(report["confidence"]["mapping"], "high", "{report:#}");
            assert_eq!(kind, truth.kind, "{report:#}");
        } else if truth.public.is_some() {
            assert_eq!(mapping, truth.mapping, "{nat:?}: {report:#}");
        } else {
            assert_eq!(mapping, "unknown", "{nat:?}: {report:#}");
        }
        let ports = report["ports"].as_str().unwrap();
        assert_eq!(ports, truth.ports, "{nat:?}: {report:#}");
    });
}

#[test]
fn ipv6_and_its_firewall_are_told_beside_the_nat() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric).with_ipv6();
        let lab = Lab::new(home, Home::behind(Nat::Symmetric));
        let four = Signaling::start(lab.public());
        let stun = ["[2001:db8::10]:3478", "[2001:db8::11]:3478"];
        let six = Signaling::start_with(lab.public(), "[2001:db8::10]:8080", &stun, &[]);
        let words = ["--stun", "203.0.113.10:3478", "--stun", stun[0]];
        let report = netcheck(lab.a(), &words);
        let truth = Truth::of(&home.behavior(), lab.router_a().address());
        let truth = truth.with_ipv6(lab.a().address_6());
        let wrong = truth.contradictions_and_of_ports(&report);
        assert!(wrong.is_empty(), "{wrong:?}: {report:#}");
        assert_eq!(report["ipv6"], true, "{report:#}");
        assert_eq!(
            report["ipv6Filtering"], "address-and-port-dependent",
            "{report:#}"
        );
        let own = lab.a().address_6().map(IpAddr::from);
        let public = report["public"].as_array().unwrap();
        let is_own = |address: &Value| {
            let address = address.as_str().and_then(|text| text.parse().ok());
            address.map(|address: std::net::SocketAddr| address.ip()) == own
        };
        assert!(public.iter().any(is_own), "{report:#}");
        // The other home has none, and is told so although a server has.
        let without = netcheck(lab.b(), &words);
        assert_eq!(without["ipv6"], false, "{without:#}");
        drop((four, six));
    });
}

#[test]
fn what_a_router_understands_is_told() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::Symmetric), Home::behind(Nat::Symmetric));
        let _signaling = Signaling::start(lab.public());
        let router = Miniupnpd::start(&lab, Side::A, Speaks::Everything, 7_200);
        let words = ["--stun", "203.0.113.10:3478"];
        let report = netcheck(lab.a(), &words);
        let all = json!({ "pcp": true, "natPmp": true, "upnp": true });
        assert_eq!(report["portMapping"], all, "{report:#}");
        let truth = Truth::of(&Nat::Symmetric.behavior(), router.outside());
        let wrong = truth.contradictions_and_of_ports(&report);
        assert!(wrong.is_empty(), "{wrong:?}: {report:#}");
        assert!(router.forwarded().is_empty(), "it only looks");
        let without = netcheck(lab.b(), &words);
        let none = json!({ "pcp": false, "natPmp": false, "upnp": false });
        assert_eq!(without["portMapping"], none, "{without:#}");
    });
}

#[test]
fn without_a_server_named_the_one_of_the_configuration_is_asked() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let signaling = Signaling::start(lab.public());
        let file = lab.folder().join("config.yml");
        let yaml = format!(
            "roomId: \"netcheck-room-5d1f0b7a93c2e864\"\nsignalingUrl: \"{}\"\n",
            signaling.url()
        );
        fs::write(&file, yaml).unwrap();
        let report = netcheck(lab.a(), &["--config", &file.display().to_string()]);
        let nat = Nat::PortRestricted;
        let truth = Truth::of(&nat.behavior(), lab.router_a().address());
        assert_true(&report, nat, truth);
    });
}
