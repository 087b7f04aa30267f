//! Commands from a pipe, a line each, answers on standard output.

use std::{
    io::{self, BufRead, ErrorKind, Read, Write},
    thread::sleep,
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::{
    foreground,
    session::{Answer, Session},
};

/// Longest command in bytes: a mapping with the longest host name is a tenth of it.
const LINE_BYTES_MAX: usize = 4096;

/// How long to wait before reading again what gives nothing at the moment: a pipe that another program has
/// made non-blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What was read.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Line(String),
    TooLong,
    End,
}

/// Does what standard input says until its end or `quit`.
pub(super) fn run(mut session: Session, runtime: &Handle) {
    foreground::read_without_stopping();
    if !runtime.block_on(session.is_running()) {
        return;
    }
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        match next(&mut input, &mut line) {
            Ok(Input::Line(line)) => match runtime.block_on(session.answer(&line)) {
                Answer::Text(text) => print(&text),
                Answer::Quit(text) => return print(&text),
            },
            Ok(Input::TooLong) => {
                warn!(
                    "no more commands are read: a line of standard input has more than {LINE_BYTES_MAX} bytes"
                );
                return;
            }
            Ok(Input::End) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(RETRY_PAUSE),
            Err(_) if !foreground::is_ours() => foreground::wait(),
            Err(error) => {
                debug!(%error, "no more commands are read");
                break;
            }
        }
    }
    let staged = session.staged();
    if staged > 0 {
        warn!(
            "the end of standard input was reached before `update`: what was staged ({staged}) is dropped"
        );
    }
}

/// Reads on in a line, of which `line` is the beginning; an error leaves there what was read of it.
fn next(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Input> {
    let mut bounded = input.take((LINE_BYTES_MAX - line.len()) as u64);
    bounded.read_until(b'\n', line)?;
    if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        return Ok(Input::TooLong);
    }
    let line = std::mem::take(line);
    if line.is_empty() {
        return Ok(Input::End);
    }
    Ok(Input::Line(String::from_utf8_lossy(&line).into_owned()))
}

/// Prints an answer. With standard output closed there is nobody to tell, and commands are done all the same.
pub(super) fn print(text: &str) {
    let mut output = io::stdout();
    let _ = output.write_all(text.as_bytes());
    let _ = output.flush();
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn lines_are_read_whatever_they_end_with_and_are_bounded() {
        let mut input: &[u8] = b"list\r\n\nadd \xff\nquit";
        let mut lines = Vec::new();
        let mut begun = Vec::new();
        while let Input::Line(line) = next(&mut input, &mut begun).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["list\r\n", "\n", "add \u{fffd}\n", "quit"]);
        let mut zeros = io::BufReader::new(io::repeat(0));
        assert_eq!(next(&mut zeros, &mut begun).unwrap(), Input::TooLong);
    }

    #[test]
    fn a_line_that_comes_in_parts_is_one_line() {
        struct Pipe(VecDeque<io::Result<&'static [u8]>>);
        impl Read for Pipe {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let part = self.0.pop_front().unwrap_or(Ok(b""))?;
                buffer[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
        }
        let nothing_yet = || Err(ErrorKind::WouldBlock.into());
        let parts = [
            Ok(&b"add tcp:80"[..]),
            nothing_yet(),
            Ok(b"80:22\n"),
            nothing_yet(),
        ];
        let mut input = io::BufReader::new(Pipe(VecDeque::from(parts)));
        let mut begun = Vec::new();
        assert!(next(&mut input, &mut begun).is_err());
        let line = next(&mut input, &mut begun).unwrap();
        assert_eq!(line, Input::Line("add tcp:8080:22\n".to_owned()));
        assert!(next(&mut input, &mut begun).is_err());
        assert_eq!(next(&mut input, &mut begun).unwrap(), Input::End);
    }
}
