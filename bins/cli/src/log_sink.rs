//! Where log lines go: to standard error, and while a prompt is on the screen through it, so that they do
//! not tear it.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{JoinHandle, sleep},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the prompt. A thread that logs never waits for a terminal; what is too much is
/// counted.
const LINES_MAX: usize = 4096;

/// How long the last lines are waited for: writing them takes a millisecond, and a terminal that has been
/// stopped is not waited for.
const LAST_LINES_STEPS: u32 = 40;
const LAST_LINES_STEP: Duration = Duration::from_millis(5);

/// Where log lines go.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// To the thread that writes above the prompt; `None` without one.
    prompt_tx: Mutex<Option<SyncSender<String>>>,
    /// The thread that writes above the prompt.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The prompt is over: what still waits goes to standard error.
    is_direct: AtomicBool,
    lost: AtomicU64,
}

impl LogSink {
    /// Sends lines through `print` from now on, until [`LogSink::detach`]. What `print` cannot show goes to
    /// standard error.
    pub(crate) fn attach(&self, mut print: impl FnMut(String) -> bool + Send + 'static) {
        let (prompt_tx, prompt_rx) = sync_channel(LINES_MAX);
        let shared = self.0.clone();
        let started = std::thread::Builder::new()
            .name("stunfwd-log".to_owned())
            .spawn(move || shared.show(&prompt_rx, &mut print));
        // Without a thread lines go where they went before.
        if let Ok(thread) = started {
            *self.0.thread() = Some(thread);
            *self.0.prompt() = Some(prompt_tx);
        }
    }

    /// Sends lines to standard error from now on, those that wait for the prompt included.
    pub(crate) fn bypass_prompt(&self) {
        self.0.is_direct.store(true, Ordering::SeqCst);
    }

    /// Does without the prompt from now on, and waits a moment for what waits to be written.
    pub(crate) fn detach(&self) {
        self.bypass_prompt();
        self.0.prompt().take();
        let thread = self.0.thread().take();
        for _ in 0..LAST_LINES_STEPS {
            if thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return;
            }
            sleep(LAST_LINES_STEP);
        }
    }

    fn write(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line).into_owned();
        let sent = match &*self.0.prompt() {
            Some(prompt_tx) => prompt_tx.try_send(text),
            None => Err(TrySendError::Disconnected(text)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(text)) => to_standard_error(&text),
        }
    }
}

impl Shared {
    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prompt(&self) -> MutexGuard<'_, Option<SyncSender<String>>> {
        self.prompt_tx
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, lines: &Receiver<String>, print: &mut dyn FnMut(String) -> bool) {
        for line in lines {
            self.show_line(line, print);
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.show_line(format!("({lost} log lines were too many to show)\n"), print);
            }
        }
    }

    fn show_line(&self, line: String, print: &mut dyn FnMut(String) -> bool) {
        let is_direct = self.is_direct.load(Ordering::SeqCst);
        if is_direct || !print(line.clone()) {
            to_standard_error(&line);
        }
    }
}

fn to_standard_error(line: &str) {
    // With standard error closed there is nobody left to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// One line; the formatter writes it as a whole.
pub(crate) struct Line(LogSink);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogSink {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_logs_does_not_wait_for_a_prompt_that_shows_nothing() {
        let sink = LogSink::default();
        let (shown_tx, shown_rx) = channel();
        let (go_on_tx, go_on_rx) = channel::<()>();
        sink.attach(move |line| {
            // As a terminal whose user has stopped its output.
            let _ = go_on_rx.recv();
            shown_tx.send(line).is_ok()
        });
        for number in 0..LINES_MAX + 10 {
            sink.write(format!("{number}\n").as_bytes());
        }
        drop(go_on_tx);
        sink.0.prompt().take();
        let shown: Vec<String> = shown_rx.into_iter().collect();
        assert_eq!(shown[0], "0\n");
        let lost = shown.iter().find(|line| line.starts_with('('));
        let lost = lost.expect("what was lost is counted");
        assert!(lost.contains("log lines were too many"), "{lost}");
    }
}
