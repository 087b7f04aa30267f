//! What travels on a carrier's first stream after the proof: words about carriers.

use bytes::{Buf, BufMut};

use super::frame::{BODY_MAX, Frame, FrameError, encode, kind};
use super::hello::CarrierToken;

/// The longest text in a notice, in bytes; longer ones are cut.
const TEXT_MAX: usize = 512;

/// The kinds of path that people are shown, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Inside one network.
    Lan,
    /// Straight to the peer.
    Direct,
    /// Through a TURN server.
    Relay,
}

/// What one end judges the path under this carrier to be. Both must say `Lan` for it to be called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindView {
    /// The kind as seen from here.
    pub kind: PathKind,
    /// The own address, as text for people.
    pub local: Option<String>,
    /// The peer's address, as text for people.
    pub remote: Option<String>,
}

/// One word about a carrier. All but `Kind` may travel on another one than they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Flows ride this carrier unless they have a reason not to.
    Prefer {
        /// The carrier.
        token: CarrierToken,
    },
    /// The path under this carrier does not answer any more.
    Dead {
        /// The carrier.
        token: CarrierToken,
    },
    /// The path under the carrier that the notice came on.
    Kind(KindView),
    /// This carrier will be closed: move what is on it.
    Close {
        /// The carrier.
        token: CarrierToken,
        /// Why, as a number.
        code: u32,
        /// Why, for people; at most 512 bytes.
        text: String,
    },
}

impl Notice {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Prefer { token } => {
                body.put_u64(token.0);
                kind::PREFER
            }
            Self::Dead { token } => {
                body.put_u64(token.0);
                kind::DEAD
            }
            Self::Kind(view) => {
                body.put_u8(match view.kind {
                    PathKind::Lan => 0,
                    PathKind::Direct => 1,
                    PathKind::Relay => 2,
                });
                put_text(&mut body, view.local.as_deref().unwrap_or(""));
                put_text(&mut body, view.remote.as_deref().unwrap_or(""));
                kind::KIND
            }
            Self::Close { token, code, text } => {
                body.put_u64(token.0);
                body.put_u32(*code);
                put_text(&mut body, text);
                kind::CLOSE
            }
        };
        debug_assert!(body.len() <= BODY_MAX);
        let mut out = Vec::with_capacity(body.len() + 3);
        encode(&mut out, kind, &body);
        out
    }

    /// The notice in a frame; `None` for one of a later version that is skipped: a type with the skip bit, or a kind of
    /// path that we do not know. Bytes after the known ones are a later version's too.
    pub(super) fn decode(frame: &Frame) -> Result<Option<Self>, FrameError> {
        let malformed = FrameError::Malformed(frame.kind);
        let mut body = frame.body.as_slice();
        let mut token = || body.try_get_u64().map(CarrierToken).map_err(|_| malformed);
        Ok(Some(match frame.kind {
            kind::PREFER => Self::Prefer { token: token()? },
            kind::DEAD => Self::Dead { token: token()? },
            kind::CLOSE => {
                let token = token()?;
                let code = body.try_get_u32().map_err(|_| malformed)?;
                Self::Close {
                    token,
                    code,
                    text: get_text(&mut body).ok_or(malformed)?,
                }
            }
            kind::KIND => {
                let kind = match body.try_get_u8() {
                    Ok(0) => PathKind::Lan,
                    Ok(1) => PathKind::Direct,
                    Ok(2) => PathKind::Relay,
                    Ok(_) => return Ok(None),
                    Err(_) => return Err(malformed),
                };
                let local = get_text(&mut body).ok_or(malformed)?;
                let remote = get_text(&mut body).ok_or(malformed)?;
                let some = |text: String| (!text.is_empty()).then_some(text);
                Self::Kind(KindView {
                    kind,
                    local: some(local),
                    remote: some(remote),
                })
            }
            _ if frame.is_skippable() => return Ok(None),
            _ => return Err(FrameError::Unexpected(frame.kind)),
        }))
    }
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(TEXT_MAX);
    body.put_u16(u16::try_from(end).expect("TEXT_MAX fits 16 bits"));
    body.put_slice(&text.as_bytes()[..end]);
}

fn get_text(body: &mut &[u8]) -> Option<String> {
    let len = usize::from(body.try_get_u16().ok()?);
    let text = body.get(..len).filter(|_| len <= TEXT_MAX)?;
    let text = std::str::from_utf8(text).ok()?.to_owned();
    body.advance(len);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameDecoder;
    use super::*;

    fn round_trip(notice: &Notice) -> Result<Option<Notice>, FrameError> {
        let mut decoder = FrameDecoder::default();
        decoder.push(&notice.encode());
        Notice::decode(&decoder.next().unwrap().unwrap())
    }

    #[test]
    fn every_notice_survives_the_wire() {
        let token = CarrierToken(u64::MAX);
        let view = KindView {
            kind: PathKind::Lan,
            local: Some("192.168.1.2:5".into()),
            remote: None,
        };
        for notice in [
            Notice::Prefer { token },
            Notice::Dead { token },
            Notice::Kind(view),
            Notice::Close {
                token,
                code: 7,
                text: "restarting".into(),
            },
        ] {
            assert_eq!(round_trip(&notice), Ok(Some(notice.clone())));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let notice = Notice::Close {
            token: CarrierToken(1),
            code: 0,
            text: "ä".repeat(400),
        };
        let Ok(Some(Notice::Close { text, .. })) = round_trip(&notice) else {
            panic!("no notice")
        };
        assert_eq!(text, "ä".repeat(256));
    }

    #[test]
    fn unknown_types_are_skipped_with_the_bit_and_refused_without() {
        let frame = |kind| Frame {
            kind,
            body: vec![1, 2, 3],
        };
        assert_eq!(Notice::decode(&frame(0xa0)), Ok(None));
        assert_eq!(
            Notice::decode(&frame(0x2f)),
            Err(FrameError::Unexpected(0x2f))
        );
        assert_eq!(
            Notice::decode(&frame(kind::PREFER)),
            Err(FrameError::Malformed(kind::PREFER))
        );
        assert_eq!(
            Notice::decode(&frame(kind::HELLO)),
            Err(FrameError::Unexpected(kind::HELLO))
        );
    }

    #[test]
    fn what_a_later_version_adds_to_a_notice_is_skipped() {
        let frame = |kind, body: &[u8]| Frame {
            kind,
            body: body.to_vec(),
        };
        assert_eq!(
            Notice::decode(&frame(kind::KIND, &[3, 0, 0, 0, 0])),
            Ok(None),
            "a kind of path that is not invented yet"
        );
        let token = CarrierToken(7);
        assert_eq!(
            Notice::decode(&frame(kind::DEAD, &[0, 0, 0, 0, 0, 0, 0, 7, 1, 2])),
            Ok(Some(Notice::Dead { token }))
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind: u8, body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = Notice::decode(&Frame { kind, body });
        }
    }
}
