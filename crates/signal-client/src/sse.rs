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

    /// Takes a piece of the stream and returns the events that it completed.
    ///
    /// # Errors
    /// When a bound is exceeded or the text is not UTF-8; the stream must be given up then.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
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
        Ok(events)
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

    #[test]
    fn events_and_comments_are_told_apart() {
        let mut parser = SseParser::new();
        let text = "\u{feff}: hello\n\nevent: slot\ndata: {\"a\":1}\n\nid: 4\ndata:x\ndata: y\n\nevent: ready\ndata\n\n";
        assert_eq!(
            parser.push(text.as_bytes()).unwrap(),
            [
                event("slot", "{\"a\":1}"),
                event("message", "x\ny"),
                event("ready", "")
            ]
        );
    }

    #[test]
    fn an_event_without_data_is_none_and_leaves_no_name_behind() {
        let mut parser = SseParser::new();
        assert_eq!(
            parser.push(b"event: slot\n\ndata: z\n\n").unwrap(),
            [event("message", "z")]
        );
    }

    #[test]
    fn a_line_above_the_bound_is_refused() {
        let mut parser = SseParser::new();
        let piece = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(parser.push(&piece), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(SseError::LineTooLong));
    }

    #[test]
    fn an_event_above_the_bound_is_refused() {
        let mut parser = SseParser::new();
        let line = format!("data: {}\n", "x".repeat(LINE_BYTES_MAX / 2));
        assert_eq!(parser.push(line.as_bytes()), Ok(Vec::new()));
        assert_eq!(parser.push(line.as_bytes()), Err(SseError::EventTooLong));
    }

    #[test]
    fn what_is_not_text_is_refused() {
        assert_eq!(
            SseParser::new().push(b"data: \xff\n"),
            Err(SseError::NotUtf8)
        );
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(cuts in proptest::collection::vec(1usize..9, 1..40)) {
            let text = "event: slot\r\ndata: one\r\n\r\n: keep-alive\r\rdata: two\rdata: three\n\nevent: x\ndata: y\r\n\n";
            let whole = SseParser::new().push(text.as_bytes()).unwrap();
            prop_assert_eq!(whole.len(), 3);
            let mut parser = SseParser::new();
            let mut events = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                events.extend(parser.push(piece).unwrap());
                rest = after;
            }
            prop_assert_eq!(events, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SseParser::new().push(&bytes);
        }
    }
}
