//! How many sockets the system allows.

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
