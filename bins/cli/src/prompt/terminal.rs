//! The terminal as it was found, to be left like that however the program ends.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Ends the mode in which a terminal marks what is pasted.
const BRACKETED_PASTE_OFF: &str = "\x1b[?2004l";

/// Back to the beginning of the line, and nothing on it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// A terminal, and its modes from before the line that is being edited.
#[derive(Debug)]
pub(super) struct Terminal {
    modes: Modes,
    is_editing: AtomicBool,
    /// It understands commands; a simple one would show them.
    has_commands: bool,
}

impl Terminal {
    /// Finds the terminal; `None` when input and output are not both one.
    pub(super) fn find() -> Option<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        // What the line editor holds to be simple: it edits nothing there.
        let simple = ["dumb", "cons25", "emacs"];
        let term = env::var("TERM").unwrap_or_default();
        is_terminal.then(|| Self {
            modes: Modes::default(),
            is_editing: AtomicBool::new(false),
            has_commands: !simple.iter().any(|name| term.eq_ignore_ascii_case(name)),
        })
    }

    /// Says that a line is being edited from now on, or no more.
    pub(super) fn set_editing(&self, is_editing: bool) {
        if is_editing {
            // Not earlier: a program that is started in the background finds the modes of the shell's own
            // editor.
            self.modes.keep();
        }
        self.is_editing.store(is_editing, Ordering::SeqCst);
    }

    /// Gives the terminal back as it was, from any thread, although a line may be being edited.
    pub(super) fn restore(&self) {
        if self.is_editing.swap(false, Ordering::SeqCst) {
            self.modes.restore();
            let text = if self.has_commands {
                [BRACKETED_PASTE_OFF, CLEAR_LINE].concat()
            } else {
                "\n".to_owned()
            };
            // A terminal that is gone is told nothing.
            let mut output = io::stdout();
            let _ = output.write_all(text.as_bytes());
            let _ = output.flush();
        }
    }
}

#[cfg(unix)]
use unix::Modes;

#[cfg(unix)]
mod unix {
    use std::{
        io,
        sync::{Mutex, PoisonError},
    };

    use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

    use crate::prompt::foreground;

    #[derive(Debug, Default)]
    pub(super) struct Modes(Mutex<Option<Termios>>);

    impl Modes {
        pub(super) fn keep(&self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tcgetattr(io::stdin()).ok();
        }

        pub(super) fn restore(&self) {
            let modes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // In the background it is somebody else's, and not in our modes.
            if let Some(modes) = &*modes
                && foreground::is_ours()
            {
                // A terminal that is gone needs no modes.
                let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, modes);
            }
        }
    }
}

#[cfg(not(unix))]
use elsewhere::Modes;

#[cfg(not(unix))]
mod elsewhere {
    /// A console of Windows is given back by the editor alone.
    #[derive(Debug, Default)]
    pub(super) struct Modes;

    impl Modes {
        pub(super) fn keep(&self) {}

        pub(super) fn restore(&self) {}
    }
}
