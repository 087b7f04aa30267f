//! What these tests need: signaling, a service and a mapping that leads to it, and a connection that must feel nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use stunfwd_tests::{
    artifacts,
    lab::Host,
    process::Process,
    product::{Config, Peer, Role},
    tool, wait,
};
use tempfile::TempDir;

use crate::on_terminal::OnTerminal;

pub(crate) use stunfwd_tests::loopback::free_port;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const ROOM: &str = "prompt-otter-91d3f0b7a6c2e854";

pub(crate) fn is_refused(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
}

/// What an echo service behind a port answers to `hello`.
pub(crate) fn answer(host: &Host, port: u16) -> Value {
    tool::run(host, &["say", &format!("127.0.0.1:{port}"), "hello"])["answer"].clone()
}

pub(crate) fn await_answer(host: &Host, port: u16) {
    wait::until(PATIENCE, &format!("port {port} to listen"), || {
        !is_refused(port)
    });
    assert_eq!(answer(host, port), "hello");
}

pub(crate) fn status_at(control: &Path) -> Option<Value> {
    let mut command = Command::new(artifacts::program("stunfwd-client"));
    let output = command
        .args(["status", "--json", "--control"])
        .arg(control)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).unwrap())
}

pub(crate) struct Echo {
    _service: Process,
    pub(crate) near: u16,
    pub(crate) far: u16,
    pub(crate) spec: String,
}

/// Signaling, an echo service, and a mapping that leads to it.
pub(crate) struct Bed {
    pub(crate) echo: Echo,
    signaling_url: String,
    _signaling: Process,
    pub(crate) host: Host,
    pub(crate) folder: TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::local(folder.path());
        let listen = format!("127.0.0.1:{}", free_port());
        let stun = format!("127.0.0.1:{}", free_port());
        let signaling = host.spawn(
            artifacts::program("stunfwd-signaling"),
            &["--listen", &listen, "--stun", &stun],
            &[],
        );
        wait::until(PATIENCE, "signaling to listen", || {
            TcpStream::connect(&listen).is_ok()
        });
        let (near, far) = (free_port(), free_port());
        Self {
            echo: Echo {
                _service: tool::serve(&host, "tcp-echo", &format!("127.0.0.1:{far}")),
                near,
                far,
                spec: format!("tcp:{near}:{far}"),
            },
            signaling_url: format!("http://{listen}"),
            _signaling: signaling,
            host,
            folder,
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(ROOM, &self.signaling_url).with_mappings(&[&self.echo.spec])
    }

    pub(crate) fn connected(&self, allow: &[&str]) -> (Peer<'_>, Peer<'_>) {
        let config = self.config().with_allow(allow);
        let server = Peer::start(Role::Server, &self.host, &config);
        let client = Peer::start(Role::Client, &self.host, &config);
        client.await_connected(PATIENCE);
        (server, client)
    }

    /// The command line of a client that a terminal or a shell starts.
    pub(crate) fn client_line(&self) -> String {
        let folder = self.folder.path();
        let file = folder.join("terminal.yml");
        let text = format!(
            "roomId: {ROOM}\nsignalingUrl: {}\nmappings: [{}]\n",
            self.signaling_url, self.echo.spec
        );
        fs::write(&file, text).unwrap();
        format!(
            "{} --config {} --control {} --state-dir {}",
            artifacts::program("stunfwd-client").display(),
            file.display(),
            self.control().display(),
            folder.join("terminal.state").display()
        )
    }

    pub(crate) fn on_terminal(&self) -> OnTerminal {
        let line = self.client_line();
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        OnTerminal::start(&command)
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("terminal.sock")
    }

    /// The status of the client that a terminal or a shell has started.
    pub(crate) fn status(&self) -> Option<Value> {
        status_at(&self.control())
    }

    pub(crate) fn await_connected(&self) {
        wait::until(PATIENCE, "the client to be connected", || {
            self.status()
                .is_some_and(|status| status["state"] == "connected")
        });
    }
}

/// A connection through another mapping that never stops, each byte of which is checked.
pub(crate) struct Unrelated {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Unrelated {
    pub(crate) fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (until, counted) = (stop.clone(), rounds.clone());
        let thread = std::thread::spawn(move || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut round = 0_u64;
            while !until.load(Ordering::Relaxed) {
                let sent: Vec<u8> = (0..4096_u64)
                    .map(|at| (round.wrapping_mul(31).wrapping_add(at * at)) as u8)
                    .collect();
                stream.write_all(&sent).unwrap();
                let mut read = vec![0; sent.len()];
                stream.read_exact(&mut read).unwrap();
                assert_eq!(sent, read, "round {round}");
                round += 1;
                counted.store(round, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            rounds,
            thread,
        }
    }

    pub(crate) fn assert_unharmed(self) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait::until(PATIENCE, "the unrelated connection to go on", || {
            self.rounds.load(Ordering::Relaxed) > before
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}
