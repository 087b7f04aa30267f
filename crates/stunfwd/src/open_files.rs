//! How many sockets the system allows.

/// Extra sockets where the limit is not known: what a birthday search wants.
const EXTRA_SOCKETS: usize = 256;

/// Raises the soft limit of open files to the hard one: `maxConnections` is 4,096 by default, and 1,024 files, which
/// are usual, hold a quarter of that. What cannot be raised stays, and shows as connections that wait.
pub(crate) fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::debug!(%error, "cannot raise the limit of open files");
            }
        }
    }
}

/// Returns how many sockets may be open for finding direct paths: a quarter of all files at most, since the others
/// are people's connections.
pub(crate) fn extra_sockets_max() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        let limit = getrlimit(Resource::Nofile).current;
        let quarter = limit.map_or(usize::MAX, |files| {
            usize::try_from(files / 4).unwrap_or(usize::MAX)
        });
        // Two searches: the sockets of one close while those of the next open.
        quarter.min(2 * EXTRA_SOCKETS)
    }
    #[cfg(not(unix))]
    {
        2 * EXTRA_SOCKETS
    }
}
