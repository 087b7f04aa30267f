//! A flow that several tasks hold, and which of them is woken by what.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clock::{lock, now};
use crate::flow::{DATA_MAX, Event, Flow, Generation, Output, Record, RecordDecoder};

/// How much is taken from a flow for one write to a stream: what RESET cannot overtake any more.
const FILL_BYTES: usize = 128 * 1024;
/// Payloads below this are copied beside their heads: a chunk of its own costs more.
const COPY_BELOW: usize = 1024;

/// A flow and the tasks that wait for it.
#[derive(Debug)]
pub(super) struct SharedFlow {
    state: Mutex<State>,
    /// Wakes the task that writes to the local socket.
    readable: Notify,
    /// Wakes the task that reads from the local socket.
    writable: Notify,
    /// Wakes the supervisor.
    changed: Notify,
    /// The flow was refused or reset.
    aborted: CancellationToken,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    streams: Vec<(Generation, Arc<Notify>)>,
    /// Ingress: the last stream that was opened, to whichever peer.
    generation: Generation,
    /// When the supervisor will look by itself.
    armed: Option<Instant>,
    /// That the flow is aborted was said.
    abort_said: bool,
}

/// What the writer of a stream does after writing what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more.
    More,
    /// Wait.
    Wait,
    /// Finish the sending direction.
    Finish,
    /// The stream is of no more use.
    Gone,
}

impl SharedFlow {
    pub(super) fn new(flow: Flow) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                flow,
                streams: Vec::new(),
                generation: Generation(0),
                armed: None,
                abort_said: false,
            }),
            readable: Notify::new(),
            writable: Notify::new(),
            changed: Notify::new(),
            aborted: CancellationToken::new(),
        })
    }

    /// Does something with the flow, and wakes whom it concerns.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Flow, Instant) -> R) -> R {
        let mut state = lock(&self.state);
        let result = act(&mut state.flow, now());
        self.wake(&mut state);
        result
    }

    /// Looks at the flow.
    pub(super) fn look<R>(&self, at: impl FnOnce(&Flow) -> R) -> R {
        at(&lock(&self.state).flow)
    }

    fn wake(&self, state: &mut State) {
        let flow = &state.flow;
        for (generation, wake) in &state.streams {
            if flow.has_output(*generation) {
                wake.notify_one();
            }
        }
        let aborted = flow.is_aborted();
        if aborted && !state.abort_said {
            state.abort_said = true;
            self.aborted.cancel();
        }
        if aborted || flow.is_readable() || flow.is_read_to_end() {
            self.readable.notify_one();
        }
        if aborted || flow.writable() > 0 {
            self.writable.notify_one();
        }
        let earlier = match (flow.poll_timeout(), state.armed) {
            (Some(at), Some(armed)) => at < armed,
            (timeout, None) => timeout.is_some(),
            (None, Some(_)) => false,
        };
        if earlier || flow.is_ended() || flow.has_event() || flow.wants_stream() {
            self.changed.notify_one();
        }
    }

    /// Waits until the local writer should look.
    pub(super) async fn readable(&self) {
        self.readable.notified().await;
    }

    /// Waits until bytes can be written and returns how many; `None` when no more ever can.
    pub(super) async fn wait_writable(&self) -> Option<usize> {
        loop {
            let writable = self.look(|flow| (!flow.is_aborted()).then(|| flow.writable()))?;
            if writable > 0 {
                return Some(usize::try_from(writable).unwrap_or(usize::MAX));
            }
            self.writable.notified().await;
        }
    }

    /// Waits until the flow is refused or reset.
    pub(super) async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    /// Waits until the supervisor should look.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says when the supervisor will look by itself, and returns that.
    pub(super) fn arm(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        state.armed = state.flow.poll_timeout();
        state.armed
    }

    pub(super) fn poll_event(&self) -> Option<Event> {
        lock(&self.state).flow.poll_event()
    }

    /// Ingress: tells the flow that a stream was opened, and returns its number.
    pub(super) fn attach(&self) -> Generation {
        let mut state = lock(&self.state);
        state.generation.0 += 1;
        let generation = state.generation;
        state.flow.attach(generation, now());
        self.wake(&mut state);
        generation
    }

    /// Adds the writer of a stream.
    pub(super) fn add_stream(&self, generation: Generation) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        lock(&self.state)
            .streams
            .push((generation, Arc::clone(&wake)));
        wake
    }

    pub(super) fn remove_stream(&self, generation: Generation) {
        lock(&self.state)
            .streams
            .retain(|(number, _)| *number != generation);
    }

    /// Takes what is to be written to a stream.
    pub(super) fn fill(
        &self,
        generation: Generation,
        chunks: &mut Vec<Bytes>,
        scratch: &mut BytesMut,
    ) -> Next {
        self.with(|flow, now| {
            let mut taken = 0;
            let next = loop {
                if taken >= FILL_BYTES {
                    break Next::More;
                }
                match flow.poll_output(generation, DATA_MAX, now) {
                    Output::Record(record) => taken += put(record, chunks, scratch),
                    Output::Idle => break Next::Wait,
                    Output::Finish => break Next::Finish,
                    Output::Gone => break Next::Gone,
                }
            };
            if !scratch.is_empty() {
                chunks.push(scratch.split().freeze());
            }
            next
        })
    }

    /// Hands over what arrived on a stream; false when it cannot be read any further.
    pub(super) fn handle_chunk(
        &self,
        generation: Generation,
        decoder: &mut RecordDecoder,
        mut chunk: Bytes,
    ) -> bool {
        self.with(|flow, now| {
            loop {
                match decoder.decode(&mut chunk) {
                    Ok(Some(record)) => flow.handle_record(generation, record, now),
                    Ok(None) => return true,
                    Err(error) => {
                        tracing::debug!(flow = ?flow.id(), %error, "stream is not readable");
                        flow.handle_garbage(generation, now);
                        return false;
                    }
                }
            }
        })
    }
}

fn put(record: Record, chunks: &mut Vec<Bytes>, scratch: &mut BytesMut) -> usize {
    record.encode_head(scratch);
    let Record::Data { bytes, .. } = record else {
        return 0;
    };
    let length = bytes.len();
    if length < COPY_BELOW {
        scratch.extend_from_slice(&bytes);
    } else {
        chunks.push(scratch.split().freeze());
        chunks.push(bytes);
    }
    length
}
