//! Bad configuration: malformed files, flags and environments, each with the exact answer of the real program.
//!
//! The tables are the documentation of the messages. Each row is run twice, by the program itself and by its
//! `check`, and both must say the same, exit with status 2, print nothing else, and leave nothing behind: no
//! socket, no state directory, no file.

mod client_files;
mod good_files;
mod options;
mod server_files;
mod signaling_files;
mod whole_files;

use std::{fs, path::Path, process::Command, time::Duration};

use stunfwd_tests::{artifacts, process::Process};
use tempfile::TempDir;

/// How long a program may take to refuse. Nothing is started, so this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lines in front of what most rows are about.
const HEAD: &str =
    "roomId: 4f1c9be0a37d5528e6f0b1749dc2a38f\nsignalingUrl: http://192.0.2.1:8080\n";

/// What is in the rows where a secret belongs.
const SECRET: &str = "hunter2";

/// What a file says, and the answer.
type Row = (&'static str, &'static str);

/// How a program ended.
struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A folder with nothing but the files of one row.
struct Scene {
    folder: TempDir,
    logs: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a folder can be made");
        Self {
            folder: folder(),
            logs: folder(),
        }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), bytes).expect("the folder takes a file");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a program in the folder, which is also where all it might make would be.
    fn run(&self, program: &str, args: &[&str], environment: &[(&str, &str)]) -> End {
        self.run_as(Command::new(artifacts::program(program)), args, environment)
    }

    fn run_as(&self, mut command: Command, args: &[&str], environment: &[(&str, &str)]) -> End {
        command
            .current_dir(self.path())
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .envs(environment.iter().copied());
        let mut process = Process::spawn("program", command, self.logs.path());
        let Some(status) = process.wait(PATIENCE) else {
            panic!(
                "{args:?} runs instead of being refused: {}",
                process.stderr()
            );
        };
        End {
            code: status.code(),
            stdout: process.stdout(),
            stderr: process.stderr(),
        }
    }

    /// Returns everything in the folder, sorted.
    fn contents(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("the folder is there");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// Runs a program and asserts that it refuses with this message, having started nothing.
    #[track_caller]
    fn assert_refused(
        &self,
        program: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        answer: &str,
    ) {
        let before = self.contents();
        let end = self.run(program, args, environment);
        let what = format!("{program} {args:?}");
        assert_eq!(end.stderr, format!("error: {answer}\n"), "{what}");
        assert_eq!(end.code, Some(2), "{what}: {answer}");
        assert_eq!(end.stdout, "", "{what}");
        assert_eq!(self.contents(), before, "{what} left something behind");
        assert!(!end.stderr.contains(SECRET), "{what}: {answer}");
    }
}

/// Asserts that a program and its `check` refuse a file, in the same words.
#[track_caller]
fn assert_file_refused(program: &str, name: &str, bytes: impl AsRef<[u8]>, answer: &str) {
    let scene = Scene::new();
    scene.write(name, bytes);
    for command in [&["--config", name][..], &["check", "--config", name]] {
        scene.assert_refused(program, command, &[], answer);
    }
}

#[test]
fn every_problem_of_a_file_is_said_at_once_and_in_its_order() {
    let text = "mode: server\nromId: hunter2\nsignalingUrl: [ftp://signal.example.org]\nstunServer: stun.example.org\n\
         mappings:\n  - tcp:8080:22\n  - tcp:8080:80\n  - udp:70000:80\nresume: 3600\ntcpLane: true\n";
    let answer = "config.yml:1: mode: `server`: this is stunfwd-client: use stunfwd-server, or write `mode: client`\n\
         config.yml:2: romId: is not a known key: did you mean `roomId`?\n\
         config.yml:3: signalingUrl[0]: `ftp://signal.example.org`: is not an http:// or https:// URL: write for example \
         https://signal.example.org or http://192.0.2.1:8080\n\
         config.yml:4: stunServer: `stun.example.org`: the port is missing: write `host:port`\n\
         config.yml:7: mappings[1]: `tcp:8080:80`: 127.0.0.1:8080 is already taken by `tcp:8080:22`: give one of them \
         another local port, or leave it out\n\
         config.yml:8: mappings[2]: `udp:70000:80`: port 70000 is above 65535\n\
         config.yml:9: resume: `3600`: has no unit: write 3600s\n\
         config.yml:10: tcpLane: is not yet in this version: leave the key out\n\
         config.yml: roomId: is missing: write the secret text that both sides share";
    assert_file_refused("stunfwd-client", "config.yml", text, answer);
}

#[test]
fn the_tables_are_long_enough_to_mean_something() {
    let files = client_files::ROWS.len() + server_files::ROWS.len() + whole_files::ROWS.len();
    let rows =
        files + signaling_files::ROWS.len() + options::SIGNALING.len() + options::PEERS.len();
    assert!(rows >= 150, "{rows} rows");
}
