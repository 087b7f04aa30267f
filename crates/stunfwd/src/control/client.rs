//! A command's end of the control socket.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{
    location::{candidates, runtime_directory},
    protocol::{ANSWER_BYTES_MAX, ErrorAnswer, Request},
    transport,
};
use crate::{state_dir::default_directory, status::Status};

/// How long an answer may take: it is made from memory, so only a program that hangs needs longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no program was found to ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// Nobody answers in any of the directories.
    #[error("no stunfwd-{role} is running (looked in {}): start it, or name its socket with --control", list(.directories, " and "))]
    NoneRunning {
        /// `client` or `server`.
        role: String,
        /// Where control sockets are by default.
        directories: Vec<PathBuf>,
    },
    /// Several answer.
    #[error("{} programs are running, choose one with --control:\n  {}", .sockets.len(), list(.sockets, "\n  "))]
    SeveralRunning {
        /// Their control sockets.
        sockets: Vec<PathBuf>,
    },
    /// A directory cannot be read.
    #[error("{} cannot be read", .directory.display())]
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody answers at the socket.
    #[error("no program answers at {}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke, or the answer took too long.
    #[error("no answer from {}", .path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program refused.
    #[error("{0}")]
    Refused(String),
    /// The answer cannot be understood.
    #[error("the answer of {} cannot be understood: is it another version?", .path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
    },
}

/// Finds the control socket of the only running program of a role, in the runtime directory and in the
/// state directory (`state_dir`, else the default one).
///
/// # Errors
/// [`FindError`] when there is none or more than one.
pub fn find(role: &str, state_dir: Option<&Path>) -> Result<PathBuf, FindError> {
    let state_dir = state_dir.map(Path::to_owned).or_else(default_directory);
    let mut directories: Vec<_> = [runtime_directory(), state_dir]
        .into_iter()
        .flatten()
        .collect();
    // They may be one, and a program is not to be counted twice.
    directories.dedup_by_key(|directory| {
        fs::canonicalize(&*directory).unwrap_or_else(|_| directory.clone())
    });
    let mut sockets = Vec::new();
    for directory in &directories {
        let found = candidates(directory, role).map_err(|source| FindError::Unreadable {
            directory: directory.clone(),
            source,
        })?;
        // What cannot be asked, such as another user's, is not ours to talk to.
        sockets.extend(
            found
                .into_iter()
                .filter(|path| transport::is_answered(path).unwrap_or(false)),
        );
    }
    match sockets.len() {
        0 => Err(FindError::NoneRunning {
            role: role.to_owned(),
            directories,
        }),
        1 => Ok(sockets.remove(0)),
        _ => Err(FindError::SeveralRunning { sockets }),
    }
}

/// Asks the program behind one control socket.
#[derive(Debug)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// Makes a client; nothing is connected before a request.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Asks for the status and returns it with the line as it came, which may have fields that this
    /// version does not know.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn status(&self) -> Result<(Status, String), RequestError> {
        let line = self.request(&Request::Status).await?;
        match serde_json::from_str(&line) {
            Ok(status) => Ok((status, line)),
            Err(_) => Err(RequestError::Malformed {
                path: self.path.clone(),
            }),
        }
    }

    /// Sends a request and returns the line of the answer without its end.
    ///
    /// # Errors
    /// [`RequestError`], [`RequestError::Refused`] when the answer is an error.
    pub async fn request(&self, request: &Request) -> Result<String, RequestError> {
        let path = || self.path.clone();
        let stream =
            transport::connect(&self.path)
                .await
                .map_err(|source| RequestError::Unreachable {
                    path: path(),
                    source,
                })?;
        let line = timeout(ANSWER_TIMEOUT, exchange(stream, &request.to_line()))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| RequestError::NoAnswer {
                path: path(),
                source,
            })?;
        match serde_json::from_str::<ErrorAnswer>(&line) {
            Ok(ErrorAnswer { error }) => Err(RequestError::Refused(error)),
            Err(_) => Ok(line),
        }
    }
}

async fn exchange(mut stream: transport::Stream, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX as u64));
    reader.read_line(&mut line).await?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn list(paths: &[PathBuf], separator: &str) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(separator)
}
