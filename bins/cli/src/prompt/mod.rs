//! The prompt: commands from standard input that change the mappings of a running client.
//!
//! A line is a [`command`]. `add` and `remove` are gathered ([`staging`]) until `update` makes one version of
//! the table of them; [`session`] does that and words the answers. Where lines come from is told apart once:
//! from a terminal through a line [`editor`], whose [`terminal`] is given back as it was found however the
//! program ends; from a pipe or a file a line each ([`lines`]). Whose the terminal is at the moment is
//! [`foreground`]'s question.
//!
//! Reading blocks, so it has a thread of its own, which nobody waits for: the end of input stops nothing,
//! and the program ends without it.

mod command;
mod editor;
mod foreground;
mod lines;
mod session;
mod staging;
mod terminal;

use std::{path::PathBuf, sync::Arc};

use stunfwd::Mappings;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::log_sink::LogSink;
use editor::Prompt;
use session::Session;
use terminal::Terminal;

/// The terminal as it was found, when there is one; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FoundTerminal {
    terminal: Option<Arc<Terminal>>,
    log: LogSink,
}

impl FoundTerminal {
    /// Looks for a terminal to have a prompt on. `log` is written above that prompt.
    pub(crate) fn look(log: LogSink) -> Self {
        let terminal = Terminal::find().map(Arc::new);
        Self { terminal, log }
    }

    /// Gives the terminal back as it was, and the log with it: the program ends.
    pub(crate) fn give_back(&self) {
        if let Some(terminal) = &self.terminal {
            self.log.bypass_prompt();
            terminal.restore();
            self.log.detach();
        }
    }
}

/// Reads commands from standard input in a thread of its own, as soon as the client runs.
pub(crate) fn start(
    mappings: Mappings,
    config_file: PathBuf,
    found: &FoundTerminal,
    runtime: Handle,
    shutdown: CancellationToken,
) {
    let session = Session::new(mappings, config_file);
    let FoundTerminal { terminal, log } = found.clone();
    let thread = std::thread::Builder::new().name("stunfwd-prompt".to_owned());
    let started = thread.spawn(move || match terminal {
        Some(terminal) => Prompt {
            session,
            terminal,
            log,
            runtime,
            shutdown,
        }
        .run(),
        None => lines::run(session, &runtime),
    });
    if let Err(error) = started {
        warn!(%error, "commands cannot be read from standard input");
    }
}
