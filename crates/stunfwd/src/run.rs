//! The two entry points, and what goes wrong before and while they run.

use std::io;
use std::path::PathBuf;

use mapping_core::TableError;
use mapping_core::config::{ClientConfig, CommonConfig, ServerConfig};
use session::Side;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::control::ControlError;
use crate::driver::Command;
use crate::mappings::Mappings;
use crate::open_files;
use crate::shell;

/// What the command line says beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where the configuration came from; names the control socket and appears in messages.
    pub config_file: PathBuf,
    /// Path of the control socket, instead of the default one.
    pub control: Option<PathBuf>,
    /// The state directory, instead of the default one.
    pub state_dir: Option<PathBuf>,
}

/// Why a client or a server ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The state directory or the identity in it cannot be used.
    #[error("the state directory cannot be used")]
    State(#[source] crate::state_dir::StateError),
    /// The control socket cannot be opened.
    #[error("the control socket cannot be opened")]
    Control(#[source] crate::control::ControlError),
    /// A signaling URL, token or TLS setting is unusable.
    #[error("signaling cannot be used")]
    Signaling(#[from] signal_client::SignalError),
    /// No UDP socket could be opened.
    #[error("no UDP socket could be opened")]
    Socket(#[source] io::Error),
    /// The carriers' TLS could not be set up.
    #[error("the carriers cannot be set up")]
    Carriers(#[from] tunnel::carrier::CarrierStartError),
    /// The configuration was not read from a file, and its mappings are no table.
    #[error("mappings[{index}]")]
    Mapping {
        /// Its place in the list, counted from 0.
        index: usize,
        /// Why it cannot be in the table.
        source: TableError,
    },
    /// The operating system refused a thread or a runtime.
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    /// The thread that moves the data stopped without being asked.
    #[error("the data thread stopped")]
    DataThreadStopped,
    /// The conversation with signaling stopped without being asked.
    #[error("the conversation with signaling stopped")]
    RendezvousStopped,
}

impl RunError {
    /// Returns the exit status for a command line program: 2 when the configuration is at fault.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Signaling(_)
            | Self::Mapping { .. }
            | Self::Control(ControlError::PathTooLong { .. }) => 2,
            Self::State(_)
            | Self::Control(_)
            | Self::Socket(_)
            | Self::Carriers(_)
            | Self::Thread(_)
            | Self::DataThreadStopped
            | Self::RendezvousStopped => 1,
        }
    }
}

/// What the two roles do not share.
#[derive(Debug)]
pub(crate) enum Role {
    Ingress(ClientConfig),
    Egress(ServerConfig),
}

impl Role {
    pub(crate) const fn common(&self) -> &CommonConfig {
        match self {
            Self::Ingress(config) => &config.common,
            Self::Egress(config) => &config.common,
        }
    }

    pub(crate) const fn side(&self) -> Side {
        match self {
            Self::Ingress(_) => Side::Ingress,
            Self::Egress(_) => Side::Egress,
        }
    }

    /// The word for people, files and the status.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Ingress(_) => "client",
            Self::Egress(_) => "server",
        }
    }
}

/// The ingress side: local ports that lead to the peer's services.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    options: RunOptions,
    mappings: Mappings,
    commands_rx: mpsc::Receiver<Command>,
}

impl Client {
    /// Makes a client that does not run yet, and the handle by which its mappings are changed while it does.
    #[must_use]
    pub fn prepare(config: ClientConfig, options: RunOptions) -> (Self, Mappings) {
        let (mappings, commands_rx) = Mappings::new();
        let client = Self {
            config,
            options,
            mappings: mappings.clone(),
            commands_rx,
        };
        (client, mappings)
    }

    /// Runs until `shutdown` is cancelled, as [`Client::run`] does.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), RunError> {
        open_files::raise_limit();
        let commands = (self.mappings, self.commands_rx);
        shell::run(Role::Ingress(self.config), self.options, commands, shutdown).await
    }

    /// Runs a client until `shutdown` is cancelled.
    ///
    /// Waiting for a peer, for signaling or for the network is not a failure: it goes on for ever. The process' soft
    /// limit of open files is raised to the hard one.
    ///
    /// # Errors
    ///
    /// [`RunError`] for what cannot work on this machine or with this configuration.
    pub async fn run(
        config: ClientConfig,
        options: RunOptions,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let (client, _) = Self::prepare(config, options);
        client.run_until(shutdown).await
    }
}

/// The egress side: the machine with the services.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Runs a server until `shutdown` is cancelled.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub async fn run(
        config: ServerConfig,
        options: RunOptions,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        open_files::raise_limit();
        shell::run(Role::Egress(config), options, Mappings::new(), shutdown).await
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_control_socket_with_too_long_a_path_is_bad_usage_and_nothing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let state_dir = home.path().join("state");
        let text = "roomId: hunter2\nsignalingUrl: http://127.0.0.1:1\n";
        let config = ClientConfig::parse(Path::new("c.yml"), text).unwrap();
        let options = RunOptions {
            control: Some(home.path().join("x".repeat(200))),
            state_dir: Some(state_dir.clone()),
            ..RunOptions::default()
        };
        let ended = Client::run(config, options, CancellationToken::new()).await;
        let error = ended.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error:?}");
        assert!(!state_dir.exists());
    }
}
