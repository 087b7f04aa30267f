//! A program on a terminal: what it shows, what is typed, and the modes it leaves behind.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};

use stunfwd_tests::wait;

/// Wide enough that no line of a log is broken.
const SIZE: Winsize = Winsize {
    ws_row: 50,
    ws_col: 400,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A program that was started on a terminal of its own. Dropping it ends it; when the test is failing what it showed
/// is printed.
#[derive(Debug)]
pub(crate) struct OnTerminal {
    child: Child,
    keyboard: File,
    terminal: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    /// Starts a program with a new terminal as its controlling one.
    ///
    /// # Panics
    /// When the system gives no terminal, or has no `setsid` of util-linux.
    pub(crate) fn start(command: &Command) -> Self {
        let pty = openpty(Some(&SIZE), None).expect("the system gives a terminal");
        let stdio = || Stdio::from(pty.slave.try_clone().expect("a descriptor can be doubled"));
        let mut on_terminal = Command::new("setsid");
        on_terminal
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            on_terminal.env(name, value.unwrap_or_default());
        }
        let child = on_terminal
            .env("TERM", "xterm")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("setsid starts it");
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut screen = File::from(pty.master);
        let keyboard = screen.try_clone().expect("a descriptor can be doubled");
        let kept = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            keyboard,
            terminal: pty.slave,
            shown,
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Everything that was shown so far, the terminal's commands included.
    pub(crate) fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until a text was shown after the first `skip` bytes, and returns how many bytes were shown then.
    ///
    /// # Panics
    /// When it was not within `patience`.
    pub(crate) fn await_shown(&self, patience: Duration, skip: usize, text: &str) -> usize {
        wait::until(patience, &format!("{text:?} to be shown"), || {
            self.shown()
                .get(skip..)
                .is_some_and(|shown| shown.contains(text))
        });
        self.shown().len()
    }

    /// Says whether the terminal is as a shell wants it: lines are edited and echoed, and Ctrl-C is a signal.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub(crate) fn is_cooked(&self) -> bool {
        let wanted = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        let modes = tcgetattr(&self.terminal).expect("the terminal is there");
        modes.local_flags.contains(wanted)
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// When there is no shell.
    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &script]).status();
        status.expect("there is a shell");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When the system cannot say.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait::answer_within(patience, || {
            self.child.try_wait().expect("a child can be asked")
        })
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- on the terminal:\n{:?}", self.shown());
        }
    }
}
