//! The binary from outside: exit status, messages, a clean stop.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfwd-signaling"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
        .env_remove("STUNFWD_ACCESS_TOKEN")
        .env_remove("STUNFWD_TURN_SECRET");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Starts the program and waits until it listens.
fn start(arguments: &[&str]) -> (Child, String) {
    let mut child = program(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("listening") {
        assert_ne!(log.read_line(&mut seen).unwrap(), 0, "it ended: {seen}");
    }
    // The warning, if there is one, follows in the same breath.
    let mut rest = String::new();
    if !arguments.contains(&"127.0.0.1:0") || arguments.contains(&"0.0.0.0:0") {
        log.read_line(&mut rest).unwrap();
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, seen + &rest)
}

fn stop(child: &mut Child, signal: &str) -> Option<i32> {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    for _ in 0..1000 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not stop within 10 s");
}

#[test]
fn bad_usage_is_status_2_and_names_the_value() {
    let (code, _, stderr) = run(&["--listen", "8080"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr.trim(),
        "error: --listen `8080`: must be an IP address and a port such as 0.0.0.0:8080"
    );
    assert_eq!(run(&["--no-such-option"]).0, Some(2));
}

#[test]
fn options_of_later_versions_are_refused_and_not_in_the_help() {
    for option in ["--tls-cert", "--tls-key", "--metrics"] {
        for arguments in [&[option, "x"][..], &["check", option, "x"]] {
            let (code, _, stderr) = run(arguments);
            assert_eq!(
                (code, stderr.contains("not yet in this version")),
                (Some(2), true),
                "{arguments:?}: {stderr}"
            );
        }
    }
    let (code, _, stderr) = run(&["--store", "redis://localhost"]);
    assert_eq!(
        (code, stderr.contains("not yet in this version")),
        (Some(2), true)
    );
    for arguments in [&["--help"][..], &["check", "--help"]] {
        let (code, help, _) = run(arguments);
        assert_eq!(code, Some(0));
        for option in ["--tls-cert", "--metrics", "redis"] {
            assert!(!help.contains(option), "{arguments:?}: {option}");
        }
    }
}

#[test]
fn a_wrong_file_is_status_2_with_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signaling.yml");
    std::fs::write(&path, "listen: 127.0.0.1:0\nstunn: 127.0.0.1:0\n").unwrap();
    let file = path.to_str().unwrap();
    let (code, _, stderr) = run(&["--config", file]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr.trim(),
        format!("error: {file}:2: unknown key `stunn`: did you mean `stun`?")
    );
}

#[test]
fn a_taken_port_is_status_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(&["--listen", &address, "--stun", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains(&format!("cannot open {address} for the HTTP API")),
        "{stderr}"
    );
}

#[test]
fn it_stops_cleanly_when_asked_to() {
    for signal in ["-INT", "-TERM"] {
        let (mut child, log) = start(&["--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"]);
        assert!(!log.contains("anybody"), "{log}");
        assert_eq!(stop(&mut child, signal), Some(0), "{signal}");
    }
}

#[test]
fn an_open_server_that_strangers_reach_warns() {
    let (mut child, log) = start(&["--listen", "0.0.0.0:0", "--stun", "127.0.0.1:0"]);
    assert!(
        log.contains("set --access-token to keep strangers off"),
        "{log}"
    );
    assert_eq!(stop(&mut child, "-TERM"), Some(0));
}

#[test]
fn completions_are_printed() {
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    assert!(script.contains("--relay-ports"), "{script}");
    for shell in ["bash", "zsh", "fish"] {
        let (_, script, _) = run(&["completions", shell]);
        for later in ["tls-cert", "tls-key", "metrics"] {
            assert!(!script.contains(later), "{shell} offers {later}");
        }
    }
}

#[test]
fn a_log_level_that_does_not_exist_is_status_2() {
    for level in ["nonsense", "", "signaling=debug"] {
        let (code, _, stderr) = run(&["--log", level]);
        assert_eq!(
            (code, stderr),
            (
                Some(2),
                format!("error: --log `{level}`: must be off, error, warn, info, debug or trace\n")
            )
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_status_2_and_says_what_to_do() {
    let (code, _, stderr) = run(&["--config", "/nonexistent/s.yml", "--listen", "8080"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr,
        "error: /nonexistent/s.yml: there is no such file: name another with --config FILE, or leave \
         --config out, since every option has a default\n\
         --listen `8080`: must be an IP address and a port such as 0.0.0.0:8080\n"
    );
    let (code, _, stderr) = run(&["--config", "/"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr,
        "error: /: is a directory: name the file in it with --config FILE\n"
    );
}

#[test]
fn a_json_log_line_has_its_message_at_the_top() {
    let listen = ["--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"];
    let (mut child, log) = start(&[&listen[..], &["--log-format", "json"]].concat());
    assert_eq!(stop(&mut child, "-TERM"), Some(0));
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["message"].is_string() && line.get("fields").is_none(),
            "{line}"
        );
    }
}

#[test]
fn the_manual_lists_every_option_and_its_example_is_good() {
    let manual = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/configuration.md"
    ))
    .unwrap();
    let section = manual.split_once("\n## stunfwd-signaling\n").unwrap().1;
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let names: Vec<_> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    assert_eq!(names, signaling::KEYS);
    let file: String = rows
        .iter()
        .map(|row| {
            format!(
                "{}: {}\n",
                row[1].trim_matches('`'),
                row[3].trim_matches('`')
            )
        })
        .collect();
    let settings = signaling::Settings::parse(std::path::Path::new("manual.yml"), &file);
    settings.resolve().unwrap();
}

#[test]
fn the_example_file_is_good() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/configs/signaling.yml"
    );
    let (code, _, stderr) = run(&["check", "--config", file]);
    assert_eq!((code, &*stderr), (Some(0), ""));
}
