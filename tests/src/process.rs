//! A program that a test has started: where it runs, what it said, how it ends.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::wait;

/// Where a program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the test's own network.
    Here,
    /// In the network namespace of that name.
    Namespace(String),
}

impl Place {
    /// A command that will run in this place, under the process id that `spawn` returns.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        match self {
            Self::Here => Command::new(program.as_ref()),
            Self::Namespace(name) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{name}"))
                    .arg("--")
                    .arg(program.as_ref());
                command
            }
        }
    }
}

/// How much of each log is printed when a test fails.
const LOG_TAIL_BYTES: usize = 16 * 1024;

/// Numbers the log files of this process.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running program. Dropping it ends it; when the test is failing its log is printed.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs in `folder`; its standard input is an open pipe, see [`Self::write_line`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(label: &str, mut command: Command, folder: &Path) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = |kind: &str| folder.join(format!("{number:03}-{label}.{kind}"));
        let (stdout, stderr) = (log("out"), log("err"));
        let create = |path: &Path| File::create(path).expect("a log file can be made");
        let child = command
            .stdin(Stdio::piped())
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{label}: {command:?} does not start: {error}"));
        Self {
            label: label.to_owned(),
            child,
            status: None,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Writes one line to its standard input.
    ///
    /// # Panics
    /// When it does not take it.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input is a pipe");
        writeln!(stdin, "{line}").expect("the program reads its standard input");
    }

    /// Asks it to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Stops it dead without ending it: SIGSTOP. [`Self::signal`] with `CONT` lets it go on.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Ends it without asking: SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    /// Sends the signal of that name.
    ///
    /// # Panics
    /// When there is no shell.
    pub fn signal(&self, name: &str) {
        if self.status.is_none() {
            // The shell's own `kill`: safe Rust without another dependency.
            let script = format!("kill -{name} {}", self.id());
            Command::new("sh")
                .args(["-c", &script])
                .status()
                .expect("there is a shell");
        }
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait::answer_within(patience, || self.ended())
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be asked");
        }
        self.status
    }

    /// Resident memory in bytes, from `/proc`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .unwrap_or_else(|error| panic!("{}: not running: {error}", self.label));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.expect("a running process has VmRSS in kB") * 1024
    }

    /// Open file descriptors, from `/proc`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id()))
            .expect("the process is running")
            .count()
    }

    fn print_logs(&self) {
        eprintln!(
            "--- {} (process {}, {:?})",
            self.label,
            self.id(),
            self.status
        );
        for (kind, file) in [("standard output", &self.stdout), ("log", &self.stderr)] {
            let text = read_lossy(file);
            if !text.is_empty() {
                let mut start = text.len().saturating_sub(LOG_TAIL_BYTES);
                while !text.is_char_boundary(start) {
                    start += 1;
                }
                eprintln!("--- its {kind}:\n{}", &text[start..]);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.print_logs();
        }
    }
}

fn read_lossy(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
