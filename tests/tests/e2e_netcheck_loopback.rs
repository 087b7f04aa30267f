//! `netcheck` on this machine as it is: whom it asks, what it prints, how it ends. What it says of NATs is for the lab.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, net::UdpSocket, time::Duration};

use serde_json::Value;
use stunfwd_tests::{
    artifacts,
    loopback::{free_address, machine, start_signaling},
    process::Process,
    product::Signaling,
    wait,
};

/// 2 s on a clean network (issue 4), and a debug build on a machine that is busy with other tests.
const CLEAN: Duration = Duration::from_secs(6);
/// A silent network is known after 3 s; the gateway and the resolver are waited for meanwhile.
const SILENT: Duration = Duration::from_secs(10);

/// Runs it to its end: exit status, standard output, standard error.
fn netcheck(
    host: &stunfwd_tests::lab::Host,
    program: &str,
    words: &[&str],
    patience: Duration,
) -> (i32, String, String) {
    let args: Vec<&str> = ["netcheck"].iter().chain(words).copied().collect();
    let mut process: Process = host.spawn(artifacts::program(program), &args, &[]);
    let status = process.wait(patience);
    let status = status.unwrap_or_else(|| panic!("{args:?} is still running"));
    (status.code().unwrap(), process.stdout(), process.stderr())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn both_programs_tell_the_network_as_json_and_nothing_else() {
    let (_folder, host) = machine();
    let stun = free_address();
    let _signaling = Signaling::start_with(&host, &free_address(), &[&stun], &[]);
    for program in ["stunfwd-client", "stunfwd-server"] {
        let words = ["--json", "--stun", &stun];
        let (code, answer, log) = netcheck(&host, program, &words, CLEAN);
        assert_eq!((code, log.as_str()), (0, ""), "{answer}");
        let report = json(&answer);
        assert_eq!(report["type"], "No NAT", "{report:#}");
        assert_eq!(report["udp"], true);
        assert_eq!(report["bindingLifetimeSecs"], Value::Null);
        for member in ["mapping", "filtering", "ports"] {
            assert!(report[member].is_string(), "{member}: {report:#}");
        }
        assert!(report["ipv6"].is_boolean() || report["ipv6"].is_null());
        for protocol in ["pcp", "natPmp", "upnp"] {
            assert!(report["portMapping"].get(protocol).is_some(), "{report:#}");
        }
        assert_eq!(report["nat"]["type"], report["type"]);
        let public = report["public"][0].as_str().unwrap();
        assert!(public.starts_with("127.0.0.1:"), "{report:#}");
        let [server] = &report["servers"].as_array().unwrap()[..] else {
            panic!("one server was named: {report:#}");
        };
        assert_eq!(server["server"], stun.as_str());
        assert!(server["rttMs"].as_f64().unwrap() < 1000.0, "{report:#}");
        let with = report["direct"]["with"].as_array().unwrap();
        assert!(!with.is_empty(), "{report:#}");
    }
}

#[test]
fn the_table_says_with_whom_direct_connections_will_work() {
    let (_folder, host) = machine();
    let stun = free_address();
    let _signaling = Signaling::start_with(&host, &free_address(), &[&stun], &[]);
    let (code, answer, _) = netcheck(&host, "stunfwd-client", &["--stun", &stun], CLEAN);
    assert_eq!(code, 0);
    assert!(answer.starts_with("NAT: No NAT ("), "{answer}");
    for line in [
        format!("{stun}: "),
        "Direct connections will work with peers behind:\n  no NAT: at once\n".to_owned(),
        "  a network that blocks UDP".to_owned(),
    ] {
        assert!(answer.contains(&line), "{line:?} is missing in {answer}");
    }
    assert!(
        !answer.contains('\x1b'),
        "no terminal was there: {answer:?}"
    );
}

#[test]
fn the_servers_of_a_configuration_are_its_own_or_what_signaling_offers() {
    let (folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let other = free_address();
    let _other = Signaling::start_with(&host, &free_address(), &[&other], &[]);
    let file = folder.path().join("named.yml");
    let config = format!(
        "roomId: netcheck-room-77d1f0b7a93c2e86\nsignalingUrl: {}\n",
        signaling.url()
    );
    let asked = |text: &str| {
        fs::write(&file, text).unwrap();
        let words = ["--json", "--config", file.to_str().unwrap()];
        let (code, answer, log) = netcheck(&host, "stunfwd-client", &words, CLEAN);
        assert_eq!(code, 0, "{log}");
        let report = json(&answer);
        assert_eq!(report["udp"], true, "{report:#}");
        report["servers"][0]["server"].as_str().unwrap().to_owned()
    };
    let offered = json(signaling.get("/v1/info").unwrap()["body"].as_str().unwrap());
    assert_eq!(asked(&config), offered["stun"][0].as_str().unwrap());
    assert_eq!(asked(&format!("{config}stunServer: {other}\n")), other);

    fs::write(&file, "roomId: \"\"\n").unwrap();
    let words = ["--json", "--config", file.to_str().unwrap()];
    let (code, answer, message) = netcheck(&host, "stunfwd-client", &words, CLEAN);
    assert_eq!((code, answer.as_str()), (2, ""), "{message}");
    assert!(message.contains("named.yml"), "{message}");
}

#[test]
fn a_network_that_answers_nothing_is_an_answer() {
    let (_folder, host) = machine();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stun = silent.local_addr().unwrap().to_string();
    let begun = wait::now();
    let words = ["--json", "--stun", &stun];
    let (code, answer, _) = netcheck(&host, "stunfwd-client", &words, SILENT);
    let report = json(&answer);
    assert_eq!(code, 0);
    assert_eq!(report["type"], "UDP Blocked", "{report:#}");
    assert_eq!(report["udp"], false);
    assert_eq!(report["servers"][0]["rttMs"], Value::Null, "{report:#}");
    assert_eq!(report["servers"][0]["answered"], false, "{report:#}");
    assert_eq!(report["direct"]["with"], Value::Array(Vec::new()));
    assert!(begun.elapsed() >= Duration::from_secs(2), "it did wait");
}
