//! The running program's end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    ControlError,
    location::{SOCKET_ENDING, names, runtime_directory},
    protocol::{ErrorAnswer, REQUEST_BYTES_MAX, Request},
    sign::StandingSign,
    transport::{Listener, NURSERY_BYTES, PATH_BYTES_MAX, Stream, is_answered},
};
use crate::{state_dir::create_private, status::Status};

/// Commands served at the same time; one more waits in the system's queue.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may say nothing: a command asks at once.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait when the system gives no connection, out of files for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A bound control socket. Its file is removed when the value, or the future of
/// [`ControlServer::serve`], is dropped.
#[derive(Debug)]
pub struct ControlServer {
    listener: Listener,
    path: PathBuf,
    /// Goes when the socket goes.
    _sign: Option<StandingSign>,
}

impl ControlServer {
    /// Opens the control socket: `given`, else the first free default one. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn bind(
        given: Option<&Path>,
        role: &str,
        config_file: &Path,
        state_dir: &Path,
    ) -> Result<Self, ControlError> {
        let directory = runtime_directory().unwrap_or_else(|| state_dir.to_owned());
        Self::bind_with_sign(given, role, config_file, &directory)
    }

    /// Opens the socket and puts up its sign in the directory of default sockets.
    pub(super) fn bind_with_sign(
        given: Option<&Path>,
        role: &str,
        config_file: &Path,
        directory: &Path,
    ) -> Result<Self, ControlError> {
        let server = match given {
            Some(path) => Self::bind_at(path)?,
            None => Self::bind_in(directory, role, config_file)?,
        };
        let sign = StandingSign::put_up(directory, role, config_file, &server.path)
            .inspect_err(|error| {
                // It answers all the same, to whoever knows where.
                let directory = directory.display();
                warn!(%error, %directory, "commands find this program with --control alone");
            })
            .ok();
        Ok(Self {
            _sign: sign,
            ..server
        })
    }

    fn bind_in(directory: &Path, role: &str, config_file: &Path) -> Result<Self, ControlError> {
        create_private(directory).map_err(|source| ControlError::Io {
            path: directory.to_owned(),
            source,
        })?;
        let mut last = None;
        for name in names(role, config_file, SOCKET_ENDING) {
            match Self::bind_at(&directory.join(name)) {
                Err(error @ ControlError::InUse { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| ControlError::InUse {
            path: directory.to_owned(),
        }))
    }

    /// Returns where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers commands for ever; `status` fetches the present status, `None` when the program is
    /// stopping.
    pub async fn serve<F, S>(self, status: S)
    where
        F: Future<Output = Option<Status>> + Send,
        S: Fn() -> F + Clone + Send + 'static,
    {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok(stream) => {
                    let status = status.clone();
                    connections.spawn(async move {
                        if let Err(error) = answer(stream, status).await {
                            debug!(%error, "a control connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "the control socket gives no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }

    fn bind_at(path: &Path) -> Result<Self, ControlError> {
        let (length, limit) = (path.as_os_str().len(), PATH_BYTES_MAX);
        let directory_length = path
            .parent()
            .map_or(0, |directory| directory.as_os_str().len());
        if length > limit || directory_length + 1 + NURSERY_BYTES > limit {
            return Err(ControlError::PathTooLong {
                path: path.to_owned(),
                length,
                limit,
            });
        }
        let wrap = |source: io::Error| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                ControlError::NotASocket {
                    path: path.to_owned(),
                }
            } else {
                ControlError::Io {
                    path: path.to_owned(),
                    source,
                }
            }
        };
        if is_answered(path).map_err(wrap)? {
            return Err(ControlError::InUse {
                path: path.to_owned(),
            });
        }
        let listener = Listener::bind(path).map_err(|source| ControlError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _sign: None,
        })
    }
}

/// Answers the requests of one connection until it ends or says nothing.
async fn answer<F, S>(mut stream: Stream, status: S) -> io::Result<()>
where
    F: Future<Output = Option<Status>>,
    S: Fn() -> F,
{
    let (reader, mut writer) = tokio::io::split(&mut stream);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX as u64);
        let Ok(read) = timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n") || line.len() < REQUEST_BYTES_MAX;
        let answer = match Request::parse(&line) {
            _ if !is_whole => refusal(format!("a request has at most {REQUEST_BYTES_MAX} bytes")),
            Ok(Request::Status) => match status().await {
                Some(status) => to_line(&status),
                None => refusal("the program is stopping".to_owned()),
            },
            Err(error) => refusal(error.to_string()),
        };
        let written = timeout(IDLE_TIMEOUT, writer.write_all(&answer)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if !is_whole {
            return Ok(());
        }
    }
}

fn refusal(error: String) -> Vec<u8> {
    to_line(&ErrorAnswer { error })
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("maps with text keys are always JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::{ControlClient, RequestError};
    use crate::status::{NatStatus, State};

    fn example() -> Status {
        Status {
            role: "client".into(),
            version: "1".into(),
            state: State::Waiting,
            reason: None,
            nat: NatStatus::default(),
            peers: Vec::new(),
            mapping_version: 0,
            mappings: Vec::new(),
        }
    }

    fn bind(path: &Path) -> Result<ControlServer, ControlError> {
        ControlServer::bind_at(path)
    }

    async fn raw(path: &Path, request: &[u8]) -> String {
        let mut stream = crate::control::transport::connect(path).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_command_gets_the_status_and_strangers_get_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("c.sock");
        let server = bind(&path).unwrap();
        let served = tokio::spawn(server.serve(|| async { Some(example()) }));
        let (status, line) = ControlClient::new(path.clone()).status().await.unwrap();
        assert_eq!(status, example());
        assert!(line.starts_with(r#"{"role":"client""#));
        let error = "{\"error\":\"unknown command `dance`: this program knows status\"}\n";
        assert_eq!(raw(&path, b"{\"cmd\":\"dance\"}\n").await, error);
        let twice = raw(&path, b"{\"cmd\":\"status\"}\n{\"cmd\":\"status\"}").await;
        assert_eq!(twice, format!("{line}\n{line}\n"));
        let long = raw(&path, &[b'x'; REQUEST_BYTES_MAX]).await;
        assert_eq!(long, "{\"error\":\"a request has at most 4096 bytes\"}\n");
        served.abort();
        let _ = served.await;
        assert!(!path.exists(), "the socket goes with the program");
        let gone = ControlClient::new(path).status().await;
        assert!(
            matches!(gone, Err(RequestError::Unreachable { .. })),
            "{gone:?}"
        );
    }

    #[tokio::test]
    async fn a_program_that_stops_says_so() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("c.sock");
        tokio::spawn(bind(&path).unwrap().serve(|| async { None }));
        let refused = ControlClient::new(path).status().await.unwrap_err();
        assert_eq!(refused.to_string(), "the program is stopping");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_may_open_the_socket() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("c.sock");
        let _server = bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "nothing else is left behind"
        );
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("c.sock");
        // What a killed program leaves: a socket file that nobody listens on.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ControlError::InUse { path: named }) if named == path));
        drop(first);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(ControlError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_second_program_of_one_configuration_takes_the_next_name() {
        let home = tempfile::tempdir().unwrap();
        let config = Path::new("/etc/stunfwd/config.yml");
        let bind = || ControlServer::bind_in(&home.path().join("run"), "server", config).unwrap();
        let (first, second) = (bind(), bind());
        let name = |server: &ControlServer| server.path().file_name().unwrap().to_owned();
        let expected = name(&first)
            .into_string()
            .unwrap()
            .replace(".sock", ".2.sock");
        assert_eq!(name(&second).to_str().unwrap(), expected);
        let kept = name(&first);
        drop(first);
        assert_eq!(name(&bind()), kept, "a restart finds its own name");
    }

    #[tokio::test]
    async fn a_path_too_long_for_the_system_is_refused_with_its_length() {
        let path = Path::new("/tmp").join("x".repeat(200));
        let error = bind(&path).unwrap_err();
        assert!(
            matches!(error, ControlError::PathTooLong { length: 205, .. }),
            "{error}"
        );
    }
}
