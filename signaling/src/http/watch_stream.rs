//! A watch as an event stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_util::stream;
use signal_client::{RemovedSlot, SlotState};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::service::Watch;
use crate::rooms::{RoomEvent, SlotView};

/// How often a silent stream shows that it lives: five times within the shortest idle timeout of the usual
/// proxies (60 s), and often enough for watchers to dial anew after 25 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct Stream {
    /// What is to be said at once: a comment, the snapshot, and that it is complete.
    first: Option<Bytes>,
    watch: Watch,
    keep_alive: Interval,
    shutdown: CancellationToken,
}

/// Makes the answer to a watch.
pub(super) fn answer(
    watch: Watch,
    snapshot: &[SlotView],
    shutdown: CancellationToken,
) -> Response<Body> {
    let mut first = b": stunfwd\n\n".to_vec();
    for view in snapshot {
        first.extend_from_slice(&encode_slot(view));
    }
    first.extend_from_slice(b"event: ready\ndata: {}\n\n");
    let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Stream {
        first: Some(first.into()),
        watch,
        keep_alive,
        shutdown,
    };
    let pieces = stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    let mut answer = Response::new(Body::from_stream(pieces));
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    // nginx buffers answers unless told otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            event = self.watch.next() => {
                self.keep_alive.reset();
                Some(encode_event(&event?))
            }
            _ = self.keep_alive.tick() => Some(Bytes::from_static(b": keep-alive\n\n")),
        }
    }
}

fn encode_event(event: &RoomEvent) -> Bytes {
    match event {
        RoomEvent::Written(view) => encode_slot(view),
        RoomEvent::Removed(slot, removal) => {
            let (slot, removal) = (*slot, *removal);
            encode("removed", &RemovedSlot { slot, removal })
        }
    }
}

fn encode_slot(view: &SlotView) -> Bytes {
    encode("slot", &SlotState::from(view))
}

fn encode(event: &str, data: &impl serde::Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("slots are always JSON");
    format!("event: {event}\ndata: {data}\n\n").into()
}

impl From<&SlotView> for SlotState {
    fn from(view: &SlotView) -> Self {
        Self {
            slot: view.slot,
            key: view.key,
            seq: view.seq,
            payload: Arc::clone(&view.payload).to_vec(),
            signature: view.signature,
            age_ms: u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
