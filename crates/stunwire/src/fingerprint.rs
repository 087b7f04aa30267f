//! FINGERPRINT: tells STUN from other protocols on one socket (RFC 8489, section 14.7).

/// ASCII for "STUN": keeps the value apart from a CRC-32 that another protocol may carry.
const XOR: u32 = 0x5354_554E;

/// Length of the attribute with its header.
pub(crate) const FINGERPRINT_LEN: usize = 8;

/// Returns the value for everything before the attribute, whose length must already be in the header.
pub(crate) fn fingerprint(before: &[u8]) -> u32 {
    crc32fast::hash(before) ^ XOR
}
