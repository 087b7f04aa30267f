//! Follows the client's configuration file: what is saved to `mappings` is applied to the running table.
//!
//! What counts is the difference between the file as it was last read and as it is now (`difference`), so
//! what was added elsewhere stays, and what was removed elsewhere does not come back. `watch` says when to
//! look. A file that is not valid changes nothing. Other keys need a restart, which is said.
//!
//! This is the program's business and not the library's: who embeds `stunfwd` has its own settings, and
//! changes the table through `stunfwd::Mappings` as is done here.

mod difference;
mod watch;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mapping_core::config::{ClientConfig, ConfigError};
use stunfwd::{Applied, Change, ChangeError, Mappings, Outcome, TableView};
use tracing::{info, warn};

use crate::config_file;
use difference::{Difference, other_keys};
use watch::Watch;

/// How long a file must stay as it is before it counts: some editors write it in several steps.
const DEBOUNCE: Duration = Duration::from_millis(300);

/// How often a save is tried when others change the table between a look at it and the change.
const ATTEMPTS_MAX: u32 = 10;

/// What was seen of the file. Of a text that holds secrets only a hash is kept, and when it was written: saving it
/// as it is means to try again what was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(u64, Option<SystemTime>),
    Unreadable(String),
}

/// The file as it was read when the program started.
pub(crate) struct Start {
    /// The file as the user named it.
    pub(crate) file: PathBuf,
    /// What it said.
    pub(crate) text: String,
    /// What that means.
    pub(crate) config: ClientConfig,
}

/// Applies what is saved, for ever.
pub(crate) async fn follow(start: Start, mappings: Mappings) {
    let Start { file, text, config } = start;
    let mut watch = Watch::new(&file);
    let written = written(&file);
    let mut follower = Follower {
        name: file.display().to_string(),
        seen: Seen::Text(hash(&text), written),
        listed: config.mappings.clone(),
        running: config,
        said_keys: Vec::new(),
        file,
        mappings,
    };
    drop(text);
    loop {
        watch.changed().await;
        if !follower.look().await {
            return;
        }
    }
}

struct Follower {
    file: PathBuf,
    name: String,
    seen: Seen,
    /// The mappings as last read.
    listed: Vec<mapping_core::PortMapping>,
    /// What the program was started with.
    running: ClientConfig,
    /// The keys of which it was said that they need a restart.
    said_keys: Vec<&'static str>,
    mappings: Mappings,
}

impl Follower {
    /// Looks at the file. `false` when the program is stopping.
    async fn look(&mut self) -> bool {
        let (mut seen, mut read) = self.read().await;
        if seen == self.seen {
            return true;
        }
        let Some(mut then) = self.mappings.view().await else {
            return false;
        };
        loop {
            tokio::time::sleep(DEBOUNCE).await;
            let (now, again) = self.read().await;
            if now == seen {
                break;
            }
            (seen, read) = (now, again);
            let Some(view) = self.mappings.view().await else {
                return false;
            };
            then = view;
        }
        if seen == self.seen {
            return true;
        }
        self.seen = seen;
        match read.and_then(|text| ClientConfig::parse(&self.file, &text)) {
            Ok(config) => self.apply(config, &then).await,
            Err(error) => {
                self.say_invalid(&error);
                true
            }
        }
    }

    async fn read(&self) -> (Seen, Result<String, ConfigError>) {
        let file = self.file.clone();
        // A network mount may take its time.
        let read = tokio::task::spawn_blocking(move || (written(&file), config_file::read(&file)));
        let (written, read) = read
            .await
            .expect("reading a file does not panic and is not cancelled");
        let seen = match &read {
            Ok(text) => Seen::Text(hash(text), written),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        (seen, read)
    }

    fn say_invalid(&self, error: &ConfigError) {
        let file = &self.name;
        warn!("{file} was changed and is not valid: the mappings stay as they are until it is");
        for problem in &error.problems {
            warn!("{problem}");
        }
    }

    /// Applies what the file says now; `then` is the table of when it was found changed.
    async fn apply(&mut self, config: ClientConfig, then: &TableView) -> bool {
        self.say_keys(&config);
        let difference = Difference::between(&self.listed, &config.mappings);
        for _ in 0..ATTEMPTS_MAX {
            let Some(table) = self.mappings.view().await else {
                return false;
            };
            let wanted = difference.changes(then, &table);
            let (changes, refused) = self.acceptable(wanted).await;
            if !changes.is_empty() {
                let text = texts(&changes, &table);
                match self.mappings.apply(changes).await {
                    Ok(applied) => self.say_applied(&text, &applied),
                    Err(ChangeError::Stopped) => return false,
                    // Somebody else changed the table since it was looked at.
                    Err(_) => continue,
                }
            }
            self.listed = config.mappings;
            self.say_refused(refused);
            return true;
        }
        warn!(
            "{} was saved while the table was changing: trying again",
            self.name
        );
        self.seen = Seen::Unreadable(String::new());
        true
    }

    fn say_applied(&self, text: &str, applied: &Applied) {
        let how = match applied.outcome {
            Outcome::Committed => "in force on both ends",
            Outcome::Staged => "in force here, and proposed when a peer comes",
            // Outcomes of later versions are no agreement either.
            Outcome::Unconfirmed | _ => "in force here, the server has not agreed yet",
        };
        let (file, version) = (&self.name, applied.table.version);
        info!("{file} was saved: {text}: version {version} is {how}");
    }

    fn say_refused(&mut self, refused: Vec<(Change, ChangeError)>) {
        for (change, error) in refused {
            if let Change::Add(mapping) = change {
                let file = &self.name;
                warn!("{file}: `{mapping}` is not added: {error}");
                // The next save tries it again.
                self.listed.retain(|listed| *listed != mapping);
            }
        }
    }

    /// Sorts out what the table refuses: one refused mapping does not hold back the others.
    async fn acceptable(&self, wanted: Vec<Change>) -> (Vec<Change>, Vec<(Change, ChangeError)>) {
        if self.mappings.check(&wanted).await.is_ok() {
            return (wanted, Vec::new());
        }
        let mut accepted = Vec::new();
        let mut refused = Vec::new();
        for change in wanted {
            accepted.push(change);
            if let Err(error) = self.mappings.check(&accepted).await
                && let Some(change) = accepted.pop()
            {
                refused.push((change, error));
            }
        }
        (accepted, refused)
    }

    fn say_keys(&mut self, config: &ClientConfig) {
        let keys = other_keys(&self.running, config);
        if keys != self.said_keys && !keys.is_empty() {
            let (file, list) = (&self.name, keys.join("`, `"));
            warn!("{file} was saved: a change of `{list}` counts after a restart");
        }
        self.said_keys = keys;
    }
}

fn texts(changes: &[Change], table: &TableView) -> String {
    let text = |change: &Change| match change {
        Change::Add(mapping) => format!("+ {mapping}"),
        Change::Remove(id) => {
            let view = table.mappings.iter().find(|view| view.id == *id);
            view.map_or_else(String::new, |view| format!("- {}", view.mapping))
        }
        _ => String::new(),
    };
    changes.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Returns when the file was last written, where the system knows.
fn written(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|it| it.modified()).ok()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
