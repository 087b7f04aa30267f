//! Changes that were typed and not yet applied, and what the numbers of the last list mean.

use mapping_core::{MappingId, PortMapping};
use stunfwd::{Change, MappingView, TableView};

use super::command::Which;

/// What is to become of the table at the next `update`.
#[derive(Clone, Debug, Default)]
pub(super) struct Staging {
    /// In the order in which they were typed.
    removed: Vec<(MappingId, PortMapping)>,
    added: Vec<PortMapping>,
    /// What the numbers mean: the last list, and behind it what was added since.
    shown: Option<Vec<Shown>>,
}

/// A row of the last list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Present(MappingId, PortMapping),
    Added(PortMapping),
}

/// What a staged change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Staged {
    /// It will be added; with the number that it has from now on, when there is a list.
    Added(PortMapping, Option<usize>),
    /// It will be removed.
    Removed(PortMapping),
    /// It would have been removed, and stays.
    Kept(PortMapping),
    /// It would have been added, and is not.
    Forgotten(PortMapping),
}

/// Why nothing was staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StageError {
    /// It is in the table.
    #[error("`{0}` is in the table already")]
    Present(PortMapping),
    /// It is staged already.
    #[error("`{0}` is staged already: `update` adds it")]
    AddedTwice(PortMapping),
    /// Its removal is staged already.
    #[error("the removal of `{0}` is staged already: `update` removes it")]
    RemovedTwice(PortMapping),
    /// The last list has no such number.
    #[error("the list has no number {index}: {}", numbers(*.count))]
    NoSuchNumber {
        /// The number.
        index: usize,
        /// How many rows the list has.
        count: usize,
    },
    /// The table has no such mapping.
    #[error("`{0}` is not in the table")]
    Absent(PortMapping),
    /// It was in the last list and is gone.
    #[error("`{0}` is no longer in the table: somebody else removed it")]
    Gone(PortMapping),
}

/// How a row of a list is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// In the table.
    Present,
    /// In the table until the next `update`.
    Removed,
}

impl Staging {
    /// Says whether nothing is staged.
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Returns how many changes are staged.
    pub(super) fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// Returns what `update` applies: what is removed makes room for what is added.
    pub(super) fn changes(&self) -> Vec<Change> {
        let removed = self.removed.iter().map(|(id, _)| Change::Remove(*id));
        let added = self.added.iter().cloned().map(Change::Add);
        removed.chain(added).collect()
    }

    /// Returns what will be added.
    pub(super) fn added(&self) -> &[PortMapping] {
        &self.added
    }

    /// Says how a mapping of the table stands in a list.
    pub(super) fn mark(&self, id: MappingId) -> Mark {
        if self.removed.iter().any(|(removed, _)| *removed == id) {
            Mark::Removed
        } else {
            Mark::Present
        }
    }

    /// Stages a mapping. Whether its address is free is for the table to say.
    ///
    /// # Errors
    /// [`StageError`]: nothing was staged.
    pub(super) fn add(
        &mut self,
        mapping: PortMapping,
        table: &TableView,
    ) -> Result<Staged, StageError> {
        if let Some(place) = self.removed.iter().position(|(_, old)| *old == mapping) {
            let (id, _) = self.removed.remove(place);
            if table.mappings.iter().any(|view| view.id == id) {
                return Ok(Staged::Kept(mapping));
            }
            // Somebody else removed it meanwhile, so it has to be added.
        }
        if find(table, &mapping).is_some() {
            return Err(StageError::Present(mapping));
        }
        if self.added.contains(&mapping) {
            return Err(StageError::AddedTwice(mapping));
        }
        self.added.push(mapping.clone());
        let number = self.shown.as_mut().map(|shown| {
            shown.push(Shown::Added(mapping.clone()));
            shown.len() - 1
        });
        Ok(Staged::Added(mapping, number))
    }

    /// Stages the removal of a mapping.
    ///
    /// # Errors
    /// [`StageError`]: nothing was staged.
    pub(super) fn remove(&mut self, which: Which, table: &TableView) -> Result<Staged, StageError> {
        match which {
            Which::Index(index) => match self.at(index, table)? {
                Shown::Present(id, mapping) => {
                    if table.mappings.iter().all(|view| view.id != id) {
                        return Err(StageError::Gone(mapping));
                    }
                    self.remove_present(id, mapping)
                }
                Shown::Added(mapping) => self.forget(mapping, table),
            },
            Which::Rule(mapping) => self.forget(mapping, table),
        }
    }

    /// Drops what is removed from the table already: by `update`, or by somebody else.
    pub(super) fn drop_gone(&mut self, table: &TableView) -> Vec<PortMapping> {
        let present = |id: &MappingId| table.mappings.iter().any(|view| view.id == *id);
        let (kept, gone) = std::mem::take(&mut self.removed)
            .into_iter()
            .partition(|(id, _)| present(id));
        self.removed = kept;
        gone.into_iter().map(|(_, mapping)| mapping).collect()
    }

    /// Forgets what was staged: it is applied.
    pub(super) fn clear(&mut self) {
        self.removed.clear();
        self.added.clear();
    }

    /// From now on numbers mean the rows of this table, and behind them what is added.
    pub(super) fn show(&mut self, table: &TableView) {
        self.shown = Some(self.rows(table));
    }

    fn rows(&self, table: &TableView) -> Vec<Shown> {
        let present = table.mappings.iter();
        let present = present.map(|view| Shown::Present(view.id, view.mapping.clone()));
        present
            .chain(self.added.iter().cloned().map(Shown::Added))
            .collect()
    }

    fn at(&self, index: usize, table: &TableView) -> Result<Shown, StageError> {
        let present;
        // Who has seen no list yet counts as the configuration file does.
        let shown = if let Some(shown) = &self.shown {
            shown
        } else {
            present = self.rows(table);
            &present
        };
        let count = shown.len();
        shown
            .get(index)
            .cloned()
            .ok_or(StageError::NoSuchNumber { index, count })
    }

    fn remove_present(
        &mut self,
        id: MappingId,
        mapping: PortMapping,
    ) -> Result<Staged, StageError> {
        if self.mark(id) == Mark::Removed {
            return Err(StageError::RemovedTwice(mapping));
        }
        self.removed.push((id, mapping.clone()));
        Ok(Staged::Removed(mapping))
    }

    fn forget(&mut self, mapping: PortMapping, table: &TableView) -> Result<Staged, StageError> {
        if let Some(place) = self.added.iter().position(|added| *added == mapping) {
            self.added.remove(place);
            return Ok(Staged::Forgotten(mapping));
        }
        match find(table, &mapping) {
            Some(view) => self.remove_present(view.id, mapping),
            None => Err(StageError::Absent(mapping)),
        }
    }
}

fn find<'t>(table: &'t TableView, mapping: &PortMapping) -> Option<&'t MappingView> {
    table.mappings.iter().find(|view| view.mapping == *mapping)
}

fn numbers(count: usize) -> String {
    match count {
        0 => "it is empty".to_owned(),
        1 => "it has number 0 alone".to_owned(),
        _ => format!("it has 0 to {}", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use stunfwd::status::{MappingState, MappingStatus};

    use super::*;

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    fn table(rows: &[(u32, &str)]) -> TableView {
        let view = |(index, (id, spec)): (usize, &(u32, &str))| MappingView {
            id: MappingId::new(*id),
            mapping: mapping(spec),
            status: MappingStatus {
                index: index as u64,
                spec: (*spec).to_owned(),
                state: MappingState::Active,
                error: None,
                listen: None,
                connections: 0,
                bytes_in: 0,
                bytes_out: 0,
            },
            via: None,
        };
        TableView {
            version: 1,
            committed: Some(1),
            peer: true,
            mappings: rows.iter().enumerate().map(view).collect(),
        }
    }

    fn remove(index: usize) -> Which {
        Which::Index(index)
    }

    #[test]
    fn changes_are_gathered_and_removals_make_room() {
        let table = table(&[(0, "tcp:1:1"), (7, "tcp:2:2")]);
        let mut staging = Staging::default();
        assert!(staging.is_empty());
        let added = staging.add(mapping("udp:1:1"), &table);
        assert_eq!(added, Ok(Staged::Added(mapping("udp:1:1"), None)));
        let removed = staging.remove(remove(1), &table);
        assert_eq!(removed, Ok(Staged::Removed(mapping("tcp:2:2"))));
        assert_eq!(
            staging.changes(),
            [
                Change::Remove(MappingId::new(7)),
                Change::Add(mapping("udp:1:1"))
            ]
        );
        assert_eq!(staging.mark(MappingId::new(7)), Mark::Removed);
        assert_eq!(staging.mark(MappingId::new(0)), Mark::Present);
        staging.clear();
        assert!(staging.is_empty());
    }

    #[test]
    fn a_number_means_what_the_last_list_showed() {
        let before = table(&[(0, "tcp:1:1"), (1, "tcp:2:2"), (2, "tcp:3:3")]);
        let mut staging = Staging::default();
        staging.show(&before);
        let added = staging.add(mapping("udp:9:9"), &before);
        assert_eq!(added, Ok(Staged::Added(mapping("udp:9:9"), Some(3))));
        // Somebody else removes the first.
        let now = table(&[(1, "tcp:2:2"), (2, "tcp:3:3")]);
        assert_eq!(
            staging.remove(remove(1), &now),
            Ok(Staged::Removed(mapping("tcp:2:2")))
        );
        assert_eq!(
            staging.remove(remove(0), &now),
            Err(StageError::Gone(mapping("tcp:1:1")))
        );
        assert_eq!(
            staging.remove(remove(3), &now),
            Ok(Staged::Forgotten(mapping("udp:9:9")))
        );
        let error = staging.remove(remove(4), &now).unwrap_err();
        assert_eq!(error.to_string(), "the list has no number 4: it has 0 to 3");
    }

    #[test]
    fn what_is_taken_back_is_no_change() {
        let table = table(&[(0, "tcp:1:1")]);
        let mut staging = Staging::default();
        let rule = |text| Which::Rule(mapping(text));
        staging.remove(rule("tcp:1:1"), &table).unwrap();
        assert_eq!(
            staging.remove(remove(0), &table),
            Err(StageError::RemovedTwice(mapping("tcp:1:1")))
        );
        let kept = staging.add(mapping("tcp:1:1"), &table);
        assert_eq!(kept, Ok(Staged::Kept(mapping("tcp:1:1"))));
        assert!(staging.is_empty());
        assert_eq!(
            staging.add(mapping("tcp:1:1"), &table),
            Err(StageError::Present(mapping("tcp:1:1")))
        );
        staging.add(mapping("tcp:2:2"), &table).unwrap();
        assert_eq!(
            staging.add(mapping("tcp:2:2"), &table),
            Err(StageError::AddedTwice(mapping("tcp:2:2")))
        );
        staging.remove(rule("tcp:2:2"), &table).unwrap();
        assert!(staging.is_empty());
        assert_eq!(
            staging.remove(rule("tcp:9:9"), &table),
            Err(StageError::Absent(mapping("tcp:9:9")))
        );
    }

    #[test]
    fn what_somebody_else_removed_meanwhile_does_not_stay_but_is_added() {
        let mut staging = Staging::default();
        let before = table(&[(0, "tcp:1:1")]);
        staging.remove(remove(0), &before).unwrap();
        let added = staging.add(mapping("tcp:1:1"), &table(&[]));
        assert_eq!(added, Ok(Staged::Added(mapping("tcp:1:1"), None)));
        assert_eq!(staging.changes(), [Change::Add(mapping("tcp:1:1"))]);
    }

    #[test]
    fn removals_of_what_is_gone_are_dropped() {
        let before = table(&[(0, "tcp:1:1"), (1, "tcp:2:2")]);
        let mut staging = Staging::default();
        staging.remove(remove(0), &before).unwrap();
        staging.remove(remove(1), &before).unwrap();
        let gone = staging.drop_gone(&table(&[(1, "tcp:2:2")]));
        assert_eq!(gone, [mapping("tcp:1:1")]);
        assert_eq!(staging.len(), 1);
    }
}
