//! Hostile timings: who comes back when, who takes over from whom, and how fast everybody stops. On one machine,
//! without a lab and without privileges.

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    loopback::{free_port, machine, start_signaling},
    product::{Config, Peer, Role, Signaling, first_byte},
    tool,
};

const PATIENCE: Duration = Duration::from_secs(10);
const ROOM: &str = "timing-heron-20b7c4d9e8f1a365";

fn config(url: &str) -> Config {
    Config::new(ROOM, url).with_mappings(&[&format!("tcp:{}:{}", free_port(), free_port())])
}

fn reason(status: &Value) -> &str {
    status["reason"].as_str().unwrap_or_default()
}

#[test]
fn peers_that_waited_for_signaling_connect_soon_after_it_came() {
    let (_folder, host) = machine();
    let (listen, stun) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let listen = format!("127.0.0.1:{listen}");
    let config = config(&format!("http://{listen}"));
    let _server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_status(PATIENCE, "waiting for signaling", |status| {
        reason(status).contains("waiting for signaling")
    });
    // Long enough that every back-off has grown to its largest.
    std::thread::sleep(Duration::from_secs(4));
    let _signaling = Signaling::start_with(&host, &listen, &[&stun], &[]);
    client.await_connected(Duration::from_secs(2));
}

#[test]
fn a_refused_server_says_why_and_takes_over_when_the_other_stops() {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let config = config(&signaling.url());
    let mut first = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    let second = Peer::start(Role::Server, &host, &config);
    second.await_status(PATIENCE, "refused", |status| {
        reason(status).contains("another server")
    });
    // Its pause between attempts has grown to seconds by then.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(first.stop().code(), Some(0));
    second.await_connected(Duration::from_secs(2));
    let status = client.await_connected(PATIENCE);
    assert_eq!(status["peers"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(second.status().unwrap()["reason"], Value::Null);
}

#[test]
fn a_relay_that_was_restarted_with_another_secret_is_used_again() {
    let (_folder, host) = machine();
    let mut signaling = start_signaling(&host, &[]);
    let (near, far) = (free_port(), free_port());
    let _service = tool::serve(&host, "tcp-echo", &format!("127.0.0.1:{far}"));
    let config = Config::new(ROOM, &signaling.url())
        .with_mappings(&[&format!("tcp:{near}:{far}")])
        .with_line("direct: false");
    let _server = Peer::start(Role::Server, &host, &config);
    let client = Peer::start(Role::Client, &host, &config);
    client.await_kind(PATIENCE, "relay");
    signaling.start_again();
    let mut first = first_byte(&host, &format!("127.0.0.1:{near}"), PATIENCE);
    let report = tool::finish(&mut first, PATIENCE + Duration::from_secs(1));
    assert!(report["ms"].as_f64() < Some(8_000.0), "{report}");
}

#[test]
fn a_silent_signaling_server_does_not_hold_up_the_end() {
    let (_folder, host) = machine();
    let mut signaling = start_signaling(&host, &[]);
    let config = config(&signaling.url());
    let mut server = Peer::start(Role::Server, &host, &config);
    let mut client = Peer::start(Role::Client, &host, &config);
    client.await_connected(PATIENCE);
    signaling.process().freeze();
    for peer in [&mut client, &mut server] {
        peer.process().terminate();
        let ended = peer.process().wait(Duration::from_secs(2));
        assert_eq!(ended.and_then(|status| status.code()), Some(0));
    }
}
