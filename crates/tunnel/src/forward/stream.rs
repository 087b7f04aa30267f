//! The two tasks of a stream: one writes a flow's records to it, one reads them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::shared_flow::{Next, SharedFlow};
use crate::carrier::{Carrier, StreamReceiver, StreamSender};
use crate::flow::{Generation, RecordDecoder};

/// How much is read from a stream at once: QUIC gives what one packet held.
const READ_MAX: usize = 256 * 1024;

/// One stream of a flow.
pub(super) struct FlowStream {
    pub(super) flow: Arc<SharedFlow>,
    pub(super) generation: Generation,
    pub(super) carrier: Carrier,
    /// Ends the tasks when the peer is gone for good.
    pub(super) gone: CancellationToken,
}

impl FlowStream {
    /// Starts both tasks. `decoder` and `rest` are what was read already.
    pub(super) fn spawn(
        self,
        sender: StreamSender,
        receiver: StreamReceiver,
        decoder: RecordDecoder,
        rest: Bytes,
    ) {
        let wake = self.flow.add_stream(self.generation);
        let (flow, generation, gone) = (Arc::clone(&self.flow), self.generation, self.gone.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = read(flow, generation, receiver, decoder, rest) => {}
            }
        });
        tokio::spawn(async move {
            let gone = self.gone.clone();
            tokio::select! {
                () = gone.cancelled() => {}
                () = self.write(sender, &wake) => {}
            }
            self.flow.remove_stream(self.generation);
        });
    }

    async fn write(&self, mut sender: StreamSender, wake: &Notify) {
        let mut chunks = Vec::new();
        let mut scratch = BytesMut::new();
        let mut finished = false;
        loop {
            let next = self.flow.fill(self.generation, &mut chunks, &mut scratch);
            if write_all(&mut sender, &mut chunks).await.is_err() {
                return self.lose();
            }
            match next {
                Next::More => {}
                Next::Finish => {
                    sender.finish();
                    finished = true;
                }
                Next::Gone => {
                    if !finished {
                        sender.reset(0);
                    }
                    return;
                }
                Next::Wait => {
                    // What was buffered for writing goes while nothing is written.
                    scratch = BytesMut::new();
                    tokio::select! {
                        () = wake.notified() => {}
                        // A finished stream has nobody else who would notice that its last bytes are lost.
                        _ = self.carrier.closed() => return self.lose(),
                    }
                }
            }
        }
    }

    fn lose(&self) {
        self.flow
            .with(|flow, now| flow.carrier_lost(self.generation, now));
    }
}

async fn read(
    flow: Arc<SharedFlow>,
    generation: Generation,
    mut receiver: StreamReceiver,
    mut decoder: RecordDecoder,
    rest: Bytes,
) {
    if !rest.is_empty() && !flow.handle_chunk(generation, &mut decoder, rest) {
        return receiver.stop(0);
    }
    loop {
        match receiver.read_chunk(READ_MAX).await {
            Ok(Some(chunk)) => {
                if !flow.handle_chunk(generation, &mut decoder, chunk) {
                    return receiver.stop(0);
                }
            }
            Ok(None) => return flow.with(|flow, now| flow.stream_ended(generation, now)),
            Err(_) => return flow.with(|flow, now| flow.carrier_lost(generation, now)),
        }
    }
}

/// Writes all chunks, and leaves the vector empty.
pub(super) async fn write_all(
    sender: &mut StreamSender,
    chunks: &mut Vec<Bytes>,
) -> Result<(), crate::carrier::StreamError> {
    let mut rest = &mut chunks[..];
    while !rest.is_empty() {
        sender.write_chunks(rest).await?;
        let done = rest.iter().take_while(|chunk| chunk.is_empty()).count();
        rest = &mut rest[done..];
    }
    chunks.clear();
    Ok(())
}
