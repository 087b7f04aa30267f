//! What is said over the control socket.
//!
//! Text, one JSON object a line, UTF-8. A command writes a request and reads one line of answer; it may go
//! on with another request on the same connection.
//!
//! ```text
//! → {"cmd":"status"}
//! ← {"role":"client","version":"0.1.0","state":"connected", … }      the object of `status --json`
//! → {"cmd":"dance"}
//! ← {"error":"unknown command `dance`: this program knows status"}
//! ```
//!
//! An object with `error` is the answer to whatever could not be done; no other answer has that key. A
//! line of more than [`REQUEST_BYTES_MAX`] ends the connection. Fields that a side does not know are ignored,
//! so that commands and programs of different versions understand each other.

use serde::{Deserialize, Serialize};

/// Longest request in bytes, its end of line included: the longest is a mapping rule with its host name.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// Longest answer in bytes that a command reads: a status with a thousand mappings is a third of a
/// megabyte.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Asks for the status.
    Status,
}

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// It is no JSON object with a `cmd`.
    #[error("a request is one line such as {{\"cmd\":\"status\"}}")]
    Malformed,
    /// The command does not exist here.
    #[error("unknown command `{0}`: this program knows status")]
    UnknownCommand(String),
}

/// The answer to what could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// Why.
    pub error: String,
}

#[derive(Serialize, Deserialize)]
struct RawRequest {
    cmd: String,
}

impl Request {
    /// Parses one line.
    ///
    /// # Errors
    /// [`BadRequest`], whose text is the answer.
    pub fn parse(line: &[u8]) -> Result<Self, BadRequest> {
        let raw: RawRequest = serde_json::from_slice(line).map_err(|_| BadRequest::Malformed)?;
        match raw.cmd.as_str() {
            "status" => Ok(Self::Status),
            _ => Err(BadRequest::UnknownCommand(raw.cmd)),
        }
    }

    /// Returns the request as a line, its end included.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Status => "{\"cmd\":\"status\"}\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_and_strangers_get_an_answer() {
        assert_eq!(
            Request::parse(Request::Status.to_line().as_bytes()),
            Ok(Request::Status)
        );
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
            "unknown command `dance`: this program knows status"
        );
    }
}
