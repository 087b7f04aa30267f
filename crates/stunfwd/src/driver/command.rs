//! What other threads ask of the loop.

use tokio::sync::oneshot;

use crate::mappings::{Applied, Change, ChangeError, TableView};
use crate::status::Status;

/// One request. Whoever asked may have gone away since.
#[derive(Debug)]
pub(crate) enum Command {
    /// What `status` shows.
    Status(oneshot::Sender<Status>),
    /// The mapping table.
    View(oneshot::Sender<TableView>),
    /// Whether changes of the table would be accepted.
    Check {
        changes: Vec<Change>,
        answer_tx: oneshot::Sender<Result<(), ChangeError>>,
    },
    /// Changes of the table, answered when they are in force or have waited long enough.
    Apply {
        changes: Vec<Change>,
        answer_tx: oneshot::Sender<Result<Applied, ChangeError>>,
    },
}
