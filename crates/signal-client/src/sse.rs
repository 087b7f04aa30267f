//! A parser of server-sent events (WHATWG HTML, section 9.2) with bounds.

/// The longest line, in bytes: a slot of 16 KiB is 22 KiB as base64, and its JSON adds half a kilobyte.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The longest data of one event, in bytes.
const DATA_BYTES_MAX: usize = 64 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// Its type; `message` when the server names none.
    pub event: String,
    /// Its data lines, joined by line feeds.
    pub data: String,
}

/// What a well-behaved server never sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// A line is too long.
    #[error("event stream holds a line above {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// An event is too long.
    #[error("event stream holds an event above {DATA_BYTES_MAX} bytes")]
    EventTooLong,
    /// A line is not UTF-8.
    #[error("event stream is not UTF-8")]
    NotUtf8,
}

/// Turns the bytes of an event stream, in pieces of any size, into events. Comments, `id` and `retry` are
/// passed over: the store sends whole states, so there is nothing to resume.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    last_was_cr: bool,
    begun: bool,
    event: String,
    data: Option<String>,
}

impl SseParser {
    /// Makes a parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece of the stream and appends the events that it completed, those before an error too.
    ///
    /// # Errors
    /// When a bound is exceeded or the text is not UTF-8; the stream must be given up then.
    pub fn push(&mut self, piece: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let mut rest = piece;
        while let Some((&first, after)) = rest.split_first() {
            if std::mem::take(&mut self.last_was_cr) && first == b'\n' {
                rest = after;
                continue;
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.extend_line(rest)?;
                break;
            };
            self.extend_line(&rest[..end])?;
            self.last_was_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.handle_line(&line)?);
        }
        Ok(())
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(SseError::LineTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<Option<SseEvent>, SseError> {
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        };
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => self.extend_data(value)?,
            _ => {}
        }
        Ok(None)
    }

    fn extend_data(&mut self, value: &str) -> Result<(), SseError> {
        let before = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if before + value.len() > DATA_BYTES_MAX {
            return Err(SseError::EventTooLong);
        }
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            none => *none = Some(value.to_owned()),
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let event = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        Some(SseEvent {
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(event: &str, data: &str) -> SseEvent {
        SseEvent {
            event: event.to_owned(),
            data: data.to_owned(),
        }
    }

    fn push(parser: &mut SseParser, piece: &[u8]) -> (Vec<SseEvent>, Result<(), SseError>) {
        let mut events = Vec::new();
        let read = parser.push(piece, &mut events);
        (events, read)
    }

    #[test]
    fn events_and_comments_are_told_apart() {
        let text = "\u{feff}: hello\n\nevent: slot\ndata: {\"a\":1}\n\nid: 4\ndata:x\ndata: y\n\nevent: ready\ndata\n\n";
        assert_eq!(
            push(&mut SseParser::new(), text.as_bytes()),
            (
                vec![
                    event("slot", "{\"a\":1}"),
                    event("message", "x\ny"),
                    event("ready", "")
                ],
                Ok(())
            )
        );
    }

    #[test]
    fn an_event_without_data_is_none_and_leaves_no_name_behind() {
        assert_eq!(
            push(&mut SseParser::new(), b"event: slot\n\ndata: z\n\n"),
            (vec![event("message", "z")], Ok(()))
        );
    }

    #[test]
    fn events_before_an_error_are_handed_on_with_it() {
        let text = b"event: removed\ndata: 1\n\ndata: \xff\n";
        assert_eq!(
            push(&mut SseParser::new(), text),
            (vec![event("removed", "1")], Err(SseError::NotUtf8))
        );
    }

    #[test]
    fn a_line_above_the_bound_is_refused() {
        let mut parser = SseParser::new();
        let piece = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(push(&mut parser, &piece), (vec![], Ok(())));
        assert_eq!(
            push(&mut parser, b"x"),
            (vec![], Err(SseError::LineTooLong))
        );
    }

    #[test]
    fn an_event_above_the_bound_is_refused() {
        let mut parser = SseParser::new();
        let line = format!("data: {}\n", "x".repeat(LINE_BYTES_MAX / 2));
        let line = line.as_bytes();
        assert_eq!(push(&mut parser, line), (vec![], Ok(())));
        assert_eq!(
            push(&mut parser, line),
            (vec![], Err(SseError::EventTooLong))
        );
    }

    #[test]
    fn what_is_not_text_is_refused() {
        assert_eq!(
            push(&mut SseParser::new(), b"data: \xff\n"),
            (vec![], Err(SseError::NotUtf8))
        );
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(cuts in proptest::collection::vec(1usize..9, 1..40)) {
            let text = "event: slot\r\ndata: one\r\n\r\n: keep-alive\r\rdata: two\rdata: three\n\nevent: x\ndata: y\r\n\n";
            let (whole, read) = push(&mut SseParser::new(), text.as_bytes());
            prop_assert_eq!((whole.len(), read), (3, Ok(())));
            let mut parser = SseParser::new();
            let mut events = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                prop_assert_eq!(parser.push(piece, &mut events), Ok(()));
                rest = after;
            }
            prop_assert_eq!(events, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = push(&mut SseParser::new(), &bytes);
        }
    }
}
