//! What happens when one of the three programs goes away: signaling, the server, all of them in an orderly way.

use std::time::Duration;

use stunfwd_tests::{
    bed::{ECHO, MAPPINGS, Pair, ROOM, START},
    lab::{self, Capture, Home, Lab, Nat},
    process::Process,
    product::{Config, Peer, Role, Signaling, first_byte, path_kind},
    tool, wait,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// A connected, direct pair between two port-restricted homes.
fn with_pair(body: impl FnOnce(&Lab, &mut Signaling<'_>, Pair<'_>, Capture)) {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let capture = lab.public().capture("eth0");
        let mut signaling = Signaling::start(lab.public());
        let pair = Pair::start(&lab, &signaling);
        pair.await_connected(PATIENCE);
        pair.client.await_kind(PATIENCE, "direct");
        pair.server.await_kind(PATIENCE, "direct");
        body(&lab, &mut signaling, pair, capture);
    });
}

/// The room's path in the API, read off the wire: only the programs can derive it.
fn slots_path(capture: &Capture) -> String {
    wait::until_some(PATIENCE, "a request to the room API on the wire", || {
        const START: &[u8] = b"/v1/rooms/";
        let wire = capture.so_far();
        let at = wire
            .windows(START.len())
            .position(|window| window == START)?;
        let path = wire[at..]
            .iter()
            .skip(START.len())
            .take_while(|byte| byte.is_ascii_alphanumeric());
        let room: Vec<u8> = path.copied().collect();
        Some(format!(
            "/v1/rooms/{}/slots",
            String::from_utf8_lossy(&room)
        ))
    })
}

#[test]
fn killed_signaling_disturbs_nothing_and_both_peers_are_there_soon_after_it_is_back() {
    with_pair(|lab, signaling, pair, capture| {
        let path = slots_path(&capture);
        let both_present = |signaling: &Signaling<'_>| {
            let answer = signaling
                .get(&path)
                .filter(|answer| answer["status"] == 200);
            let body = answer.and_then(|answer| answer["body"].as_str().map(str::to_owned));
            body.is_some_and(|body| body.contains("\"server\"") && body.contains("\"client-"))
        };
        assert!(both_present(signaling), "both are there before");

        let mut pulse = tool::start(lab.a(), &["pulse", ECHO, "--secs", "8"]);
        let changes = |pair: &Pair<'_>| {
            pair.client
                .status()
                .map(|status| status["peers"][0]["pathChanges"].clone())
        };
        let before = changes(&pair);
        signaling.process().kill();
        // Both notice the loss well within this time and dial anew in vain.
        let gone = wait::answer_within(Duration::from_secs(3), || pulse.ended());
        assert!(gone.is_none(), "the connection goes on without signaling");
        let said = tool::run(lab.a(), &["say", ECHO, "still here"]);
        assert_eq!(said["answer"], "still here");

        signaling.start_again();
        wait::until(
            Duration::from_secs(2),
            "both peers in the room again",
            || both_present(signaling),
        );
        let beats = tool::finish(&mut pulse, Duration::from_secs(15));
        assert!(beats["slowestMs"].as_f64() < Some(500.0), "{beats}");
        assert_eq!(changes(&pair), before, "the path has not changed");

        // And a newcomer finds the server there.
        let config = Config::new(ROOM, &signaling.url()).with_mappings(&MAPPINGS);
        let newcomer = Peer::start(Role::Client, lab.a2(), &config);
        newcomer.await_connected(PATIENCE);
    });
}

fn server_restart(end: impl FnOnce(&mut Peer<'_>)) {
    with_pair(|lab, _signaling, mut pair, _capture| {
        let mut held = tool::start(lab.a(), &["hold", ECHO]);
        let event = |process: &Process, index: usize| {
            tool::reports(process)
                .get(index)
                .map(|report| report["event"].clone())
        };
        wait::until_some(PATIENCE, "a connection to be open", || event(&held, 0));
        end(&mut pair.server);
        pair.server.start_again();
        let mut first = first_byte(lab.a(), ECHO, PATIENCE);
        let report = tool::finish(&mut first, PATIENCE + Duration::from_secs(1));
        assert!(report["ms"].as_f64() < Some(5_000.0), "{report}");
        let ended = tool::finish(&mut held, PATIENCE);
        assert_eq!(ended["event"], "reset", "{ended}");
        pair.await_connected(PATIENCE);
        pair.transfer(1_000_000);
        pair.client.await_kind(PATIENCE, "direct");
    });
}

#[test]
fn a_stopped_and_restarted_server_works_again_and_old_connections_are_reset() {
    server_restart(|server| assert_eq!(server.stop().code(), Some(0)));
}

#[test]
fn a_killed_and_restarted_server_works_again_and_old_connections_are_reset() {
    server_restart(|server| server.process().kill());
}

#[test]
fn all_programs_stop_cleanly_when_told_to() {
    with_pair(|lab, signaling, mut pair, _capture| {
        let mut held = tool::start(lab.a(), &["hold", ECHO]);
        wait::until(PATIENCE, "a connection to be open", || {
            !tool::reports(&held).is_empty()
        });
        assert_eq!(pair.client.stop().code(), Some(0));
        // The application learns of it at once.
        let ended = tool::finish(&mut held, Duration::from_secs(1));
        assert!(
            ["reset", "closed"].contains(&ended["event"].as_str().unwrap_or_default()),
            "{ended}"
        );
        pair.server
            .await_status(START, "the client gone", |status| {
                path_kind(status).is_none()
            });
        assert_eq!(pair.server.stop().code(), Some(0));
        signaling.process().terminate();
        let status = signaling.process().wait(PATIENCE);
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    });
}
