//! The command line of `stunfwd-client` as a user meets it: exit status, standard output, messages.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::Path,
    process::{Child, Command as Process, Stdio},
    thread::sleep,
    time::Duration,
};

use assert_cmd::Command;

#[test]
fn help_and_version_are_answered_on_standard_output() {
    let home = home();
    let (code, help, _) = run(home.path(), &["--help"]);
    assert_eq!(code, 0);
    for word in [
        "--config <FILE>",
        "--control",
        "--state-dir",
        "--log",
        "--log-format",
        "status",
        "map",
        "netcheck",
        "check",
        "completions",
    ] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
    for later in ["peers", "room", "--watch"] {
        assert!(!help.contains(&format!(" {later}")), "{later} is in {help}");
    }
    let (code, help, _) = run(home.path(), &["status", "--help"]);
    assert!(
        code == 0 && help.contains("--json") && !help.contains("--watch"),
        "{help}"
    );
    let (code, version, _) = run(home.path(), &["--version"]);
    assert_eq!(
        (code, version),
        (0, format!("stunfwd-client {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn bad_usage_ends_with_2() {
    let home = home();
    for line in [
        &["--colour"][..],
        &["dance"],
        &["--config"],
        &["--log", "loud"],
        &["--log-format", "xml"],
        &["status", "--config", "absent.yml"],
        &["completions", "cmd.exe"],
        &["completions"],
        &["map", "dance"],
        &["map", "add"],
        &["map", "add", "tcp:70000:1"],
        &["map", "add", "tcp:1:1", "tcp:2:2"],
        &["map", "remove", "x"],
    ] {
        let (code, output, message) = run(home.path(), line);
        assert_eq!((code, output.as_str()), (2, ""), "{line:?}: {message}");
        assert!(message.starts_with("error: "), "{line:?}: {message}");
    }
}

#[test]
fn words_of_later_versions_are_refused_as_such() {
    let home = home();
    for (line, word) in [
        (&["peers"][..], "peers"),
        (&["room"], "room"),
        (&["status", "--watch"], "--watch"),
        (&["status", "--json", "--watch"], "--watch"),
    ] {
        let (code, _, message) = run(home.path(), line);
        assert_eq!(code, 2, "{line:?}");
        assert_eq!(
            message,
            format!("error: `{word}` is not yet in this version\n")
        );
    }
}

#[test]
fn completions_are_for_this_program() {
    let home = home();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, _) = run(home.path(), &["completions", shell]);
        assert_eq!(code, 0);
        assert!(
            ["stunfwd-client", "status", "map", "add", "remove", "save"]
                .iter()
                .all(|word| script.contains(word)),
            "{shell}"
        );
        assert!(script.contains("netcheck"), "{shell}");
        assert!(!script.contains("--watch"), "{shell}");
    }
}

#[test]
fn a_netcheck_that_cannot_know_whom_to_ask_is_bad_usage() {
    let home = home();
    let cases: [(&[&str], &str); 4] = [
        (
            &["netcheck", "--stun", "127.0.0.1:70000"],
            "error: `--stun 127.0.0.1:70000`: ",
        ),
        (
            &["netcheck", "--config", "config.yml", "--stun", "127.0.0.1"],
            "error: `--config` and `--stun` cannot both say whom to ask",
        ),
        (
            &["netcheck", "--config", "config.yml"],
            "error: config.yml: there is no such file in ",
        ),
        (
            &["netcheck", "127.0.0.1:3478"],
            "error: unexpected argument",
        ),
    ];
    for (line, expected) in cases {
        let (code, answer, message) = run(home.path(), line);
        assert_eq!((code, answer.as_str()), (2, ""), "{line:?}: {message}");
        assert!(message.starts_with(expected), "{line:?}: {message}");
    }
}

#[test]
fn a_missing_configuration_is_named_with_what_to_do() {
    let home = home();
    let (code, _, message) = run(home.path(), &[]);
    assert_eq!(code, 2);
    assert!(
        message.starts_with("error: config.yml: there is no such file in "),
        "{message}"
    );
    assert!(
        message.ends_with(
            "write one with roomId and signalingUrl, or name another with --config FILE\n"
        )
    );
    let (code, _, message) = run(home.path(), &["--config", "."]);
    assert_eq!(code, 2);
    assert_eq!(
        message,
        "error: .: is a directory: name the file in it with --config FILE\n"
    );
    fs::write(home.path().join("latin1.yml"), b"roomId: \xfcn\xef").unwrap();
    let (code, _, message) = run(home.path(), &["--config", "latin1.yml"]);
    assert_eq!(
        (code, message.as_str()),
        (
            2,
            "error: latin1.yml:1: is not text in UTF-8: save the file in that encoding\n"
        )
    );
}

#[test]
fn all_problems_of_a_configuration_are_told_and_nothing_is_started() {
    let home = home();
    let text = "mode: server\nroomid: hunter2\nsignalingUrl: http://127.0.0.1:1\nmappings:\n  - udp:70000:80\n";
    fs::write(home.path().join("config.yml"), text).unwrap();
    let (code, _, message) = run(home.path(), &["--state-dir", "state"]);
    assert_eq!(code, 2);
    assert_eq!(
        message,
        "error: config.yml:1: mode: `server`: this is stunfwd-client: use stunfwd-server, or write `mode: client`\n\
         config.yml:2: roomid: is not a known key: did you mean `roomId`?\n\
         config.yml:5: mappings[0]: `udp:70000:80`: port 70000 is above 65535\n\
         config.yml: roomId: is missing: write the secret text that both sides share\n"
    );
    assert!(!home.path().join("state").exists());
}

#[test]
fn check_reads_the_file_and_starts_nothing() {
    let home = home();
    let strong = "4Tn0wzXkQd7pRb2mLs9vHc6y";
    let text = format!(
        "roomId: {strong}\nsignalingUrl: http://127.0.0.1:1\nmappings: [tcp:8080:22, udp:5000:53]\n"
    );
    fs::write(home.path().join("config.yml"), &text).unwrap();
    for line in [&["check"][..], &["check", "--config", "config.yml"]] {
        let (code, output, message) = run(home.path(), line);
        assert_eq!(
            (code, output.as_str(), message.as_str()),
            (
                0,
                "config.yml is good: a client's, 2 mappings, signaling at http://127.0.0.1:1\n",
                ""
            )
        );
    }

    let weak = text.replace(strong, "hunter2");
    fs::write(home.path().join("weak.json"), &weak).unwrap();
    let (code, ..) = run(home.path(), &["check", "--config", "weak.json"]);
    assert_eq!(code, 2, "YAML is no JSON");
    fs::write(home.path().join("weak.yml"), &weak).unwrap();
    let (code, output, message) = run(home.path(), &["check", "--config", "weak.yml"]);
    assert!(
        code == 0 && output.starts_with("weak.yml is good"),
        "{message}"
    );
    assert!(
        message.starts_with("warning: weak.yml: ") && !message.contains("hunter2"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    let bad = "roomid: hunter2\nmappings:\n  - udp:70000:80\n";
    fs::write(home.path().join("bad.yml"), bad).unwrap();
    let (code, output, message) = run(home.path(), &["check", "--config", "bad.yml"]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert_eq!(message.lines().count(), 4, "{message}");
    assert!(message.starts_with("error: bad.yml:1: roomid: "));
    assert_eq!(run(home.path(), &["check", "--config", "absent.yml"]).0, 2);
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        4,
        "the four files written here"
    );
}

#[test]
fn a_bad_rust_log_is_a_bad_configuration() {
    let home = home();
    config(home.path(), "config.yml");
    let mut command = command(home.path());
    let output = command.env("RUST_LOG", "stunfwd=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("error: RUST_LOG: `stunfwd=loud`"),
        "{message}"
    );
}

#[test]
fn map_alone_shows_what_it_can_do() {
    let home = home();
    let (code, output, message) = run(home.path(), &["map"]);
    assert_eq!((code, output.as_str()), (2, ""));
    for word in ["list", "add", "remove", "save"] {
        assert!(message.contains(&format!("  {word}")), "{message}");
    }
}

#[test]
fn a_mapping_that_is_mistyped_is_said_as_the_grammar_says_it() {
    let home = home();
    let (_, _, message) = run(home.path(), &["map", "add", "udp:70000:80"]);
    assert_eq!(
        message,
        "error: `udp:70000:80`: port 70000 is above 65535\n"
    );
    let (_, _, message) = run(home.path(), &["map", "remove", "udp:70000:80"]);
    assert_eq!(
        message,
        "error: `udp:70000:80`: port 70000 is above 65535 (or write the number that `map list` shows)\n"
    );
}

#[test]
fn commands_without_a_program_end_with_1() {
    let home = home();
    for line in [
        &["status"][..],
        &["map", "list"],
        &["map", "add", "tcp:1:1"],
        &["map", "remove", "0"],
        &["map", "save"],
    ] {
        let (code, output, message) = run(home.path(), line);
        assert_eq!((code, output.as_str()), (1, ""), "{line:?}");
        assert!(
            message.starts_with("error: no stunfwd-client is running (looked in "),
            "{message}"
        );
    }
    let (code, _, message) = run(
        home.path(),
        &["status", "--json", "--control", "absent.sock"],
    );
    assert_eq!(code, 1);
    assert!(
        message.starts_with("error: no program answers at absent.sock: "),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn a_running_program_is_found_answers_and_stops_cleanly() {
    let home = home();
    config(home.path(), "config.yml");
    let mut first = Running::start(home.path(), "config.yml");
    let status = first.wait_for_status(&[]);
    assert!(status.contains(r#""role":"client""#), "{status}");
    assert!(status.contains(r#""state":"waiting""#), "{status}");
    assert!(
        status.contains("127.0.0.1:1"),
        "says what it waits for: {status}"
    );
    assert!(!status.contains("hunter2"), "{status}");
    let (code, table, _) = run(home.path(), &["status"]);
    assert!(code == 0 && table.starts_with("stunfwd-client "), "{table}");

    config(home.path(), "other.yml");
    let mut second = Running::start(home.path(), "other.yml");
    let several = || Some(run(home.path(), &["status"])).filter(|(code, ..)| *code == 2);
    let (_, _, message) = until(several).expect("the second program is found");
    assert!(
        message.contains("2 programs are running, choose one with --control or --config:"),
        "{message}"
    );
    let socket = message
        .lines()
        .find(|line| line.ends_with("other.yml)"))
        .and_then(|line| line.trim().split(' ').next())
        .unwrap();
    let chosen = second.wait_for_status(&["--control", socket]);
    assert!(chosen.contains(r#""role":"client""#));

    assert_eq!(second.stop("TERM"), Some(0));
    assert_eq!(first.stop("INT"), Some(0));
    assert_eq!(
        run(home.path(), &["status"]).0,
        1,
        "no socket is left behind"
    );
}

#[cfg(unix)]
#[test]
fn a_program_whose_configuration_names_its_socket_is_found_by_each_command() {
    let home = home();
    for folder in ["one", "two"] {
        fs::create_dir(home.path().join(folder)).unwrap();
    }
    let file = home.path().join("one/config.yml");
    config(home.path(), "one/config.yml");
    let text = fs::read_to_string(&file).unwrap() + "control: c.sock\n";
    fs::write(&file, text).unwrap();
    let mut first = Running::start(home.path(), "one/config.yml");
    first.wait_for_status(&[]);
    assert!(home.path().join("one/c.sock").exists(), "beside its file");

    config(home.path(), "two/config.yml");
    let mut second = Running::start(home.path(), "two/config.yml");
    second.wait_for_status(&["--config", "two/config.yml"]);
    let (code, _, message) = run(home.path(), &["status"]);
    assert_eq!(code, 2, "{message}");
    for file in ["one/config.yml", "two/config.yml"] {
        assert!(message.contains(&format!("{file})\n")), "{message}");
        for line in [&["status", "--config", file], &["--config", file, "status"]] {
            assert_eq!(run(home.path(), line).0, 0, "{line:?}");
        }
    }
    assert_eq!(first.stop("TERM"), Some(0));
    assert_eq!(second.stop("TERM"), Some(0));
    let (code, _, message) = run(home.path(), &["status", "--config", "two/config.yml"]);
    assert_eq!(code, 1);
    assert!(message.starts_with("error: no stunfwd-client is running with two/config.yml"));
}

/// A program in the background; killed when the test ends early.
struct Running<'a> {
    home: &'a Path,
    child: Child,
}

impl<'a> Running<'a> {
    fn start(home: &'a Path, config: &str) -> Self {
        let mut process = Process::new(env!("CARGO_BIN_EXE_stunfwd-client"));
        process
            .args(["--config", config])
            .current_dir(home)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        environment(home, |name, value| {
            process.env(name, value);
        });
        Self {
            home,
            child: process.spawn().unwrap(),
        }
    }

    fn wait_for_status(&mut self, more: &[&str]) -> String {
        let arguments = [&["status", "--json"], more].concat();
        let answer = until(|| {
            let (code, output, message) = run(self.home, &arguments);
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended: {message}");
            (code == 0).then_some(output)
        });
        answer.expect("the program answers")
    }

    fn stop(&mut self, signal: &str) -> Option<i32> {
        let kill = Process::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries for 20 s: a loaded machine starts programs slowly.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    (0..400).find_map(|_| {
        let done = attempt();
        if done.is_none() {
            sleep(Duration::from_millis(50));
        }
        done
    })
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn config(home: &Path, name: &str) {
    // Nobody listens on port 1, so it waits for signaling.
    let text = "roomId: hunter2\nsignalingUrl: http://127.0.0.1:1\nstunServer: 127.0.0.1:1\n";
    fs::write(home.join(name), text).unwrap();
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfwd-client"));
    command.current_dir(home);
    environment(home, |name, value| {
        command.env(name, value);
    });
    command
}

/// Keeps a test apart from the user's own programs and settings.
fn environment(home: &Path, mut set: impl FnMut(&str, &str)) {
    let home = home.to_str().unwrap();
    set("HOME", home);
    set("XDG_RUNTIME_DIR", home);
    set("XDG_STATE_HOME", home);
    set("RUST_LOG", "");
    set("RUST_BACKTRACE", "0");
}

fn run(home: &Path, args: &[&str]) -> (i32, String, String) {
    let output = command(home).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
