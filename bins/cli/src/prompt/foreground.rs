//! Whose terminal it is at the moment. A program that reads the terminal from the background is stopped by
//! the system, and forwarding with it.

#[cfg(unix)]
pub(super) use unix::{is_ours, read_without_stopping, suspend, wait};

#[cfg(not(unix))]
pub(super) use elsewhere::{is_ours, read_without_stopping, wait};

#[cfg(unix)]
mod unix {
    use std::{io, thread::sleep, time::Duration};

    use nix::{
        sys::signal::{SigSet, Signal, kill},
        unistd::{Pid, getpgrp, tcgetpgrp},
    };

    /// How often a program in the background asks whether it was brought back: a person notices more.
    const INTERVAL: Duration = Duration::from_millis(250);

    /// Says whether the terminal listens to us. Where nobody hands it around, it does.
    pub(in crate::prompt) fn is_ours() -> bool {
        match tcgetpgrp(io::stdin()) {
            Ok(group) => group == getpgrp(),
            // Not our controlling terminal, none at all, or gone: reading it stops nobody.
            Err(_) => true,
        }
    }

    /// Waits until the terminal listens to us.
    pub(in crate::prompt) fn wait() {
        while !is_ours() {
            sleep(INTERVAL);
        }
    }

    /// Makes reading from the background an error in this thread, instead of a reason to stop the program.
    pub(in crate::prompt) fn read_without_stopping() {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTTIN);
        signals.add(Signal::SIGTTOU);
        signals
            .thread_block()
            .expect("both are signals that a thread may block");
    }

    /// Stops the program and whoever was started with it, as Ctrl-Z does. Returns when it goes on.
    pub(in crate::prompt) fn suspend() {
        // Nothing to do about a system that refuses: then it just goes on.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        // Another thread takes the signal, and until then this one would go on and take the terminal.
        sleep(INTERVAL);
    }
}

#[cfg(not(unix))]
mod elsewhere {
    /// There is no background.
    pub(in crate::prompt) fn is_ours() -> bool {
        true
    }

    /// There is no background.
    pub(in crate::prompt) fn wait() {}

    /// There is no background.
    pub(in crate::prompt) fn read_without_stopping() {}
}
