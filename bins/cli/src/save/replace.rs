//! Puts a new file in the place of an old one, as a whole.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Replaces the text of a file; a symbolic link stays and its target is replaced. `false`, and nothing was
/// done, when `unchanged` says no at the last moment.
///
/// # Errors
/// What the system says; nothing was done.
pub(super) fn replace(
    file: &Path,
    text: &str,
    unchanged: impl FnOnce() -> bool,
) -> io::Result<bool> {
    let target = fs::canonicalize(file)?;
    let metadata = fs::metadata(&target)?;
    let new = beside(&target);
    let done = write(&new, &metadata, text).and_then(|()| {
        if !unchanged() {
            return Ok(false);
        }
        fs::rename(&new, &target).map(|()| true)
    });
    if !matches!(done, Ok(true)) {
        // It is ours alone, and what matters was said.
        let _ = fs::remove_file(&new);
    }
    done
}

/// A name in the same folder, since a file is renamed at once only within one file system.
fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    target.with_file_name(name)
}

fn write(new: &Path, like: &Metadata, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // It holds secrets: until it has the old one's mode nobody else may read it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(new).or_else(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        // Left by one with our number that was killed here: in a container every run has the same.
        fs::remove_file(new)?;
        options.open(new)
    })?;
    file.write_all(text.as_bytes())?;
    keep_owner(&file, like);
    file.set_permissions(like.permissions())?;
    file.sync_all()
}

/// Only root may give files away; for others the file becomes theirs, as with every editor.
#[cfg(unix)]
fn keep_owner(file: &File, like: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let _ = fchown(file, Some(like.uid()), Some(like.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Metadata) {}
