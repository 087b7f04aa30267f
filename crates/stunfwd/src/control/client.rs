//! A command's end of the control socket.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{
    location::{absolute, candidates, is_sign, runtime_directory},
    protocol::{
        ANSWER_BYTES_MAX, ErrorAnswer, MapChange, MapChanged, MapList, MappingName, Request,
    },
    sign::Sign,
    transport,
};
use crate::{state_dir::default_directory, status::Status};

/// How long an answer may take: it is made from memory, so only a program that hangs needs longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer to a change may take, which waits 10 s for the peer.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Running {
    /// Its control socket.
    pub socket: PathBuf,
    /// Its configuration; `None` when it did not say.
    pub config: Option<PathBuf>,
}

/// The socket alone, or with the configuration in brackets.
impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.socket.display())?;
        match &self.config {
            Some(config) => write!(f, " (configuration {})", config.display()),
            None => Ok(()),
        }
    }
}

/// Why no program was found to ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// Nobody answers in any of the directories.
    #[error("no stunfwd-{role} is running{} (looked in {}): start it, or name its socket with --control", with(.config.as_deref()), list(.directories, " and "))]
    NoneRunning {
        /// `client` or `server`.
        role: String,
        /// The configuration that was asked for.
        config: Option<PathBuf>,
        /// Where control sockets are by default.
        directories: Vec<PathBuf>,
    },
    /// Several answer.
    #[error("{} programs are running, choose one with --control or --config:\n  {}", .programs.len(), lines(.programs))]
    SeveralRunning {
        /// Each of them.
        programs: Vec<Running>,
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

/// Finds the only running program of a role, or of one configuration of it, in the runtime directory and in
/// the state directory (`state_dir`, else the default one).
///
/// # Errors
/// [`FindError`] when there is none or more than one.
pub fn find(
    role: &str,
    config_file: Option<&Path>,
    state_dir: Option<&Path>,
) -> Result<Running, FindError> {
    let state_dir = state_dir.map(Path::to_owned).or_else(default_directory);
    let mut directories: Vec<_> = [runtime_directory(), state_dir]
        .into_iter()
        .flatten()
        .collect();
    // They may be one, and a program is not to be looked for twice.
    directories.dedup_by_key(|directory| absolute(directory));
    find_in(directories, role, config_file)
}

fn find_in(
    directories: Vec<PathBuf>,
    role: &str,
    config_file: Option<&Path>,
) -> Result<Running, FindError> {
    let mut programs: Vec<Running> = Vec::new();
    for directory in &directories {
        let found = candidates(directory, role, config_file).map_err(|source| {
            let directory = directory.clone();
            FindError::Unreadable { directory, source }
        })?;
        // Signs first: they say more than the socket, which is then known.
        let (signs, sockets): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| is_sign(it));
        let signs = signs.iter().filter_map(|file| Sign::read(file));
        let signed = signs.map(|sign| Running {
            socket: sign.socket,
            config: Some(sign.config),
        });
        let unsigned = sockets.into_iter().map(|socket| Running {
            socket: absolute(&socket),
            config: None,
        });
        for program in signed.chain(unsigned) {
            let is_known = programs.iter().any(|known| known.socket == program.socket);
            // What cannot be asked, such as another user's, is not ours to talk to.
            if !is_known && transport::is_answered(&program.socket).unwrap_or(false) {
                programs.push(program);
            }
        }
    }
    match programs.len() {
        0 => Err(FindError::NoneRunning {
            role: role.to_owned(),
            config: config_file.map(Path::to_owned),
            directories,
        }),
        1 => Ok(programs.remove(0)),
        _ => Err(FindError::SeveralRunning { programs }),
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
        self.ask(&Request::Status).await
    }

    /// Asks for the mapping table, and returns it with the line as it came.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn map_list(&self) -> Result<(MapList, String), RequestError> {
        self.ask(&Request::MapList).await
    }

    /// Removes and adds mappings as one change, and returns what became of it with the line as it came.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was changed when it is [`RequestError::Refused`].
    pub async fn map_change(
        &self,
        add: &[String],
        remove: &[MappingName],
    ) -> Result<(MapChanged, String), RequestError> {
        let change = MapChange {
            add: add.to_vec(),
            remove: remove.to_vec(),
        };
        self.ask(&Request::MapChange(change)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<(T, String), RequestError> {
        let line = self.request(request).await?;
        match serde_json::from_str(&line) {
            Ok(answer) => Ok((answer, line)),
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
        let patience = match request {
            Request::Status | Request::MapList => ANSWER_TIMEOUT,
            Request::MapChange(_) => CHANGE_TIMEOUT,
        };
        let line = timeout(patience, exchange(stream, &request.to_line()))
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

fn lines(programs: &[Running]) -> String {
    let programs: Vec<_> = programs.iter().map(ToString::to_string).collect();
    programs.join("\n  ")
}

fn with(config_file: Option<&Path>) -> String {
    config_file.map_or_else(String::new, |file| format!(" with {}", file.display()))
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::ControlServer;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            fs::create_dir(home.path("run")).unwrap();
            for config in ["a.yml", "b.yml"] {
                fs::write(home.path(config), "").unwrap();
            }
            home
        }

        fn path(&self, name: &str) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap().join(name)
        }

        fn start(&self, control: Option<&str>, config: &str) -> ControlServer {
            let control = control.map(|name| self.path(name));
            let (config, run) = (self.path(config), self.path("run"));
            ControlServer::bind_with_sign(control.as_deref(), "client", &config, &run).unwrap()
        }

        fn find(&self, config: Option<&str>) -> Result<Running, FindError> {
            let config = config.map(|name| self.path(name));
            find_in(vec![self.path("run")], "client", config.as_deref())
        }

        fn files(&self) -> usize {
            fs::read_dir(self.path("run")).unwrap().count()
        }
    }

    #[tokio::test]
    async fn a_program_is_found_wherever_its_socket_is() {
        let home = Home::new();
        let program = home.start(Some("elsewhere.sock"), "a.yml");
        let expected = Running {
            socket: home.path("elsewhere.sock"),
            config: Some(home.path("a.yml")),
        };
        assert_eq!(home.find(None).unwrap(), expected);
        drop(program);
        assert!(matches!(
            home.find(None),
            Err(FindError::NoneRunning { .. })
        ));
        assert_eq!(home.files(), 0, "the sign goes with the program");
    }

    #[tokio::test]
    async fn several_are_listed_with_their_configurations_and_one_is_chosen_by_it() {
        let home = Home::new();
        let first = home.start(None, "a.yml");
        let second = home.start(Some("b.sock"), "b.yml");
        let several = home.find(None).unwrap_err().to_string();
        assert!(
            several.starts_with("2 programs are running, choose one with --control or --config:\n")
        );
        for (program, config) in [(&first, "a.yml"), (&second, "b.yml")] {
            let (socket, path) = (program.path().display(), home.path(config));
            let line = format!("\n  {socket} (configuration {})", path.display());
            assert!(several.contains(&line), "{several}");
            assert_eq!(home.find(Some(config)).unwrap().socket, program.path());
        }
        let third = home.start(Some("a2.sock"), "a.yml");
        let of_one = home.find(Some("a.yml")).unwrap_err();
        assert!(matches!(of_one, FindError::SeveralRunning { programs } if programs.len() == 2));
        drop((first, second, third));
        let none = home.find(Some("a.yml")).unwrap_err().to_string();
        let expected = format!(
            "no stunfwd-client is running with {} (",
            home.path("a.yml").display()
        );
        assert!(none.starts_with(&expected), "{none}");
    }

    #[tokio::test]
    async fn a_sign_of_a_killed_program_is_not_believed_and_is_replaced() {
        let home = Home::new();
        // A killed program drops nothing.
        let killed = home.start(Some("x.sock"), "a.yml");
        let sign = fs::read_dir(home.path("run"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let text = fs::read(sign.path()).unwrap();
        drop(killed);
        fs::write(sign.path(), &text).unwrap();
        assert!(matches!(
            home.find(None),
            Err(FindError::NoneRunning { .. })
        ));

        let program = home.start(Some("x.sock"), "b.yml");
        let found = home.find(None).unwrap();
        assert_eq!(
            found.config,
            Some(home.path("b.yml")),
            "not the killed one's"
        );
        assert!(matches!(
            home.find(Some("a.yml")),
            Err(FindError::NoneRunning { .. })
        ));
        fs::write(sign.path(), "{").unwrap();
        assert_eq!(
            home.find(None).unwrap(),
            found,
            "what is no sign is ignored"
        );
        drop(program);

        let again = home.start(Some("y.sock"), "a.yml");
        assert_eq!(home.find(Some("a.yml")).unwrap().socket, again.path());
        drop(again);
        assert_eq!(home.files(), 0);
    }
}
