//! What two ladders say to each other: the wire form of notes.
//!
//! A note rides in an authenticated check over any pair that works, normally the relay's, or sealed in the
//! description. So it comes from a member of the room; it is validated all the same, since a room may hold a
//! broken or a hostile member. All numbers are big endian:
//!
//! ```text
//!  0 version (1)   1 kind   2..6 round
//!  kind 1 propose   6 part of the receiver (1 anchor, 2 scout, 3 both)   7..16 profile of the sender
//!  kind 2 accept    6..15 profile of the sender
//!  kind 3 decline   6 why (1 busy, 2 unable)   7..9 ask again after, in units of 10 ms   9..18 profile
//!  kind 4 anchored  6 strategy (1 predicted, 2 block, 3 birthday)   7..9 sockets   9..11 probes at most
//!                   11 order (0 as listed, 1 random)   12..16 IPv4 address   16 number of ranges
//!                   17.. first and last port of each range
//!  kind 5 window    6..10 IPv4 address   10..12 first port   12..14 stride   14 count
//!  kind 6 scouted   6..10 planned   10..14 sent   14..18 answered
//!  kind 7 ended     6..10 sockets at which a probe arrived   10 whether a path was found
//!  profile          mapping, filtering, ports, udp (one byte each; 0 is unknown), stride or first port, last port
//!                   (two bytes each), reserved byte
//! ```
//!
//! A note of another version or kind is ignored, and so are bytes after the last member: later versions can add.

use std::net::Ipv4Addr;

use super::Strategy;
use super::profile::{Filtering, Mapping, Ports, Profile};

const VERSION: u8 = 1;
/// Each NAT socket of a port-preserving NAT is a range of its own, and a wrapped window makes two.
pub(crate) const RANGES_MAX: usize = 8;

/// What an end does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It opens sockets and says where they probably are.
    Anchor,
    /// It probes.
    Scout,
    /// Both at once.
    Both,
}

impl Part {
    pub(crate) const fn of_the_other(self) -> Self {
        match self {
            Self::Anchor => Self::Scout,
            Self::Scout => Self::Anchor,
            Self::Both => Self::Both,
        }
    }
}

/// Why a round is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It plays with another peer, or its budget is used up.
    Busy,
    /// By what it knows of its own NAT the proposal makes no sense.
    Unable,
}

/// In which order ports are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    AsListed,
    Random,
}

/// Where an anchor's sockets probably are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchored {
    pub(crate) strategy: Strategy,
    pub(crate) sockets: u16,
    pub(crate) probes_max: u16,
    pub(crate) order: Order,
    pub(crate) ip: Ipv4Addr,
    /// Inclusive.
    pub(crate) ranges: Vec<(u16, u16)>,
}

/// The ports that an end's next bindings will have, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) ip: Ipv4Addr,
    pub(crate) first: u16,
    pub(crate) stride: i16,
    pub(crate) count: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Propose {
        part: Part,
        profile: Profile,
    },
    Accept {
        profile: Profile,
    },
    Decline {
        refusal: Refusal,
        retry_after_ms: u32,
        profile: Profile,
    },
    Anchored(Anchored),
    Window(Window),
    Scouted {
        planned: u32,
        sent: u32,
        answered: u32,
    },
    Ended {
        arrived: u32,
        worked: bool,
    },
}

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) round: u32,
    pub(crate) message: Message,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.message.kind()];
        out.extend(self.round.to_be_bytes());
        match &self.message {
            Message::Propose { part, profile } => {
                out.push(match part {
                    Part::Anchor => 1,
                    Part::Scout => 2,
                    Part::Both => 3,
                });
                encode_profile(profile, &mut out);
            }
            Message::Accept { profile } => encode_profile(profile, &mut out),
            Message::Decline {
                refusal,
                retry_after_ms,
                profile,
            } => {
                out.push(match refusal {
                    Refusal::Busy => 1,
                    Refusal::Unable => 2,
                });
                let units = u16::try_from(retry_after_ms / 10).unwrap_or(u16::MAX);
                out.extend(units.to_be_bytes());
                encode_profile(profile, &mut out);
            }
            Message::Anchored(anchored) => encode_anchored(anchored, &mut out),
            Message::Window(window) => {
                out.extend(window.ip.octets());
                out.extend(window.first.to_be_bytes());
                out.extend(window.stride.to_be_bytes());
                out.push(window.count);
            }
            Message::Scouted {
                planned,
                sent,
                answered,
            } => {
                for number in [planned, sent, answered] {
                    out.extend(number.to_be_bytes());
                }
            }
            Message::Ended { arrived, worked } => {
                out.extend(arrived.to_be_bytes());
                out.push(u8::from(*worked));
            }
        }
        out
    }

    /// Reads a note; `None` when it is of another version, or not one at all.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        if input.byte()? != VERSION {
            return None;
        }
        let kind = input.byte()?;
        let round = input.long()?;
        let message = match kind {
            1 => Message::Propose {
                part: match input.byte()? {
                    1 => Part::Anchor,
                    2 => Part::Scout,
                    3 => Part::Both,
                    _ => return None,
                },
                profile: input.profile()?,
            },
            2 => Message::Accept {
                profile: input.profile()?,
            },
            3 => Message::Decline {
                refusal: match input.byte()? {
                    1 => Refusal::Busy,
                    _ => Refusal::Unable,
                },
                retry_after_ms: u32::from(input.short()?) * 10,
                profile: input.profile()?,
            },
            4 => Message::Anchored(input.anchored()?),
            5 => Message::Window(Window {
                ip: input.ip()?,
                first: input.short()?,
                stride: input.signed()?,
                count: input.byte()?,
            }),
            6 => Message::Scouted {
                planned: input.long()?,
                sent: input.long()?,
                answered: input.long()?,
            },
            7 => Message::Ended {
                arrived: input.long()?,
                worked: input.byte()? == 1,
            },
            _ => return None,
        };
        Some(Self { round, message })
    }
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Propose { .. } => 1,
            Self::Accept { .. } => 2,
            Self::Decline { .. } => 3,
            Self::Anchored(_) => 4,
            Self::Window(_) => 5,
            Self::Scouted { .. } => 6,
            Self::Ended { .. } => 7,
        }
    }
}

fn encode_anchored(anchored: &Anchored, out: &mut Vec<u8>) {
    out.push(match anchored.strategy {
        Strategy::Block => 2,
        Strategy::Birthday => 3,
        Strategy::Plain | Strategy::PortMapped | Strategy::Ipv6 | Strategy::Predicted => 1,
    });
    out.extend(anchored.sockets.to_be_bytes());
    out.extend(anchored.probes_max.to_be_bytes());
    out.push(u8::from(anchored.order == Order::Random));
    out.extend(anchored.ip.octets());
    let ranges = &anchored.ranges[..anchored.ranges.len().min(RANGES_MAX)];
    out.push(u8::try_from(ranges.len()).unwrap_or(u8::MAX));
    for (first, last) in ranges {
        out.extend(first.to_be_bytes());
        out.extend(last.to_be_bytes());
    }
}

fn encode_profile(profile: &Profile, out: &mut Vec<u8>) {
    let (ports, a, b) = match profile.ports {
        Ports::Unknown => (0, 0, 0),
        Ports::Preserving => (1, 0, 0),
        Ports::Sequential { stride } => (2, stride.cast_unsigned(), 0),
        Ports::Block { first, last } => (3, first, last),
        Ports::Random => (4, 0, 0),
    };
    out.extend([
        match profile.mapping {
            Mapping::Unknown => 0,
            Mapping::Stable => 1,
            Mapping::PerDestination => 2,
        },
        match profile.filtering {
            Filtering::Unknown => 0,
            Filtering::Lenient => 1,
            Filtering::ByPort => 2,
        },
        ports,
        profile.udp.map_or(0, |udp| 1 + u8::from(udp)),
    ]);
    out.extend(a.to_be_bytes());
    out.extend(b.to_be_bytes());
    out.push(0);
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn signed(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn long(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn ip(&mut self) -> Option<Ipv4Addr> {
        self.take::<4>().map(Ipv4Addr::from)
    }

    fn profile(&mut self) -> Option<Profile> {
        let [mapping, filtering, ports, udp] = self.take()?;
        let (a, b) = (self.short()?, self.short()?);
        self.byte()?;
        Some(Profile {
            mapping: match mapping {
                1 => Mapping::Stable,
                2 => Mapping::PerDestination,
                _ => Mapping::Unknown,
            },
            filtering: match filtering {
                1 => Filtering::Lenient,
                2 => Filtering::ByPort,
                _ => Filtering::Unknown,
            },
            ports: match ports {
                1 => Ports::Preserving,
                2 => Ports::sequential(i32::from(a.cast_signed())),
                3 => Ports::block(a, b),
                4 => Ports::Random,
                _ => Ports::Unknown,
            },
            udp: match udp {
                1 => Some(false),
                2 => Some(true),
                _ => None,
            },
        })
    }

    fn anchored(&mut self) -> Option<Anchored> {
        let strategy = match self.byte()? {
            1 => Strategy::Predicted,
            2 => Strategy::Block,
            3 => Strategy::Birthday,
            _ => return None,
        };
        let (sockets, probes_max) = (self.short()?, self.short()?);
        let order = match self.byte()? {
            0 => Order::AsListed,
            _ => Order::Random,
        };
        let ip = self.ip()?;
        let count = usize::from(self.byte()?).min(RANGES_MAX);
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let (first, last) = (self.short()?, self.short()?);
            if first == 0 || first > last {
                return None;
            }
            ranges.push((first, last));
        }
        Some(Anchored {
            strategy,
            sockets,
            probes_max,
            order,
            ip,
            ranges,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::traversal::Strategy;

    fn examples() -> Vec<Message> {
        let profile = Profile {
            mapping: Mapping::PerDestination,
            filtering: Filtering::ByPort,
            ports: Ports::Sequential { stride: -2 },
            udp: Some(true),
        };
        let block = Profile {
            ports: Ports::Block {
                first: 1024,
                last: 2047,
            },
            udp: None,
            ..Profile::default()
        };
        let ip = Ipv4Addr::new(203, 0, 113, 7);
        vec![
            Message::Propose {
                part: Part::Both,
                profile,
            },
            Message::Accept { profile: block },
            Message::Decline {
                refusal: Refusal::Busy,
                retry_after_ms: 1500,
                profile,
            },
            Message::Anchored(Anchored {
                strategy: Strategy::Block,
                sockets: 64,
                probes_max: 1024,
                order: Order::Random,
                ip,
                ranges: vec![(1024, 2047); RANGES_MAX],
            }),
            Message::Window(Window {
                ip,
                first: 40_000,
                stride: -2,
                count: 16,
            }),
            Message::Scouted {
                planned: 2048,
                sent: 300,
                answered: 1,
            },
            Message::Ended {
                arrived: 3,
                worked: true,
            },
        ]
    }

    #[test]
    fn every_note_is_read_back_and_fits_a_check() {
        for message in examples() {
            let note = Note { round: 7, message };
            let mut bytes = note.encode();
            assert!(bytes.len() <= 64, "{} bytes", bytes.len());
            assert_eq!(Note::decode(&bytes).as_ref(), Some(&note));
            bytes.extend([1, 2, 3]);
            assert_eq!(Note::decode(&bytes), Some(note), "later versions may add");
        }
    }

    #[test]
    fn another_version_and_cut_notes_are_ignored() {
        for message in examples() {
            let bytes = Note { round: 7, message }.encode();
            for length in 0..bytes.len() {
                assert_eq!(Note::decode(&bytes[..length]), None, "{length} bytes");
            }
            let mut later = bytes;
            later[0] = VERSION + 1;
            assert_eq!(Note::decode(&later), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_from_any_bytes_survives_the_round_trip(bytes: Vec<u8>) {
            if let Some(note) = Note::decode(&bytes) {
                prop_assert_eq!(Note::decode(&note.encode()), Some(note));
            }
        }
    }
}
