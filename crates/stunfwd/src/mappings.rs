//! The mapping table of a running client, for whoever changes it: the prompt, the file, the control socket.
//!
//! A change is a list of [`Change`]s and becomes one version of the table. The ports open and close here at
//! once; the version is proposed to the server, which puts it in force as a whole or not at all.

use mapping_core::{MappingId, PortMapping, TableError};
use tokio::sync::{mpsc, oneshot};

use crate::driver::Command;
use crate::status::{MappingStatus, Status};

/// How many commands may wait for the driver, which answers each from memory.
const COMMANDS_MAX: usize = 16;

/// A handle on the mapping table of a running client.
///
/// It may be used before the client runs: commands wait until it does.
#[derive(Clone, Debug)]
pub struct Mappings {
    commands_tx: mpsc::Sender<Command>,
}

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Adds a mapping after those that are there.
    Add(PortMapping),
    /// Removes a mapping.
    Remove(MappingId),
}

/// One mapping of the table as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingView {
    /// Its name for as long as the program runs.
    pub id: MappingId,
    /// The rule.
    pub mapping: PortMapping,
    /// Its row of `status --json`.
    pub status: MappingStatus,
    /// Over which path it carries, `direct, 192.0.2.1:5`; `None` while it does not.
    pub via: Option<String>,
}

/// The table as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableView {
    /// The version that is wanted: the last change.
    pub version: u64,
    /// The version in force on both ends; `None` while no peer has agreed to any.
    pub committed: Option<u64>,
    /// Whether a peer is connected.
    pub peer: bool,
    /// The mappings in the order of the table.
    pub mappings: Vec<MappingView>,
}

/// How far a change went before [`Mappings::apply`] returned. It goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// In force on both ends.
    Committed,
    /// No peer is connected: in force here, and proposed when one comes.
    Staged,
    /// A peer is connected, but did not agree in time: it hangs, or its path has died just now.
    Unconfirmed,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How far it went.
    pub outcome: Outcome,
    /// The table afterwards.
    pub table: TableView,
    /// The mappings that [`Change::Add`] made, in order.
    pub added: Vec<MappingId>,
}

/// Why a change was not made. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The mapping cannot enter the table.
    #[error(transparent)]
    Table(TableError),
    /// The mapping to be removed is not in the table, any more or at all.
    #[error("the table has no mapping with id {0}: somebody may have removed it")]
    UnknownMapping(MappingId),
    /// The program is a server: its mappings are what clients propose.
    #[error("mappings belong to the client: change them there")]
    NotOurs,
    /// The program has ended, or is about to.
    #[error("the program is stopping")]
    Stopped,
}

impl Mappings {
    /// Makes the handle and the end that the driver takes.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands_tx, commands_rx) = mpsc::channel(COMMANDS_MAX);
        (Self { commands_tx }, commands_rx)
    }

    /// Returns the present table; `None` when the program has stopped.
    pub async fn view(&self) -> Option<TableView> {
        self.ask(Command::View).await
    }

    /// Says whether [`Mappings::apply`] would accept these changes, in this order.
    ///
    /// # Errors
    /// [`ChangeError`] of the first change that it would not.
    pub async fn check(&self, changes: &[Change]) -> Result<(), ChangeError> {
        let changes = changes.to_vec();
        let checked = self.ask(|answer_tx| Command::Check { changes, answer_tx });
        checked.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// Makes one version of all changes, in this order, and waits until both ends have committed it, for at
    /// most 10 s, in which a path that died may be replaced; without a peer not at all. New ports are waited for, too, for at most 1 s.
    ///
    /// # Errors
    /// [`ChangeError`] of the first change that cannot be made; none of them is then.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Applied, ChangeError> {
        let applied = self.ask(|answer_tx| Command::Apply { changes, answer_tx });
        applied.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// Returns what `status` shows; `None` when the program has stopped.
    pub async fn status(&self) -> Option<Status> {
        self.ask(Command::Status).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.commands_tx.send(command(answer_tx)).await.ok()?;
        answer_rx.await.ok()
    }
}
