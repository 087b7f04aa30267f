//! Clients that come by TCP: frames out of a stream, frames into it, and how long it may be silent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use relay::Transport;
use relay::server::ClientAddr;
use socket2::SockRef;
use stunwire::{Class, Message, Method, stream};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::plane::Plane;
use crate::address_class::AddressClass;

/// Streams at once: as many as there can be allocations.
const STREAMS_MAX: usize = 16_384;
/// Streams from one address: a few for each of many people behind one NAT.
const STREAMS_PER_ADDRESS_MAX: usize = 512;
/// How long a stream may take to make an allocation. STUN alone is answered at once.
const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(10);
/// How long a stream with an allocation may say nothing: an allocation lives 10 minutes at least and is
/// refreshed before.
const SILENCE_MAX: Duration = Duration::from_secs(3600 + 60);
/// The longest beginning of a frame that is kept for a stranger; requests are some hundred bytes.
const STRANGER_BYTES_MAX: usize = 4096;
/// Bytes that may wait for a client that reads slowly. Whole frames above it are dropped, as UDP would.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Bytes that may wait for all clients together, so that many who do not read cost no more than few.
const QUEUES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;
/// How long written bytes may stay unacknowledged.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// How long to wait after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// All streams, by client.
#[derive(Debug)]
pub(super) struct Streams {
    by_client: RefCell<BTreeMap<ClientAddr, Rc<Stream>>>,
    by_address: RefCell<BTreeMap<AddressClass, usize>>,
    /// What every stream reads into, so that an idle one holds no buffer.
    scratch: RefCell<Vec<u8>>,
    /// The bytes in all queues.
    queued_bytes: Rc<Cell<usize>>,
}

#[derive(Debug)]
struct Stream {
    io: TcpStream,
    queue: RefCell<Vec<u8>>,
    /// The bytes in the queues of all streams.
    queued_bytes: Rc<Cell<usize>>,
    /// Wakes the stream's task when the queue is no longer empty.
    queued: Notify,
    authenticated: Cell<bool>,
    dropped_frames: Cell<u64>,
}

/// Accepts streams for ever.
pub(super) async fn run_listener(plane: Rc<Plane>, listener: TcpListener) {
    loop {
        let (io, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a TURN stream");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(local) = io.local_addr() else { continue };
        let client = ClientAddr {
            remote,
            local,
            transport: Transport::Tcp,
        };
        if let Err(error) = prepare(&io) {
            debug!(%remote, %error, "cannot prepare a TURN stream");
        }
        match plane.streams.insert(client, io) {
            Some(stream) => {
                tokio::task::spawn_local(run_stream(Rc::clone(&plane), client, stream));
            }
            None => debug!(%remote, "too many TURN streams: one more is closed"),
        }
    }
}

async fn run_stream(plane: Rc<Plane>, client: ClientAddr, stream: Rc<Stream>) {
    let ended = stream.serve(&plane, client).await;
    debug!(remote = %client.remote, dropped_frames = stream.dropped_frames.get(), error = ?ended.err(), "a TURN stream ended");
    plane.streams.remove(&client);
    plane.on_stream_ended(client);
    plane.flush();
}

fn prepare(io: &TcpStream) -> io::Result<()> {
    io.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    SockRef::from(io).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            by_client: RefCell::default(),
            by_address: RefCell::default(),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            queued_bytes: Rc::default(),
        }
    }

    /// Queues one frame, given in pieces, for a client; drops it when the client is gone or too slow.
    pub(super) fn send(&self, client: &ClientAddr, frame: &[&[u8]]) {
        if let Some(stream) = self.by_client.borrow().get(client) {
            stream.send(frame);
        }
    }

    /// Looks at an answer to a client: whoever made an allocation is no stranger any more.
    pub(super) fn note_answer(&self, client: &ClientAddr, answer: &[u8]) {
        let allocated = Message::decode(answer).is_ok_and(|message| {
            message.class() == Class::SuccessResponse && message.method() == Method::ALLOCATE
        });
        if allocated && let Some(stream) = self.by_client.borrow().get(client) {
            stream.authenticated.set(true);
        }
    }

    fn insert(&self, client: ClientAddr, io: TcpStream) -> Option<Rc<Stream>> {
        let mut by_client = self.by_client.borrow_mut();
        let mut by_address = self.by_address.borrow_mut();
        let address = AddressClass::of(client.remote.ip());
        let of_address = by_address.get(&address).copied().unwrap_or(0);
        if by_client.len() >= STREAMS_MAX || of_address >= STREAMS_PER_ADDRESS_MAX {
            return None;
        }
        by_address.insert(address, of_address + 1);
        let stream = Rc::new(Stream {
            io,
            queue: RefCell::default(),
            queued_bytes: Rc::clone(&self.queued_bytes),
            queued: Notify::new(),
            authenticated: Cell::new(false),
            dropped_frames: Cell::new(0),
        });
        by_client.insert(client, Rc::clone(&stream));
        Some(stream)
    }

    fn remove(&self, client: &ClientAddr) {
        if self.by_client.borrow_mut().remove(client).is_none() {
            return;
        }
        let mut by_address = self.by_address.borrow_mut();
        let address = AddressClass::of(client.remote.ip());
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl Stream {
    /// Reads frames and writes what is queued, until the stream ends, is out of step or silent too long.
    async fn serve(&self, plane: &Rc<Plane>, client: ClientAddr) -> io::Result<()> {
        let mut partial = Vec::new();
        let began = Instant::now();
        let mut heard_at = began;
        loop {
            let deadline = if self.authenticated.get() {
                heard_at + SILENCE_MAX
            } else {
                began + AUTHENTICATE_WITHIN
            };
            let interest = if self.queue.borrow().is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = tokio::select! {
                ready = self.io.ready(interest) => ready?,
                () = self.queued.notified() => continue,
                () = tokio::time::sleep_until(deadline) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            };
            if ready.is_writable() {
                self.write_queue()?;
            }
            if ready.is_readable() && self.read_frames(plane, client, &mut partial)? {
                heard_at = Instant::now();
            }
        }
    }

    /// Reads once and hands over every whole frame; what is left of the last one stays in `partial`.
    fn read_frames(
        &self,
        plane: &Rc<Plane>,
        client: ClientAddr,
        partial: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut scratch = plane.streams.scratch.borrow_mut();
        let read = match self.io.try_read(&mut scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let joined;
        let bytes = if partial.is_empty() {
            &scratch[..read]
        } else {
            partial.extend_from_slice(&scratch[..read]);
            joined = std::mem::take(partial);
            &joined
        };
        let mut done = 0;
        while let Some(len) =
            stream::next_frame(&bytes[done..]).map_err(|_| io::ErrorKind::InvalidData)?
        {
            plane.on_stream_frame(client, &bytes[done..done + len]);
            done += len;
        }
        plane.flush();
        partial.extend_from_slice(&bytes[done..]);
        if !self.authenticated.get() && exceeds_stranger(partial) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(done > 0)
    }

    fn write_queue(&self) -> io::Result<()> {
        let mut queue = self.queue.borrow_mut();
        match self.io.try_write(&queue) {
            Ok(written) => {
                queue.drain(..written);
                self.queued_bytes.set(self.queued_bytes.get() - written);
                if queue.is_empty() {
                    *queue = Vec::new();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn send(&self, frame: &[&[u8]]) {
        let len: usize = frame.iter().map(|piece| piece.len()).sum();
        let mut queue = self.queue.borrow_mut();
        let of_all = self.queued_bytes.get() + len;
        if queue.len() + len > QUEUE_BYTES_MAX || of_all > QUEUES_BYTES_MAX {
            self.dropped_frames.set(self.dropped_frames.get() + 1);
            return;
        }
        self.queued_bytes.set(of_all);
        let was_empty = queue.is_empty();
        for piece in frame {
            queue.extend_from_slice(piece);
        }
        if was_empty {
            self.queued.notify_one();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.queue.get_mut().len();
        self.queued_bytes.set(self.queued_bytes.get() - left);
    }
}

/// Tells whether a frame that has begun is longer than any that a stranger has reason to send. What speaks
/// another protocol is found out here: `GET ` would be 21 KiB of ChannelData.
fn exceeds_stranger(partial: &[u8]) -> bool {
    let announced = stream::frame_len(partial).ok().flatten().unwrap_or(0);
    announced.max(partial.len()) > STRANGER_BYTES_MAX
}
