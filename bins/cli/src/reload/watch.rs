//! Says when to look at the file: when something happens in its folder, and every two seconds.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::mpsc, time::timeout};
use tracing::debug;

/// How often a file is looked at without being told: systems tell nothing of network mounts, of links
/// further up the path, and when they have run out of watches.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Watches the folders of a file and of what it links to: editors put a new file in the old one's place,
/// which a watch on the file itself would not see.
pub(super) struct Watch {
    file: PathBuf,
    /// `None` where the system has no watches to give.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    names: Arc<Mutex<BTreeSet<OsString>>>,
    happened_rx: mpsc::Receiver<()>,
}

impl Watch {
    pub(super) fn new(file: &Path) -> Self {
        let (happened_tx, happened_rx) = mpsc::channel(1);
        let names: Arc<Mutex<BTreeSet<OsString>>> = Arc::default();
        let of_interest = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = of_interest.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| is_change(&event, &names)) {
                // A full queue says it already.
                let _ = happened_tx.try_send(());
            }
        });
        let mut watch = Self {
            file: file.to_owned(),
            watcher: watcher
                .inspect_err(|error| debug!(%error, "the file is looked at every 2 s only"))
                .ok(),
            folders: BTreeSet::new(),
            names,
            happened_rx,
        };
        watch.follow_links();
        watch
    }

    /// Waits until it is time to look.
    pub(super) async fn changed(&mut self) {
        // Without a watcher the queue is closed, and that answers at once.
        if self.watcher.is_some() {
            let _ = timeout(POLL_INTERVAL, self.happened_rx.recv()).await;
        } else {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.follow_links();
    }

    /// Watches where the file is now, and no longer where it was.
    fn follow_links(&mut self) {
        let real = fs::canonicalize(&self.file).ok();
        let files: Vec<PathBuf> = [Some(self.file.clone()), real]
            .into_iter()
            .flatten()
            .collect();
        let folders: BTreeSet<PathBuf> = files.iter().map(|file| folder(file)).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = files
            .iter()
            .filter_map(|file| file.file_name().map(ToOwned::to_owned))
            .collect();
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for old in self.folders.difference(&folders) {
            // One that was removed is not watched any more.
            let _ = watcher.unwatch(old);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            let is_watched = self.folders.contains(&folder)
                || watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok();
            if is_watched {
                watched.insert(folder);
            }
        }
        self.folders = watched;
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reading the file is no change of it: else each look would cause the next.
fn is_change(event: &Event, names: &BTreeSet<OsString>) -> bool {
    let is_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    let mut named = event.paths.iter().filter_map(|path| path.file_name());
    !is_read && named.any(|name| names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change_and_other_files_are_none_of_ours() {
        let names = BTreeSet::from([OsString::from("config.yml")]);
        let event = |kind, path: &str| Event::new(kind).add_path(PathBuf::from(path));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(is_change(&event(written, "/x/config.yml"), &names));
        assert!(is_change(&event(EventKind::Any, "config.yml"), &names));
        assert!(!is_change(&event(read, "/x/config.yml"), &names));
        assert!(!is_change(&event(written, "/x/log"), &names));
    }

    #[test]
    fn a_file_without_a_folder_is_in_this_one() {
        assert_eq!(folder(Path::new("config.yml")), Path::new("."));
        assert_eq!(folder(Path::new("/etc/config.yml")), Path::new("/etc"));
    }
}
