//! Options of the command line and the environment.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    process::Command,
};

use rustix::process::geteuid;
use stunfwd_tests::artifacts;

use crate::{HEAD, Scene};

/// Who owns nothing.
const NOBODY: u32 = 65534;

/// Options of `stunfwd-signaling`, and the answer.
pub(crate) const SIGNALING: &[(&[&str], &str)] = &[
    (
        &["--listen", "8080"],
        "--listen `8080`: must be an IP address and a port such as 0.0.0.0:8080",
    ),
    (
        &["--listen", ""],
        "--listen ``: must be an IP address and a port such as 0.0.0.0:8080",
    ),
    (
        &["--stun", "192.0.2.1:3478", "--stun", "[2001:db8::1]:3478"],
        "--stun `[2001:db8::1]:3478`: two addresses must be of one family and have the same port",
    ),
    (
        &["--relay-ports", "9-1"],
        "--relay-ports `9-1`: must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999",
    ),
    (
        &["--relay-ports", "0-10"],
        "--relay-ports `0-10`: must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999",
    ),
    (
        &["--turn-url", "turn:turn.example.org"],
        "--turn-url `turn:turn.example.org`: needs turn-secret too: the static-auth-secret of that relay, from which its credentials are made",
    ),
    (
        &[
            "--turn-secret",
            "s",
            "--turn-url",
            "http://turn.example.org",
        ],
        "--turn-url `http://turn.example.org`: is not a turn: or turns: URL: write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443",
    ),
    (
        &[
            "--turn-secret",
            "s",
            "--turn-url",
            "turn:me:hunter2@turn.example.org",
        ],
        "--turn-url: must not hold a user name or password: credentials are made from turn-secret",
    ),
    (
        &["--store", "redis://127.0.0.1"],
        "--store `redis://127.0.0.1`: not yet in this version: write memory, or leave it out",
    ),
    (
        &["--store", "disk"],
        "--store `disk`: must be memory, all that this version has",
    ),
    (
        &["--access-token", ""],
        "--access-token: must be one or more printable ASCII characters without spaces",
    ),
    (
        &["--access-token", "two words"],
        "--access-token: must be one or more printable ASCII characters without spaces",
    ),
    (
        &["--turn-secret", ""],
        "--turn-secret: must be one or more printable ASCII characters without spaces",
    ),
    (
        &["--external-ip", "0.0.0.0"],
        "--external-ip `0.0.0.0`: must be the IP address at which clients reach this machine",
    ),
    (
        &["--relay-allow", "10.0.0.0/33"],
        "--relay-allow `10.0.0.0/33`: must be an address or a network such as 10.1.0.0/16",
    ),
    (
        &["--metrics", "127.0.0.1:9090"],
        "--metrics `127.0.0.1:9090`: not yet in this version: leave it out",
    ),
    (
        &["--tls-cert", "cert.pem"],
        "--tls-cert `cert.pem`: not yet in this version: leave it out",
    ),
    (
        &["--log", "loud"],
        "--log `loud`: must be off, error, warn, info, debug or trace",
    ),
    (
        &["--log-format", "xml"],
        "--log-format `xml`: must be text or json",
    ),
    (
        &["--turn-ttl", "0s"],
        "--turn-ttl `0s`: must be a time from 1s to 30d such as 12h",
    ),
    (
        &["--turn-ttl", "12"],
        "--turn-ttl `12`: must be a time from 1s to 30d such as 12h",
    ),
    (
        &["--config", "absent.yml"],
        "absent.yml: there is no such file in FOLDER: name another with --config FILE, or leave --config out, since every option has a default",
    ),
    (
        &["--config", "."],
        ".: is a directory: name the file in it with --config FILE",
    ),
];

/// Options of `stunfwd-client` in a folder without files, and the answer. `stunfwd-server` says the same.
pub(crate) const PEERS: &[(&[&str], &str)] = &[
    (
        &["--config", "absent.yml"],
        "absent.yml: there is no such file in FOLDER: write one with roomId and signalingUrl, or name another with --config FILE",
    ),
    (
        &["--config", "."],
        ".: is a directory: name the file in it with --config FILE",
    ),
    (
        &["--config", "loop.yml"],
        "loop.yml: cannot be read: Too many levels of symbolic links (os error 40): let this user read it, or name another with --config FILE",
    ),
];

#[test]
fn every_bad_option_of_signaling_is_answered() {
    for (args, answer) in SIGNALING {
        let scene = Scene::new();
        let folder = scene.path().display().to_string();
        scene.assert_refused(
            "stunfwd-signaling",
            args,
            &[],
            &answer.replace("FOLDER", &folder),
        );
    }
}

#[test]
fn every_file_that_cannot_be_read_is_answered() {
    for program in ["stunfwd-client", "stunfwd-server"] {
        for (args, answer) in PEERS {
            let scene = Scene::new();
            symlink("loop.yml", scene.path().join("loop.yml")).expect("a link can be made");
            let answer = answer.replace("FOLDER", &scene.path().display().to_string());
            scene.assert_refused(program, args, &[], &answer);
            scene.assert_refused(program, &[&["check"], *args].concat(), &[], &answer);
        }
    }
}

#[test]
fn a_file_of_somebody_else_is_answered() {
    let scene = Scene::new();
    scene.write("config.yml", HEAD);
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    set(scene.path(), 0o755);
    set(&scene.path().join("config.yml"), 0);
    let mut command = Command::new(artifacts::program("stunfwd-client"));
    if geteuid().is_root() {
        // Nothing is forbidden to root, so somebody else runs it.
        command.uid(NOBODY).gid(NOBODY);
    }
    let end = scene.run_as(command, &["check"], &[]);
    assert_eq!(
        end.stderr,
        "error: config.yml: cannot be read: Permission denied (os error 13): let this user read it, or name another with --config FILE
"
    );
    assert_eq!(end.code, Some(2));
}

#[test]
fn a_bad_environment_is_answered() {
    for (program, args) in [
        ("stunfwd-client", &[][..]),
        ("stunfwd-server", &[]),
        (
            "stunfwd-signaling",
            &["--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"],
        ),
    ] {
        let scene = Scene::new();
        scene.write("config.yml", HEAD);
        let end = scene.run(program, args, &[("RUST_LOG", "stunfwd=loud")]);
        let start = "error: RUST_LOG: `stunfwd=loud`: write for example info";
        assert!(end.stderr.starts_with(start), "{program}: {}", end.stderr);
        let causes = end.stderr.matches("level filter").count();
        assert_eq!(causes, 1, "{program}: {}", end.stderr);
        assert_eq!((end.code, &*end.stdout), (Some(2), ""), "{program}");
        assert_eq!(scene.contents(), ["config.yml"], "{program}");
    }
    for (variable, option) in [
        ("STUNFWD_ACCESS_TOKEN", "access-token"),
        ("STUNFWD_TURN_SECRET", "turn-secret"),
    ] {
        for value in ["", "hunter2 hunter2"] {
            let answer = format!(
                "--{option}: must be one or more printable ASCII characters without spaces"
            );
            Scene::new().assert_refused("stunfwd-signaling", &[], &[(variable, value)], &answer);
        }
    }
}

#[test]
fn what_the_command_line_itself_refuses_names_the_word() {
    for (args, start) in [
        (
            &["--log", "loud"][..],
            "error: invalid value 'loud' for '--log <LEVEL>'",
        ),
        (
            &["--log-format", "xml"],
            "error: invalid value 'xml' for '--log-format <FORMAT>'",
        ),
        (
            &["--config"],
            "error: a value is required for '--config <FILE>'",
        ),
        (
            &["--conifg", "x"],
            "error: unexpected argument '--conifg' found",
        ),
        (
            &["frobnicate"],
            "error: unrecognized subcommand 'frobnicate'",
        ),
    ] {
        for program in ["stunfwd-client", "stunfwd-server"] {
            let scene = Scene::new();
            scene.write("config.yml", HEAD);
            let end = scene.run(program, args, &[]);
            assert!(
                end.stderr.starts_with(start),
                "{program} {args:?}: {}",
                end.stderr
            );
            assert_eq!(
                (end.code, &*end.stdout),
                (Some(2), ""),
                "{program} {args:?}"
            );
            assert_eq!(scene.contents(), ["config.yml"], "{program} {args:?}");
        }
    }
}
