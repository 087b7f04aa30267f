//! What is said over the control socket.
//!
//! Text, one JSON object a line, UTF-8. A command writes a request and reads one line of answer; it may go
//! on with another request on the same connection.
//!
//! ```text
//! → {"cmd":"status"}
//! ← {"role":"client","version":"0.1.0","state":"connected", … }      the object of `status --json`
//! → {"cmd":"map-list"}
//! ← {"version":3,"committed":3,"peer":true,"config":"/home/u/config.yml","mappings":[ROW, …]}
//! → {"cmd":"map-change","add":["tcp:8080:22"],"remove":["udp:5000:53",2]}
//! ← {"outcome":"committed","version":4,"added":[ROW],"removed":["udp:5000:53","tcp:2:2"],"mappings":[ROW, …]}
//! → {"cmd":"dance"}
//! ← {"error":"unknown command `dance`: this program knows status, map-list and map-change"}
//! ```
//!
//! An object with `error` is the answer to whatever could not be done; no other answer has that key. A ROW
//! (which has one of its own) is a mapping as `status --json` shows it, with two more fields: `id` names it
//! for as long as the program runs, and `via` says over which path it carries, `"direct, 192.0.2.1:5"`, or is
//! null while it does not.
//!
//! `version` is the table that is wanted, `committed` the version that both ends have put in force (null
//! before the first), and `peer` whether a peer is connected.
//!
//! `map-change` names what it removes by rule or by index as listed; what is removed makes room for what is
//! added. All of it becomes one version of the table, or nothing is changed and the answer is an error. The
//! answer comes when both ends have put it in force (`committed`), at once without a peer (`staged`: in force
//! here, proposed when a peer comes), or after 10 s (`unconfirmed`: it still goes on; `staged` when the peer is
//! in the room and no path to it works). A mapping of it may be in error all the same, as its row says. Only
//! clients have mappings to change; a server lists what its clients have proposed.
//!
//! A line of more than [`REQUEST_BYTES_MAX`] ends the connection. Fields that a side does not know are ignored,
//! so that commands and programs of different versions understand each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::status::MappingStatus;

/// Longest request in bytes, its end of line included: a change that replaces a whole table of 1,024 rules,
/// each with the longest host name, is two thirds of that.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Longest answer in bytes that a command reads: a change of a whole table, with a reason for each mapping
/// that is in error, is three megabytes at most.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Asks for the status.
    Status,
    /// Asks for the mapping table.
    MapList,
    /// Changes the mapping table.
    MapChange(MapChange),
}

/// What a `map-change` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapChange {
    /// Rules to add.
    #[serde(default)]
    pub add: Vec<String>,
    /// Mappings to remove.
    #[serde(default)]
    pub remove: Vec<MappingName>,
}

/// How a command names a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MappingName {
    /// By its place in the list, counted from 0.
    Index(u64),
    /// By its rule, in any spelling.
    Rule(String),
}

impl From<&str> for MappingName {
    /// Takes a number for an index: no rule is one.
    fn from(text: &str) -> Self {
        text.trim()
            .parse()
            .map_or_else(|_| Self::Rule(text.to_owned()), Self::Index)
    }
}

/// The answer to `map-list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapList {
    /// The version that is wanted.
    pub version: u64,
    /// The version in force on both ends.
    pub committed: Option<u64>,
    /// Whether a peer is connected.
    pub peer: bool,
    /// The configuration that the program was started with, absolute.
    pub config: Option<PathBuf>,
    /// The mappings in the order of the table.
    pub mappings: Vec<MapRow>,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRow {
    /// As `status --json` shows it.
    #[serde(flatten)]
    pub status: MappingStatus,
    /// Its name for as long as the program runs.
    pub id: u32,
    /// Over which path it carries.
    pub via: Option<String>,
}

/// The answer to `map-change`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapChanged {
    /// How far the change went.
    pub outcome: ChangeOutcome,
    /// The version that is wanted now.
    pub version: u64,
    /// The mappings that were added.
    pub added: Vec<MapRow>,
    /// The rules that were removed.
    pub removed: Vec<String>,
    /// All mappings.
    pub mappings: Vec<MapRow>,
}

/// How far a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOutcome {
    /// In force on both ends.
    Committed,
    /// In force here; no peer is there yet.
    Staged,
    /// In force here; the peer has not agreed within 10 s.
    Unconfirmed,
}

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// It is no JSON object with a `cmd`.
    #[error("a request is one line such as {{\"cmd\":\"status\"}}")]
    Malformed,
    /// The command exists, but its fields are not what it takes.
    #[error(
        "map-change takes lists, such as {{\"cmd\":\"map-change\",\"add\":[\"tcp:8080:22\"],\"remove\":[\"udp:5000:53\",2]}}"
    )]
    MalformedChange,
    /// The command does not exist here.
    #[error("unknown command `{0}`: this program knows status, map-list and map-change")]
    UnknownCommand(String),
}

/// The answer to what could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// Why.
    pub error: String,
}

#[derive(Serialize, Deserialize)]
struct RawRequest<'a> {
    cmd: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct RawChange<'a> {
    cmd: &'static str,
    #[serde(flatten)]
    change: &'a MapChange,
}

impl Request {
    /// Parses one line.
    ///
    /// # Errors
    /// [`BadRequest`], whose text is the answer.
    pub fn parse(line: &[u8]) -> Result<Self, BadRequest> {
        let raw: RawRequest<'_> =
            serde_json::from_slice(line).map_err(|_| BadRequest::Malformed)?;
        match raw.cmd.as_ref() {
            "status" => Ok(Self::Status),
            "map-list" => Ok(Self::MapList),
            "map-change" => serde_json::from_slice(line)
                .map(Self::MapChange)
                .map_err(|_| BadRequest::MalformedChange),
            // A person reads the answer in one line.
            other => Err(BadRequest::UnknownCommand(other.chars().take(32).collect())),
        }
    }

    /// Returns the request as a line, its end included.
    #[must_use]
    pub fn to_line(&self) -> String {
        let line = match self {
            Self::Status => serde_json::to_string(&RawRequest {
                cmd: "status".into(),
            }),
            Self::MapList => serde_json::to_string(&RawRequest {
                cmd: "map-list".into(),
            }),
            Self::MapChange(change) => serde_json::to_string(&RawChange {
                cmd: "map-change",
                change,
            }),
        };
        let mut line = line.expect("texts and numbers are always JSON");
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_and_strangers_get_an_answer() {
        let change = MapChange {
            add: vec!["tcp:8080:22".into(), "not \"a\" rule".into()],
            remove: vec![MappingName::from("udp:5000:53"), MappingName::from("2")],
        };
        for request in [
            Request::Status,
            Request::MapList,
            Request::MapChange(change),
            Request::MapChange(MapChange::default()),
        ] {
            assert_eq!(Request::parse(request.to_line().as_bytes()), Ok(request));
        }
        assert_eq!(
            Request::parse(br#"{"new":1,"cmd":"status"}"#),
            Ok(Request::Status)
        );
        for line in [
            "",
            "status",
            "[]",
            "{}",
            r#"{"cmd":1}"#,
            "\u{0}",
            "{\"cmd\":\"status\"} x",
        ] {
            assert_eq!(
                Request::parse(line.as_bytes()),
                Err(BadRequest::Malformed),
                "{line}"
            );
        }
        let unknown = Request::parse(br#"{"cmd":"dance"}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown,
            "unknown command `dance`: this program knows status, map-list and map-change"
        );
    }

    #[test]
    fn a_change_is_read_as_the_manual_writes_it() {
        let line = br#"{"cmd":"map-change","add":["tcp:8080:22"],"remove":["udp:5000:53", 2]}"#;
        let expected = MapChange {
            add: vec!["tcp:8080:22".into()],
            remove: vec![
                MappingName::Rule("udp:5000:53".into()),
                MappingName::Index(2),
            ],
        };
        assert_eq!(Request::parse(line), Ok(Request::MapChange(expected)));
        for fields in [
            r#""add":"tcp:1:1""#,
            r#""remove":[-1]"#,
            r#""remove":[1.5]"#,
            r#""add":[1]"#,
        ] {
            let line = format!(r#"{{"cmd":"map-change",{fields}}}"#);
            assert_eq!(
                Request::parse(line.as_bytes()),
                Err(BadRequest::MalformedChange)
            );
        }
    }

    #[test]
    fn a_change_of_the_largest_table_fits_a_request() {
        let host = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".") + ".d";
        let add: Vec<_> = (0..mapping_core::MAPPINGS_MAX)
            .map(|port| {
                format!(
                    "tcp:[ffff:ffff:ffff:ffff:ffff:ffff:ffff:{port:x}]:{}:{host}:65535",
                    port + 1
                )
            })
            .collect();
        let remove = add.iter().cloned().map(MappingName::Rule).collect();
        let line = Request::MapChange(MapChange { add, remove }).to_line();
        assert!(line.len() <= REQUEST_BYTES_MAX, "{}", line.len());
    }
}
