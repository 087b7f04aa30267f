//! The mapping table of running programs changes: over the control socket, as an outside program asks for it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stunfwd_tests::{
    lab::Host,
    loopback::{Forwarded, forward, free_port, machine, start_signaling},
    product::{Config, Peer, Role},
    tool, wait,
};

/// What takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(20);
const ROOM: &str = "table-heron-9e41c07ab35d28f6";

#[test]
fn a_mapping_is_added_and_removed_while_another_carries_a_transfer() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (stays, goes) = (
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
    );
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&stays.spec, &goes.spec]);
    let server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let transfer = Transfer::start(&stays.near);
    transfer.await_progress();

    let hot = forward(&host, "udp", "udp-echo");
    let changed = change(&client, &[&hot.spec], json!([]));
    assert_eq!(
        [&changed["outcome"], &changed["version"]],
        [&json!("committed"), &json!(2)]
    );
    let row = &changed["added"][0];
    assert_eq!(
        [&row["spec"], &row["state"], &row["index"]],
        [&json!(hot.spec), &json!("active"), &json!(2)]
    );
    let via = row["via"].as_str().unwrap();
    assert!(via.starts_with("lan, "), "{via}");
    let report = tool::run(&host, &["udp-check", &hot.near, "--count", "50"]);
    assert_eq!([&report["received"], &report["corrupt"]], [50, 0]);

    let mut open = TcpStream::connect(&goes.near).unwrap();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let list = client.ask(&json!({"cmd": "map-list"}));
    assert_eq!(list["mappings"].as_array().unwrap().len(), 3);
    assert!(list["config"].as_str().unwrap().ends_with(".yml"), "{list}");
    let changed = change(&client, &[], json!([hot.spec, 1]));
    assert_eq!(changed["outcome"], "committed");
    assert_eq!(changed["removed"], json!([hot.spec, goes.spec]));
    assert_eq!(changed["mappings"].as_array().unwrap().len(), 1);
    // Closed when the command has answered, not some time later.
    assert!(UdpSocket::bind(&hot.near).is_ok(), "its port is free");
    assert!(TcpStream::connect(&goes.near).is_err(), "nobody listens");
    let ended = open.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));

    transfer.await_progress();
    transfer.finish();
    for peer in [&client, &server] {
        let status = peer.status().unwrap();
        assert_eq!(status["mappingVersion"], 3, "{status:#}");
        assert_eq!(status["mappings"].as_array().unwrap().len(), 1);
        assert_eq!(status["mappings"][0]["spec"], json!(stays.spec));
    }
    let flows = |status: &Value| status["process"]["flows"] == 0;
    client.await_status(PATIENCE, "no flow left", flows);
    server.await_status(PATIENCE, "no flow left", flows);
}

#[test]
fn a_mapping_that_the_server_refuses_is_in_error_and_holds_back_no_other() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (good, more, bad) = (
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
    );
    let allow = [good.far.as_str(), more.far.as_str()].map(|far| format!("tcp:{far}"));
    let config = Config::new(ROOM, &signaling.url())
        .with_mappings(&[&good.spec])
        .with_allow(&[&allow[0], &allow[1]]);
    let server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let changed = change(&client, &[&bad.spec, &more.spec], json!([]));
    assert_eq!(changed["outcome"], "committed");
    let [refused, accepted] = [&changed["added"][0], &changed["added"][1]];
    assert_eq!([&refused["state"], &accepted["state"]], ["error", "active"]);
    assert_eq!(refused["via"], Value::Null);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("allow"), "{error}");
    assert!(TcpStream::connect(&bad.near).is_err(), "nobody listens");
    for forwarded in [&good, &more] {
        assert_eq!(say(&host, forwarded), "hello");
    }
    let status = server.status().unwrap();
    assert_eq!(status["mappings"][1]["state"], "error", "{status:#}");
    assert_eq!(
        status["mappings"][1]["error"].as_str(),
        Some(error),
        "both ends give the same reason"
    );
    let list = server.ask(&json!({"cmd": "map-list"}));
    assert_eq!(list["mappings"].as_array().unwrap().len(), 3, "{list}");
}

#[test]
fn a_port_that_another_program_has_makes_the_mapping_an_error_until_it_is_free() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (kept, hot) = (
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
    );
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&kept.spec]);
    let _server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let other = TcpListener::bind(&hot.near).unwrap();
    let changed = change(&client, &[&hot.spec], json!([]));
    assert_eq!(changed["outcome"], "committed");
    assert_eq!(changed["added"][0]["state"], "error");
    let error = changed["added"][0]["error"].as_str().unwrap();
    assert!(error.contains(&hot.near), "{error}");
    assert_eq!(say(&host, &kept), "hello");
    drop(other);
    client.await_status(PATIENCE, "the mapping to become active", |status| {
        status["mappings"][1]["state"] == "active"
    });
    assert_eq!(say(&host, &hot), "hello");
}

#[test]
fn what_is_changed_without_a_server_is_staged_and_in_force_when_one_comes_and_comes_again() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (of_the_file, hot) = (
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "tcp", "tcp-echo"),
    );
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&of_the_file.spec]);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_status(PATIENCE, "an answer", |_| true);
    let changed = change(&client, &[&hot.spec], json!([0]));
    assert_eq!(
        [&changed["outcome"], &changed["added"][0]["state"]],
        ["staged", "pending"]
    );
    let list = client.ask(&json!({"cmd": "map-list"}));
    assert_eq!(
        [&list["version"], &list["committed"], &list["peer"]],
        [&json!(2), &Value::Null, &json!(false)]
    );
    assert!(TcpStream::connect(&of_the_file.near).is_err(), "it is gone");
    assert!(TcpStream::connect(&hot.near).is_ok(), "it is open");

    let mut server = Peer::start(Role::Server, &host, &config);
    assert_eq!(say(&host, &hot), "hello");
    assert_eq!(client.await_connected(PATIENCE)["mappingVersion"], 2);

    // Another run of the server knows nothing: it gets the present table, not that of the file.
    server.process().kill();
    let third = forward(&host, "tcp", "tcp-echo");
    let changed = client.ask(&json!({"cmd": "map-change", "add": [third.spec]}));
    assert_eq!(changed["version"], 3, "{changed}");
    // It was killed, so its name is in the room for minutes; nobody is connected all the same.
    assert_eq!(changed["outcome"], "staged");
    server.start_again();
    for forwarded in [&hot, &third] {
        assert_eq!(say(&host, forwarded), "hello");
    }
    let status = server.await_connected(PATIENCE);
    assert_eq!(status["mappings"].as_array().unwrap().len(), 2);
    assert_eq!(status["mappingVersion"], 3);
}

#[test]
fn what_cannot_be_changed_is_refused_with_the_reason_and_changes_nothing() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let (first, second) = (free_port(), free_port());
    let spec = format!("tcp:{first}:22");
    let config = Config::new(ROOM, &signaling.url()).with_mappings(&[&spec]);
    let server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let good = format!("tcp:{second}:22");
    let taken = format!("tcp:0.0.0.0:{first}:80");
    for (request, expected) in [
        (
            json!({"cmd": "map-change", "add": [good, taken]}),
            format!("0.0.0.0:{first} is already taken by `{spec}`"),
        ),
        (
            json!({"cmd": "map-change", "add": [good, "udp:70000:80"]}),
            "`udp:70000:80`: port 70000 is above 65535".to_owned(),
        ),
        (
            json!({"cmd": "map-change", "add": [good], "remove": [1]}),
            "there is no mapping 1: the only one is 0".to_owned(),
        ),
        (
            json!({"cmd": "map-change", "add": good}),
            "map-change takes lists".to_owned(),
        ),
    ] {
        let answer = client.ask(&request);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(&expected), "{error}");
    }
    let list = client.ask(&json!({"cmd": "map-list"}));
    assert_eq!([&list["version"], &list["committed"]], [1, 1]);
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, second)).is_ok());
    let answer = server.ask(&json!({"cmd": "map-change", "remove": [0]}));
    assert_eq!(
        answer["error"],
        "mappings belong to the client: change them there"
    );
}

#[track_caller]
fn change(client: &Peer<'_>, add: &[&str], remove: Value) -> Value {
    let answer = client.ask(&json!({"cmd": "map-change", "add": add, "remove": remove}));
    assert_eq!(answer["error"], Value::Null, "{answer}");
    answer
}

/// Says hello, for as long as it takes until the connection is answered.
fn say(host: &Host, forwarded: &Forwarded) -> String {
    let said = tool::run(host, &["say", &forwarded.near, "hello", "--secs", "25"]);
    said["answer"].as_str().unwrap_or_default().to_owned()
}

/// One connection through an echo service, on which bytes pass both ways until [`Transfer::finish`].
struct Transfer {
    enough: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<[u8; 32]>,
    receiver: JoinHandle<[u8; 32]>,
}

impl Transfer {
    fn start(near: &str) -> Self {
        let mut receiving = TcpStream::connect(near).unwrap();
        let mut sending = receiving.try_clone().unwrap();
        let (enough, received) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stop, counted) = (Arc::clone(&enough), Arc::clone(&received));
        let sender = thread::spawn(move || {
            let (mut hash, mut word) = (Sha256::new(), 1_u32);
            while !stop.load(Ordering::Relaxed) {
                let block: Vec<u8> = (0..16_384)
                    .flat_map(|_| {
                        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        word.to_be_bytes()
                    })
                    .collect();
                hash.update(&block);
                sending.write_all(&block).unwrap();
            }
            sending.shutdown(Shutdown::Write).unwrap();
            hash.finalize().into()
        });
        let receiver = thread::spawn(move || {
            let (mut hash, mut block) = (Sha256::new(), vec![0; 65_536]);
            loop {
                let length = receiving.read(&mut block).unwrap();
                if length == 0 {
                    return hash.finalize().into();
                }
                hash.update(&block[..length]);
                counted.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Self {
            enough,
            received,
            sender,
            receiver,
        }
    }

    /// Waits until another megabyte has come back.
    fn await_progress(&self) {
        let enough = self.received.load(Ordering::Relaxed) + 1_000_000;
        wait::until(PATIENCE, "the transfer to go on", || {
            self.received.load(Ordering::Relaxed) >= enough
        });
    }

    /// Ends it: what was sent has come back, every byte once and in order.
    fn finish(self) {
        self.enough.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        assert_eq!(self.receiver.join().unwrap(), sent, "the sha256 of both");
    }
}
