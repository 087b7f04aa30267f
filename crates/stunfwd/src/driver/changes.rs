//! Changes of the mapping table while the program runs, and who waits for them.

use std::time::{Duration, Instant};

use mapping_core::{Draft, MappingId, MappingTable};
use tokio::sync::oneshot;
use tunnel::forward::{Ingress, IngressSnapshot};

use super::Driver;
use super::command::Command;
use super::forwarding::Forwarding;
use crate::clock::now;
use crate::mappings::{Applied, Change, ChangeError, Outcome};

/// How long a change waits for the peer's word: a path that died is replaced sooner, and people do not wait
/// longer.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// How long a change waits for its ports: opening one that is taken is tried for 300 ms before it is said.
const PORTS_WAIT: Duration = Duration::from_secs(1);
/// How many changes wait at the same time, more than the control socket lets in. One more is answered as it
/// stands.
const WAITING_MAX: usize = 64;

/// The mapping table that people want, on the ingress side.
#[derive(Debug)]
pub(super) struct WantedTable {
    table: MappingTable,
    waiting: Vec<Waiting>,
}

/// Whether the server can be asked at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// There is none, or the one that was here has left the room with its last path.
    Absent,
    /// It is in the room, and no path to it works: it may have died, or move.
    Unreached,
    /// It can be asked.
    Connected,
}

/// A change whose author waits for what becomes of it.
#[derive(Debug)]
struct Waiting {
    version: u64,
    added: Vec<MappingId>,
    since: Instant,
    answer_tx: oneshot::Sender<Result<Applied, ChangeError>>,
}

impl WantedTable {
    pub(super) const fn new(table: MappingTable) -> Self {
        Self {
            table,
            waiting: Vec::new(),
        }
    }

    pub(super) const fn table(&self) -> &MappingTable {
        &self.table
    }

    /// Makes changes in a draft, which is not the table yet.
    fn stage(&self, changes: &[Change]) -> Result<(Draft, Vec<MappingId>), ChangeError> {
        let mut draft = self.table.draft();
        let mut added = Vec::new();
        for change in changes {
            match change {
                Change::Add(mapping) => {
                    added.push(draft.add(mapping.clone()).map_err(ChangeError::Table)?);
                }
                Change::Remove(id) => {
                    draft.remove(*id).ok_or(ChangeError::UnknownMapping(*id))?;
                }
            }
        }
        Ok((draft, added))
    }

    /// Makes changes and puts the table in force at this end; returns its version and what was added.
    fn change(
        &mut self,
        changes: &[Change],
        ingress: &Ingress,
    ) -> Result<(u64, Vec<MappingId>), ChangeError> {
        let (draft, added) = self.stage(changes)?;
        let next = draft.finish();
        if !self.table.diff(&next).is_empty() {
            self.table = next;
            ingress.set_table(&self.table);
        }
        Ok((self.table.version(), added))
    }
}

impl Waiting {
    /// Returns how far the change went, once nothing more is to be waited for.
    fn outcome(
        &self,
        snapshot: &IngressSnapshot,
        server: Presence,
        at: Instant,
    ) -> Option<Outcome> {
        let waited = at.saturating_duration_since(self.since);
        let opening = snapshot.closing_ports > 0
            || snapshot
                .mappings
                .iter()
                .any(|mapping| mapping.opening && self.added.contains(&MappingId::new(mapping.id)));
        if opening && waited < PORTS_WAIT {
            return None;
        }
        if snapshot
            .committed
            .is_some_and(|committed| committed >= self.version)
        {
            return Some(Outcome::Committed);
        }
        let is_over = waited >= COMMIT_WAIT;
        match server {
            Presence::Absent => Some(Outcome::Staged),
            // The next path may be a moment away.
            Presence::Unreached => is_over.then_some(Outcome::Staged),
            Presence::Connected => is_over.then_some(Outcome::Unconfirmed),
        }
    }
}

impl Driver {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Status(answer_tx) => {
                let _ = answer_tx.send(self.status());
            }
            Command::View(answer_tx) => {
                let _ = answer_tx.send(self.table_view());
            }
            Command::Check { changes, answer_tx } => {
                let _ = answer_tx.send(self.check_changes(&changes));
            }
            Command::Apply { changes, answer_tx } => self.apply_changes(&changes, answer_tx),
        }
    }

    fn check_changes(&self, changes: &[Change]) -> Result<(), ChangeError> {
        match &self.forwarding {
            Forwarding::Ingress { wanted, .. } => wanted.stage(changes).map(drop),
            Forwarding::Egress { .. } => Err(ChangeError::NotOurs),
        }
    }

    fn apply_changes(
        &mut self,
        changes: &[Change],
        answer_tx: oneshot::Sender<Result<Applied, ChangeError>>,
    ) {
        let changed = match &mut self.forwarding {
            Forwarding::Ingress {
                wanted, ingress, ..
            } => wanted
                .change(changes, ingress)
                .map(|change| (wanted, change)),
            Forwarding::Egress { .. } => Err(ChangeError::NotOurs),
        };
        match changed {
            Ok((wanted, (version, added))) => {
                wanted.waiting.push(Waiting {
                    version,
                    added,
                    since: now(),
                    answer_tx,
                });
                self.settle_changes(now());
            }
            Err(error) => {
                let _ = answer_tx.send(Err(error));
            }
        }
    }

    /// On the ingress side: whether a change can be agreed on at the moment.
    pub(super) fn server_presence(&self) -> Presence {
        let Forwarding::Ingress {
            connected: Some(instance),
            ..
        } = &self.forwarding
        else {
            return Presence::Absent;
        };
        // Its connections wait for a path for an hour, and its name in the room does not.
        match self.peers.by_instance(*instance) {
            None => Presence::Absent,
            Some(peer) if self.carriers.any_of(peer) => Presence::Connected,
            Some(_) => Presence::Unreached,
        }
    }

    /// Answers those who wait for a change that has gone as far as it will for now.
    pub(super) fn settle_changes(&mut self, at: Instant) {
        let server = self.server_presence();
        let Forwarding::Ingress {
            wanted, ingress, ..
        } = &mut self.forwarding
        else {
            return;
        };
        if wanted.waiting.is_empty() {
            return;
        }
        let snapshot = ingress.snapshot();
        let mut surplus = wanted.waiting.len().saturating_sub(WAITING_MAX);
        let mut settled = Vec::new();
        for waiting in std::mem::take(&mut wanted.waiting) {
            let outcome = waiting.outcome(&snapshot, server, at);
            match outcome.or_else(|| (surplus > 0).then_some(Outcome::Unconfirmed)) {
                Some(outcome) => {
                    surplus = surplus.saturating_sub(1);
                    settled.push((waiting, outcome));
                }
                None => wanted.waiting.push(waiting),
            }
        }
        if settled.is_empty() {
            return;
        }
        let table = self.table_view();
        for (waiting, outcome) in settled {
            let _ = waiting.answer_tx.send(Ok(Applied {
                outcome,
                table: table.clone(),
                added: waiting.added,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_waits_for_a_server_that_may_answer_and_is_staged_without_one() {
        let since = now();
        let waiting = Waiting {
            version: 2,
            added: Vec::new(),
            since,
            answer_tx: oneshot::channel().0,
        };
        let mut snapshot = IngressSnapshot {
            version: 2,
            committed: Some(1),
            ..IngressSnapshot::default()
        };
        for (server, at_once, at_last) in [
            (Presence::Absent, Some(Outcome::Staged), Outcome::Staged),
            // One that was killed is in the room for minutes.
            (Presence::Unreached, None, Outcome::Staged),
            (Presence::Connected, None, Outcome::Unconfirmed),
        ] {
            assert_eq!(waiting.outcome(&snapshot, server, since), at_once);
            let late = waiting.outcome(&snapshot, server, since + COMMIT_WAIT);
            assert_eq!(late, Some(at_last));
        }
        snapshot.committed = Some(2);
        let committed = waiting.outcome(&snapshot, Presence::Connected, since);
        assert_eq!(committed, Some(Outcome::Committed));
    }
}
