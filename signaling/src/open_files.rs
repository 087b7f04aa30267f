//! How many sockets the system allows.

/// Raises the soft limit of open files to the hard one: 1,024, which is usual, holds neither the watchers nor
/// the relay ports of a busy server. What cannot be raised stays, and shows as a refused socket later.
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
