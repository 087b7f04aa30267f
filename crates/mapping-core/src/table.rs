//! The versioned table of mappings, and how one version becomes the next.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{PortMapping, WireMapping, WireTable};

/// Most mappings in one table: more than people write, and few enough that the whole table fits one
/// control frame.
pub const MAPPINGS_MAX: usize = 1024;

/// Most local sockets of one table: every port of a range is a socket, and 8192 stay below the number of
/// files that systems let a service open once its limit is raised at all.
pub const LOCAL_SOCKETS_MAX: usize = 8192;

/// Names a mapping for as long as the instance runs; never given twice, so it says more than an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MappingId(u32);

impl MappingId {
    /// Takes an id off the wire.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a mapping cannot enter the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Another mapping of the table listens there.
    #[error("{listen} is already taken by `{by}`")]
    LocalTaken {
        /// The address and ports wanted.
        listen: String,
        /// The mapping that has them.
        by: Box<PortMapping>,
        /// Its place in the table, counted from 0.
        index: usize,
    },
    /// [`MAPPINGS_MAX`] is reached.
    #[error("the table is full: at most {MAPPINGS_MAX} mappings")]
    Full,
    /// [`LOCAL_SOCKETS_MAX`] is reached.
    #[error("would listen on {0} ports in all, at most {LOCAL_SOCKETS_MAX} are allowed")]
    TooManySockets(usize),
}

/// One version of the table. A version never changes: [`MappingTable::draft`] makes the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingTable {
    version: u64,
    next_id: u32,
    // Ids grow, so the order of the map is the order in which mappings were added.
    entries: BTreeMap<MappingId, PortMapping>,
}

impl MappingTable {
    /// Makes the empty table of version 0: nothing was proposed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes version 1 from what a configuration lists.
    ///
    /// # Errors
    /// The first [`TableError`], with the position of the mapping that caused it.
    pub fn from_mappings(
        mappings: impl IntoIterator<Item = PortMapping>,
    ) -> Result<Self, (usize, TableError)> {
        let mut draft = Self::new().draft();
        for (index, mapping) in mappings.into_iter().enumerate() {
            draft.add(mapping).map_err(|error| (index, error))?;
        }
        Ok(draft.finish())
    }

    /// Returns the version: 0 before the first, then counting up.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the mappings in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (MappingId, &PortMapping)> {
        self.entries.iter().map(|(id, mapping)| (*id, mapping))
    }

    /// Returns one mapping.
    #[must_use]
    pub fn get(&self, id: MappingId) -> Option<&PortMapping> {
        self.entries.get(&id)
    }

    /// Returns the mapping at a place of the list that people see, counted from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(MappingId, &PortMapping)> {
        self.iter().nth(index)
    }

    /// Returns how many mappings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Starts the next version.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft {
            table: Self {
                version: self.version + 1,
                ..self.clone()
            },
            removed: BTreeMap::new(),
        }
    }

    /// Returns what changes from `self` to `newer`. A mapping that stays keeps its id and is in neither
    /// list.
    #[must_use]
    pub fn diff(&self, newer: &Self) -> TableDiff {
        let missing = |from: &Self, other: &Self| {
            from.iter()
                .filter(|(id, mapping)| other.get(*id) != Some(mapping))
                .map(|(id, mapping)| (id, mapping.clone()))
                .collect()
        };
        TableDiff {
            removed: missing(self, newer),
            added: missing(newer, self),
        }
    }

    /// Returns the form in which the table is proposed to the server.
    #[must_use]
    pub fn to_wire(&self) -> WireTable {
        let mappings = self
            .iter()
            .map(|(id, mapping)| WireMapping::new(id, mapping))
            .collect();
        WireTable {
            version: self.version,
            mappings,
        }
    }
}

/// The difference of two versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDiff {
    /// What the older one had.
    pub removed: Vec<(MappingId, PortMapping)>,
    /// What only the newer one has.
    pub added: Vec<(MappingId, PortMapping)>,
}

impl TableDiff {
    /// Says whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// The next version while it is being written.
#[derive(Clone, Debug)]
pub struct Draft {
    table: MappingTable,
    /// What this draft took out of the version before: added again, it is the mapping that it was.
    removed: BTreeMap<MappingId, PortMapping>,
}

impl Draft {
    /// Adds a mapping. One that this draft has removed is put back under its id, as if nothing had happened, so
    /// that its connections feel nothing.
    ///
    /// # Errors
    /// [`TableError`]: the draft is as before.
    pub fn add(&mut self, mapping: PortMapping) -> Result<MappingId, TableError> {
        let entries = &mut self.table.entries;
        if entries.len() >= MAPPINGS_MAX {
            return Err(TableError::Full);
        }
        let taken = entries
            .values()
            .enumerate()
            .find(|(_, other)| other.conflicts_with(&mapping));
        if let Some((index, other)) = taken {
            let listen = mapping.listen_text();
            return Err(TableError::LocalTaken {
                listen,
                by: Box::new(other.clone()),
                index,
            });
        }
        let sockets = |mapping: &PortMapping| usize::from(mapping.local_ports().len());
        let wanted = sockets(&mapping) + entries.values().map(sockets).sum::<usize>();
        if wanted > LOCAL_SOCKETS_MAX {
            return Err(TableError::TooManySockets(wanted));
        }
        let removed = self
            .removed
            .iter()
            .find(|(_, removed)| **removed == mapping);
        if let Some(id) = removed.map(|(id, _)| *id) {
            self.removed.remove(&id);
            entries.insert(id, mapping);
            return Ok(id);
        }
        let id = MappingId(self.table.next_id);
        // An id is drawn once per change that a person makes: four billion of them do not happen, and if
        // they did a full table would be the honest answer.
        self.table.next_id = self.table.next_id.checked_add(1).ok_or(TableError::Full)?;
        entries.insert(id, mapping);
        Ok(id)
    }

    /// Removes a mapping; `None` when there is none with that id.
    pub fn remove(&mut self, id: MappingId) -> Option<PortMapping> {
        let mapping = self.table.entries.remove(&id)?;
        self.removed.insert(id, mapping.clone());
        Some(mapping)
    }

    /// Returns the table as it would be.
    #[must_use]
    pub const fn preview(&self) -> &MappingTable {
        &self.table
    }

    /// Ends the draft: the next version.
    #[must_use]
    pub fn finish(self) -> MappingTable {
        self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    #[test]
    fn a_change_keeps_the_ids_of_what_stays() {
        let first =
            MappingTable::from_mappings(["tcp:1:1", "tcp:2:2", "udp:1:1"].map(mapping)).unwrap();
        assert_eq!((first.version(), first.len()), (1, 3));
        let (second_id, _) = first.at(1).unwrap();
        let mut draft = first.draft();
        assert_eq!(draft.remove(second_id), Some(mapping("tcp:2:2")));
        let added = draft.add(mapping("tcp:2:3")).unwrap();
        assert_ne!(added, second_id, "an id is never given twice");
        let second = draft.finish();
        assert_eq!(second.version(), 2);
        let diff = first.diff(&second);
        assert_eq!(diff.removed, [(second_id, mapping("tcp:2:2"))]);
        assert_eq!(diff.added, [(added, mapping("tcp:2:3"))]);
        assert!(second.diff(&second).is_empty());
    }

    #[test]
    fn a_mapping_that_is_removed_and_added_in_one_change_has_not_changed() {
        let first = MappingTable::from_mappings(["tcp:1:1", "tcp:2:2"].map(mapping)).unwrap();
        let (id, _) = first.at(0).unwrap();
        let mut draft = first.draft();
        draft.remove(id).unwrap();
        assert_eq!(draft.add(mapping("tcp:127.0.0.1:1:1")), Ok(id));
        let second = draft.finish();
        assert!(first.diff(&second).is_empty());
        // In a change of its own it is another mapping.
        let mut draft = second.draft();
        draft.remove(id).unwrap();
        let mut draft = draft.finish().draft();
        assert_ne!(draft.add(mapping("tcp:1:1")), Ok(id));
    }

    #[test]
    fn what_is_removed_makes_room_for_what_is_added_after_it() {
        let first = MappingTable::from_mappings([mapping("tcp:1:1")]).unwrap();
        let (id, _) = first.at(0).unwrap();
        let mut draft = first.draft();
        let taken = draft.add(mapping("tcp:0.0.0.0:1:2")).unwrap_err();
        assert_eq!(taken.to_string(), "0.0.0.0:1 is already taken by `tcp:1:1`");
        assert_eq!(draft.preview().len(), 1, "the draft is as before");
        draft.remove(id).unwrap();
        assert_eq!(draft.remove(id), None);
        let added = draft.add(mapping("tcp:0.0.0.0:1:2")).unwrap();
        assert_ne!(added, id);
        assert_eq!(
            draft.finish().iter().map(|(id, _)| id).collect::<Vec<_>>(),
            [added]
        );
    }

    #[test]
    fn a_local_socket_is_given_once() {
        let refused = MappingTable::from_mappings(["tcp:80-90:80-90", "tcp:85:1"].map(mapping));
        let by = Box::new(mapping("tcp:80-90:80-90"));
        let taken = TableError::LocalTaken {
            listen: "127.0.0.1:85".into(),
            by,
            index: 0,
        };
        assert_eq!(refused, Err((1, taken)));
    }

    #[test]
    fn a_table_is_bounded() {
        let mut draft = MappingTable::new().draft();
        let too_many = draft.add(mapping("tcp:1-8193:1-8193"));
        assert_eq!(too_many, Err(TableError::TooManySockets(8193)));
        for port in 1..=MAPPINGS_MAX {
            draft.add(mapping(&format!("tcp:{port}:1"))).unwrap();
        }
        assert_eq!(draft.add(mapping("udp:1:1")), Err(TableError::Full));
        assert_eq!(draft.preview().len(), MAPPINGS_MAX);
    }
}
