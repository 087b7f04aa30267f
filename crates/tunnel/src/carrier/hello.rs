//! HELLO: who speaks, which versions, for which run, about which carrier.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, BufMut};

use super::endpoint::Side;
use super::frame::{FrameError, kind};

/// The version of the protocol inside carriers that this program speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The bytes that every HELLO has. A later version may append more, which earlier ones hash and ignore.
const FIXED_LEN: usize = 1 + 2 + 2 + 8 + 16 + 4 + 8;

/// A process run: 128 random bits, drawn at start.
pub type InstanceId = [u8; 16];

/// Names a carrier to both ends: drawn by the ingress, in its HELLO.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierToken(pub u64);

impl fmt::Debug for CarrierToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CarrierToken({:016x})", self.0)
    }
}

/// What one end says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The side that speaks.
    pub side: Side,
    /// The lowest version spoken.
    pub version_min: u16,
    /// The highest version spoken.
    pub version_max: u16,
    /// Optional abilities, one bit each; only what both ends set is used.
    pub features: u64,
    /// The run that speaks.
    pub instance: InstanceId,
    /// How long this end keeps flows without a carrier, in whole seconds on the wire.
    pub resume: Duration,
    /// The carrier's name; 0 from the egress, which does not choose it.
    pub token: CarrierToken,
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(FIXED_LEN);
        body.put_u8(self.side.to_wire());
        body.put_u16(self.version_min);
        body.put_u16(self.version_max);
        body.put_u64(self.features);
        body.put_slice(&self.instance);
        body.put_u32(u32::try_from(self.resume.as_secs()).unwrap_or(u32::MAX));
        body.put_u64(self.token.0);
        body
    }

    pub(super) fn decode(mut body: &[u8]) -> Result<Self, FrameError> {
        if body.len() < FIXED_LEN {
            return Err(FrameError::Malformed(kind::HELLO));
        }
        let side = Side::from_wire(body.get_u8()).ok_or(FrameError::Malformed(kind::HELLO))?;
        let version_min = body.get_u16();
        let version_max = body.get_u16();
        let features = body.get_u64();
        let mut instance = [0; 16];
        body.copy_to_slice(&mut instance);
        let resume = Duration::from_secs(u64::from(body.get_u32()));
        let token = CarrierToken(body.get_u64());
        if version_min > version_max {
            return Err(FrameError::Malformed(kind::HELLO));
        }
        Ok(Self {
            side,
            version_min,
            version_max,
            features,
            instance,
            resume,
            token,
        })
    }

    /// The highest version that both speak.
    pub(super) fn common_version(&self, other: &Self) -> Option<u16> {
        let highest = self.version_max.min(other.version_max);
        (highest >= self.version_min.max(other.version_min)).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            side: Side::Ingress,
            version_min: 1,
            version_max: 3,
            features: 5,
            instance: [9; 16],
            resume: Duration::from_secs(3600),
            token: CarrierToken(0x0102_0304_0506_0708),
        }
    }

    #[test]
    fn a_hello_is_the_bytes_of_the_protocol_document() {
        let bytes = hello().encode();
        let expected = [
            &[0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5][..],
            &[9; 16],
            &[0, 0, 0x0e, 0x10, 1, 2, 3, 4, 5, 6, 7, 8],
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn a_longer_hello_of_a_later_version_is_read() {
        let mut bytes = hello().encode();
        bytes.extend_from_slice(b"later");
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn a_short_or_contradictory_hello_is_malformed() {
        let bytes = hello().encode();
        assert_eq!(
            Hello::decode(&bytes[..40]),
            Err(FrameError::Malformed(kind::HELLO))
        );
        let backwards = Hello {
            version_min: 4,
            ..hello()
        };
        assert_eq!(
            Hello::decode(&backwards.encode()),
            Err(FrameError::Malformed(kind::HELLO))
        );
        let mut third_side = bytes;
        third_side[0] = 2;
        assert_eq!(
            Hello::decode(&third_side),
            Err(FrameError::Malformed(kind::HELLO))
        );
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let other = |version_min, version_max| Hello {
            version_min,
            version_max,
            ..hello()
        };
        assert_eq!(hello().common_version(&other(2, 9)), Some(3));
        assert_eq!(hello().common_version(&other(1, 1)), Some(1));
        assert_eq!(hello().common_version(&other(4, 9)), None);
    }
}
