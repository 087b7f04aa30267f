//! What the program answers to a request.

use std::path::{Path, PathBuf};

use mapping_core::{MappingId, PortMapping};
use serde::Serialize;

use super::protocol::{
    ChangeOutcome, ErrorAnswer, MapChange, MapChanged, MapList, MapRow, MappingName, Request,
};
use crate::mappings::{Change, ChangeError, MappingView, Mappings, Outcome, TableView};

/// Answers requests for one program.
#[derive(Clone, Debug)]
pub(crate) struct Answerer {
    mappings: Mappings,
    config: Option<PathBuf>,
}

impl Answerer {
    /// Makes one for a program that was started with a configuration file.
    pub(crate) fn new(mappings: Mappings, config_file: &Path) -> Self {
        let named = !config_file.as_os_str().is_empty();
        let absolute = named.then(|| std::path::absolute(config_file).ok());
        Self {
            mappings,
            config: absolute.flatten(),
        }
    }

    /// Returns the line of the answer.
    pub(super) async fn answer(&self, request: Request) -> Vec<u8> {
        let answer = match request {
            Request::Status => self.mappings.status().await.map(|status| to_line(&status)),
            Request::MapList => self.list().await.map(|list| to_line(&list)),
            Request::MapChange(change) => {
                return match self.change(&change).await {
                    Ok(changed) => to_line(&changed),
                    Err(error) => refusal(error),
                };
            }
        };
        answer.unwrap_or_else(|| refusal(ChangeError::Stopped.to_string()))
    }

    async fn list(&self) -> Option<MapList> {
        let TableView {
            version,
            committed,
            peer,
            mappings,
        } = self.mappings.view().await?;
        Some(MapList {
            version,
            committed,
            peer,
            config: self.config.clone(),
            mappings: mappings.into_iter().map(row).collect(),
        })
    }

    async fn change(&self, change: &MapChange) -> Result<MapChanged, String> {
        // A server says so before it is asked for a mapping that it does not have.
        let ours = self.mappings.check(&[]).await;
        ours.map_err(|error| error.to_string())?;
        let mut added = Vec::new();
        for rule in &change.add {
            let mapping: PortMapping =
                rule.parse().map_err(|error| format!("`{rule}`: {error}"))?;
            added.push(Change::Add(mapping));
        }
        let table = self.mappings.view().await;
        let table = table.ok_or_else(|| ChangeError::Stopped.to_string())?;
        let mut changes = Vec::new();
        let mut removed = Vec::new();
        for name in &change.remove {
            let found = find(&table, name)?;
            if changes.contains(&Change::Remove(found.id)) {
                return Err(format!("`{}` is named twice", found.mapping));
            }
            changes.push(Change::Remove(found.id));
            removed.push(found.mapping.to_string());
        }
        changes.extend(added);
        let applied = self.mappings.apply(changes).await;
        let applied = applied.map_err(|error| error.to_string())?;
        let (version, rows) = (applied.table.version, applied.table.mappings);
        let rows: Vec<MapRow> = rows.into_iter().map(row).collect();
        let is_added = |row: &&MapRow| applied.added.contains(&MappingId::new(row.id));
        Ok(MapChanged {
            outcome: match applied.outcome {
                Outcome::Committed => ChangeOutcome::Committed,
                Outcome::Staged => ChangeOutcome::Staged,
                Outcome::Unconfirmed => ChangeOutcome::Unconfirmed,
            },
            version,
            added: rows.iter().filter(is_added).cloned().collect(),
            removed,
            mappings: rows,
        })
    }
}

/// Finds the mapping that a command names.
fn find<'a>(table: &'a TableView, name: &MappingName) -> Result<&'a MappingView, String> {
    let mappings = &table.mappings;
    match name {
        MappingName::Index(index) => usize::try_from(*index)
            .ok()
            .and_then(|index| mappings.get(index))
            .ok_or_else(|| match mappings.len() {
                0 => format!("there is no mapping {index}: the table is empty"),
                1 => format!("there is no mapping {index}: the only one is 0"),
                count => format!(
                    "there is no mapping {index}: they go from 0 to {}",
                    count - 1
                ),
            }),
        MappingName::Rule(rule) => {
            let wanted: PortMapping = rule.parse().map_err(|error| format!("`{rule}`: {error}"))?;
            let found = mappings.iter().find(|view| view.mapping == wanted);
            found.ok_or_else(|| format!("`{wanted}` is not in the table: map list shows what is"))
        }
    }
}

fn row(view: MappingView) -> MapRow {
    MapRow {
        status: view.status,
        id: view.id.value(),
        via: view.via,
    }
}

pub(super) fn refusal(error: String) -> Vec<u8> {
    to_line(&ErrorAnswer { error })
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("maps with text keys are always JSON");
    line.push(b'\n');
    line
}
