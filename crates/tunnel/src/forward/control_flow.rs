//! Flow 0 at each end: control frames in, control frames out.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::shared_flow::SharedFlow;
use crate::control::{ControlError, Frame, FrameDecoder};

/// One end of the conversation in flow 0.
pub(super) trait Conversation {
    /// Takes a frame of the other end.
    fn handle_frame(&self, frame: Frame) -> Result<(), ControlError>;
    /// Returns the next frame for the other end.
    fn poll_frame(&self) -> Option<Frame>;
}

/// Runs until flow 0 is over, and returns why. `wake` says that there may be frames to send.
pub(super) async fn run(
    flow: Arc<SharedFlow>,
    conversation: &impl Conversation,
    wake: &Notify,
) -> String {
    let mut decoder = FrameDecoder::new();
    let mut outgoing = Bytes::new();
    loop {
        if let Err(error) = take_frames(&flow, &mut decoder, conversation) {
            return error.to_string();
        }
        loop {
            if outgoing.is_empty() {
                let Some(frame) = conversation.poll_frame() else {
                    break;
                };
                outgoing = frame.encode();
            }
            let written = flow.with(|flow, _| flow.write(outgoing.clone()));
            if written == 0 {
                break;
            }
            outgoing = outgoing.slice(written..);
        }
        if flow.look(|flow| flow.is_aborted() || flow.is_finished() || flow.is_read_to_end()) {
            return "the control flow ended".to_owned();
        }
        tokio::select! {
            () = flow.readable() => {}
            () = wake.notified() => {}
            // The end of the flow wakes the first branch.
            Some(_) = flow.wait_writable(), if !outgoing.is_empty() => {}
        }
    }
}

fn take_frames(
    flow: &SharedFlow,
    decoder: &mut FrameDecoder,
    conversation: &impl Conversation,
) -> Result<(), ControlError> {
    loop {
        let chunk = flow.with(|flow, now| {
            let chunk = flow.read(usize::MAX)?;
            flow.consumed(chunk.len(), now);
            Some(chunk)
        });
        let Some(chunk) = chunk else { return Ok(()) };
        decoder.push(&chunk);
        while let Some(frame) = decoder.next_frame()? {
            conversation.handle_frame(frame)?;
        }
    }
}
