//! A carrier, as small as it can be: a question on one path, answered on the path it came by.

use session::PathId;
use stunwire::{ChannelData, ChannelNumber, is_channel_data};

/// The fixed bit of QUIC is set, and the byte is one of those that ChannelData uses too.
const FIRST_BYTE: u8 = 0x45;

/// A carrier's packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ping {
    pub(crate) is_answer: bool,
    pub(crate) asked_on: PathId,
    pub(crate) answered_on: PathId,
}

impl Ping {
    pub(crate) const fn on(path: PathId) -> Self {
        Self {
            is_answer: false,
            asked_on: path,
            answered_on: PathId(0),
        }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![FIRST_BYTE, u8::from(self.is_answer)];
        bytes.extend_from_slice(&self.asked_on.0.to_be_bytes());
        bytes.extend_from_slice(&self.answered_on.0.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [FIRST_BYTE, is_answer, rest @ ..] = bytes else {
            return None;
        };
        let path = |bytes: &[u8]| Some(PathId(u64::from_be_bytes(bytes.try_into().ok()?)));
        Some(Self {
            is_answer: *is_answer == 1,
            asked_on: path(rest.get(..8)?)?,
            answered_on: path(rest.get(8..16)?)?,
        })
    }
}

/// Takes a packet from a relay apart.
pub(crate) fn channel_data(payload: &[u8]) -> Option<ChannelData<'_>> {
    is_channel_data(*payload.first()?)
        .then(|| ChannelData::decode(payload).ok())
        .flatten()
}

/// Puts a carrier's packet into a channel.
pub(crate) fn in_channel(channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let channel = ChannelNumber::new(channel)?;
    let mut frame = ChannelData::header(channel, u16::try_from(payload.len()).ok()?).to_vec();
    frame.extend_from_slice(payload);
    Some(frame)
}
