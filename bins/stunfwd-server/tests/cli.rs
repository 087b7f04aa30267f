//! What differs in `stunfwd-server` from `stunfwd-client`, whose tests cover what they share.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{fs, path::Path};

use assert_cmd::Command;

#[test]
fn the_program_knows_its_name() {
    let home = tempfile::tempdir().unwrap();
    let (code, version, _) = run(home.path(), &["--version"]);
    assert_eq!(
        (code, version),
        (0, format!("stunfwd-server {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, script, _) = run(home.path(), &["completions", "bash"]);
    assert!(code == 0 && script.contains("stunfwd-server") && !script.contains("stunfwd-client"));
    let (code, _, message) = run(home.path(), &["status"]);
    assert_eq!(code, 1);
    assert!(
        message.starts_with("error: no stunfwd-server is running"),
        "{message}"
    );
    let (code, help, _) = run(home.path(), &["netcheck", "--help"]);
    assert!(code == 0 && help.contains("--lifetime"), "{help}");
}

#[test]
fn mappings_are_changed_at_the_client() {
    let home = tempfile::tempdir().unwrap();
    for line in [
        &["map", "add", "tcp:1:1"][..],
        &["map", "remove", "0"],
        &["map", "save"],
    ] {
        let (code, _, message) = run(home.path(), line);
        assert_eq!(code, 2);
        assert!(
            message.starts_with("error: mappings belong to the client: use `stunfwd-client map`"),
            "{message}"
        );
    }
    let (code, _, message) = run(home.path(), &["map", "list"]);
    assert_eq!(code, 1);
    assert!(message.starts_with("error: no stunfwd-server is running"));
}

#[test]
fn check_reads_a_servers_file() {
    let home = tempfile::tempdir().unwrap();
    let text =
        "roomId: 4Tn0wzXkQd7pRb2mLs9vHc6y\nsignalingUrl: http://127.0.0.1:1\nallow: [tcp:22]\n";
    fs::write(home.path().join("config.yml"), text).unwrap();
    let (code, output, message) = run(home.path(), &["check"]);
    assert_eq!(
        (code, output.as_str(), message.as_str()),
        (
            0,
            "config.yml is good: a server's, signaling at http://127.0.0.1:1\n",
            ""
        )
    );
}

#[test]
fn the_configuration_is_read_as_a_servers() {
    let home = tempfile::tempdir().unwrap();
    let text = "{\"mode\": \"client\",\n \"roomId\": \"x\", \"signalingUrl\": \"http://127.0.0.1:1\",\n \"allow\": [22]}";
    fs::write(home.path().join("config.json"), text).unwrap();
    let (code, _, message) = run(home.path(), &["--config", "config.json"]);
    assert_eq!(code, 2);
    assert_eq!(
        message,
        "error: config.json:1: mode: `client`: this is stunfwd-server: use stunfwd-client, or write `mode: server`\n\
         config.json:3: allow[0]: `22`: the protocol is missing: write `tcp:` or `udp:` in front\n"
    );
}

fn run(home: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfwd-server"));
    let command = command
        .current_dir(home)
        .env("XDG_RUNTIME_DIR", home)
        .env("XDG_STATE_HOME", home);
    let output = command.args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
