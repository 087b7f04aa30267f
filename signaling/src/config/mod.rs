//! What the operator wants: options from the command line and from a file, checked together.

mod file;
mod log_level;
mod resolve;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use mapping_core::{RelayUrl, Secret, config::ADDRESSES_MAX};

pub use log_level::LogLevel;

/// The option keys, as on the command line without the dashes and in the file.
pub const KEYS: &[&str] = &[
    "listen",
    "stun",
    "external-ip",
    "relay-ports",
    "relay-allow",
    "turn-secret",
    "turn-url",
    "turn-ttl",
    "no-relay",
    "store",
    "access-token",
    "log",
    "log-format",
];
/// Keys of later versions: named, so that whoever tries them learns more than that they are unknown.
pub const LATER_KEYS: &[&str] = &["tls-cert", "tls-key", "metrics"];

/// Most `turn-url`s: clients read no more.
pub const TURN_URLS_MAX: usize = ADDRESSES_MAX;

/// How long TURN credentials hold by default: a laptop that slept through the night asks again on waking anyway.
const TURN_TTL: Duration = Duration::from_secs(12 * 3600);
/// Credentials of less than a second would be over before they arrive; of more than a month, they would be passwords.
const TURN_TTL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// Everything that `stunfwd-signaling` can be told, checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where the HTTP API listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where STUN and TURN listen, over UDP and TCP: one address, or two for RFC 5780, of one family and
    /// with the same port, the primary first.
    pub stun: Vec<SocketAddr>,
    /// The address that is advertised when this machine is behind a one-to-one NAT.
    pub external_ip: Option<IpAddr>,
    /// Whether TURN is offered.
    pub relay: bool,
    /// The ports that allocations are given.
    pub relay_ports: RangeInclusive<u16>,
    /// Peers that may be relayed to although they are private.
    pub relay_allow: Vec<IpNet>,
    /// The secret of the time-limited credentials; random when absent.
    pub turn_secret: Option<Secret>,
    /// The TURN servers that are advertised instead of our own, at most [`TURN_URLS_MAX`]; given only together
    /// with `turn_secret`.
    pub turn_urls: Vec<RelayUrl>,
    /// How long TURN credentials hold; a participant asks for new ones well before.
    pub turn_ttl: Duration,
    /// What every request must bear; everybody is served when absent.
    pub access_token: Option<Secret>,
    /// How much is logged; what `RUST_LOG` says, else info, when absent.
    pub log: Option<LogLevel>,
    /// Whether log lines are JSON.
    pub log_json: bool,
}

impl Default for Config {
    /// The defaults of CONTRACT.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            stun: vec![SocketAddr::from(([0, 0, 0, 0], 3478))],
            external_ip: None,
            relay: true,
            relay_ports: 49152..=65535,
            relay_allow: Vec::new(),
            turn_secret: None,
            turn_urls: Vec::new(),
            turn_ttl: TURN_TTL,
            access_token: None,
            log: None,
            log_json: false,
        }
    }
}

/// Options as they were written, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: Vec<Setting>,
    /// What is wrong with the file as such: its keys, not its values.
    problems: Vec<Problem>,
}

/// Something wrong. Its order is the order of reporting: the command line, then the file from its top.
#[derive(Clone, Debug)]
struct Problem {
    /// The line in the file; 0 for the command line and for the file as a whole.
    line: usize,
    text: String,
}

#[derive(Clone)]
struct Setting {
    key: &'static str,
    value: String,
    source: Source,
}

/// Where an option stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    File { file: String, line: usize },
}

impl Settings {
    /// Adds an option from the command line; `key` is one of [`KEYS`] or [`LATER_KEYS`].
    pub fn flag(&mut self, key: &'static str, value: impl Into<String>) {
        self.given.push(Setting {
            key,
            value: value.into(),
            source: Source::Flag,
        });
    }

    /// Reads a file, YAML or (with the ending `.json`) JSON, of at most 64 KiB. What is wrong with it is
    /// reported by [`Settings::resolve`], with everything else.
    #[must_use]
    pub fn read_file(path: &std::path::Path) -> Self {
        file::read(path)
    }

    /// Reads the text of a file, as [`Settings::read_file`] does.
    #[must_use]
    pub fn parse(file: &std::path::Path, text: &str) -> Self {
        file::parse(file, text)
    }

    /// Puts `over` above this: a key that it names counts as it says, lists included.
    #[must_use]
    pub fn overlaid_with(mut self, over: Self) -> Self {
        self.given
            .retain(|setting| !over.given.iter().any(|other| other.key == setting.key));
        self.given.extend(over.given);
        self.problems.extend(over.problems);
        self
    }

    /// Checks everything together.
    ///
    /// # Errors
    /// With every problem at once.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        resolve::resolve(&self.given, self.problems)
    }
}

/// Secrets among the values are never printed.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting")
            .field("key", &self.key)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// One line each: where, which key, which value, and what would be right.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Returns the known key nearest to a mistyped one.
fn nearest_key(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase().replace('_', "-");
    KEYS.iter()
        .map(|&key| {
            (
                edit_distance(&typed, &key.replace('-', "")).min(edit_distance(&typed, key)),
                key,
            )
        })
        .min()
        .filter(|&(distance, key)| distance <= key.len().div_ceil(3))
        .map(|(_, key)| key)
}

/// Levenshtein's distance, for keys of a dozen letters.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
