//! Several servers of each kind: whichever of them are dead, silent or wrong, the first byte comes within three
//! seconds. On one machine, with the real programs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use stunfwd_tests::{
    artifacts,
    coturn::{Access, Coturn, USER},
    lab::Host,
    loopback::{free_address, free_port, machine, start_signaling},
    process::Process,
    product::{Config, Peer, Role, Signaling, path_kind},
    tool, wait,
};

/// The contract's bound for the first byte.
const START: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);
const ROOM: &str = "many-servers-4c1f09ab77d2e358";

/// Where nobody listens.
fn dead_url() -> String {
    format!("http://{}", free_address())
}

/// A server that takes connections and datagrams and never says a word.
struct Silent {
    address: String,
    _tcp: TcpListener,
    _udp: UdpSocket,
}

impl Silent {
    fn start() -> Self {
        let port = free_port();
        Self {
            address: format!("127.0.0.1:{port}"),
            _tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap(),
            _udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A web server that has none of our pages.
fn start_wrong_server() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let page = "<html>404: there is nothing here</html>";
            let _ = write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{page}",
                page.len()
            );
        }
    });
    format!("http://{address}")
}

/// A forwarded echo service.
struct Forwarded {
    _service: Process,
    near: String,
    spec: String,
}

impl Forwarded {
    fn start(host: &Host) -> Self {
        let (near, far) = (free_port(), free_port());
        Self {
            _service: tool::serve(host, "tcp-echo", &format!("127.0.0.1:{far}")),
            near: format!("127.0.0.1:{near}"),
            spec: format!("tcp:{near}:{far}"),
        }
    }

    fn config(&self, urls: &[&str]) -> Config {
        Config::new(ROOM, urls[0])
            .with_signaling(urls)
            .with_mappings(&[&self.spec])
    }

    fn assert_first_byte(&self, host: &Host, within: Duration) {
        let secs = within.as_secs_f64().to_string();
        tool::run(host, &["first-byte", &self.near, "--secs", &secs]);
    }
}

/// Starts a server and a client and asserts that the first byte is there in time.
fn assert_they_meet<'a>(
    host: &'a Host,
    forwarded: &Forwarded,
    server: &Config,
    client: &Config,
) -> [Peer<'a>; 2] {
    let started = wait::now();
    let server = Peer::start(Role::Server, host, server);
    let client = Peer::start(Role::Client, host, client);
    forwarded.assert_first_byte(host, START);
    let taken = started.elapsed();
    assert!(taken <= START, "the first byte took {taken:?}");
    [server, client]
}

fn reason(status: &Value) -> &str {
    status["reason"].as_str().unwrap_or_default()
}

#[test]
fn dead_silent_and_wrong_signaling_servers_cost_nothing() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (dead, silent, wrong) = (dead_url(), Silent::start(), start_wrong_server());
    let forwarded = Forwarded::start(&host);
    let live = signaling.url();
    let config = forwarded.config(&[&dead, &silent.url(), &wrong, &live]);
    let _peers = assert_they_meet(&host, &forwarded, &config, &config);
}

#[test]
fn peers_with_one_server_in_common_meet_there_and_each_says_which_do_not_answer() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (dead, other_dead, live) = (dead_url(), dead_url(), signaling.url());
    let forwarded = Forwarded::start(&host);
    let lonely = Peer::start(
        Role::Client,
        &host,
        &Config::new("somebody-elses-room-55aa0c13e9d7", &live).with_signaling(&[&dead, &live]),
    );
    lonely.await_status(PATIENCE, "the dead one to be named", |status| {
        reason(status).contains("waiting for a server in this room")
            && reason(status).contains(&dead)
    });
    let server = forwarded.config(&[&live, &dead]);
    let client = forwarded.config(&[&other_dead, &live]);
    let _peers = assert_they_meet(&host, &forwarded, &server, &client);
}

#[test]
fn peers_meet_when_the_first_server_dies_and_when_it_is_back_and_the_second_dies() {
    let (_folder, host) = machine();
    let (mut one, mut two) = (start_signaling(&host, &[]), start_signaling(&host, &[]));
    let urls = [one.url(), two.url()];
    let urls = [urls[0].as_str(), urls[1].as_str()];
    let forwarded = Forwarded::start(&host);
    let config = forwarded.config(&urls);
    let server = Peer::start(Role::Server, &host, &config);
    server.await_status(PATIENCE, "waiting for a client", |status| {
        reason(status).contains("waiting for a client")
    });
    one.process().kill();
    let mut client = Peer::start(Role::Client, &host, &config);
    forwarded.assert_first_byte(&host, START);
    assert_eq!(client.stop().code(), Some(0));
    one.start_again();
    // The server writes its slot again within about a second of the first one's return.
    wait::until(PATIENCE, "the first one to be watched again", || {
        one.get("/healthz").is_some()
            && !server
                .status()
                .is_some_and(|status| reason(&status).contains(urls[0]))
    });
    std::thread::sleep(Duration::from_secs(1));
    two.process().kill();
    client.start_again();
    forwarded.assert_first_byte(&host, START);
}

#[test]
fn a_silent_stun_server_does_not_spoil_what_the_other_says() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let info = signaling.get("/v1/info").unwrap();
    let live = info_of(&info)["stun"][0].as_str().unwrap().to_owned();
    let silent = Silent::start();
    let forwarded = Forwarded::start(&host);
    for list in [[&silent.address, &live], [&live, &silent.address]] {
        let line = format!(
            "stunServer: [\"{}\", \"nowhere.invalid:3478\", \"{}\"]",
            list[0], list[1]
        );
        let config = forwarded.config(&[&signaling.url()]).with_line(&line);
        let [mut server, mut client] = assert_they_meet(&host, &forwarded, &config, &config);
        client.await_status(PATIENCE, "a verdict", |status| {
            status["nat"]["type"] == "No NAT"
        });
        assert_eq!(client.stop().code(), Some(0));
        assert_eq!(server.stop().code(), Some(0));
    }
}

/// The JSON object of an answer's body, which may come as text.
fn info_of(answer: &Value) -> Value {
    let body = &answer["body"];
    body.as_str().map_or_else(
        || body.clone(),
        |text| serde_json::from_str(text).expect("the body is JSON"),
    )
}

/// The `relay` entries for a relay's own credentials, over UDP and TCP.
fn relay_lines(relay: &Signaling<'_>) -> String {
    let info = info_of(&relay.get("/v1/info").unwrap());
    let entries = info["turn"].as_array().unwrap().iter().map(|turn| {
        format!(
            "  - {{url: \"{}\", username: \"{}\", credential: \"{}\"}}\n",
            turn["url"].as_str().unwrap(),
            turn["username"].as_str().unwrap(),
            turn["credential"].as_str().unwrap()
        )
    });
    entries.collect()
}

#[test]
fn relays_of_the_configuration_are_used_and_a_silent_first_one_costs_nothing() {
    let (_folder, host) = machine();
    let (signaling, relay) = (
        start_signaling(&host, &["--no-relay"]),
        start_signaling(&host, &[]),
    );
    let silent = Silent::start();
    let forwarded = Forwarded::start(&host);
    let relays = format!(
        "relay:\n  - {{url: \"turn:{}\", username: \"me\", credential: \"mine\"}}\n{}",
        silent.address,
        relay_lines(&relay)
    );
    let config = forwarded
        .config(&[&signaling.url()])
        .with_line("direct: false")
        .with_line(&relays);
    let [_server, client] = assert_they_meet(&host, &forwarded, &config, &config);
    assert_eq!(path_kind(&client.await_connected(PATIENCE)), Some("relay"));
}

#[test]
fn new_connections_go_through_the_other_relay_when_one_dies() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &["--no-relay"]);
    let mut relays = [start_signaling(&host, &[]), start_signaling(&host, &[])];
    let lines: String = relays.iter().map(relay_lines).collect();
    let forwarded = Forwarded::start(&host);
    let config = forwarded
        .config(&[&signaling.url()])
        .with_line("direct: false")
        .with_line(&format!("relay:\n{lines}"));
    let _peers = assert_they_meet(&host, &forwarded, &config, &config);
    relays[0].process().kill();
    forwarded.assert_first_byte(&host, START);
}

#[test]
fn signaling_on_ipv6_alone_is_enough_and_on_both_serves_both() {
    let (_folder, host) = machine();
    let port = free_port();
    let signaling = Signaling::start_with(&host, &format!("[::]:{port}"), &[&free_address()], &[]);
    let forwarded = Forwarded::start(&host);
    let server = forwarded.config(&[&format!("http://[::1]:{port}")]);
    let client = forwarded.config(&[&format!("http://127.0.0.1:{port}")]);
    let _peers = assert_they_meet(&host, &forwarded, &server, &client);
    drop(signaling);
}

#[test]
fn signaling_on_ipv6_alone_relays_as_well() {
    let (_folder, host) = machine();
    let [listen, stun] = [(); 2].map(|()| format!("[::1]:{}", free_port()));
    let labs = ["--relay-allow", "::1/128"];
    let signaling = Signaling::start_with(&host, &listen, &[&stun], &labs);
    let forwarded = Forwarded::start(&host);
    let config = forwarded
        .config(&[&signaling.url()])
        .with_line("direct: false");
    let peers = assert_they_meet(&host, &forwarded, &config, &config);
    for peer in &peers {
        let status = peer.await_kind(START, "relay");
        let remote = &status["peers"][0]["path"]["remote"];
        assert!(remote.as_str().unwrap().starts_with("[::1]:"), "{status:#}");
    }
}

#[test]
fn a_script_whose_origin_is_a_signaling_server_of_ours_works_and_another_is_explained() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let forwarded = Forwarded::start(&host);
    let ours = format!("{}/stunfwd/signal.php", signaling.url());
    let config = forwarded.config(&[&ours]);
    let _peers = assert_they_meet(&host, &forwarded, &config, &config);
    let theirs = format!("{}/signal.php", start_wrong_server());
    let lost = Peer::start(Role::Client, &host, &Config::new(ROOM, &theirs));
    lost.await_status(PATIENCE, "the script to be named", |status| {
        reason(status).contains("PHP script")
    });
}

#[test]
fn a_relay_is_reached_over_tls_and_its_name_is_checked() {
    let (folder, host) = machine();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-days",
            "1",
            "-subj",
            "/CN=lab",
        ])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let (port, tls_port) = (free_port(), free_port());
    let tls_flag = format!("--tls-listening-port={tls_port}");
    let (cert_flag, key_flag) = (format!("--cert={certificate}"), format!("--pkey={key}"));
    let flags = ["--allow-loopback-peers", &tls_flag, &cert_flag, &key_flag];
    let _coturn = Coturn::start_at(&host, &["127.0.0.1"], port, Access::StaticUser, &flags);
    let signaling = start_signaling(&host, &["--no-relay"]);
    let forwarded = Forwarded::start(&host);
    let (user, password) = USER;
    let start = |role: Role, name: &str, relay_host: &str| {
        let config = file(&format!("{name}.yml"));
        let mappings = match role {
            Role::Client => format!("mappings: [\"{}\"]\n", forwarded.spec),
            Role::Server => String::new(),
        };
        let text = format!(
            "roomId: {ROOM}\nsignalingUrl: {}\ndirect: false\n{mappings}relay:\n  \
             - {{url: \"turns:{relay_host}:{tls_port}\", username: {user}, credential: {password}}}\n",
            signaling.url()
        );
        fs::write(&config, text).unwrap();
        let (state, control) = (
            file(&format!("{name}.state")),
            file(&format!("{name}.sock")),
        );
        host.spawn(
            artifacts::program(role.program()),
            &[
                "--config",
                &config,
                "--control",
                &control,
                "--state-dir",
                &state,
            ],
            &[("SSL_CERT_FILE", &certificate)],
        )
    };
    let wrong = start(Role::Client, "wrong", "localhost");
    wait::until(PATIENCE, "the wrong name to be refused", || {
        wrong.stderr().contains("over tls")
    });
    drop(wrong);
    let _server = start(Role::Server, "server", "127.0.0.1");
    let _client = start(Role::Client, "client", "127.0.0.1");
    forwarded.assert_first_byte(&host, START);
    let status = Command::new(artifacts::program("stunfwd-client"))
        .args(["status", "--json", "--control", &file("client.sock")])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["peers"][0]["path"]["transport"], "tls", "{status:#}");
}
