//! Frames on a stream: STUN and ChannelData over TCP or TLS (RFC 8656, sections 3.1 and 12.5).

use crate::{ChannelData, FrameError, HEADER_LEN, MAGIC_COOKIE, is_channel_data};

/// The longest frame: ChannelData with 65,535 bytes, padded. A STUN message is shorter by a header less four
/// than this plus 12; the larger of both is what a receive buffer must be able to hold.
pub const FRAME_LEN_MAX: usize = {
    let channel_data = (ChannelData::HEADER_LEN + 0xFFFF).next_multiple_of(4);
    if channel_data > crate::MESSAGE_LEN_MAX {
        channel_data
    } else {
        crate::MESSAGE_LEN_MAX
    }
};

/// Returns the length of the first frame in `buffer`, its padding included, once it is complete; `None` when
/// more bytes are needed.
///
/// # Errors
/// When the stream is out of step: there is no way back, close it.
pub fn next_frame(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let length = frame_len(buffer)?;
    Ok(length.filter(|length| *length <= buffer.len()))
}

/// Returns the length of the first frame as its header says it, whether or not all of it is there.
///
/// # Errors
/// As [`next_frame`].
pub fn frame_len(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    if first > 0x3F && !is_channel_data(first) {
        return Err(FrameError::BadFirstByte(first));
    }
    let Some(&[_, _, l0, l1]) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([l0, l1]);
    if is_channel_data(first) {
        let unpadded = ChannelData::HEADER_LEN + usize::from(length);
        return Ok(Some(unpadded.next_multiple_of(4)));
    }
    if !length.is_multiple_of(4) {
        return Err(FrameError::UnalignedLength(length));
    }
    let Some(&[_, _, _, _, c0, c1, c2, c3]) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let cookie = u32::from_be_bytes([c0, c1, c2, c3]);
    if cookie != MAGIC_COOKIE {
        return Err(FrameError::BadCookie(cookie));
    }
    Ok(Some(HEADER_LEN + usize::from(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_BINDING: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    #[test]
    fn a_frame_is_known_once_its_last_byte_is_there() {
        for end in 0..EMPTY_BINDING.len() {
            assert_eq!(next_frame(&EMPTY_BINDING[..end]), Ok(None));
        }
        assert_eq!(next_frame(&EMPTY_BINDING), Ok(Some(20)));
    }

    #[test]
    fn channel_data_counts_its_padding() {
        assert_eq!(next_frame(&[0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0]), Ok(None));
        assert_eq!(
            next_frame(&[0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]),
            Ok(Some(12))
        );
    }

    #[test]
    fn a_stream_out_of_step_is_an_error_at_its_first_bytes() {
        assert_eq!(
            next_frame(&[0x80, 1, 0, 0]),
            Err(FrameError::BadFirstByte(0x80))
        );
        assert_eq!(
            next_frame(&[0, 1, 0, 3]),
            Err(FrameError::UnalignedLength(3))
        );
        assert_eq!(
            next_frame(&[0, 1, 0, 0, 1, 2, 3, 4]),
            Err(FrameError::BadCookie(0x0102_0304))
        );
    }

    #[test]
    fn the_longest_frames_have_the_length_of_their_bound() {
        assert_eq!(frame_len(&[0x40, 0, 0xFF, 0xFF]), Ok(Some(65_540)));
        let mut longest = EMPTY_BINDING;
        longest[2..4].copy_from_slice(&[0xFF, 0xFC]);
        assert_eq!(frame_len(&longest), Ok(Some(FRAME_LEN_MAX)));
    }
}
