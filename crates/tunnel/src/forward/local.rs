//! The two tasks of a local TCP socket: one reads it into the flow, one writes what the flow has.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::shared_flow::SharedFlow;
use super::stats::Meter;
use crate::flow::ResetCode;

/// The smallest read buffer: a keystroke needs no more.
const BUFFER_MIN: usize = 4 * 1024;
/// The largest: smaller ones cost two to three times the CPU at full speed (facts, lesson 6).
const BUFFER_MAX: usize = 64 * 1024;
/// After this much one direction lets the others run.
const TURN_BYTES: usize = 512 * 1024;
/// How many pieces are written at once.
const PIECES_MAX: usize = 64;

/// Sets what every forwarded connection has: small writes are not held back.
pub(super) fn prepare(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
}

/// Makes the drop of the last handle a reset instead of a close.
pub(super) fn reset_on_drop<'a>(socket: impl Into<SockRef<'a>>) {
    if let Err(error) = socket.into().set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "connection is closed instead of reset");
    }
}

/// Takes that back.
pub(super) fn close_on_drop(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(None) {
        tracing::debug!(%error, "connection is reset instead of closed");
    }
}

/// Starts both directions of a local connection.
pub(super) fn spawn(flow: Arc<SharedFlow>, socket: TcpStream, meter: Meter) {
    prepare(&socket);
    let (socket, meter) = (Arc::new(socket), Arc::new(meter));
    tokio::spawn(read(
        Arc::clone(&flow),
        Arc::clone(&socket),
        Arc::clone(&meter),
    ));
    tokio::spawn(write(flow, socket, meter));
}

async fn read(flow: Arc<SharedFlow>, socket: Arc<TcpStream>, meter: Arc<Meter>) {
    let mut size = BUFFER_MIN;
    loop {
        if flow.wait_writable().await.is_none() {
            return reset_on_drop(&socket);
        }
        let ready = tokio::select! {
            () = flow.aborted() => return reset_on_drop(&socket),
            ready = socket.readable() => ready,
        };
        if let Err(error) = ready {
            return fail(&flow, &socket, &error);
        }
        let mut buffer = BytesMut::new();
        let mut turn = 0;
        while turn < TURN_BYTES {
            // The credit may have changed while the socket was waited for.
            let room = flow.look(crate::flow::Flow::writable) as usize;
            if room == 0 {
                break;
            }
            if buffer.capacity() < BUFFER_MIN {
                buffer = BytesMut::with_capacity(size);
            }
            let space = buffer.capacity().min(room);
            match socket.try_read_buf(&mut (&mut buffer).limit(space)) {
                Ok(0) => return flow.with(|flow, _| flow.shutdown()),
                Ok(length) => {
                    meter.count_out(length);
                    turn += length;
                    size = next_size(size, length, space);
                    let bytes = take(&mut buffer);
                    flow.with(|flow, _| flow.write(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return fail(&flow, &socket, &error),
            }
        }
        if turn >= TURN_BYTES {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes what was read. It is kept until the peer has it, and what lies in the buffer keeps all of the buffer:
/// what fills less than half of it is copied.
fn take(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() < buffer.capacity() / 2 {
        let bytes = Bytes::copy_from_slice(buffer);
        buffer.clear();
        bytes
    } else {
        buffer.split().freeze()
    }
}

/// A buffer that was filled was too small, one hardly used too large.
fn next_size(size: usize, length: usize, space: usize) -> usize {
    if length == space && space >= size.min(BUFFER_MIN) {
        (size * 2).min(BUFFER_MAX)
    } else if length < size / 8 {
        (size / 2).max(BUFFER_MIN)
    } else {
        size
    }
}

async fn write(flow: Arc<SharedFlow>, socket: Arc<TcpStream>, meter: Arc<Meter>) {
    let mut pieces: Vec<Bytes> = Vec::new();
    loop {
        let (aborted, at_end) = flow.with(|flow, _| {
            while pieces.len() < PIECES_MAX
                && let Some(piece) = flow.read(BUFFER_MAX)
            {
                pieces.push(piece);
            }
            (flow.is_aborted(), flow.is_read_to_end())
        });
        if aborted {
            return reset_on_drop(&socket);
        }
        if pieces.is_empty() && at_end {
            if let Err(error) = SockRef::from(&*socket).shutdown(std::net::Shutdown::Write) {
                fail(&flow, &socket, &error);
            }
            return watch_for_reset(&flow, &socket).await;
        }
        let mut turn = 0;
        while !pieces.is_empty() && turn < TURN_BYTES {
            match write_some(&socket, &mut pieces) {
                Ok(length) => {
                    turn += length;
                    meter.count_in(length);
                    flow.with(|flow, now| flow.consumed(length, now));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return fail(&flow, &socket, &error),
            }
        }
        if turn >= TURN_BYTES {
            tokio::task::yield_now().await;
        } else if let Err(error) = wait(&flow, &socket, !pieces.is_empty()).await {
            return fail(&flow, &socket, &error);
        }
    }
}

/// Writes as much of the pieces as the socket takes at once, and takes it out of them.
fn write_some(socket: &TcpStream, pieces: &mut Vec<Bytes>) -> io::Result<usize> {
    let written = {
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        socket.try_write_vectored(&slices)?
    };
    let mut rest = written;
    let mut whole = 0;
    for piece in pieces.iter_mut() {
        let taken = rest.min(piece.len());
        piece.advance(taken);
        rest -= taken;
        whole += usize::from(piece.is_empty());
        if !piece.is_empty() {
            break;
        }
    }
    pieces.drain(..whole);
    Ok(written)
}

/// Waits for the flow, for the socket to take more if it is `blocked`, and for its end.
async fn wait(flow: &SharedFlow, socket: &TcpStream, blocked: bool) -> io::Result<()> {
    if blocked {
        // Not for more to read: there may be plenty of it that the socket does not take.
        tokio::select! {
            () = flow.aborted() => Ok(()),
            ready = socket.writable() => ready,
        }
    } else {
        tokio::select! {
            () = flow.readable() => Ok(()),
            error = socket_error(socket) => Err(error),
        }
    }
}

/// Waits until the application resets the connection: nobody would notice while the flow has no credit or no
/// data.
async fn socket_error(socket: &TcpStream) -> io::Error {
    match socket.ready(Interest::ERROR).await {
        Err(error) => error,
        Ok(_) => match socket.take_error() {
            Ok(Some(error)) | Err(error) => error,
            // Somebody else took the error, and tells.
            Ok(None) => std::future::pending().await,
        },
    }
}

/// Everything is written; until the other direction ends as well, a reset is still to be passed on, both ways.
async fn watch_for_reset(flow: &SharedFlow, socket: &TcpStream) {
    loop {
        if flow.look(crate::flow::Flow::is_ended) {
            if flow.look(crate::flow::Flow::is_aborted) {
                reset_on_drop(socket);
            }
            return;
        }
        tokio::select! {
            () = flow.readable() => {}
            error = socket_error(socket) => return fail(flow, socket, &error),
        }
    }
}

/// The local connection is broken: so is the flow.
fn fail(flow: &SharedFlow, socket: &TcpStream, error: &io::Error) {
    tracing::debug!(%error, "local connection ended");
    reset_on_drop(socket);
    flow.with(|flow, now| flow.reset(ResetCode::Application, now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_small_read_is_not_the_whole_buffer() {
        let mut buffer = BytesMut::with_capacity(BUFFER_MAX);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"keystroke");
        let small = take(&mut buffer);
        assert_eq!(small, b"keystroke"[..]);
        assert_ne!(small.as_ptr(), place);
        // The buffer is whole again for the next read.
        assert_eq!((buffer.len(), buffer.capacity()), (0, BUFFER_MAX));
        buffer.extend_from_slice(&[7; BUFFER_MAX / 2]);
        let large = take(&mut buffer);
        assert_eq!((large.len(), large.as_ptr()), (BUFFER_MAX / 2, place));
    }
}
