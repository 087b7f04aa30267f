//! Every NAT kind of the lab is what it says it is: measured from inside, without the product.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use stunfwd_tests::{
    lab::{self, Carrier, Home, Host, Lab, Meter, Nat, ruleset, topology},
    process::Process,
    tool, wait,
};

const OBSERVER: [&str; 3] = ["203.0.113.10", "203.0.113.11", "3478"];

/// The same machine over IPv6.
const OBSERVER_6: [&str; 3] = ["2001:db8::10", "2001:db8::11", "3478"];

fn observer(lab: &Lab) -> Process {
    observer_at(lab, OBSERVER)
}

fn observer_at(lab: &Lab, [one, two, port]: [&str; 3]) -> Process {
    tool::serve_args(lab.public(), &["observe", one, two, port])
}

fn probe(host: &Host) -> Value {
    probe_at(host, OBSERVER)
}

fn probe_at(host: &Host, [one, two, port]: [&str; 3]) -> Value {
    tool::run(host, &["nat-probe", one, two, port])
}

/// Home A behind `home`, measured.
fn measured(home: Home) -> (Lab, Value) {
    let lab = Lab::new(home, Home::behind(Nat::None));
    let observer = observer(&lab);
    let report = probe(lab.a());
    drop(observer);
    (lab, report)
}

fn seen(report: &Value) -> Vec<(String, u16)> {
    let texts = report["seen"]
        .as_array()
        .expect("addresses were seen")
        .iter();
    texts
        .map(|text| {
            let text = text.as_str().expect("every question was answered");
            let (ip, port) = text.rsplit_once(':').unwrap();
            (ip.to_owned(), port.parse().unwrap())
        })
        .collect()
}

#[track_caller]
fn assert_behaviour(nat: Nat, mapping: &str, filtering: &str) -> (Lab, Value) {
    let (lab, report) = measured(Home::behind(nat));
    assert_eq!(report["mapping"], mapping, "{report}");
    assert_eq!(report["filtering"], filtering, "{report}");
    let outside = if nat.is_routed() {
        lab.a()
    } else {
        lab.router_a()
    };
    for (ip, _) in seen(&report) {
        assert_eq!(ip, outside.address().to_string());
    }
    (lab, report)
}

fn keeps_ports(report: &Value) -> bool {
    seen(report)
        .iter()
        .all(|(_, port)| report["localPort"] == *port)
}

const EI: &str = "endpoint-independent";
const AD: &str = "address-dependent";
const APD: &str = "address-and-port-dependent";

#[test]
fn without_a_nat_a_host_is_public_and_open() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::None, EI, EI);
        assert!(keeps_ports(&report));
    });
}

#[test]
fn a_host_firewall_translates_nothing_and_lets_only_answers_in() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::Firewall, EI, APD);
        assert!(keeps_ports(&report));
    });
}

#[test]
fn a_full_cone_lets_everybody_in() {
    lab::test(|| {
        assert_behaviour(Nat::FullCone, EI, EI);
    });
}

#[test]
fn a_full_cone_with_random_ports_keeps_one_port_for_every_destination() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::FullConeRandom, EI, EI);
        assert!(!keeps_ports(&report), "{report}");
    });
}

#[test]
fn an_address_restricted_cone_lets_known_addresses_in() {
    lab::test(|| {
        assert_behaviour(Nat::AddressRestricted, EI, AD);
    });
}

#[test]
fn a_port_restricted_cone_lets_only_answers_in_and_keeps_ports() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::PortRestricted, EI, APD);
        assert!(keeps_ports(&report));
    });
}

#[test]
fn a_port_restricted_cone_with_random_ports_keeps_one_port_for_every_destination() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::PortRestrictedRandom, EI, APD);
        assert!(!keeps_ports(&report), "{report}");
    });
}

#[test]
fn an_address_dependent_nat_keeps_one_port_for_each_address() {
    lab::test(|| {
        assert_behaviour(Nat::SymmetricAddressDependent, AD, APD);
    });
}

#[test]
fn a_symmetric_nat_takes_another_random_port_for_every_destination() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::Symmetric, APD, APD);
        let mut ports: Vec<u16> = seen(&report).into_iter().map(|(_, port)| port).collect();
        ports.dedup();
        assert_eq!(ports.len(), 4, "{report}");
        assert!(
            ports.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 64),
            "{report}"
        );
    });
}

#[test]
fn a_sequential_symmetric_nat_takes_the_next_port_for_every_destination() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::SymmetricSequential, APD, APD);
        let ports: Vec<u16> = seen(&report).into_iter().map(|(_, port)| port).collect();
        let first = ports[0];
        assert!(first >= ruleset::SEQUENTIAL_FIRST, "{report}");
        assert_eq!(ports, [first, first + 1, first + 2, first + 3], "{report}");
    });
}

#[test]
fn a_sequential_nat_may_take_every_second_port() {
    lab::test(|| {
        let (_lab, report) = assert_behaviour(Nat::SymmetricSequentialByTwo, APD, APD);
        let ports: Vec<u16> = seen(&report).into_iter().map(|(_, port)| port).collect();
        let first = ports[0];
        assert_eq!(ports, [first, first + 2, first + 4, first + 6], "{report}");
    });
}

#[test]
fn a_symmetric_nat_with_a_block_takes_random_ports_of_it_alone() {
    lab::test(|| {
        let (lab, report) = measured(Home::behind(Nat::SymmetricBlock));
        assert_eq!(report["filtering"], APD, "{report}");
        let _observer = observer(&lab);
        let again = probe(lab.a());
        // Two destinations may get one port by chance, so that mapping is judged by all eight.
        let ports: BTreeSet<u16> = [&report, &again]
            .into_iter()
            .flat_map(seen)
            .map(|(_, port)| port)
            .collect();
        assert!(ports.len() > 4, "{report} {again}");
        assert!(
            ports.iter().all(|port| ruleset::BLOCK.contains(port)),
            "{report} {again}"
        );
        let (first, last) = (ports.first().unwrap(), ports.last().unwrap());
        assert!(last - first > 16, "random, not counted: {report} {again}");
    });
}

#[test]
fn ipv6_is_not_translated_and_lets_only_answers_in() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric).with_ipv6();
        let lab = Lab::new(home, Home::behind(Nat::None));
        let _observers = [observer(&lab), observer_at(&lab, OBSERVER_6)];
        let report = probe_at(lab.a(), OBSERVER_6);
        assert_eq!(report["mapping"], EI, "{report}");
        assert_eq!(report["filtering"], APD, "{report}");
        assert!(keeps_ports(&report), "{report}");
        let own = format!("[{}]", lab.a().address_6().unwrap());
        for (ip, _) in seen(&report) {
            assert_eq!(ip, own, "{report}");
        }
        assert_eq!(probe(lab.a())["mapping"], APD, "IPv4 is what it was");
        assert_eq!(lab.b().address_6(), None, "the other home has none");
    });
}

#[test]
fn two_homes_with_ipv6_firewalls_reach_each_other_only_by_a_punch() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric).with_ipv6();
        let lab = Lab::new(home, home);
        let b = lab.b().address_6().unwrap();
        let _echo = tool::serve(lab.b(), "tcp-echo", &format!("[{b}]:9000"));
        let outcome = |host: &Host| {
            let address = format!("[{b}]:9000");
            tool::run(host, &["connect", &address, "--secs", "0.5"])["outcome"].clone()
        };
        assert_eq!(outcome(lab.a()), "silence");
        assert_eq!(outcome(lab.b2()), "connected");
        let _observer = observer_at(&lab, OBSERVER_6);
        assert!(punches_between(
            &lab,
            &format!("[{}]:3478", topology::PUBLIC_ONE_6),
            Duration::ZERO
        ));
    });
}

#[test]
fn blocked_udp_gets_no_answer_while_tcp_does() {
    lab::test(|| {
        let (lab, report) = measured(Home::behind(Nat::UdpBlocked));
        assert_eq!(report["answered"], false);
        let _echo = tool::serve(lab.public(), "tcp-echo", "203.0.113.10:8080");
        tool::run(lab.a(), &["first-byte", "203.0.113.10:8080", "--secs", "2"]);
    });
}

#[test]
fn web_only_passes_two_tcp_ports_and_nothing_else() {
    lab::test(|| {
        let (lab, report) = measured(Home::behind(Nat::WebOnly));
        assert_eq!(report["answered"], false);
        let outcome = |port: u16| {
            let address = format!("203.0.113.10:{port}");
            let _echo = tool::serve(lab.public(), "tcp-echo", &address);
            tool::run(lab.a(), &["connect", &address])["outcome"].clone()
        };
        assert_eq!(
            [outcome(80), outcome(443), outcome(8080)],
            ["connected", "connected", "silence"]
        );
    });
}

#[test]
fn no_router_answers_a_stranger_and_none_lets_one_reach_a_private_address() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let _echo = tool::serve(lab.a(), "tcp-echo", "0.0.0.0:9000");
        let outcome = |address: &str| {
            tool::run(lab.b(), &["connect", address, "--secs", "0.5"])["outcome"].clone()
        };
        assert_eq!(outcome("198.51.100.2:9000"), "silence");
        assert_ne!(outcome("192.168.1.10:9000"), "connected");
        let neighbour = tool::run(lab.a2(), &["connect", "192.168.1.10:9000"]);
        assert_eq!(neighbour["outcome"], "connected");
    });
}

#[test]
fn a_carriers_nat_in_front_makes_the_worse_of_the_two() {
    lab::test(|| {
        let home = Home::behind(Nat::FullCone).with_carrier(Nat::Symmetric);
        let (lab, report) = measured(home);
        assert_eq!(
            (&report["mapping"], &report["filtering"]),
            (&APD.into(), &APD.into())
        );
        assert_eq!(
            seen(&report)[0].0,
            lab.carrier_a().unwrap().address().to_string()
        );
        assert_eq!(lab.router_a().address().to_string(), "100.64.0.2");
    });
}

#[test]
fn two_homes_may_use_the_same_private_subnet_and_host_address() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted).with_subnet(7);
        let lab = Lab::new(home, home);
        assert_eq!(lab.a().address(), lab.b().address());
        let _observer = observer(&lab);
        assert_eq!(seen(&probe(lab.a()))[0].0, "198.51.100.2");
        assert_eq!(seen(&probe(lab.b()))[0].0, "192.0.2.2");
    });
}

#[test]
fn two_hosts_behind_one_nat_have_mappings_of_their_own() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::FullCone), Home::behind(Nat::None));
        let _observer = observer(&lab);
        let (first, second) = (probe(lab.a()), probe(lab.a2()));
        assert_eq!(seen(&first)[0].0, seen(&second)[0].0);
        assert_eq!([&first["filtering"], &second["filtering"]], [EI, EI]);
    });
}

#[test]
fn a_silent_mapping_is_forgotten_after_the_homes_udp_timeout() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted).with_udp_timeout(Duration::from_secs(1));
        let lab = Lab::new(home, Home::behind(Nat::None));
        let _echo = tool::serve(lab.public(), "udp-echo", "203.0.113.10:7");
        tool::run(lab.a(), &["udp-say", "203.0.113.10:7", "hello"]);
        let bindings = || {
            lab.router_a()
                .run("conntrack", &["-L", "-p", "udp", "--dport", "7"])
        };
        assert!(bindings().contains("dport=7"));
        wait::until(Duration::from_secs(4), "the binding to go", || {
            !bindings().contains("dport=7")
        });
    });
}

#[test]
fn two_labs_stand_side_by_side() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let (first, second) = (Lab::new(home, home), Lab::new(home, home));
        let _echo = tool::serve(first.public(), "tcp-echo", "203.0.113.10:7");
        let outcome =
            |lab: &Lab| tool::run(lab.a(), &["connect", "203.0.113.10:7"])["outcome"].clone();
        assert_eq!(
            [outcome(&first), outcome(&second)],
            ["connected", "refused"]
        );
    });
}

#[test]
fn a_lab_takes_down_what_it_made() {
    lab::test(|| {
        let names = || std::fs::read_dir("/run/netns").unwrap().count();
        let before = names();
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        assert_eq!(names(), before + 8);
        let folder = lab.folder().to_owned();
        drop(lab);
        assert_eq!((names(), folder.exists()), (before, false));
    });
}

#[test]
fn a_capture_holds_what_went_over_the_wire() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let _echo = tool::serve(lab.public(), "udp-echo", "203.0.113.10:7");
        let capture = lab.inet().capture("any");
        let said = tool::run(lab.a(), &["udp-say", "203.0.113.10:7", "plain-words"]);
        assert_eq!(said["answer"], "plain-words");
        let bytes = capture.finish();
        assert!(lab::capture::contains(&bytes, b"plain-words"));
        assert!(!lab::capture::contains(&bytes, b"never-said"));
    });
}

#[test]
fn a_meter_counts_what_a_home_sends_and_the_bindings_that_it_takes() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::Symmetric), Home::behind(Nat::Firewall));
        let meters = [lab.router_a(), lab.router_b()].map(Meter::start);
        let _observer = observer(&lab);
        probe(lab.a());
        let [home, other] = meters.each_ref().map(Meter::read);
        // Four addresses were asked; the tests of filtering ask the first one again.
        assert_eq!((home.bindings, home.too_fast), (4, 0));
        assert!((4..20).contains(&home.packets), "{home:?}");
        assert_eq!(other.packets, 0);
        probe(lab.b());
        assert_eq!(meters[1].read().bindings, 4, "a firewall has flows, too");
    });
}

/// Whether a plain simultaneous punch opens a path between `a` and `b`: DESIGN §5 without prediction and birthday.
fn punches(a: Home, b: Home) -> bool {
    punches_in(&Lab::new(a, b), Duration::ZERO)
}

/// The same in a lab that stands; home A begins later than home B.
fn punches_in(lab: &Lab, later: Duration) -> bool {
    let _observer = observer(lab);
    let server = format!("{}:{}", topology::PUBLIC_ONE, OBSERVER[2]);
    punches_between(lab, &server, later)
}

/// The same with an observer that is there already, over its address family.
fn punches_between(lab: &Lab, server: &str, later: Duration) -> bool {
    let [mut first, mut second] =
        [lab.b(), lab.a()].map(|host| tool::start(host, &["punch", server]));
    let reflexive = |process: &Process| {
        wait::until_some(Duration::from_secs(3), "a reflexive address", || {
            tool::reports(process)
                .first()
                .map(|report| report["reflexive"].clone())
        })
    };
    let addresses = [reflexive(&first), reflexive(&second)]
        .map(|address| address.as_str().unwrap_or("none").to_owned());
    first.write_line(&addresses[1]);
    wait::answer_within(later, || None::<()>);
    second.write_line(&addresses[0]);
    let ends = [first, second].map(|mut puncher| {
        let report = tool::finish(&mut puncher, Duration::from_secs(5));
        report["direct"].as_bool().unwrap()
    });
    assert_eq!(ends[0], ends[1], "both ends agree whether there is a path");
    ends[0]
}

#[test]
fn customers_of_one_carrier_reach_each_other_where_it_turns_their_packets_round() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        for nat in [Nat::FullConeRandom, Nat::PortRestricted] {
            for hairpin in [true, false] {
                let lab = Lab::behind_one_carrier(home, home, Carrier { nat, hairpin });
                assert_eq!(punches_in(&lab, Duration::ZERO), hairpin, "{nat:?}");
            }
        }
    });
}

#[test]
fn customers_of_one_carrier_are_seen_at_its_address() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let carrier = Carrier {
            nat: Nat::FullConeRandom,
            hairpin: true,
        };
        let lab = Lab::behind_one_carrier(home, home, carrier);
        let _observer = observer(&lab);
        let outside = lab.shared_carrier().unwrap().address().to_string();
        for host in [lab.a(), lab.b()] {
            let report = probe(host);
            assert_eq!(seen(&report)[0].0, outside, "{report}");
            assert_eq!(report["filtering"], APD, "the home's router filters");
        }
        assert_ne!(lab.router_a().address(), lab.router_b().address());
    });
}

#[test]
fn a_packet_that_comes_too_early_clashes_only_on_a_router_without_a_wan_firewall() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let early = Duration::from_millis(300);
        assert!(punches_in(&Lab::new(home, home), early));
        assert!(!punches_in(
            &Lab::new(home.without_wan_firewall(), home),
            early
        ));
    });
}

#[test]
fn a_plain_punch_opens_what_the_end_to_end_tests_expect_to_be_direct() {
    lab::test(|| {
        for (a, b) in [
            (Nat::PortRestricted, Nat::PortRestricted),
            (Nat::PortRestrictedRandom, Nat::Firewall),
            (Nat::Symmetric, Nat::AddressRestricted),
            (Nat::None, Nat::FullCone),
        ] {
            assert!(
                punches(Home::behind(a), Home::behind(b)),
                "{a:?} with {b:?}"
            );
        }
    });
}

#[test]
fn a_plain_punch_cannot_open_what_the_end_to_end_tests_expect_to_be_relayed() {
    lab::test(|| {
        for (a, b) in [
            (Nat::Symmetric, Nat::Symmetric),
            (Nat::Symmetric, Nat::PortRestricted),
            (Nat::UdpBlocked, Nat::PortRestricted),
            (Nat::UdpBlocked, Nat::UdpBlocked),
        ] {
            assert!(
                !punches(Home::behind(a), Home::behind(b)),
                "{a:?} with {b:?}"
            );
        }
    });
}
