//! Who is let in, to what, and what a stranger on the wire can read.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use stunfwd_tests::{
    bed::{ECHO, MAPPINGS, Pair, ROOM},
    lab::{self, Home, Lab, Nat, capture},
    product::{Config, Peer, Role, Signaling, path_kind},
    tool, wait,
};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_wrong_room_never_connects_and_disturbs_nobody() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        pair.await_connected(PATIENCE);
        let mut pulse = tool::start(lab.a(), &["pulse", ECHO, "--secs", "8"]);

        let wrong = Config::new(&format!("{ROOM}x"), &signaling.url()).with_mappings(&MAPPINGS);
        let stranger = Peer::start(Role::Client, lab.a2(), &wrong);
        let held = tool::start(lab.a2(), &["say", ECHO, "let me in", "--secs", "8"]);
        let connected = wait::answer_within(Duration::from_secs(7), || {
            stranger
                .status()
                .filter(|status| status["state"] == "connected" || path_kind(status).is_some())
        });
        assert!(
            connected.is_none(),
            "the stranger is connected: {connected:#?}"
        );
        let waiting = stranger.status().expect("the stranger waits and says so");
        assert!(
            waiting["reason"].is_string(),
            "it says what it waits for: {waiting:#}"
        );

        let beats = tool::finish(&mut pulse, PATIENCE);
        assert!(beats["slowestMs"].as_f64() < Some(500.0), "{beats}");
        let status = pair.server.status().expect("the server answers");
        assert_eq!(
            status["peers"].as_array().map(Vec::len),
            Some(1),
            "{status:#}"
        );
        let mut held = held;
        assert!(tool::finish(&mut held, PATIENCE)["answer"].is_null());
    });
}

#[test]
fn a_client_reaches_nothing_that_the_server_does_not_allow() {
    lab::test(|| {
        let home = Home::behind(Nat::FullCone);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        // 8082 leads to the echo service, which is allowed; 8083 to the sink, which is not.
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&["tcp:8082:9002", "tcp:8083:9003", "udp:6000:9100"])
            .with_allow(&["tcp:9002"]);
        let pair = Pair::start_on(lab.a(), lab.b(), &config);
        let status = pair.client.await_connected(PATIENCE);
        let states = [0, 1, 2].map(|index| status["mappings"][index]["state"].clone());
        assert_eq!(states, ["active", "error", "error"], "{status:#}");
        assert!(
            status["mappings"][1]["error"].is_string(),
            "it says why: {status:#}"
        );

        let said = tool::run(lab.a(), &["say", ECHO, "allowed"]);
        assert_eq!(said["answer"], "allowed");
        // CONTRACT: a mapping that the server refuses is closed on the client.
        let outcome = tool::run(lab.a(), &["connect", "127.0.0.1:8083"]);
        assert_eq!(outcome["outcome"], "refused");
        let echo = tool::run(lab.a(), &["udp-say", "127.0.0.1:6000", "forbidden"]);
        assert!(echo["answer"].is_null());
        let sink = pair.service_output(3);
        assert!(
            !sink.contains("accepted"),
            "the forbidden service was reached: {sink}"
        );
    });
}

#[test]
fn a_capture_holds_no_plaintext_of_room_candidates_or_data() {
    const WORDS: &str = "attack at dawn, said the otter to nobody in particular";
    for (client, server, kind) in [
        (Nat::PortRestricted, Nat::PortRestricted, "direct"),
        (Nat::UdpBlocked, Nat::Symmetric, "relay"),
    ] {
        lab::test(|| captured(client, server, kind, WORDS));
    }
}

/// Runs a pair under a capture of everything that crosses the internet, and searches it.
fn captured(client: Nat, server: Nat, kind: &str, words: &str) {
    let lab = Lab::new(Home::behind(client), Home::behind(server));
    let capture = lab.inet().capture("any");
    let signaling = Signaling::start(lab.public());
    let pair = Pair::start(&lab, &signaling);
    pair.await_connected(PATIENCE);
    pair.client.await_kind(PATIENCE, kind);
    let said = tool::run(lab.a(), &["say", ECHO, words]);
    assert_eq!(said["answer"], words);
    let said = tool::run(lab.a(), &["udp-say", "127.0.0.1:6000", words]);
    assert_eq!(said["answer"], words);
    drop(pair);
    let wire = capture.finish();

    assert!(
        capture::contains(&wire, b"/v1/rooms/"),
        "the capture has seen signaling"
    );
    let [a, b] = [lab.a(), lab.b()].map(|host| host.address().to_string());
    for secret in [ROOM, words, &a, &b, "tcp:8082", "candidate"] {
        let bytes = secret.as_bytes();
        let forms = [
            secret.to_owned(),
            HEXLOWER.encode(bytes),
            // Without the last characters, which depend on what follows.
            BASE64.encode(&bytes[..bytes.len() / 3 * 3]),
            BASE64URL_NOPAD.encode(&bytes[..bytes.len() / 3 * 3]),
        ];
        for form in forms {
            assert!(
                !capture::contains(&wire, form.as_bytes()),
                "`{form}` ({secret}) is on the wire"
            );
        }
    }
}
