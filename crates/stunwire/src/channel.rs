//! ChannelData: TURN's short frame (RFC 8656, section 12).

use crate::attribute::array;
use crate::{Attribute, AttributeType, DecodeError, TransactionId};

/// Returns whether a datagram that begins with this byte can be ChannelData between a TURN client and its server
/// (RFC 5766, section 11). On a socket that carries more than TURN only 0x40 to 0x4F belong to it (RFC 7983).
#[must_use]
pub const fn is_channel_data(first_byte: u8) -> bool {
    matches!(first_byte, 0x40..=0x7F)
}

/// The number of a channel: 0x4000 to 0x7FFE.
///
/// RFC 8656, section 12, leaves clients 0x4000 to 0x4FFF ([`ChannelNumber::LAST`]), and ours draw from no others. A
/// server meets clients of RFC 5766, section 11, too, which count up to 0x7FFE (coturn's do).
///
/// It is also the attribute CHANNEL-NUMBER (RFC 8656, section 18.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The lowest number.
    pub const FIRST: Self = Self(0x4000);
    /// The highest number that a client of RFC 8656 uses.
    pub const LAST: Self = Self(0x4FFF);
    /// The highest number that a client of RFC 5766 uses.
    pub const LAST_OF_RFC_5766: Self = Self(0x7FFE);

    /// Makes a channel number; `None` when it is out of range.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value >= Self::FIRST.0 && value <= Self::LAST_OF_RFC_5766.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl<'a> Attribute<'a> for ChannelNumber {
    const TYPE: AttributeType = AttributeType::CHANNEL_NUMBER;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let &[n0, n1, _, _] = array::<4>(value)?;
        Self::new(u16::from_be_bytes([n0, n1]))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let [n0, n1] = self.0.to_be_bytes();
        out.copy_from_slice(&[n0, n1, 0, 0]);
    }
}

/// A ChannelData message that borrows the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// Which channel it is for, or from.
    pub channel: ChannelNumber,
    /// What is carried.
    pub payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Length of the header in bytes.
    pub const HEADER_LEN: usize = 4;

    /// Reads a datagram, or a frame of a stream. What follows the payload is padding and is ignored (RFC
    /// 8656, section 12.5).
    ///
    /// # Errors
    /// When the channel number is out of range or the bytes end before the payload does.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((&[n0, n1, l0, l1], rest)) = bytes.split_first_chunk::<4>() else {
            let needed = Self::HEADER_LEN;
            return Err(DecodeError::Truncated {
                needed,
                available: bytes.len(),
            });
        };
        let Some(channel) = ChannelNumber::new(u16::from_be_bytes([n0, n1])) else {
            return Err(DecodeError::BadFirstByte(n0));
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(payload) = rest.get(..length) else {
            let claimed = Self::HEADER_LEN + length;
            return Err(DecodeError::LengthMismatch {
                claimed,
                available: bytes.len(),
            });
        };
        Ok(Self { channel, payload })
    }

    /// Returns the header to put before a payload of `payload_len` bytes. On a stream the payload is padded
    /// to a multiple of four.
    #[must_use]
    #[inline]
    pub const fn header(channel: ChannelNumber, payload_len: u16) -> [u8; ChannelData::HEADER_LEN] {
        let [n0, n1] = channel.0.to_be_bytes();
        let [l0, l1] = payload_len.to_be_bytes();
        [n0, n1, l0, l1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_and_its_payload_decode_to_themselves() {
        let channel = ChannelNumber::new(0x4ABC).unwrap();
        let mut bytes = ChannelData::header(channel, 3).to_vec();
        bytes.extend_from_slice(b"abc");
        assert_eq!(
            ChannelData::decode(&bytes),
            Ok(ChannelData {
                channel,
                payload: b"abc"
            })
        );
        bytes.push(0);
        assert_eq!(
            ChannelData::decode(&bytes).map(|data| data.payload),
            Ok(&b"abc"[..])
        );
    }

    #[test]
    fn numbers_of_both_rfcs_are_understood_and_no_others() {
        for (number, understood) in [
            (0x3FFF, false),
            (0x4000, true),
            (0x4FFF, true),
            (0x5000, true),
            (0x7FFE, true),
            (0x7FFF, false),
            (0x8000, false),
        ] {
            assert_eq!(ChannelNumber::new(number).is_some(), understood);
            let [n0, n1] = u16::to_be_bytes(number);
            let decodes = ChannelData::decode(&[n0, n1, 0, 0]).is_ok();
            assert_eq!(decodes, understood, "{number:#x}");
            assert!(!understood || is_channel_data(n0));
        }
        assert_eq!(
            ChannelData::decode(&[0x80, 0, 0, 0]),
            Err(DecodeError::BadFirstByte(0x80))
        );
    }

    #[test]
    fn a_short_payload_names_both_lengths() {
        assert_eq!(
            ChannelData::decode(&[0x40, 0, 0, 5, 1]),
            Err(DecodeError::LengthMismatch {
                claimed: 9,
                available: 5
            })
        );
        assert_eq!(
            ChannelData::decode(&[0x40, 0]),
            Err(DecodeError::Truncated {
                needed: 4,
                available: 2
            })
        );
    }
}
