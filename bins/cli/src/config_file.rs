//! Finds and reads the configuration file.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use mapping_core::{
    Side,
    config::{ClientConfig, CommonConfig, ConfigError, FILE_BYTES_MAX, ServerConfig, decode},
};
use stunfwd::control::beside_config;

use crate::args::Args;

/// The configuration file when the command line names none.
const CONFIG_FILE: &str = "config.yml";

/// The configuration of either role.
#[derive(Debug)]
pub(crate) enum Config {
    /// `stunfwd-client`
    Client(ClientConfig),
    /// `stunfwd-server`
    Server(ServerConfig),
}

impl Config {
    /// Reads the file of one role.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub(crate) fn load(side: Side, file: &Path) -> Result<Self, ConfigError> {
        Self::parse(side, file, &read(file)?)
    }

    /// Parses the text of the file of one role.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub(crate) fn parse(side: Side, file: &Path, text: &str) -> Result<Self, ConfigError> {
        match side {
            Side::Ingress => ClientConfig::parse(file, text).map(Self::Client),
            Side::Egress => ServerConfig::parse(file, text).map(Self::Server),
        }
    }

    /// Returns what both roles have.
    pub(crate) const fn common(&self) -> &CommonConfig {
        match self {
            Self::Client(config) => &config.common,
            Self::Server(config) => &config.common,
        }
    }

    /// Returns the path of the control socket that the configuration asks for; `None` when it leaves that
    /// open.
    pub(crate) fn control(&self, config_file: &Path) -> Option<PathBuf> {
        let control = self.common().control.as_deref();
        control.map(|control| beside_config(config_file, control))
    }
}

/// Returns the configuration file that a command line means.
pub(crate) fn named(args: &Args) -> &Path {
    let named = args.config.as_deref();
    named.unwrap_or_else(|| Path::new(CONFIG_FILE))
}

/// Returns the text of a configuration file.
///
/// # Errors
/// [`ConfigError`] that names the file and what would be right.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much, and no more is read.
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(ConfigError::of_file(path, message(path, &error)));
    }
    decode(path, bytes)
}

fn message(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::IsADirectory {
        return "is a directory: name the file in it with --config FILE".to_owned();
    }
    if error.kind() != io::ErrorKind::NotFound {
        return format!(
            "cannot be read: {error}: let this user read it, or name another with --config FILE"
        );
    }
    let place = match std::env::current_dir() {
        Ok(directory) if path.is_relative() => format!(" in {}", directory.display()),
        _ => String::new(),
    };
    format!(
        "there is no such file{place}: write one with roomId and signalingUrl, or name another with \
         --config FILE"
    )
}
