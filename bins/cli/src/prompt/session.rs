//! Does what a line says, and answers.

use std::{fmt::Write as _, path::PathBuf};

use mapping_core::PortMapping;
use stunfwd::{Applied, ChangeError, Mappings, Outcome, TableView};

use super::{
    command::{Command, HELP},
    staging::{Mark, Staged, Staging},
};
use crate::{
    save::{self, Saved},
    table::{Row, Table},
};

/// What the prompt knows from one line to the next.
pub(super) struct Session {
    mappings: Mappings,
    config_file: PathBuf,
    staging: Staging,
}

/// What a line came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The text to print, which ends with a line break or is empty.
    Text(String),
    /// The prompt ends, with a last text.
    Quit(String),
}

/// The program is about to end.
struct Stopped;

impl Session {
    pub(super) fn new(mappings: Mappings, config_file: PathBuf) -> Self {
        Self {
            mappings,
            config_file,
            staging: Staging::default(),
        }
    }

    /// Waits until the client runs; `false` when it never will.
    pub(super) async fn is_running(&self) -> bool {
        self.mappings.view().await.is_some()
    }

    /// Returns how many changes would be lost if the prompt ended now.
    pub(super) fn staged(&self) -> usize {
        self.staging.len()
    }

    /// Does what a line says.
    pub(super) async fn answer(&mut self, line: &str) -> Answer {
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(error) => return Answer::Text(format!("{error}\n")),
        };
        self.run(command)
            .await
            .unwrap_or_else(|Stopped| Answer::Quit("The program is stopping.\n".to_owned()))
    }

    async fn run(&mut self, command: Command) -> Result<Answer, Stopped> {
        let text = match command {
            Command::Nothing => String::new(),
            Command::Add(mapping) => self.add(mapping).await?,
            Command::Remove(which) => {
                let table = self.table().await?;
                match self.staging.remove(which, &table) {
                    Ok(staged) => said(&staged),
                    Err(error) => format!("{error}\n"),
                }
            }
            Command::List => self.list().await?,
            Command::Update => self.update().await?,
            Command::Save => self.save().await?,
            Command::Status => {
                let status = self.mappings.status().await.ok_or(Stopped)?;
                format!("{status}\n")
            }
            Command::Help => HELP.to_owned(),
            Command::Quit => return Ok(Answer::Quit(self.farewell())),
        };
        Ok(Answer::Text(text))
    }

    async fn table(&self) -> Result<TableView, Stopped> {
        self.mappings.view().await.ok_or(Stopped)
    }

    async fn add(&mut self, mapping: PortMapping) -> Result<String, Stopped> {
        let table = self.table().await?;
        let before = self.staging.clone();
        let staged = match self.staging.add(mapping.clone(), &table) {
            Ok(staged) => staged,
            Err(error) => return Ok(format!("{error}\n")),
        };
        match self.mappings.check(&self.staging.changes()).await {
            Ok(()) => Ok(said(&staged)),
            Err(ChangeError::Stopped) => Err(Stopped),
            Err(error) => {
                self.staging = before;
                Ok(format!("`{mapping}` cannot be added: {error}\n"))
            }
        }
    }

    async fn list(&mut self) -> Result<String, Stopped> {
        let table = self.table().await?;
        self.staging.show(&table);
        let mut text = self.rows(&table).to_string();
        if !self.staging.is_empty() {
            let count = changes(self.staging.len());
            writeln!(text, "{count} staged: `update` applies.").expect("a String takes it");
        }
        Ok(text)
    }

    async fn update(&mut self) -> Result<String, Stopped> {
        let table = self.table().await?;
        let mut text = String::new();
        for gone in self.staging.drop_gone(&table) {
            writeln!(text, "`{gone}` is gone already: somebody else removed it.")
                .expect("a String takes it");
        }
        if self.staging.is_empty() {
            text.push_str("Nothing is staged.\n");
            return Ok(text + &self.list().await?);
        }
        match self.mappings.apply(self.staging.changes()).await {
            Ok(applied) => {
                self.staging.clear();
                self.staging.show(&applied.table);
                text.push_str(&outcome(&applied));
                text.push_str(&self.rows(&applied.table).to_string());
                Ok(text)
            }
            Err(ChangeError::Stopped) => Err(Stopped),
            Err(error) => Ok(format!(
                "{text}Nothing was applied: {error}. `list` shows what is staged.\n"
            )),
        }
    }

    async fn save(&self) -> Result<String, Stopped> {
        let table = self.table().await?;
        let mappings: Vec<_> = table
            .mappings
            .into_iter()
            .map(|view| view.mapping)
            .collect();
        let file = self.config_file.display();
        let mut text = match save::save(&self.config_file, &mappings) {
            Ok(Saved::Written) => format!("Written to {file}.\n"),
            Ok(Saved::Unchanged) => format!("{file} lists these mappings already.\n"),
            Err(error) => format!("Not written: {error}\n"),
        };
        if !self.staging.is_empty() {
            text.push_str("What is staged is not part of it: `update` first.\n");
        }
        Ok(text)
    }

    fn farewell(&self) -> String {
        let dropped = match self.staging.len() {
            0 => String::new(),
            count => format!(" {} staged is dropped.", changes(count)),
        };
        format!("The prompt is closed, forwarding goes on.{dropped}\n")
    }

    /// The table as people see it, with what is staged.
    fn rows(&self, table: &TableView) -> Table {
        let present = table.mappings.iter().map(|view| {
            let mut row = Row::new(&view.status, view.via.as_deref(), table.peer);
            if self.staging.mark(view.id) == Mark::Removed {
                row.mark = '-';
            }
            row
        });
        let count = table.mappings.len();
        let added = self.staging.added().iter().enumerate();
        let added = added.map(|(index, mapping)| Row {
            mark: '+',
            index: count + index,
            spec: mapping.to_string(),
            state: "staged",
            listen: mapping.listen_text(),
            how: "`update` adds it".to_owned(),
        });
        Table(present.chain(added).collect())
    }
}

fn said(staged: &Staged) -> String {
    match staged {
        Staged::Added(mapping, None) => format!("+ {mapping} is staged: `update` applies.\n"),
        Staged::Added(mapping, Some(number)) => {
            format!("+ {mapping} is staged as number {number}: `update` applies.\n")
        }
        Staged::Removed(mapping) => {
            format!("- {mapping} is staged for removal: `update` applies.\n")
        }
        Staged::Kept(mapping) => format!("{mapping} stays.\n"),
        Staged::Forgotten(mapping) => format!("{mapping} is no longer staged.\n"),
    }
}

fn outcome(applied: &Applied) -> String {
    let version = applied.table.version;
    match applied.outcome {
        Outcome::Committed => format!("Version {version} is in force on both ends.\n"),
        Outcome::Staged => format!(
            "Version {version} is in force here, and is proposed as soon as a peer is connected.\n"
        ),
        // Outcomes of later versions are no agreement either.
        Outcome::Unconfirmed | _ => format!(
            "Version {version} is in force here. The server has not agreed yet; that goes on by itself.\n"
        ),
    }
}

fn changes(count: usize) -> String {
    match count {
        1 => "1 change".to_owned(),
        _ => format!("{count} changes"),
    }
}
