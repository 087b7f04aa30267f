//! The counterpart: what is good passes `check`, and in one line.

use std::{fs, path::PathBuf};

use crate::{HEAD, Scene};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/configs")
}

/// Runs `check` of a program on an example; returns what it warns of.
#[track_caller]
fn good(program: &str, example: &str, summary: &str) -> String {
    let scene = Scene::new();
    let name = example.rsplit('/').next().expect("a split has a part");
    let bytes = fs::read(examples().join(example)).expect("the example is there");
    scene.write(name, bytes);
    let end = scene.run(program, &["check", "--config", name], &[]);
    assert_eq!(end.code, Some(0), "{example}: {}", end.stderr);
    assert_eq!(end.stdout, format!("{summary}\n"), "{example}");
    assert_eq!(scene.contents(), [name], "{example} left something behind");
    end.stderr
}

#[test]
fn the_examples_pass_without_a_warning() {
    let signal = "signaling at https://signal.example.org";
    let client = |name: &str, mappings: &str| {
        let summary = format!("{name} is good: a client's, {mappings}, {signal}");
        assert_eq!(good("stunfwd-client", name, &summary), "", "{name}");
    };
    client("client.yml", "5 mappings");
    client("client.json", "2 mappings");
    client("relay-coturn.yml", "1 mapping");
    for name in ["server.yml", "server-restricted.yml"] {
        let summary = format!("{name} is good: a server's, {signal}");
        assert_eq!(good("stunfwd-server", name, &summary), "", "{name}");
    }
    let summary = format!(
        "several-servers.yml is good: a client's, 1 mapping, {signal}, https://signal.example.net:8443, \
         http://[2001:db8::8]:8080"
    );
    assert_eq!(good("stunfwd-client", "several-servers.yml", &summary), "");
    let summary = "the configuration is good: HTTP at 0.0.0.0:8080";
    assert_eq!(good("stunfwd-signaling", "signaling.yml", summary), "");
}

#[test]
fn the_originals_files_are_accepted_unchanged() {
    let signal = "signaling at https://example.org/signaling.php";
    let weak = "roomId is weak (about 24 bits): whoever runs the signaling server could guess it; use 20 or more random \
         characters, for example the output of `openssl rand -hex 16`";
    let summary = format!("client.yml is good: a client's, 2 mappings, {signal}");
    let warnings = good("stunfwd-client", "original/client.yml", &summary);
    assert_eq!(warnings, format!("warning: client.yml: {weak}\n"));
    let summary = format!("server.yml is good: a server's, {signal}");
    let warnings = good("stunfwd-server", "original/server.yml", &summary);
    assert_eq!(
        warnings,
        format!(
            "warning: server.yml: `mappings` belongs in the client's configuration: it is ignored here\n\
             warning: server.yml: {weak}\n"
        )
    );
}

#[test]
fn check_reads_config_yml_when_no_file_is_named() {
    let scene = Scene::new();
    scene.write("config.yml", format!("{HEAD}mappings: [tcp:1:1]\n"));
    let end = scene.run("stunfwd-client", &["check"], &[]);
    assert_eq!((end.code, &*end.stderr), (Some(0), ""));
    assert_eq!(
        end.stdout,
        "config.yml is good: a client's, 1 mapping, signaling at http://192.0.2.1:8080\n"
    );
}
