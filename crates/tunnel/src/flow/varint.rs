//! Integers of variable length, RFC 9000, section 16.

use bytes::{BufMut, BytesMut};

/// The largest value that fits: 2^62 − 1.
pub(crate) const VARINT_MAX: u64 = (1 << 62) - 1;

/// Appends `value`; a value above [`VARINT_MAX`] is written as that maximum, which no caller reaches.
pub(crate) fn encode_varint(value: u64, out: &mut BytesMut) {
    debug_assert!(value <= VARINT_MAX, "a varint holds 62 bits");
    let value = value.min(VARINT_MAX);
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Reads one from the front of `bytes`: the value and how many bytes it took, `None` when more are needed.
pub(crate) fn decode_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, length))
}

/// Returns how many bytes `value` takes.
pub(crate) const fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_decode() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d][..], 494_878_333),
            (&[0x7b, 0xbd][..], 15_293),
            (&[0x25][..], 37),
        ] {
            assert_eq!(decode_varint(bytes), Some((value, bytes.len())));
            let mut out = BytesMut::new();
            encode_varint(value, &mut out);
            assert_eq!((&out[..], varint_len(value)), (bytes, bytes.len()));
            assert_eq!(decode_varint(&bytes[..bytes.len() - 1]), None);
        }
    }
}
