//! The control socket: how a command asks a running program.
//!
//! The program listens on a local socket that only its owner may open ([`ControlServer`]); a command
//! connects, asks and prints ([`ControlClient`]). What is said is in [`protocol`]. What the socket is made
//! of is known to `transport` alone, so that systems without Unix sockets stay possible.
//!
//! The socket is `--control`, else `control` in the configuration, else `ROLE-HASH.sock` in
//! `$XDG_RUNTIME_DIR/stunfwd`, or in the state directory where there is no runtime directory. HASH is that of
//! the configuration's canonical path, so that one socket belongs to one configuration and a restart finds
//! its own. A second process with the same configuration and role takes `ROLE-HASH.2.sock`. A file that is
//! left over from a process that died is replaced; one that answers is not, and nothing but a socket is.
//!
//! Beside the default place of its socket every program puts up a sign (`sign`), so that [`find`] finds it
//! wherever its socket is, and can say which configuration it runs.

mod answer;
mod client;
mod location;
pub mod protocol;
mod server;
mod sign;
mod transport;

use std::{io, path::PathBuf};

pub(crate) use answer::Answerer;
pub use client::{ControlClient, FindError, RequestError, Running, find};
pub use location::beside_config;
pub use server::ControlServer;

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A program answers there.
    #[error("control socket {} belongs to a program that is running: give another --control", .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something there that is no socket.
    #[error("{} is not a socket and is left alone: give another --control", .path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The path is too long for the system.
    #[error("control socket {} has a path of {length} bytes, at most {limit} are possible: give a shorter --control", .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// What the system takes.
        limit: usize,
    },
    /// The system refused.
    #[error("control socket {} cannot be opened", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
