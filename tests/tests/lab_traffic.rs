//! The traffic generators measure what they say: run straight against their services, without the product between.

#![allow(clippy::unwrap_used, reason = "closures of tests")]

use std::{fs, time::Duration};

use stunfwd_tests::{
    lab::{self, Home, Lab, Nat},
    tool, wait,
};

const SERVER: &str = "203.0.113.10";
const PATIENCE: Duration = Duration::from_secs(10);

fn at(port: u16) -> String {
    format!("{SERVER}:{port}")
}

/// A host behind a port-restricted NAT with a service on the public machine.
fn with_service(service: &str, body: impl FnOnce(&Lab, &str)) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let _service = tool::serve(lab.public(), service, &at(9000));
        body(&lab, &at(9000));
    });
}

#[test]
fn a_transfer_moves_and_compares_every_byte_each_way() {
    with_service("tcp-exchange", |lab, address| {
        let report = tool::run(
            lab.a(),
            &[
                "transfer", address, "--up", "20000000", "--down", "20000001",
            ],
        );
        assert_eq!([&report["up"], &report["down"]], [20_000_000, 20_000_001]);
        assert_ne!(report["upSha256"], report["downSha256"]);
    });
}

#[test]
fn a_transfer_against_a_service_that_sends_other_bytes_fails() {
    with_service("tcp-echo", |lab, address| {
        let mut client = tool::start(lab.a(), &["transfer", address]);
        let status = client.wait(PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(1));
        assert!(
            client.stderr().contains("byte 0 is wrong"),
            "{}",
            client.stderr()
        );
    });
}

#[test]
fn a_half_close_is_answered_to_the_end() {
    with_service("tcp-digest", |lab, address| {
        let report = tool::run(lab.a(), &["half-close", address, "--bytes", "1000000"]);
        assert_eq!([&report["sent"], &report["received"]], [1_000_000, 300_000]);
    });
}

#[test]
fn datagrams_that_are_lost_or_changed_are_counted() {
    with_service("udp-echo", |lab, address| {
        let args = [
            "udp-check",
            address,
            "--count",
            "400",
            "--max",
            "1200",
            "--patience-ms",
            "500",
        ];
        let clean = tool::run(lab.a(), &args);
        assert_eq!(
            [&clean["received"], &clean["lost"], &clean["corrupt"]],
            [400, 0, 0]
        );

        let lossy = "table ip loss { chain forward { type filter hook forward priority 10; \
                     meta l4proto udp numgen inc mod 10 < 1 drop; }; }";
        lab.inet().nft(lossy);
        let report = tool::run(lab.a(), &args);
        let lost = report["lost"].as_u64().unwrap();
        assert!(
            (60..=90).contains(&lost),
            "a tenth of 400 each way: {report}"
        );
    });
}

#[test]
fn a_writer_to_a_service_that_never_reads_is_held_back_and_says_for_how_long() {
    with_service("tcp-sink", |lab, address| {
        // As fast as it goes: the kernel's buffers fill in well under two seconds.
        let report = tool::run(
            lab.a(),
            &["small-writes", address, "--secs", "4", "--interval-us", "0"],
        );
        assert_eq!(report["end"], "time", "{report}");
        assert!(report["stalledMs"].as_f64() > Some(500.0), "{report}");
    });
}

#[test]
fn a_reset_is_told_from_an_orderly_end_and_from_silence() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let mut echo = tool::serve(lab.public(), "tcp-echo", &at(9000));
        let mut held = [(); 2].map(|()| tool::start(lab.a(), &["hold", &at(9000), "--secs", "10"]));
        for held in &held {
            wait::until(PATIENCE, "the connection to be open", || {
                !tool::reports(held).is_empty()
            });
        }
        let silent = tool::run(lab.a(), &["hold", &at(9000), "--secs", "0.3"]);
        assert_eq!(silent["event"], "still open");

        // One connection is shot down by its own kernel, the other one ends with its service.
        let sockets = lab.public().run("ss", &["-tnH", "state", "established"]);
        let peer = sockets
            .lines()
            .find_map(|line| line.split_whitespace().nth(3))
            .unwrap();
        let port = peer.rsplit_once(':').unwrap().1.to_owned();
        lab.public().run("ss", &["-K", "dport", "=", &port]);
        echo.kill();
        let mut events = held.each_mut().map(|held| {
            tool::finish(held, PATIENCE)["event"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        events.sort();
        assert_eq!(events, ["closed", "reset"]);
    });
}

#[test]
fn a_pulse_beats_steadily_and_a_frozen_service_shows_as_a_slow_beat() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::PortRestricted), Home::behind(Nat::None));
        let echo = tool::serve(lab.public(), "tcp-echo", &at(9000));
        let mut pulse = tool::start(lab.a(), &["pulse", &at(9000), "--secs", "2"]);
        wait::until(PATIENCE, "the first beat", || {
            !tool::reports(&pulse).is_empty()
        });
        echo.freeze();
        wait::answer_within(Duration::from_millis(400), || pulse.ended());
        echo.signal("CONT");
        let report = tool::finish(&mut pulse, PATIENCE);
        assert!(report["count"].as_u64() > Some(20), "{report}");
        assert!(report["slowestMs"].as_f64() >= Some(350.0), "{report}");
    });
}

#[test]
fn a_process_tells_its_memory_and_open_files_and_leaves_its_log() {
    lab::test(|| {
        let lab = Lab::new(Home::behind(Nat::None), Home::behind(Nat::None));
        let echo = tool::serve(lab.a(), "tcp-echo", "127.0.0.1:9000");
        assert!((100_000..100_000_000).contains(&echo.resident_bytes()));
        assert!((4..20).contains(&echo.open_files()));
        let logs = fs::read_dir(lab.folder()).unwrap().count();
        assert_eq!(logs, 2, "standard output and error");
    });
}
