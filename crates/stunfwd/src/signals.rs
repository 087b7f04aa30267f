//! How the user asks the program to stop.

use std::io;

/// The signals that ask for a clean stop: SIGINT and SIGTERM on Unix, Ctrl-C elsewhere.
///
/// From [`StopSignals::register`] on they no longer end the process by themselves.
#[derive(Debug)]
pub struct StopSignals(platform::Signals);

impl StopSignals {
    /// Takes the signals over. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn register() -> io::Result<Self> {
        platform::Signals::register().map(Self)
    }

    /// Waits for the next signal and returns its name.
    pub async fn next(&mut self) -> &'static str {
        self.0.next().await
    }
}

#[cfg(unix)]
mod platform {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    #[derive(Debug)]
    pub(super) struct Signals {
        interrupt: Signal,
        terminate: Signal,
    }

    impl Signals {
        pub(super) fn register() -> io::Result<Self> {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok(Self {
                interrupt,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        pub(super) async fn next(&mut self) -> &'static str {
            tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            }
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    #[derive(Debug)]
    pub(super) struct Signals;

    impl Signals {
        #[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
        pub(super) fn register() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> &'static str {
            if tokio::signal::ctrl_c().await.is_err() {
                // No handler could be installed: then the system's own ends the process.
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }
}
