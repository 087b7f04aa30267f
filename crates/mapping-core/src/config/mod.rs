//! The configuration file: from text to types, with everything that is wrong said at once.
//!
//! [`ClientConfig::parse`] and [`ServerConfig::parse`] take the text of a YAML or JSON file (by its
//! extension) and its name for messages; nothing here reads files or the environment. [`decode()`] makes that
//! text of bytes, and [`flat_entries`] serves a program with other keys. Three layers: a tree
//! of values (`tree`), the keys and their values picked out of it (`reader`), the types below (`resolve`).
//! Lines in messages are the parsers' own positions (`yaml_position`, `json`); where they tell none, the
//! message has none.

mod decode;
mod flat;
mod json;
mod keys;
mod problem;
mod reader;
mod resolve;
mod tree;
mod values;
mod yaml_position;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use decode::decode;
pub use flat::{FlatEntry, FlatValue, flat_entries};
pub use keys::{KEYS, Key};
pub use problem::{ConfigError, Problem};
pub use tree::FILE_BYTES_MAX;
pub use values::duration as parse_duration;

use crate::{AllowList, HostPort, PortMapping, RelayUrl, RoomId, Secret};

/// How long a forwarded TCP connection waits for a path unless the file says otherwise: long enough for a
/// train tunnel or a laptop's lunch, short enough that nobody finds it alive the next day.
pub const RESUME_DEFAULT: Duration = Duration::from_secs(3600);

/// Longest `resume`: flows and their buffers are kept that long.
pub const RESUME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Shortest `resume`: changing from one path to another takes some hundred milliseconds.
pub const RESUME_MIN: Duration = Duration::from_secs(1);

/// Longest path of a control socket: `sockaddr_un` has 104 bytes on the BSDs and macOS, the final zero
/// included, and 108 on Linux; a file should work on all of them.
pub const CONTROL_PATH_BYTES_MAX: usize = 103;

/// Longest folder of a control socket, which is born in a folder of its own beside its place.
pub const CONTROL_FOLDER_BYTES_MAX: usize = CONTROL_PATH_BYTES_MAX - "/.12345678/s".len();

/// Flows per peer unless the file says otherwise.
pub const CONNECTIONS_DEFAULT: u32 = 4096;

/// Highest `maxConnections`: each flow may hold 256 KiB before it is read, and a machine has 65535 ports.
pub const CONNECTIONS_MAX: u32 = 65_535;

/// Most entries of `signalingUrl`, `stunServer` or `relay`: they are tried in order, and nobody waits for more.
pub const ADDRESSES_MAX: usize = 16;

/// Longest `username` of a relay in bytes (RFC 8489, section 14.3).
pub const RELAY_USERNAME_BYTES_MAX: usize = 508;

/// Longest `credential` of a relay in bytes: far above any password.
pub const RELAY_CREDENTIAL_BYTES_MAX: usize = 1024;

/// The STUN server that is asked when neither the file nor signaling names one.
pub const FALLBACK_STUN_SERVER: &str = "stun.l.google.com:19302";

/// Which paths may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectPolicy {
    /// `true`: direct where possible, else through the relay.
    #[default]
    Preferred,
    /// `"require"`: never through the relay.
    Required,
    /// `false`: only through the relay.
    Never,
}

impl DirectPolicy {
    /// Says whether direct paths may be looked for.
    #[must_use]
    pub const fn allows_direct(self) -> bool {
        matches!(self, Self::Preferred | Self::Required)
    }

    /// Says whether a relay may be used.
    #[must_use]
    pub const fn allows_relay(self) -> bool {
        matches!(self, Self::Preferred | Self::Never)
    }
}

/// A TURN server with the means to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Where it is and how it is reached.
    pub url: RelayUrl,
    /// Never empty, at most [`RELAY_USERNAME_BYTES_MAX`].
    pub username: String,
    /// Never empty, at most [`RELAY_CREDENTIAL_BYTES_MAX`].
    pub credential: Secret,
}

/// What both sides are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonConfig {
    /// `roomId`: the shared secret.
    pub room: RoomId,
    /// `signalingUrl`: at least one, in the order in which they are to be tried, without a slash at the
    /// end. One whose path ends in `.php` names the original's script; it is kept whole.
    pub signaling_urls: Vec<String>,
    /// `accessToken`, for a signaling server that asks for one.
    pub access_token: Option<Secret>,
    /// `stunServer`; when empty what signaling offers, else [`FALLBACK_STUN_SERVER`].
    pub stun_servers: Vec<HostPort>,
    /// `relay`: in the order in which they are to be tried; when empty what signaling offers.
    pub relays: Vec<RelayConfig>,
    /// `direct`.
    pub direct: DirectPolicy,
    /// `portMapping`: whether the router is asked to forward a port.
    pub port_mapping: bool,
    /// `resume`: how long a forwarded TCP connection waits for a path before it is reset.
    pub resume: Duration,
    /// `maxConnections`: flows per peer.
    pub max_connections: u32,
    /// `control`: path of the control socket.
    pub control: Option<PathBuf>,
    /// What the user should know although nothing is wrong, to be logged once; holds no secrets.
    pub warnings: Vec<String>,
}

/// The configuration of the client (the ingress side).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// What both sides are told.
    pub common: CommonConfig,
    /// `mappings`: no two of them want the same local socket.
    pub mappings: Vec<PortMapping>,
}

/// The configuration of the server (the egress side).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// What both sides are told.
    pub common: CommonConfig,
    /// `allow`: what clients may reach.
    pub allow: AllowList,
}

impl ClientConfig {
    /// Parses the text of a client's configuration file; `file` names it in messages and its extension
    /// says whether it is JSON (`.json`) or YAML (anything else).
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        resolve::client(file, text)
    }
}

impl ServerConfig {
    /// Parses the text of a server's configuration file, as [`ClientConfig::parse`] does.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        resolve::server(file, text)
    }
}
