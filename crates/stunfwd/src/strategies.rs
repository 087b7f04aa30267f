//! What has opened a direct path to whom, kept in the state directory for the next run.
//!
//! The file `strategies.json` is a help, no truth: one that is damaged is set aside with a warning, and what
//! it cannot hold is forgotten. Several programs may share it: each write takes in what the others have written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use session::{Hex, IdentityKey, Strategy};
use tracing::{debug, warn};

use crate::randomness::random_seed;
use crate::state_dir::write_private;

/// The name of the file.
const FILE_NAME: &str = "strategies.json";

/// Most peers that are remembered; a room has a handful, and the oldest give way.
const REMEMBERED_MAX: usize = 256;

/// Longest file that is read: four times what that many need.
const FILE_BYTES_MAX: u64 = 128 * 1024;

/// The memory of one process. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Strategies {
    file: Arc<PathBuf>,
    /// The latest last.
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The peer's public key in hexadecimal digits.
    peer: String,
    strategy: String,
}

impl Strategies {
    /// Reads what is remembered in a state directory.
    pub(crate) fn open(state_directory: &Path) -> Self {
        let file = state_directory.join(FILE_NAME);
        let entries = read(&file).unwrap_or_else(|error| {
            warn!(
                "{} cannot be used ({error}): what worked before is not known",
                file.display()
            );
            Vec::new()
        });
        Self {
            file: Arc::new(file),
            entries: Arc::new(Mutex::new(entries)),
        }
    }

    /// Returns what is known, the latest last.
    pub(crate) fn all(&self) -> Vec<(IdentityKey, Strategy)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().filter_map(|entry| {
            // A word of a later version is not ours to judge.
            Some((Hex::parse(&entry.peer)?, entry.strategy.parse().ok()?))
        });
        known.collect()
    }

    /// Notes what has worked. The file is written in the background; nothing waits for it.
    pub(crate) fn remember(&self, peer: IdentityKey, strategy: Strategy) {
        let entry = Entry {
            peer: peer.to_string(),
            strategy: strategy.to_string(),
        };
        // Not even the lock is taken here: a writing holds it until the disk has everything.
        let memory = self.clone();
        tokio::task::spawn_blocking(move || memory.write(entry));
    }

    fn write(&self, entry: Entry) {
        // Held over the writing: what was noted last is written last.
        let mut known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if known.last() == Some(&entry) {
            return;
        }
        // Another program's words since ours; a file that has become unreadable is replaced.
        let mut entries = read(&self.file).unwrap_or_else(|_| known.clone());
        entries.retain(|it| it.peer != entry.peer);
        entries.push(entry);
        let too_many = entries.len().saturating_sub(REMEMBERED_MAX);
        entries.drain(..too_many);
        if let Err(error) = replace(&self.file, &entries) {
            debug!(file = %self.file.display(), %error, "what worked was not written down");
        }
        *known = entries;
    }
}

/// Reads a file; one that is not there is empty.
fn read(file: &Path) -> io::Result<Vec<Entry>> {
    let mut text = String::new();
    match File::open(file) {
        Ok(open) => open.take(FILE_BYTES_MAX).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_str(&text)?)
}

/// Writes another file and gives it the name, so that the file is there whole at any time.
fn replace(file: &Path, entries: &[Entry]) -> io::Result<()> {
    let [a, b, c, d, ..] = random_seed();
    let temporary = file.with_extension(format!("{:08x}.new", u32::from_be_bytes([a, b, c, d])));
    let text = serde_json::to_string_pretty(entries)? + "\n";
    let written = write_private(&temporary, &text).and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IdentityKey {
        Hex([number; 32])
    }

    fn note(memory: &Strategies, number: u8, strategy: Strategy) {
        memory.write(Entry {
            peer: peer(number).to_string(),
            strategy: strategy.to_string(),
        });
    }

    #[test]
    fn what_worked_is_known_after_a_restart_and_the_latest_word_holds() {
        let home = tempfile::tempdir().unwrap();
        let memory = Strategies::open(home.path());
        assert!(memory.all().is_empty());
        note(&memory, 1, Strategy::Birthday);
        note(&memory, 2, Strategy::Predicted);
        note(&memory, 1, Strategy::PortMapped);
        let expected = [
            (peer(2), Strategy::Predicted),
            (peer(1), Strategy::PortMapped),
        ];
        assert_eq!(Strategies::open(home.path()).all(), expected);
        assert_eq!(memory.all(), expected);
        let files = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn noting_waits_for_no_disk() {
        let home = tempfile::tempdir().unwrap();
        let memory = Strategies::open(home.path());
        {
            let writing = memory.entries.lock().unwrap();
            memory.remember(peer(1), Strategy::Birthday);
            assert!(writing.is_empty());
        }
        while memory.all().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn two_programs_with_one_directory_do_not_forget_for_each_other() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (Strategies::open(home.path()), Strategies::open(home.path()));
        note(&first, 1, Strategy::Birthday);
        note(&second, 2, Strategy::Predicted);
        assert_eq!(Strategies::open(home.path()).all().len(), 2);
    }

    #[test]
    fn a_damaged_file_is_nothing_known_and_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(FILE_NAME);
        for text in ["", "{", "[1]", "[{\"peer\":1}]", "\u{0}"] {
            fs::write(&file, text).unwrap();
            let memory = Strategies::open(home.path());
            assert!(memory.all().is_empty(), "{text:?}");
            note(&memory, 1, Strategy::Birthday);
            assert_eq!(Strategies::open(home.path()).all().len(), 1, "{text:?}");
        }
        let words = r#"[{"peer":"zz","strategy":"birthday"},{"peer":"00","strategy":"x"}]"#;
        fs::write(&file, words).unwrap();
        assert!(Strategies::open(home.path()).all().is_empty());
    }

    #[test]
    fn the_oldest_give_way() {
        let home = tempfile::tempdir().unwrap();
        let entry = |number: usize| Entry {
            peer: format!("{number:064x}"),
            strategy: "birthday".to_owned(),
        };
        let full: Vec<_> = (0..REMEMBERED_MAX).map(entry).collect();
        replace(&home.path().join(FILE_NAME), &full).unwrap();
        let length = fs::metadata(home.path().join(FILE_NAME)).unwrap().len();
        assert!(length < FILE_BYTES_MAX / 2, "{length}");
        let memory = Strategies::open(home.path());
        note(&memory, 255, Strategy::Birthday);
        let known = Strategies::open(home.path()).all();
        assert_eq!(known.len(), REMEMBERED_MAX);
        assert_eq!(known.last(), Some(&(peer(255), Strategy::Birthday)));
        assert_ne!(known[0].0.to_string(), full[0].peer);
    }
}
