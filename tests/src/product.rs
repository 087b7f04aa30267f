//! The stunfwd programs as a user runs them: flags, configuration files, `status --json`, signals. Everything known
//! here is in the contract; nothing of the product is linked in.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
#[cfg(unix)]
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

use serde_json::Value;

use crate::{artifacts, lab::Host, process::Process, tool, wait};

/// How long a program may take to listen, or to stop.
const PROMPT: Duration = Duration::from_secs(5);

/// Numbers the peers of this process, so that each has files of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running `stunfwd-signaling`.
#[derive(Debug)]
pub struct Signaling<'a> {
    host: &'a Host,
    listen: String,
    args: Vec<String>,
    process: Process,
}

impl<'a> Signaling<'a> {
    /// Starts it on the lab's public machine with both addresses, and waits until it is healthy.
    pub fn start(public: &'a Host) -> Self {
        let stun = ["203.0.113.10:3478", "203.0.113.11:3478"];
        Self::start_with(public, "203.0.113.10:8080", &stun, &[])
    }

    /// Starts it with the addresses given, and further flags.
    pub fn start_with(host: &'a Host, listen: &str, stun: &[&str], flags: &[&str]) -> Self {
        let mut args = vec!["--listen".to_owned(), listen.to_owned()];
        for address in stun {
            args.extend(["--stun".to_owned(), (*address).to_owned()]);
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let process = Self::spawn(host, &args);
        let signaling = Self {
            host,
            listen: listen.to_owned(),
            args,
            process,
        };
        signaling.await_health();
        signaling
    }

    fn spawn(host: &Host, args: &[String]) -> Process {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        host.spawn(artifacts::program("stunfwd-signaling"), &args, &[])
    }

    fn await_health(&self) {
        wait::until(PROMPT, "signaling to be healthy", || {
            self.get("/healthz")
                .is_some_and(|answer| answer["status"] == 200)
        });
    }

    /// The base URL for configurations.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Asks its HTTP API from its own machine: `status` and `body`, or nothing when nobody answers.
    pub fn get(&self, path: &str) -> Option<Value> {
        let program = artifacts::program("lab-tool");
        let output = self
            .host
            .command(program)
            .args(["http-get", &self.listen, path])
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The running process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again, with nothing in memory, after it was killed; waits until it is healthy.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.host, &self.args);
        self.await_health();
    }
}

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `stunfwd-client`
    Client,
    /// `stunfwd-server`
    Server,
}

impl Role {
    /// The value of `mode` and of `role` in the status.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The program's name.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Client => "stunfwd-client",
            Self::Server => "stunfwd-server",
        }
    }
}

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub struct Config {
    room: String,
    signaling_url: String,
    mappings: Vec<String>,
    allow: Vec<String>,
    lines: Vec<String>,
}

impl Config {
    /// A configuration with what is required.
    pub fn new(room: &str, signaling_url: &str) -> Self {
        Self {
            room: room.to_owned(),
            signaling_url: format!("\"{signaling_url}\""),
            mappings: Vec::new(),
            allow: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Names several signaling servers instead of one.
    #[must_use]
    pub fn with_signaling(mut self, urls: &[&str]) -> Self {
        self.signaling_url = format!("[\"{}\"]", urls.join("\", \""));
        self
    }

    /// Adds mappings (written for a client only).
    #[must_use]
    pub fn with_mappings(mut self, specs: &[&str]) -> Self {
        self.mappings
            .extend(specs.iter().map(|spec| (*spec).to_owned()));
        self
    }

    /// Adds entries of the allow-list (written for a server only).
    #[must_use]
    pub fn with_allow(mut self, specs: &[&str]) -> Self {
        self.allow
            .extend(specs.iter().map(|spec| (*spec).to_owned()));
        self
    }

    /// Adds one line of YAML.
    #[must_use]
    pub fn with_line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    fn to_yaml(&self, role: Role) -> String {
        let mut yaml = format!(
            "mode: {}\nroomId: \"{}\"\nsignalingUrl: {}\n",
            role.word(),
            self.room,
            self.signaling_url
        );
        let mut list = |key: &str, items: &[String]| {
            if !items.is_empty() {
                writeln!(yaml, "{key}:").expect("a String takes it");
            }
            for item in items {
                writeln!(yaml, "  - \"{item}\"").expect("a String takes it");
            }
        };
        match role {
            Role::Client => list("mappings", &self.mappings),
            Role::Server => list("allow", &self.allow),
        }
        for line in &self.lines {
            writeln!(yaml, "{line}").expect("a String takes it");
        }
        yaml
    }
}

/// A running `stunfwd-client` or `stunfwd-server`.
#[derive(Debug)]
pub struct Peer<'a> {
    role: Role,
    host: &'a Host,
    config: PathBuf,
    control: PathBuf,
    state: PathBuf,
    process: Process,
}

impl<'a> Peer<'a> {
    /// Writes the configuration and starts the program on `host`, with a control socket and a state folder of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(role: Role, host: &'a Host, config: &Config) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| {
            host.folder()
                .join(format!("{}-{number}.{kind}", role.word()))
        };
        let (config_file, control, state) = (file("yml"), file("sock"), file("state"));
        fs::write(&config_file, config.to_yaml(role)).expect("the configuration can be written");
        fs::create_dir(&state).expect("the state folder can be made");
        let process = Self::spawn(role, host, [&config_file, &control, &state]);
        Self {
            role,
            host,
            config: config_file,
            control,
            state,
            process,
        }
    }

    fn spawn(role: Role, host: &Host, [config, control, state]: [&PathBuf; 3]) -> Process {
        let [config, control, state] =
            [config, control, state].map(|path| path.display().to_string());
        let args = [
            "--config",
            &config,
            "--control",
            &control,
            "--state-dir",
            &state,
        ];
        host.spawn(artifacts::program(role.program()), &args, &[])
    }

    /// Which of the two programs it is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its configuration file.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Its state folder.
    pub fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Runs one of its commands against it, such as `map list`: exit status, standard output, standard error.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn command(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.host.command(artifacts::program(self.role.program()));
        command.args(args).arg("--control").arg(&self.control);
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("answers are UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    /// The running process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What `status --json` says, once the program answers.
    ///
    /// # Panics
    /// When the command succeeds without printing one JSON object.
    pub fn status(&self) -> Option<Value> {
        let mut command = self.host.command(artifacts::program(self.role.program()));
        command
            .args(["status", "--json", "--control"])
            .arg(&self.control);
        let Output { status, stdout, .. } = command.output().expect("the program starts");
        status
            .success()
            .then(|| serde_json::from_slice(&stdout).expect("status prints JSON"))
    }

    /// Asks over the control socket as an outside program does: one line of JSON there, one back.
    ///
    /// # Panics
    /// When it does not answer.
    #[cfg(unix)]
    pub fn ask(&self, request: &Value) -> Value {
        let socket = UnixStream::connect(&self.control).expect("the control socket is there");
        writeln!(&socket, "{request}").expect("it takes a request");
        let mut answer = String::new();
        BufReader::new(&socket)
            .read_line(&mut answer)
            .expect("it answers");
        serde_json::from_str(&answer).expect("an answer is JSON")
    }

    /// Polls the status until `condition` holds, and returns it.
    ///
    /// # Panics
    /// When it does not hold within `patience`: with the last status, and with the log when the program has ended.
    pub fn await_status(
        &self,
        patience: Duration,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = wait::answer_within(patience, || {
            last = self.status();
            last.clone().filter(&condition)
        });
        let role = self.role.word();
        found.unwrap_or_else(|| panic!("{role}: {what} not within {patience:?}; status {last:#?}"))
    }

    /// Waits until the state is `connected`.
    pub fn await_connected(&self, patience: Duration) -> Value {
        self.await_status(patience, "connected", |status| {
            status["state"] == "connected"
        })
    }

    /// Waits until the first peer's path is of that kind.
    pub fn await_kind(&self, patience: Duration, kind: &str) -> Value {
        let what = format!("a path of kind {kind}");
        self.await_status(patience, &what, |status| path_kind(status) == Some(kind))
    }

    /// Stops it as a service manager does, and returns its exit status.
    ///
    /// # Panics
    /// When it has not stopped within five seconds.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.terminate();
        let ended = self.process.wait(PROMPT);
        ended.unwrap_or_else(|| panic!("{} ignores SIGTERM", self.role.program()))
    }

    /// Starts it again, with the same configuration, state and control socket, after it has ended.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = Self::spawn(
            self.role,
            self.host,
            [&self.config, &self.control, &self.state],
        );
    }
}

/// The kind of the path of a status' first connected peer.
pub fn path_kind(status: &Value) -> Option<&str> {
    status["peers"]
        .as_array()?
        .iter()
        .find(|peer| peer["state"] == "connected")
        .and_then(|peer| peer["path"]["kind"].as_str())
}

/// Runs one of the programs with these arguments to its end, for bad usage and bad configuration.
///
/// # Panics
/// When it has not ended within five seconds.
pub fn run_to_end(host: &Host, program: &str, args: &[&str]) -> (ExitStatus, String, String) {
    let mut process = host.spawn(artifacts::program(program), args, &[]);
    let status = process.wait(PROMPT);
    let status = status.unwrap_or_else(|| panic!("{program} {args:?} is still running"));
    (status, process.stdout(), process.stderr())
}

/// Starts `lab-tool first-byte` toward a forwarded port, from the moment of the call.
pub fn first_byte(host: &Host, address: &str, patience: Duration) -> Process {
    tool::start(
        host,
        &[
            "first-byte",
            address,
            "--secs",
            &patience.as_secs_f64().to_string(),
        ],
    )
}
