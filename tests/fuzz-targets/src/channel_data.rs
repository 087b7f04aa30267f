//! ChannelData, and frames on a stream that comes in pieces.

use stunwire::{ChannelData, ChannelNumber, FrameError, Message, is_channel_data, is_stun, stream};

use crate::pieces::{pieces, split_cuts};

/// What a reader of a stream sees: whole frames, and at last what is wrong, if anything is.
type Seen = (Vec<Vec<u8>>, Option<FrameError>);

/// Takes the bytes as a datagram, and what follows the cuts as a stream.
pub fn run(data: &[u8]) {
    check_datagram(data);
    let (cuts, bytes) = split_cuts(data);
    let whole = read_whole(bytes);
    assert_eq!(read_in_pieces(bytes, cuts), whole);
    for frame in &whole.0 {
        check_frame(frame);
    }
}

fn check_datagram(bytes: &[u8]) {
    let Ok(data) = ChannelData::decode(bytes) else {
        return;
    };
    assert!(is_channel_data(bytes[0]) && !is_stun(bytes));
    assert_eq!(ChannelNumber::new(data.channel.value()), Some(data.channel));
    let length = u16::try_from(data.payload.len()).expect("its length has two bytes");
    let mut again = ChannelData::header(data.channel, length).to_vec();
    again.extend_from_slice(data.payload);
    assert!(bytes.starts_with(&again));
    again.resize(again.len().next_multiple_of(4), 0);
    assert_eq!(stream::next_frame(&again), Ok(Some(again.len())));
}

fn check_frame(frame: &[u8]) {
    assert!(frame.len().is_multiple_of(4) && frame.len() <= stream::FRAME_LEN_MAX);
    if is_channel_data(frame[0]) {
        let number = u16::from_be_bytes([frame[0], frame[1]]);
        let Ok(data) = ChannelData::decode(frame) else {
            // The one number beside those of both RFCs: its frame has a length all the same, and goes nowhere.
            assert_eq!(number, 0x7FFF);
            return;
        };
        assert_eq!(data.channel.value(), number);
        assert!(frame.len() - ChannelData::HEADER_LEN - data.payload.len() < 4);
    } else {
        assert!(is_stun(frame));
        let _ = Message::decode(frame);
    }
}

fn read_whole(mut bytes: &[u8]) -> Seen {
    let mut frames = Vec::new();
    loop {
        match stream::next_frame(bytes) {
            Ok(Some(length)) => {
                let (frame, rest) = bytes.split_at(length);
                frames.push(frame.to_vec());
                bytes = rest;
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn read_in_pieces(bytes: &[u8], cuts: &[u8]) -> Seen {
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    for piece in pieces(bytes, cuts) {
        buffer.extend_from_slice(piece);
        let (new, error) = read_whole(&buffer);
        buffer.drain(..new.iter().map(Vec::len).sum::<usize>());
        frames.extend(new);
        if error.is_some() {
            return (frames, error);
        }
        // What waits is one incomplete frame: its bound is what a reader must be able to hold.
        assert!(buffer.len() < stream::FRAME_LEN_MAX);
    }
    (frames, None)
}
