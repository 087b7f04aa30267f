//! Coturn, the relay that operators already run, and its command-line clients, on machines of the lab.
//!
//! [`Coturn`] starts a real `turnserver` with nothing but command-line options and a folder of its own, and reads its
//! log. [`uclient`] and [`discover_nat`] run `turnutils_uclient` and `turnutils_natdiscovery` and read what they print.
//! All three come with Debian's package `coturn`.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{lab::Host, process::Process, wait};

/// The shared secret of `use-auth-secret`.
pub const SECRET: &str = "north-wind-and-sun";

/// The user of `lt-cred-mech` and his password.
pub const USER: (&str, &str) = ("keeper", "of-the-lighthouse");

/// Where it listens: signaling has 3478 and 3479 of the public machine.
pub const PORT: u16 = 3490;

/// How long it may take to listen: it opens its database first.
const START: Duration = Duration::from_secs(10);

/// Numbers the servers of this process, so that each has a folder of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// How clients show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Time-limited credentials of [`SECRET`].
    SharedSecret,
    /// The user [`USER`].
    StaticUser,
    /// No relaying: a STUN server.
    StunOnly,
}

/// A running `turnserver`.
#[derive(Debug)]
pub struct Coturn<'a> {
    host: &'a Host,
    process: Process,
}

impl<'a> Coturn<'a> {
    /// Starts it on the lab's public machine at [`PORT`] of its first address, with further flags, and waits until it
    /// listens.
    pub fn start(public: &'a Host, access: Access, flags: &[&str]) -> Self {
        Self::start_at(public, &["203.0.113.10"], PORT, access, flags)
    }

    /// Starts it at these addresses; two make it answer the tests of RFC 5780 too.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start_at(
        host: &'a Host,
        addresses: &[&str],
        port: u16,
        access: Access,
        flags: &[&str],
    ) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = host.folder().join(format!("coturn-{number}"));
        fs::create_dir(&folder).expect("coturn's folder can be made");
        let file = |name: &str| folder.join(name).display().to_string();
        let (user, password) = USER;
        let mut args: Vec<String> = [
            "-n",
            "-v",
            "--no-cli",
            "--no-dtls",
            "--simple-log",
            "--log-file",
            "stdout",
            "--realm",
            "lab",
        ]
        .map(str::to_owned)
        .into();
        args.extend(["-b".to_owned(), file("users.db")]);
        args.extend(["--pidfile".to_owned(), file("pid")]);
        args.extend(["-p".to_owned(), port.to_string()]);
        for address in addresses {
            args.extend(["-L".to_owned(), (*address).to_owned()]);
        }
        if let Some(first) = addresses.first() {
            args.extend(["-E".to_owned(), (*first).to_owned()]);
        }
        args.extend(match access {
            Access::SharedSecret => vec![
                "--use-auth-secret".to_owned(),
                format!("--static-auth-secret={SECRET}"),
            ],
            Access::StaticUser => {
                vec![
                    "-a".to_owned(),
                    "-u".to_owned(),
                    format!("{user}:{password}"),
                ]
            }
            Access::StunOnly => vec!["--stun-only".to_owned()],
        });
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        if !flags.iter().any(|flag| flag.starts_with("--cert")) {
            args.push("--no-tls".to_owned());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = host.spawn(program("turnserver"), &args, &[]);
        wait::until(START, "coturn to listen", || {
            process.stdout().contains("SQLite DB connection success")
        });
        Self { host, process }
    }

    /// The URL for this transport (`udp` or `tcp`) of the one that [`Coturn::start`] started.
    pub fn url(&self, transport: &str) -> String {
        format!("turn:{}:{PORT}?transport={transport}", self.host.address())
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        self.process.stdout()
    }

    /// How many lines of its log have all these words.
    pub fn count(&self, words: &[&str]) -> usize {
        count_lines(&self.log(), words)
    }

    /// Waits until `times` lines of its log have all these words.
    ///
    /// # Panics
    /// When they do not come in time.
    pub fn await_lines(&self, patience: Duration, times: usize, words: &[&str]) {
        wait::until(
            patience,
            &format!("{times} lines with {words:?} in coturn's log"),
            || self.count(words) >= times,
        );
    }

    /// The relayed addresses that it has given out, in their order.
    pub fn relayed(&self) -> Vec<String> {
        const BEFORE: &str = "Local relay addr: ";
        let log = self.log();
        log.lines()
            .filter_map(|line| Some(line.split_once(BEFORE)?.1.trim().to_owned()))
            .collect()
    }

    /// The running process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn count_lines(log: &str, words: &[&str]) -> usize {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has_all).count()
}

/// Finds a program of Debian's coturn package.
///
/// # Panics
/// When it is not installed: a test that did not run has proven nothing.
fn program(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    folders
        .into_iter()
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "`{name}` IS NOT INSTALLED, so this test has proven nothing: apt-get install coturn"
            )
        })
}

/// What `turnutils_uclient` counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// Messages sent, over all its connections.
    pub sent: u64,
    /// Messages that came back.
    pub received: u64,
}

/// How long a run of `turnutils_uclient` may take: it waits some seconds by itself.
const UCLIENT: &str = "60";

/// Runs `turnutils_uclient` with these arguments.
///
/// # Panics
/// When it fails or its output cannot be read.
pub fn uclient(host: &Host, args: &[&str]) -> Messages {
    let mut command = host.command("timeout");
    command.arg(UCLIENT).arg(program("turnutils_uclient"));
    let text = output_of(command.args(args));
    let number = |key: &str| -> Option<u64> {
        let line = text.lines().rfind(|line| line.contains(key))?;
        let rest = line.split_once(key)?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    };
    let counts = number("tot_send_msgs=").zip(number("tot_recv_msgs="));
    let (sent, received) =
        counts.unwrap_or_else(|| panic!("turnutils_uclient {args:?} did not count:\n{text}"));
    Messages { sent, received }
}

/// What `turnutils_natdiscovery` found, in its own words; nothing where it found none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// `Endpoint Independent`, `Address Dependent`, `Address and Port Dependent`.
    pub mapping: Option<String>,
    /// The same words.
    pub filtering: Option<String>,
    /// Whether a packet to the own reflexive address came back.
    pub hairpin: bool,
}

/// Runs `turnutils_natdiscovery -m -f -H` against a STUN server.
pub fn discover_nat(host: &Host, server: &str, port: u16) -> Discovery {
    let mut command = host.command("timeout");
    command.arg(UCLIENT).arg(program("turnutils_natdiscovery"));
    let text = output_of(command.args(["-m", "-f", "-H", "-p", &port.to_string(), server]));
    let behavior = |kind: &str| {
        let verdict = text.lines().find_map(|line| {
            let words = line
                .strip_prefix("NAT with ")
                .or_else(|| line.strip_prefix("No NAT! ("));
            words?.split_once(kind)
        });
        Some(verdict?.0.trim().to_owned())
    };
    Discovery {
        mapping: behavior("Mapping"),
        filtering: behavior("Filtering"),
        hairpin: text.contains("successful hairpinning"),
    }
}

/// Both outputs of a program that ended well.
fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{text}",
        output.status
    );
    text
}

/// Starts `turnutils_peer`, which sends every datagram back, at ports 3480 and 3481 of this address.
pub fn peer(host: &Host, address: &str) -> Process {
    host.spawn(program("turnutils_peer"), &["-L", address], &[])
}

/// Runs Debian's `stun` (package stun-client, RFC 3489) against a server; its exit status is its verdict in bits, and no
/// failure.
///
/// # Panics
/// When it is not installed or does not start.
pub fn classic_stun(host: &Host, server: &str) -> String {
    let mut command = host.command("timeout");
    command.arg(UCLIENT).arg(program("stun")).arg(server);
    let output = command.output().expect("the program starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
