//! The running program's end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    ControlError,
    answer::{Answerer, refusal},
    location::{SOCKET_ENDING, names, runtime_directory},
    protocol::{REQUEST_BYTES_MAX, Request},
    sign::StandingSign,
    transport::{Listener, NURSERY_BYTES, PATH_BYTES_MAX, Stream, is_answered},
};
use crate::state_dir::create_private;

/// Commands served at the same time; one more waits in the system's queue.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may say nothing: a command asks at once.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait when the system gives no connection, out of files for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A bound control socket. Its file is removed when the value, or the future of
/// `serve`, is dropped.
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

    /// Answers commands for ever.
    pub(crate) async fn serve(self, answerer: Answerer) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok(stream) => {
                    let answerer = answerer.clone();
                    connections.spawn(async move {
                        if let Err(error) = answer(stream, &answerer).await {
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

    /// Says whether the system has sockets at a path of this length, before anything is opened or made.
    ///
    /// # Errors
    /// [`ControlError::PathTooLong`].
    pub(crate) fn check_length(path: &Path) -> Result<(), ControlError> {
        let (length, limit) = (path.as_os_str().len(), PATH_BYTES_MAX);
        let directory_length = path
            .parent()
            .map_or(0, |directory| directory.as_os_str().len());
        if length > limit || directory_length.saturating_add(1 + NURSERY_BYTES) > limit {
            return Err(ControlError::PathTooLong {
                path: path.to_owned(),
                length,
                limit,
            });
        }
        Ok(())
    }

    fn bind_at(path: &Path) -> Result<Self, ControlError> {
        Self::check_length(path)?;
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
async fn answer(mut stream: Stream, answerer: &Answerer) -> io::Result<()> {
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
            Ok(request) => answerer.answer(request).await,
            Err(error) => refusal(error.to_string()),
        };
        let written = timeout(IDLE_TIMEOUT, writer.write_all(&answer)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if !is_whole {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::protocol::{ChangeOutcome, MappingName};
    use crate::control::{ControlClient, RequestError};
    use crate::driver::Command;
    use crate::mappings::{Applied, ChangeError, MappingView, Mappings, Outcome, TableView};
    use crate::status::{MappingState, MappingStatus, NatStatus, ProcessStatus, State, Status};

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
            process: ProcessStatus::default(),
        }
    }

    fn bind(path: &Path) -> Result<ControlServer, ControlError> {
        ControlServer::bind_at(path)
    }

    fn table(rules: &[&str]) -> TableView {
        let rows = (0..).zip(rules).map(|(index, rule)| MappingView {
            id: mapping_core::MappingId::new(10 + index as u32),
            mapping: rule.parse().unwrap(),
            status: MappingStatus {
                index,
                spec: (*rule).to_owned(),
                state: MappingState::Active,
                error: None,
                listen: None,
                connections: 0,
                bytes_in: 0,
                bytes_out: 0,
            },
            via: Some("direct, 192.0.2.1:5".into()),
        });
        TableView {
            version: 3,
            committed: Some(3),
            peer: true,
            mappings: rows.collect(),
        }
    }

    /// A program with two mappings that accepts every change and makes none of it.
    fn program() -> Answerer {
        let (mappings, mut commands_rx) = Mappings::new();
        tokio::spawn(async move {
            while let Some(command) = commands_rx.recv().await {
                match command {
                    Command::Status(answer_tx) => drop(answer_tx.send(example())),
                    Command::View(answer_tx) => {
                        drop(answer_tx.send(table(&["tcp:1:1", "udp:2:2"])));
                    }
                    Command::Check { answer_tx, .. } => drop(answer_tx.send(Ok(()))),
                    Command::Apply { changes, answer_tx } => {
                        let applied = Applied {
                            outcome: Outcome::Unconfirmed,
                            table: table(&["tcp:1:1", "udp:2:2"]),
                            added: vec![mapping_core::MappingId::new(11)],
                        };
                        let refused = ChangeError::UnknownMapping(mapping_core::MappingId::new(7));
                        let enough = changes.len() < 4;
                        drop(answer_tx.send(if enough { Ok(applied) } else { Err(refused) }));
                    }
                }
            }
        });
        Answerer::new(mappings, Path::new("config.yml"))
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
        let served = tokio::spawn(server.serve(program()));
        let (status, line) = ControlClient::new(path.clone()).status().await.unwrap();
        assert_eq!(status, example());
        assert!(line.starts_with(r#"{"role":"client""#));
        let error = "{\"error\":\"unknown command `dance`: this program knows status, map-list and \
                     map-change\"}\n";
        assert_eq!(raw(&path, b"{\"cmd\":\"dance\"}\n").await, error);
        let twice = raw(&path, b"{\"cmd\":\"status\"}\n{\"cmd\":\"status\"}").await;
        assert_eq!(twice, format!("{line}\n{line}\n"));
        let long = raw(&path, &vec![b'x'; REQUEST_BYTES_MAX]).await;
        assert_eq!(
            long,
            "{\"error\":\"a request has at most 1048576 bytes\"}\n"
        );
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
        let (mappings, commands_rx) = Mappings::new();
        drop(commands_rx);
        let answerer = Answerer::new(mappings, Path::new(""));
        tokio::spawn(bind(&path).unwrap().serve(answerer));
        let refused = ControlClient::new(path.clone()).status().await.unwrap_err();
        assert_eq!(refused.to_string(), "the program is stopping");
        let refused = ControlClient::new(path).map_change(&[], &[]).await;
        assert_eq!(refused.unwrap_err().to_string(), "the program is stopping");
    }

    #[tokio::test]
    async fn mappings_are_listed_and_changed_by_rule_and_by_index() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("c.sock");
        tokio::spawn(bind(&path).unwrap().serve(program()));
        let client = ControlClient::new(path);
        let (list, line) = client.map_list().await.unwrap();
        assert_eq!(
            (list.version, list.committed, list.peer),
            (3, Some(3), true)
        );
        assert!(list.config.unwrap().is_absolute());
        assert_eq!(
            (list.mappings[1].id, list.mappings[1].status.index),
            (11, 1)
        );
        assert!(
            line.contains(r#""id":11,"via":"direct, 192.0.2.1:5""#),
            "{line}"
        );

        let add = ["tcp:8080:22".to_owned()];
        let remove = [MappingName::Index(1), "tcp:127.0.0.1:1:1".into()];
        let (changed, _) = client.map_change(&add, &remove).await.unwrap();
        assert_eq!(changed.outcome, ChangeOutcome::Unconfirmed);
        assert_eq!(changed.removed, ["udp:2:2", "tcp:1:1"]);
        assert_eq!((changed.added[0].id, changed.mappings.len()), (11, 2));

        for (add, remove, expected) in [
            ("tcp:8080", "0", "`tcp:8080`: "),
            (
                "tcp:8080:22",
                "9",
                "there is no mapping 9: they go from 0 to 1",
            ),
            ("tcp:8080:22", "tcp:5:5", "`tcp:5:5` is not in the table"),
            ("tcp:8080:22", "nonsense", "`nonsense`: "),
        ] {
            let (add, remove) = ([add.to_owned()], [remove.into()]);
            let refused = client.map_change(&add, &remove).await.unwrap_err();
            let refused = refused.to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
        let twice = client
            .map_change(&[], &["1".into(), "udp:2:2".into()])
            .await;
        assert_eq!(twice.unwrap_err().to_string(), "`udp:2:2` is named twice");
        let refused = client
            .map_change(&[(); 4].map(|()| "tcp:9:9".into()), &[])
            .await;
        let expected = ChangeError::UnknownMapping(mapping_core::MappingId::new(7));
        assert_eq!(refused.unwrap_err().to_string(), expected.to_string());
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
