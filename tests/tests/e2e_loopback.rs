//! The three programs on one machine, without a lab and without privileges: mappings, status, errors, exit codes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use stunfwd_tests::{
    loopback::{Forwarded, forward, free_port, machine, start_signaling},
    product::{Config, Peer, Role, run_to_end},
    tool, wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
const ROOM: &str = "loopback-heron-20b7c4d9e8f1a365";

#[test]
fn the_log_says_when_no_path_is_left_and_when_one_is_there_again() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let echo = forward(&host, "tcp", "tcp-echo");
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&echo.spec]);
    let mut server = Peer::start(Role::Server, &host, &config);
    let mut client = Peer::start(Role::Client, &host, &config);
    client.await_kind(PATIENCE, "lan");
    let mut said = |line: &str| client.process().stderr().matches(line).count();
    server.process().freeze();
    // Something must be unanswered: an idle path is asked after twenty-odd seconds only.
    let mut stream = TcpStream::connect(&echo.near).unwrap();
    stream.write_all(b"hello").unwrap();
    wait::until(PATIENCE, "the end of the last path to be told", || {
        said("no path to the server is left") == 1
    });
    server.process().signal("CONT");
    wait::until(PATIENCE, "the next path to be told", || {
        said("connected to the server over ") == 2
    });
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn tcp_and_udp_are_forwarded_between_two_programs_on_one_machine() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let [exchange, digest, echo] =
        ["tcp-exchange", "tcp-digest", "tcp-echo"].map(|service| forward(&host, "tcp", service));
    let udp = forward(&host, "udp", "udp-echo");
    let specs = [&exchange, &digest, &echo, &udp].map(|forwarded| forwarded.spec.as_str());
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&specs);
    let mut server = Peer::start(Role::Server, &host, &config);
    let mut client = Peer::start(Role::Client, &host, &config);
    client.await_kind(PATIENCE, "lan");
    server.await_kind(PATIENCE, "lan");
    client.await_connected(PATIENCE);

    let bytes = "4000000";
    tool::run(
        &host,
        &["transfer", &exchange.near, "--up", bytes, "--down", bytes],
    );
    tool::run(&host, &["half-close", &digest.near]);
    assert_eq!(
        tool::run(&host, &["say", &echo.near, "hello"])["answer"],
        "hello"
    );
    let report = tool::run(
        &host,
        &[
            "udp-check",
            &udp.near,
            "--count",
            "100",
            "--max",
            "65507",
            "--interval-us",
            "20000",
        ],
    );
    assert_eq!(
        [&report["received"], &report["corrupt"]],
        [100, 0],
        "{report}"
    );

    let status = client.status().unwrap();
    assert_is_contract_status(&status, "client");
    assert_eq!(status["mappings"].as_array().unwrap().len(), 4);
    for (index, spec) in specs.iter().enumerate() {
        let mapping = &status["mappings"][index];
        assert_eq!(
            [&mapping["index"], &mapping["spec"]],
            [&Value::from(index), &Value::from(*spec)]
        );
        assert_eq!(
            [&mapping["state"], &mapping["error"]],
            [&Value::from("active"), &Value::Null]
        );
        assert!(mapping["bytesIn"].as_u64() > Some(0), "{mapping}");
        assert!(mapping["bytesOut"].as_u64() > Some(0), "{mapping}");
    }
    let moved = status["peers"][0]["bytesIn"].as_u64();
    assert!(moved >= Some(4_000_000), "{status:#}");
    assert_is_contract_status(&server.status().unwrap(), "server");
    assert_eq!(
        [client.stop().code(), server.stop().code()],
        [Some(0), Some(0)]
    );
}

/// Every field that CONTRACT names, with its type.
fn assert_is_contract_status(status: &Value, role: &str) {
    let one_of = |value: &Value, words: &[&str], what: &str| {
        assert!(
            words.iter().any(|word| value == word),
            "{what} is {value} in {status:#}"
        );
    };
    assert_eq!(status["role"], role);
    assert!(status["version"].is_string(), "{status:#}");
    one_of(&status["state"], &["connected"], "state");
    assert!(
        status["reason"].is_null() || status["reason"].is_string(),
        "{status:#}"
    );
    let nat = &status["nat"];
    one_of(
        &nat["type"],
        &[
            "No NAT",
            "Full Cone NAT",
            "Restricted Cone NAT",
            "Port Restricted Cone NAT",
            "Symmetric NAT",
            "UDP Blocked",
            "Unknown",
        ],
        "nat.type",
    );
    let behaviours = [
        "endpoint-independent",
        "address-dependent",
        "address-and-port-dependent",
        "unknown",
    ];
    one_of(&nat["mapping"], &behaviours, "nat.mapping");
    one_of(&nat["filtering"], &behaviours, "nat.filtering");
    assert!(nat["public"].is_array(), "{status:#}");
    assert!(
        nat["hairpin"].is_null() || nat["hairpin"].is_boolean(),
        "{status:#}"
    );
    one_of(
        &nat["ports"],
        &["preserving", "sequential", "random", "unknown"],
        "nat.ports",
    );
    assert!(status["mappingVersion"].is_u64(), "{status:#}");
    assert!(status["mappings"].is_array(), "{status:#}");

    let peer = &status["peers"][0];
    assert!(peer["id"].is_string(), "{status:#}");
    one_of(&peer["state"], &["connected"], "peers[0].state");
    assert!(peer["tcpLane"].is_null(), "{status:#}");
    for count in ["bytesIn", "bytesOut", "pathChanges"] {
        assert!(peer[count].is_u64(), "{count} in {status:#}");
    }
    let path = &peer["path"];
    one_of(&path["kind"], &["lan", "direct", "relay"], "path.kind");
    one_of(&path["transport"], &["udp", "tcp", "tls"], "path.transport");
    let vias = [
        "host",
        "server-reflexive",
        "peer-reflexive",
        "port-mapped",
        "predicted",
        "birthday",
        "relayed",
    ];
    one_of(&path["via"], &vias, "path.via");
    for end in ["local", "remote"] {
        let address = path[end].as_str().unwrap_or_default();
        assert!(
            address.parse::<std::net::SocketAddr>().is_ok(),
            "{end} in {status:#}"
        );
    }
    assert!(
        path["rttMs"].is_number() && path["sinceMs"].is_u64(),
        "{status:#}"
    );
    for mapping in status["mappings"].as_array().unwrap() {
        assert!(
            mapping["listen"].is_string() && mapping["connections"].is_u64(),
            "{status:#}"
        );
    }
}

#[test]
fn a_listening_port_is_open_before_there_is_a_peer_and_waits() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let echo = forward(&host, "tcp", "tcp-echo");
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&echo.spec]);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_status(PATIENCE, "waiting for a peer", |status| {
        status["state"] == "waiting" && status["reason"].is_string()
    });
    let mut early = tool::start(&host, &["say", &echo.near, "early", "--secs", "20"]);
    assert!(
        early.wait(Duration::from_secs(1)).is_none(),
        "the connection waits"
    );
    let _server = Peer::start(Role::Server, &host, &config);
    assert_eq!(tool::finish(&mut early, PATIENCE)["answer"], "early");
}

#[test]
fn a_port_that_nobody_serves_resets_the_connection() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (near, far) = (free_port(), free_port());
    let spec = format!("tcp:{near}:{far}");
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&spec]);
    let _server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let said = tool::run(&host, &["say", &format!("127.0.0.1:{near}"), "anybody?"]);
    assert_eq!(said["end"], "reset", "{said}");
}

#[test]
fn two_clients_share_one_server_and_one_room() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (first, second) = (
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
    );
    let config = |forwarded: &Forwarded| {
        Config::new(ROOM, &signaling.url()).with_mappings(&[&forwarded.spec])
    };
    let server = Peer::start(Role::Server, &host, &Config::new(ROOM, &signaling.url()));
    let clients =
        [&first, &second].map(|forwarded| Peer::start(Role::Client, &host, &config(forwarded)));
    for (client, forwarded) in clients.iter().zip([&first, &second]) {
        client.await_connected(PATIENCE);
        assert_eq!(
            tool::run(&host, &["say", &forwarded.near, "hello"])["answer"],
            "hello"
        );
    }
    server.await_status(PATIENCE, "two peers", |status| {
        status["peers"]
            .as_array()
            .is_some_and(|peers| peers.len() == 2)
    });
}

#[test]
fn info_offers_stun_and_time_limited_turn_credentials() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let answer = signaling.get("/v1/info").unwrap();
    let info: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert!(info["version"].is_string(), "{info}");
    assert!(info["stun"][0].is_string(), "{info}");
    let turn = &info["turn"][0];
    assert!(
        turn["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("turn:")),
        "{info}"
    );
    assert!(
        turn["username"].is_string() && turn["credential"].is_string(),
        "{info}"
    );
}

/// Runs a program with a bad configuration: nothing starts, the exit status is 2, and the message is returned.
#[track_caller]
fn refused(role: Role, yaml: &str) -> String {
    let (folder, host) = machine();
    let file = folder.path().join("bad.yml");
    fs::write(&file, yaml).unwrap();
    let (control, state) = (
        folder.path().join("control.sock"),
        folder.path().join("state"),
    );
    let text = |path: &Path| path.display().to_string();
    let args = [
        "--config",
        &text(&file),
        "--control",
        &text(&control),
        "--state-dir",
        &text(&state),
    ];
    let (status, stdout, stderr) = run_to_end(&host, role.program(), &args);
    assert_eq!((status.code(), stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(!control.exists(), "nothing was started");
    stderr
}

#[test]
fn every_problem_of_a_configuration_is_named_with_its_file_line_key_and_value() {
    let message = refused(
        Role::Client,
        "roomId: some-room\nsignalingURL: http://127.0.0.1:1\nmappings:\n  - udp:70000:80\n  - sctp:1:2\n",
    );
    for part in [
        "bad.yml:2",
        "signalingURL",
        "signalingUrl",
        "bad.yml:4",
        "70000",
        "bad.yml:5",
        "sctp",
    ] {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn a_mode_that_contradicts_the_program_is_refused() {
    let yaml = "mode: server\nroomId: some-room\nsignalingUrl: http://127.0.0.1:1\n";
    let message = refused(Role::Client, yaml);
    assert!(
        message.contains("mode") && message.contains("bad.yml:1"),
        "{message}"
    );
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    let yaml = "roomId: some-room\nsignalingUrl: http://127.0.0.1:1\ntcpLane: true\n";
    let message = refused(Role::Server, yaml);
    assert!(
        message.contains("tcpLane") && message.contains("not yet in this version"),
        "{message}"
    );
}

#[test]
fn bad_usage_is_status_two_and_help_and_version_are_status_zero() {
    let (_folder, host) = machine();
    for program in ["stunfwd-client", "stunfwd-server", "stunfwd-signaling"] {
        let (status, _, stderr) = run_to_end(&host, program, &["--no-such-flag"]);
        assert_eq!(status.code(), Some(2), "{program}: {stderr}");
        for flag in ["--help", "--version"] {
            let (status, stdout, stderr) = run_to_end(&host, program, &[flag]);
            assert_eq!(status.code(), Some(0), "{program} {flag}: {stderr}");
            assert!(!stdout.is_empty(), "{program} {flag}");
        }
    }
}

#[test]
fn a_missing_configuration_is_bad_usage() {
    let (folder, host) = machine();
    let file = folder.path().join("absent.yml").display().to_string();
    let (status, _, stderr) = run_to_end(&host, "stunfwd-server", &["--config", &file]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("absent.yml"), "{stderr}");
}

#[test]
fn with_json_logs_the_reason_of_the_end_is_json_too() {
    let (folder, host) = machine();
    let file = folder.path().join("wrong.yml").display().to_string();
    fs::write(&file, "roomid: x\n").unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (program, flag, value, exit, reason) in [
        ("stunfwd-client", "--config", file.as_str(), 2, "roomid"),
        ("stunfwd-server", "--config", &file, 2, "roomid"),
        ("stunfwd-signaling", "--listen", &taken, 1, &taken),
    ] {
        let args = [flag, value, "--log-format", "json"];
        let (status, _, stderr) = run_to_end(&host, program, &args);
        assert_eq!(status.code(), Some(exit), "{stderr}");
        let last = stderr.lines().last().unwrap();
        let last: Value = serde_json::from_str(last).expect(&stderr);
        assert_eq!(last["level"], "ERROR", "{stderr}");
        assert!(
            last["message"].as_str().unwrap().contains(reason),
            "{stderr}"
        );
    }
}

#[test]
fn secrets_are_in_no_log() {
    let (folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let echo = forward(&host, "tcp", "tcp-echo");
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&echo.spec]);
    let server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    server.await_connected(PATIENCE);
    let mut logs = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "err" || extension == "out")
        {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains(ROOM), "{} names the room", path.display());
            logs += usize::from(!text.is_empty());
        }
    }
    assert!(logs >= 2, "both programs say what they do");
}
