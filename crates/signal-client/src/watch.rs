//! The watch: one event stream after another, for ever.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::backoff::Backoff;
use crate::http::unreachable_because;
use crate::wire::RemovedSlot;
use crate::{RequestError, RoomClient, SlotState, SseEvent, SseParser, WatchEvent};

/// The server sends a comment every 10 s; after two and a half of them the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// The wait after an answer that will not change soon: a wrong token, a wrong URL.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Why one event stream ended.
enum Ended {
    /// Cancelled, or nobody receives: stop.
    Stopped,
    /// Somebody asked for a new connection.
    RedialRequested,
    /// The connection broke, or never was.
    Broken(String),
    /// The server does not want us, for the moment or at all.
    Refused(RequestError),
}

pub(crate) async fn run_watch(
    client: &RoomClient,
    watch_tx: mpsc::Sender<WatchEvent>,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::default();
    loop {
        let mut stream = EventStream {
            client,
            watch_tx: &watch_tx,
            ready_at: None,
            own_seq: None,
        };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Ended::Stopped,
            () = watch_tx.closed() => Ended::Stopped,
            () = client.redial_requested().notified() => Ended::RedialRequested,
            ended = stream.run_stream() => ended,
        };
        let lasted = stream
            .ready_at
            .map(|at| clock().saturating_duration_since(at));
        let (reason, wait) = match ended {
            Ended::Stopped => return,
            Ended::RedialRequested => {
                backoff.reset();
                ("dialling signaling anew".to_owned(), Duration::ZERO)
            }
            Ended::Broken(reason) => {
                // The pool may hold the connection that just failed.
                client.renew_connections();
                (reason, backoff.next_wait(lasted, clock()))
            }
            Ended::Refused(RequestError::Limited { retry_after }) => {
                let wait = retry_after
                    .min(REFUSED_WAIT)
                    .max(backoff.next_wait(lasted, clock()));
                (RequestError::Limited { retry_after }.to_string(), wait)
            }
            Ended::Refused(error) => (error.to_string(), REFUSED_WAIT),
        };
        debug!(reason, wait_ms = wait.as_millis(), "the watch ended");
        if watch_tx
            .send(WatchEvent::Disconnected { reason })
            .await
            .is_err()
        {
            return;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = watch_tx.closed() => return,
            () = client.redial_requested().notified() => backoff.reset(),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One connection of the watch.
struct EventStream<'a> {
    client: &'a RoomClient,
    watch_tx: &'a mpsc::Sender<WatchEvent>,
    /// When the snapshot was complete.
    ready_at: Option<Instant>,
    /// The sequence of our own slot in the snapshot.
    own_seq: Option<u64>,
}

impl EventStream<'_> {
    async fn run_stream(&mut self) -> Ended {
        let answer = match self.client.open_watch().await {
            Ok(answer) => answer,
            Err(RequestError::Unreachable(unreachable)) => {
                return Ended::Broken(unreachable.to_string());
            }
            Err(refused) => return Ended::Refused(refused),
        };
        if self.watch_tx.send(WatchEvent::Connected).await.is_err() {
            return Ended::Stopped;
        }
        let mut parser = SseParser::new();
        let mut pieces = answer.bytes_stream();
        loop {
            let piece = match tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
                Err(_) => return Ended::Broken("signaling fell silent".to_owned()),
                Ok(None) => return Ended::Broken("signaling closed the connection".to_owned()),
                Ok(Some(Err(error))) => {
                    return Ended::Broken(unreachable_because(&error).to_string());
                }
                Ok(Some(Ok(piece))) => piece,
            };
            let mut events = Vec::new();
            let parsed = parser.push(&piece, &mut events);
            for event in events {
                let Some(event) = self.interpret(&event) else {
                    continue;
                };
                if self.watch_tx.send(event).await.is_err() {
                    return Ended::Stopped;
                }
            }
            if let Err(error) = parsed {
                return Ended::Broken(error.to_string());
            }
        }
    }

    /// Returns what an event means; one that is malformed, forged or unknown means nothing.
    fn interpret(&mut self, event: &SseEvent) -> Option<WatchEvent> {
        match event.event.as_str() {
            "slot" => {
                let state: SlotState = serde_json::from_str(&event.data)
                    .inspect_err(|error| warn!(%error, "signaling sent a malformed slot"))
                    .ok()?;
                if !state.verify(self.client.rendezvous()) {
                    warn!(slot = %state.slot, "signaling sent a slot that its owner did not sign");
                    return None;
                }
                if state.slot == self.client.slot() {
                    let own = state.key == self.client.identity().public_key();
                    self.own_seq = own.then_some(state.seq);
                }
                Some(WatchEvent::Slot(state))
            }
            "removed" => {
                let removed: RemovedSlot = serde_json::from_str(&event.data)
                    .inspect_err(|error| warn!(%error, "signaling sent a malformed removal"))
                    .ok()?;
                let slot = removed.slot;
                let removal = removed
                    .removal
                    .filter(|removal| removal.verify(self.client.rendezvous(), slot));
                Some(WatchEvent::Removed { slot, removal })
            }
            "ready" => {
                self.ready_at = Some(clock());
                Some(WatchEvent::Ready {
                    own_seq: self.own_seq,
                })
            }
            other => {
                debug!(event = other, "signaling sent an event of another version");
                None
            }
        }
    }
}

/// The shell's clock, which a test may pause.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
