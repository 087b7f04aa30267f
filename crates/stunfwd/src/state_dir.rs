//! Where a program keeps what must outlive it, and the identity that it keeps there.
//!
//! The directory is `--state-dir`, else `$XDG_STATE_HOME/stunfwd`, else `~/.local/state/stunfwd`. The
//! identity is a seed of 32 bytes in hexadecimal, one file per role: `identity-client`,
//! `identity-server`. It is per role and not per configuration, so that a peer pinned once stays pinned
//! when a configuration file is moved; it is not shared by the roles, since two ends with the same key
//! could not be told apart. A process holds an advisory lock on its file; another process of the role in
//! the same directory takes `identity-client.2` and so on, which makes it a different peer that is
//! nevertheless the same one after a restart.

use std::{
    env, fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use rand::Rng;
use tracing::warn;

/// Most processes of one role in one state directory; nobody runs so many, and the search has an end.
const IDENTITIES_MAX: u32 = 64;

/// Bytes of an identity's seed (an Ed25519 secret key).
const SEED_BYTES: usize = 32;

/// Why the state directory or the identity in it cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Neither option nor environment says where it is.
    #[error("no state directory: set HOME or XDG_STATE_HOME, or give --state-dir")]
    Unknown,
    /// It could not be made.
    #[error("{} cannot be created", .path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The identity could not be read or written.
    #[error("identity file {} cannot be used", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold an identity (64 hexadecimal digits): delete it to get a new one", .path.display())]
    NotAnIdentity {
        /// The file.
        path: PathBuf,
    },
    /// All identities are in use.
    #[error("{IDENTITIES_MAX} processes use {} already: give another --state-dir", .path.display())]
    AllTaken {
        /// The directory.
        path: PathBuf,
    },
}

/// An open state directory with the identity that this process took. The identity is given back when the
/// value is dropped.
pub struct StateDir {
    directory: PathBuf,
    seed: [u8; SEED_BYTES],
    identity_file: PathBuf,
    // Holds the advisory lock.
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it when it is not there, and takes an identity for `role`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(given: Option<&Path>, role: &str) -> Result<Self, StateError> {
        let directory = match given {
            Some(directory) => directory.to_owned(),
            None => default_directory().ok_or(StateError::Unknown)?,
        };
        create_private(&directory).map_err(|source| StateError::Create {
            path: directory.clone(),
            source,
        })?;
        for number in 1..=IDENTITIES_MAX {
            let name = match number {
                1 => format!("identity-{role}"),
                _ => format!("identity-{role}.{number}"),
            };
            let identity_file = directory.join(name);
            let wrap = |source| StateError::Identity {
                path: identity_file.clone(),
                source,
            };
            let mut file = open_or_create(&identity_file).map_err(wrap)?;
            if !lock(&file, &identity_file) {
                continue;
            }
            let Some(seed) = read_seed(&mut file).map_err(wrap)? else {
                return Err(StateError::NotAnIdentity {
                    path: identity_file,
                });
            };
            return Ok(Self {
                directory,
                seed,
                identity_file,
                _lock: file,
            });
        }
        Err(StateError::AllTaken { path: directory })
    }

    /// Returns the secret seed of the identity.
    #[must_use]
    pub const fn identity_seed(&self) -> &[u8; SEED_BYTES] {
        &self.seed
    }

    /// Returns the file that holds the identity.
    #[must_use]
    pub fn identity_file(&self) -> &Path {
        &self.identity_file
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Leaves the seed out.
impl fmt::Debug for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDir")
            .field("identity_file", &self.identity_file)
            .finish_non_exhaustive()
    }
}

/// Returns the default state directory; `None` when the environment does not say.
#[must_use]
pub fn default_directory() -> Option<PathBuf> {
    // The XDG rules: a relative path is to be ignored.
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return Some(state.join("stunfwd"));
    }
    env::home_dir()
        .filter(|home| home.is_absolute())
        .map(|home| home.join(".local").join("state").join("stunfwd"))
}

/// Makes a directory that only its owner may enter, and those above it; one that exists stays as it is.
pub(crate) fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn open_or_create(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_identity(path)?;
            open()
        }
        other => other,
    }
}

/// Writes a new identity under another name and links it to its own, so that the file is there whole or
/// not at all, and so that of two processes which do this at once one wins and the other uses its file.
fn create_identity(path: &Path) -> io::Result<()> {
    let mut seed = [0; SEED_BYTES];
    rand::rng().fill_bytes(&mut seed);
    let mut suffix = [0; 8];
    rand::rng().fill_bytes(&mut suffix);
    let temporary = path.with_extension(format!("{}.new", HEX.encode(&suffix)));
    let result = write_private(&temporary, &format!("{}\n", HEX.encode(&seed))).and_then(|()| {
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Some file systems know no links. There, renaming is as whole, if not as fair.
            Err(_) => fs::rename(&temporary, path),
            Ok(()) => Ok(()),
        }
    });
    // Gone already when it was renamed.
    let _ = fs::remove_file(&temporary);
    result
}

/// Writes a new file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Takes the lock; `false` when another process has it.
fn lock(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            let path = path.display();
            warn!(
                "{path} cannot be locked ({error}): run no second program with this state directory"
            );
            true
        }
    }
}

fn read_seed(file: &mut File) -> io::Result<Option<[u8; SEED_BYTES]>> {
    let mut text = Vec::new();
    // The digits, an end of line, and one byte more to notice anything longer.
    file.take(2 * SEED_BYTES as u64 + 3)
        .read_to_end(&mut text)?;
    let decoded = HEX.decode(text.trim_ascii()).ok();
    Ok(decoded.and_then(|bytes| bytes.try_into().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_and_private() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        let first = StateDir::open(Some(&directory), "client").unwrap();
        let seed = *first.identity_seed();
        assert_ne!(seed, [0; SEED_BYTES]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&directory), 0o700);
            assert_eq!(mode(&directory.join("identity-client")), 0o600);
        }
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            1,
            "no temporary file is left"
        );
        drop(first);
        let again = StateDir::open(Some(&directory), "client").unwrap();
        assert_eq!(*again.identity_seed(), seed);
        assert!(!format!("{again:?}").contains(&HEX.encode(&seed)));
    }

    #[test]
    fn processes_at_the_same_time_never_share_an_identity() {
        let home = tempfile::tempdir().unwrap();
        let open = |role| StateDir::open(Some(home.path()), role).unwrap();
        let (first, second, server) = (open("client"), open("client"), open("server"));
        assert_ne!(first.identity_seed(), second.identity_seed());
        assert_ne!(first.identity_seed(), server.identity_seed());
        assert_eq!(
            second.identity_file(),
            home.path().join("identity-client.2")
        );
        let (first_seed, second_seed) = (*first.identity_seed(), *second.identity_seed());
        drop((first, second));
        assert_eq!(*open("client").identity_seed(), first_seed);
        let (_one, two) = (open("client"), open("client"));
        assert_eq!(
            *two.identity_seed(),
            second_seed,
            "the second is the same after a restart"
        );
    }

    #[test]
    fn a_damaged_identity_is_not_replaced_silently() {
        let home = tempfile::tempdir().unwrap();
        for text in ["", "abcd", &"0".repeat(65), &"g".repeat(64)] {
            let path = home.path().join("identity-server");
            fs::write(&path, text).unwrap();
            let error = StateDir::open(Some(home.path()), "server").unwrap_err();
            assert!(matches!(error, StateError::NotAnIdentity { path: named } if named == path));
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateDir::open(Some(&file.join("state")), "client").unwrap_err();
        assert!(
            error.to_string().ends_with("file/state cannot be created"),
            "{error}"
        );
    }
}
