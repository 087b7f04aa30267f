//! The prompt on a terminal: a line editor, with log lines above it.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext,
    EventHandler, ExternalPrinter, Helper, KeyEvent, RepeatCount, completion::Completer,
    error::ReadlineError, highlight::Highlighter, hint::Hinter, history::DefaultHistory,
    validate::Validator,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    command::completions,
    foreground,
    lines::print,
    session::{Answer, Session},
    terminal::Terminal,
};
use crate::log_sink::LogSink;

/// The prompt.
const PROMPT: &str = "mapping> ";

/// Lines of history, kept in memory.
const HISTORY_LINES: usize = 200;

/// Everything that a prompt needs.
pub(super) struct Prompt {
    pub(super) session: Session,
    pub(super) terminal: Arc<Terminal>,
    pub(super) log: LogSink,
    pub(super) runtime: Handle,
    pub(super) shutdown: CancellationToken,
}

/// What ended the editing of a line.
enum Ended {
    Line(String),
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    EndOfInput,
    /// Reading failed because the terminal is somebody else's.
    NotOurs,
    Failed(ReadlineError),
}

impl Prompt {
    /// Reads commands until `quit`, Ctrl-D, Ctrl-C or the end of the program.
    pub(super) fn run(mut self) {
        foreground::read_without_stopping();
        if !self.runtime.block_on(self.session.is_running()) {
            return;
        }
        foreground::wait();
        let mut line_editor = match LineEditor::new(&self.log) {
            Ok(line_editor) => line_editor,
            Err(error) => {
                warn!(%error, "there is no prompt on this terminal");
                return;
            }
        };
        print("Type `help` for the commands that change mappings, `quit` to leave this prompt.\n");
        self.read(&mut line_editor);
        // With the editor goes what would have shown log lines, so first it, then they.
        drop(line_editor);
        self.log.detach();
    }

    fn read(&mut self, line_editor: &mut LineEditor) {
        loop {
            foreground::wait();
            if self.shutdown.is_cancelled() {
                return;
            }
            self.terminal.set_editing(true);
            let ended = line_editor.next();
            self.terminal.set_editing(false);
            if self.shutdown.is_cancelled() {
                return;
            }
            match ended {
                Ended::Line(lines) => {
                    // Several, when they were pasted.
                    for line in lines.lines() {
                        match self.runtime.block_on(self.session.answer(line)) {
                            Answer::Text(text) => print(&text),
                            Answer::Quit(text) => return print(&text),
                        }
                    }
                }
                Ended::EndOfInput => {
                    let (Answer::Quit(text) | Answer::Text(text)) =
                        self.runtime.block_on(self.session.answer("quit"));
                    return print(&text);
                }
                Ended::Interrupt => {
                    info!("stopping on Ctrl-C");
                    self.shutdown.cancel();
                    return;
                }
                #[cfg(unix)]
                Ended::Suspend => foreground::suspend(),
                #[cfg(not(unix))]
                Ended::Suspend => {}
                Ended::NotOurs => {}
                Ended::Failed(error) => {
                    warn!(%error, "the prompt ends, forwarding goes on");
                    return;
                }
            }
        }
    }
}

/// The editor, and what was typed before Ctrl-Z.
struct LineEditor {
    editor: Editor<Words, DefaultHistory>,
    suspension: Suspension,
}

impl LineEditor {
    fn new(log: &LogSink) -> rustyline::Result<Self> {
        let config = Config::builder()
            .auto_add_history(true)
            .max_history_size(HISTORY_LINES)?
            .completion_type(CompletionType::List)
            .build();
        let history = DefaultHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        editor.set_helper(Some(Words));
        let suspension = Suspension::default();
        if cfg!(unix) {
            // The editor's own way to stop would take the terminal when the program goes on in the
            // background.
            let handler = EventHandler::Conditional(Box::new(suspension.clone()));
            editor.bind_sequence(KeyEvent::ctrl('Z'), handler);
        }
        // A log that goes elsewhere tears nothing, and a simple terminal cannot be written above.
        if io::stderr().is_terminal()
            && let Ok(mut printer) = editor.create_external_printer()
        {
            log.attach(move |line| printer.print(line).is_ok());
        }
        Ok(Self { editor, suspension })
    }

    fn next(&mut self) -> Ended {
        let typed = self.suspension.take_typed();
        let line = self.editor.readline_with_initial(PROMPT, (&typed, ""));
        match line {
            Ok(line) => Ended::Line(line),
            Err(ReadlineError::Interrupted) if self.suspension.is_asked() => Ended::Suspend,
            Err(ReadlineError::Interrupted) => Ended::Interrupt,
            Err(ReadlineError::Eof) => Ended::EndOfInput,
            Err(_) if !foreground::is_ours() => Ended::NotOurs,
            Err(error) => Ended::Failed(error),
        }
    }
}

/// Ctrl-Z, told from Ctrl-C.
#[derive(Clone, Debug, Default)]
struct Suspension {
    is_asked: Arc<AtomicBool>,
    typed: Arc<Mutex<String>>,
}

impl Suspension {
    fn is_asked(&self) -> bool {
        self.is_asked.swap(false, Ordering::SeqCst)
    }

    fn take_typed(&self) -> String {
        std::mem::take(&mut *self.typed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ConditionalEventHandler for Suspension {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext<'_>) -> Option<Cmd> {
        line.line()
            .clone_into(&mut self.typed.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_asked.store(true, Ordering::SeqCst);
        Some(Cmd::Interrupt)
    }
}

/// Completes commands.
struct Words;

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let beginning = &line[..position];
        let words = completions(beginning).map(|word| format!("{word} "));
        Ok((0, words.collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Validator for Words {}

impl Helper for Words {}
