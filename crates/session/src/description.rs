//! What a participant of a room tells the others about itself: the plaintext of its slot.
//!
//! JSON, with names that cannot change within protocol 1; unknown members are ignored, so that later
//! versions can add. A description is always whole, never a delta. Freshness is an echoed nonce: a
//! description is *fresh* to a reader when one of its `answers` holds the reader's instance and nonce.
//!
//! ```json
//! { "versions": [1, 1], "role": "client", "instance": "32 hex digits", "identity": "64 hex digits",
//!   "nonce": "32 hex digits", "answers": [ { "instance": "…", "nonce": "…" } ],
//!   "ufrag": "…", "pwd": "…",
//!   "candidates": [ { "kind": "host", "addr": "192.168.1.2:5000", "priority": 2130706431 } ],
//!   "nat": { "mapping": "endpoint-independent", "filtering": "unknown", "udp": true } }
//! ```

use std::net::SocketAddr;

use punch::{Candidate, CandidateKind};
use serde::{Deserialize, Serialize};

use crate::hex::Hex;

/// The lowest protocol version that this crate speaks.
pub const VERSION_MIN: u16 = 1;
/// The highest protocol version that this crate speaks.
pub const VERSION_MAX: u16 = 1;

/// More candidates than this from one peer are ignored: a laptop with many interfaces has about ten.
pub(crate) const CANDIDATES_MAX: usize = 32;
/// More answers than this are ignored; a server answers each client of its room.
const ANSWERS_MAX: usize = 64;
/// More notes than this are neither written nor read; one end plays one round at a time.
pub(crate) const NOTES_MAX: usize = 8;
/// Two digits for each of the 600 bytes that a note may have.
const NOTE_DIGITS_MAX: usize = 1200;
/// ICE allows 256 characters for a ufrag (RFC 8839, section 5.4); ours have eight.
const CREDENTIAL_BYTES_MAX: usize = 256;

/// Names one run of one process (128 random bits).
pub type InstanceId = Hex<16>;
/// Proves that a description is an answer to ours and not an old one.
pub type Nonce = Hex<16>;
/// An Ed25519 public key.
pub type IdentityKey = Hex<32>;

/// Which end of the tunnel a participant is; on the wire in the words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Listens for the person's applications and dials the carriers.
    #[serde(rename = "client")]
    Ingress,
    /// Dials the services.
    #[serde(rename = "server")]
    Egress,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// The whole description of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Lowest and highest protocol version spoken.
    pub versions: (u16, u16),
    /// Which end it is.
    pub role: Side,
    /// Which run of it.
    pub instance: InstanceId,
    /// The Ed25519 public key that its carriers will show.
    pub identity: IdentityKey,
    /// What answers to this description must echo.
    pub nonce: Nonce,
    /// The descriptions this one has seen.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// User name fragment of its checks.
    pub ufrag: String,
    /// Its half of the secret that keys the checks.
    pub pwd: String,
    /// Where it may be reached.
    #[serde(default)]
    pub candidates: Vec<CandidateEntry>,
    /// What it knows of its NAT.
    #[serde(default)]
    pub nat: NatSummary,
    /// What it has to say to single peers while no path to them works; at most three per peer, and of all the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<DescribedNote>,
}

/// A note of the ladder (see `traversal`) that travels in the description, because no path works yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedNote {
    /// Whom it is for.
    pub to: InstanceId,
    /// Rises with every note to anybody: a description is read more than once.
    pub counter: u64,
    /// Its bytes, in hexadecimal digits.
    pub note: String,
}

/// "I have seen the description of this instance with this nonce."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose description was seen.
    pub instance: InstanceId,
    /// Which one.
    pub nonce: Nonce,
    /// What the author sees of its packets without a relay, while no path without one works: `arrives` (and
    /// ours are not answered), `narrow` (only small ones pass), or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seen: String,
}

impl Answer {
    /// Makes an answer that says nothing beyond that.
    #[must_use]
    pub const fn new(instance: InstanceId, nonce: Nonce) -> Self {
        Self {
            instance,
            nonce,
            seen: String::new(),
        }
    }
}

/// One candidate on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateEntry {
    /// `host`, `srflx` or `relay`, the words of RFC 8839, or `mapped` for a port that a gateway forwards; others are
    /// skipped by readers.
    pub kind: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// RFC 8445, section 5.1.2.
    pub priority: u32,
}

/// What a participant says about its NAT, for the reason that is shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSummary {
    /// Mapping behaviour in the words of RFC 4787; empty while unknown.
    #[serde(default)]
    pub mapping: String,
    /// Filtering behaviour in the words of RFC 4787; empty while unknown.
    #[serde(default)]
    pub filtering: String,
    /// Whether any STUN server answered over UDP; `None` while unknown.
    #[serde(default)]
    pub udp: Option<bool>,
    /// How public ports are chosen: `preserving`, `sequential` or `random`; empty while unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ports: String,
    /// The lowest and the highest port of the block that ports are taken from, where one was inferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<(u16, u16)>,
    /// By how much one port follows the other, where they are sequential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_stride: Option<i32>,
    /// Whether a STUN server answered over IPv6; `None` while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// Whether a NAT that is not the person's own, a carrier's mostly, stands behind the own router or instead of
    /// it; `None` while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub double_nat: Option<bool>,
    /// Whether different mappings of one host get different public addresses; `None` unless they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled: Option<bool>,
    /// What became of port mappings: `active` (verified from outside), `unverified`, `refuted`, `present` (a
    /// gateway answers, and there is none), or `absent` (no gateway answers); empty while unknown. Readers take
    /// other words for unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_mapping: String,
}

/// Why a description was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It is not the JSON described above.
    #[error("not a description: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It comes from a version that shares no protocol with ours.
    #[error("the peer speaks protocol {min} to {max}, this program {VERSION_MIN} to {VERSION_MAX}")]
    Version {
        /// Lowest version of the peer.
        min: u16,
        /// Highest version of the peer.
        max: u16,
    },
    /// A member is outside its limits.
    #[error("{member} of a description is longer than {limit}")]
    TooLong {
        /// Which member.
        member: &'static str,
        /// The limit in bytes or entries.
        limit: usize,
    },
}

impl Description {
    /// Reads a description from the opened payload of a slot.
    ///
    /// # Errors
    ///
    /// See [`DescriptionError`]. Candidates of unknown kinds are kept for the round trip and skipped by
    /// [`Description::remote_candidates`].
    pub fn decode(payload: &[u8]) -> Result<Self, DescriptionError> {
        let mut description: Self = serde_json::from_slice(payload)?;
        let (min, max) = description.versions;
        if max < VERSION_MIN || min > VERSION_MAX {
            return Err(DescriptionError::Version { min, max });
        }
        for (member, text) in [("ufrag", &description.ufrag), ("pwd", &description.pwd)] {
            if text.len() > CREDENTIAL_BYTES_MAX {
                return Err(DescriptionError::TooLong {
                    member,
                    limit: CREDENTIAL_BYTES_MAX,
                });
            }
        }
        description.candidates.truncate(CANDIDATES_MAX);
        description.answers.truncate(ANSWERS_MAX);
        description.notes.truncate(NOTES_MAX);
        description
            .notes
            .retain(|it| it.note.len() <= NOTE_DIGITS_MAX);
        Ok(description)
    }

    /// Writes the description as the payload of a slot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and addresses always serialize")
    }

    /// Returns whether this description was written after its author saw `nonce` of `instance`.
    #[must_use]
    pub fn answers(&self, instance: InstanceId, nonce: Nonce) -> bool {
        self.answers
            .iter()
            .any(|answer| answer.instance == instance && answer.nonce == nonce)
    }

    /// Returns the candidates of known kinds, as a peer's agent wants them.
    #[must_use]
    pub fn remote_candidates(&self) -> Vec<Candidate> {
        self.candidates
            .iter()
            .filter_map(CandidateEntry::to_candidate)
            .collect()
    }
}

impl CandidateEntry {
    /// Makes an entry of a local candidate; peer-reflexive ones are not told (RFC 8445, section 5.1.1), and guesses
    /// are the other side's.
    #[must_use]
    pub fn of(candidate: &Candidate) -> Option<Self> {
        let kind = match candidate.kind {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PortMapped => "mapped",
            CandidateKind::Relayed => "relay",
            CandidateKind::PeerReflexive | CandidateKind::Predicted | CandidateKind::Birthday => {
                return None;
            }
        };
        Some(Self {
            kind: kind.to_owned(),
            addr: candidate.address,
            priority: candidate.priority,
        })
    }

    fn to_candidate(&self) -> Option<Candidate> {
        let kind = match self.kind.as_str() {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "mapped" => CandidateKind::PortMapped,
            "relay" => CandidateKind::Relayed,
            _ => return None,
        };
        let usable = !self.addr.ip().is_unspecified()
            && !self.addr.ip().is_multicast()
            && self.addr.port() != 0;
        usable.then_some(Candidate {
            kind,
            address: self.addr,
            base: self.addr,
            priority: self.priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a slot may hold, sealed (`signal_client::PAYLOAD_BYTES_MAX`, which is not known here); sealing and
    /// its encoding add less than a tenth.
    const SLOT_BYTES: usize = 16 * 1024;

    fn description() -> Description {
        let nat = NatSummary {
            mapping: "address-and-port-dependent".to_owned(),
            filtering: "address-and-port-dependent".to_owned(),
            udp: Some(true),
            ports: "sequential".to_owned(),
            port_range: Some((50_000, 60_000)),
            port_stride: Some(-1000),
            ipv6: Some(false),
            double_nat: Some(false),
            pooled: Some(true),
            port_mapping: "unverified".to_owned(),
        };
        let candidate = CandidateEntry {
            kind: "mapped".to_owned(),
            addr: "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"
                .parse()
                .unwrap(),
            priority: u32::MAX,
        };
        let mut answer = Answer::new(Hex([0xff; 16]), Hex([0xff; 16]));
        answer.seen = "arrives".to_owned();
        Description {
            versions: (VERSION_MIN, VERSION_MAX),
            role: Side::Egress,
            instance: Hex([0xff; 16]),
            identity: Hex([0xff; 32]),
            nonce: Hex([0xff; 16]),
            answers: vec![answer; 8],
            ufrag: "f".repeat(12),
            pwd: "f".repeat(36),
            candidates: vec![candidate; CANDIDATES_MAX],
            nat,
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_this_version_says_beyond_the_last_one_is_small() {
        let full = description();
        let mut plain = full.clone();
        plain.nat = NatSummary {
            mapping: full.nat.mapping.clone(),
            filtering: full.nat.filtering.clone(),
            udp: full.nat.udp,
            ..NatSummary::default()
        };
        let growth = full.encode().len() - plain.encode().len();
        assert!(growth <= 200, "{growth} bytes");
        let unknown = String::from_utf8(plain.encode()).unwrap();
        assert!(
            !unknown.contains("port_"),
            "what is unknown is not written: {unknown}"
        );
    }

    #[test]
    fn the_longest_description_of_a_server_with_eight_clients_fits_a_slot() {
        let mut description = description();
        description.notes = vec![
            DescribedNote {
                to: Hex([0xff; 16]),
                counter: u64::MAX,
                note: "f".repeat(NOTE_DIGITS_MAX),
            };
            NOTES_MAX.min(4)
        ];
        let bytes = description.encode();
        assert!(bytes.len() < SLOT_BYTES * 9 / 10, "{} bytes", bytes.len());
        assert_eq!(Description::decode(&bytes).unwrap(), description);
    }

    #[test]
    fn a_description_of_the_version_before_is_read_and_says_nothing_new() {
        let mut older: serde_json::Value = serde_json::from_slice(&description().encode()).unwrap();
        older["nat"] = serde_json::json!({ "mapping": "", "filtering": "", "udp": true });
        older["answers"] = serde_json::json!([]);
        let read = Description::decode(older.to_string().as_bytes()).unwrap();
        assert_eq!(read.nat.ipv6, None);
        assert_eq!(read.nat.port_mapping, "");
        assert!(read.notes.is_empty());
    }
}
