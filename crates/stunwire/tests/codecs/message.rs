//! A message as values, of which each codec knows its part.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use stunwire::{Class, Method};

pub const USERNAME: &str = "evtj:h6vY";
pub const REALM: &str = "example.org";
pub const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// An attribute that at least one of the others knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Mapped(SocketAddr),
    XorMapped(SocketAddr),
    XorPeer(SocketAddr),
    XorRelayed(SocketAddr),
    AlternateServer(SocketAddr),
    OtherAddress(SocketAddr),
    ResponseOrigin(SocketAddr),
    Username(String),
    Realm(String),
    Nonce(String),
    Software(String),
    AlternateDomain(String),
    Error(u16, String),
    Unknown(Vec<u16>),
    UserHash([u8; 32]),
    PasswordAlgorithm(bool),
    PasswordAlgorithms(Vec<bool>),
    Channel(u16),
    Lifetime(u32),
    Data(Vec<u8>),
    EvenPort(bool),
    Transport(u8),
    DontFragment,
    Token([u8; 8]),
    Priority(u32),
    UseCandidate,
    Controlled(u64),
    Controlling(u64),
}

/// What is to be written, or was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub class: Class,
    pub method: Method,
    pub id: [u8; 12],
    pub parts: Vec<Part>,
}

/// What follows the attributes, and with which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    None,
    Fingerprint,
    ShortTerm,
    LongTerm,
    /// MESSAGE-INTEGRITY-SHA256 alone, with the long-term key of SHA-256.
    Sha256,
    /// Both integrities with one short-term key, and FINGERPRINT.
    Everything,
    WrongShortTerm,
    WrongLongTerm,
    WrongSha256,
    WrongEverything,
}

impl Protection {
    pub fn has_integrity(self) -> bool {
        !matches!(self, Self::None | Self::Fingerprint)
    }

    /// Whether FINGERPRINT comes last.
    pub fn has_fingerprint(self) -> bool {
        matches!(
            self,
            Self::Fingerprint
                | Self::Everything
                | Self::LongTerm
                | Self::WrongEverything
                | Self::WrongLongTerm
        )
    }

    pub fn password(self) -> &'static str {
        match self {
            Self::WrongShortTerm
            | Self::WrongLongTerm
            | Self::WrongSha256
            | Self::WrongEverything => "another",
            Self::None
            | Self::Fingerprint
            | Self::ShortTerm
            | Self::LongTerm
            | Self::Sha256
            | Self::Everything => PASSWORD,
        }
    }

    /// `stun_codec` knows no MESSAGE-INTEGRITY-SHA256.
    pub fn for_stun_codec(self) -> Self {
        match self {
            Self::Sha256 => Self::None,
            Self::Everything => Self::ShortTerm,
            other => other,
        }
    }
}

pub mod keys {
    use super::Protection;

    /// The same protection by who does not know the password.
    pub fn wrong(protection: Protection) -> Protection {
        match protection {
            Protection::ShortTerm => Protection::WrongShortTerm,
            Protection::LongTerm => Protection::WrongLongTerm,
            Protection::Sha256 => Protection::WrongSha256,
            Protection::Everything => Protection::WrongEverything,
            other => other,
        }
    }
}

impl Draft {
    /// Without what `stun-types` has no type for.
    pub fn for_stun_types(mut self) -> Self {
        self.parts.retain(|part| match part {
            Part::XorMapped(_)
            | Part::AlternateServer(_)
            | Part::Username(_)
            | Part::Realm(_)
            | Part::Nonce(_)
            | Part::Software(_)
            | Part::AlternateDomain(_)
            | Part::Error(..)
            | Part::Unknown(_)
            | Part::UserHash(_)
            | Part::PasswordAlgorithm(_)
            | Part::PasswordAlgorithms(_) => true,
            Part::Mapped(_)
            | Part::XorPeer(_)
            | Part::XorRelayed(_)
            | Part::OtherAddress(_)
            | Part::ResponseOrigin(_)
            | Part::Channel(_)
            | Part::Lifetime(_)
            | Part::Data(_)
            | Part::EvenPort(_)
            | Part::Transport(_)
            | Part::DontFragment
            | Part::Token(_)
            | Part::Priority(_)
            | Part::UseCandidate
            | Part::Controlled(_)
            | Part::Controlling(_) => false,
        });
        self
    }

    /// Without what `stun_codec` has no type for.
    pub fn for_stun_codec(mut self) -> Self {
        self.parts.retain(|part| {
            !matches!(
                part,
                Part::AlternateDomain(_)
                    | Part::UserHash(_)
                    | Part::PasswordAlgorithm(_)
                    | Part::PasswordAlgorithms(_)
            )
        });
        self
    }
}

/// Up to six attributes of different types, since of several of one type only the first is read.
pub fn drafts() -> impl Strategy<Value = Draft> {
    let class = prop_oneof![
        Just(Class::Request),
        Just(Class::Indication),
        Just(Class::SuccessResponse),
        Just(Class::ErrorResponse),
    ];
    // Methods above 0x00F are written wrongly by stun_codec: its shift of bits 4 to 6 is 5 where it must be 1.
    (class, 0u16..0x10, any::<[u8; 12]>(), vec(parts(), 0..6)).prop_map(
        |(class, method, id, parts)| {
            let mut different: Vec<Part> = Vec::new();
            for part in parts {
                let kind = std::mem::discriminant(&part);
                if different
                    .iter()
                    .all(|known| std::mem::discriminant(known) != kind)
                {
                    different.push(part);
                }
            }
            Draft {
                class,
                method: Method::new(method).unwrap(),
                id,
                parts: different,
            }
        },
    )
}

fn parts() -> impl Strategy<Value = Part> {
    // Without scope and flow label, which are not on the wire.
    let address =
        || any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip(), address.port()));
    let text = || "\\PC{0,40}";
    prop_oneof![
        address().prop_map(Part::Mapped),
        address().prop_map(Part::XorMapped),
        address().prop_map(Part::XorPeer),
        address().prop_map(Part::XorRelayed),
        address().prop_map(Part::AlternateServer),
        address().prop_map(Part::OtherAddress),
        address().prop_map(Part::ResponseOrigin),
        text().prop_map(Part::Username),
        text().prop_map(Part::Realm),
        text().prop_map(Part::Nonce),
        text().prop_map(Part::Software),
        "[a-z.-]{0,60}".prop_map(Part::AlternateDomain),
        (300u16..600, text()).prop_map(|(code, reason)| Part::Error(code, reason)),
        vec(any::<u16>(), 0..8).prop_map(Part::Unknown),
        any::<[u8; 32]>().prop_map(Part::UserHash),
        any::<bool>().prop_map(Part::PasswordAlgorithm),
        vec(any::<bool>(), 1..4).prop_map(Part::PasswordAlgorithms),
        (0x4000u16..0x5000).prop_map(Part::Channel),
        any::<u32>().prop_map(Part::Lifetime),
        vec(any::<u8>(), 0..60).prop_map(Part::Data),
        any::<bool>().prop_map(Part::EvenPort),
        any::<u8>().prop_map(Part::Transport),
        Just(Part::DontFragment),
        any::<[u8; 8]>().prop_map(Part::Token),
        any::<u32>().prop_map(Part::Priority),
        Just(Part::UseCandidate),
        any::<u64>().prop_map(Part::Controlled),
        any::<u64>().prop_map(Part::Controlling),
    ]
}
