//! What the forwarders tell the shell, for its log and its waiting commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::carrier::CarrierId;

/// How many events wait; the shell only logs them.
const EVENTS_MAX: usize = 256;

/// The receiving end; events that do not fit are dropped, since snapshots hold the truth. The exception is
/// [`ForwardEvent::ControlFailed`], which waits.
pub type ForwardEvents = mpsc::Receiver<ForwardEvent>;

/// Something a person might want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardEvent {
    /// A local port is open.
    Listening {
        /// The mapping.
        mapping: u32,
        /// The socket.
        address: SocketAddr,
    },
    /// A local port could not be opened; it is tried again.
    ListenFailed {
        /// The mapping.
        mapping: u32,
        /// The socket.
        address: SocketAddr,
        /// Why.
        error: String,
    },
    /// Both ends have this version of the table.
    TableCommitted {
        /// Which version.
        version: u64,
        /// How many mappings the egress accepted.
        accepted: u32,
        /// How many it refused.
        refused: u32,
    },
    /// The egress refused a mapping.
    MappingRefused {
        /// The mapping.
        mapping: u32,
        /// Why.
        reason: String,
    },
    /// A connection was refused by the other end (ingress), or here (egress).
    FlowRefused {
        /// The mapping.
        mapping: u32,
        /// Why.
        reason: String,
    },
    /// A connection was reset since there are too many.
    ConnectionsExceeded {
        /// How many there may be.
        limit: u32,
    },
    /// A carrier ended; its flows move or wait.
    CarrierLost {
        /// Which.
        carrier: CarrierId,
        /// Why.
        reason: String,
    },
    /// No carrier is left; flows wait for one.
    NoCarrier,
    /// The control flow with this instance is broken for good: close its carriers and start over.
    ControlFailed {
        /// Why.
        reason: String,
    },
}

#[derive(Clone, Debug)]
pub(super) struct EventSink {
    events_tx: mpsc::Sender<ForwardEvent>,
    dropped: Arc<AtomicU64>,
}

impl EventSink {
    pub(super) fn new() -> (Self, ForwardEvents) {
        let (events_tx, events_rx) = mpsc::channel(EVENTS_MAX);
        (
            Self {
                events_tx,
                dropped: Arc::default(),
            },
            events_rx,
        )
    }

    pub(super) fn tell(&self, event: ForwardEvent) {
        match self.events_tx.try_send(event) {
            // No snapshot holds this one, and without it nobody starts over. It comes once in a peer's life.
            Err(TrySendError::Full(event @ ForwardEvent::ControlFailed { .. })) => {
                let events_tx = self.events_tx.clone();
                tokio::spawn(async move { events_tx.send(event).await });
            }
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn that_the_conversation_broke_is_told_however_much_else_there_was_to_tell() {
        let (sink, mut events) = EventSink::new();
        for _ in 0..2 * EVENTS_MAX {
            sink.tell(ForwardEvent::NoCarrier);
        }
        let reason = "why".to_owned();
        sink.tell(ForwardEvent::ControlFailed { reason });
        assert_eq!(sink.dropped(), EVENTS_MAX as u64);
        for _ in 0..EVENTS_MAX {
            assert_eq!(events.recv().await, Some(ForwardEvent::NoCarrier));
        }
        let last = events.recv().await;
        assert!(
            matches!(last, Some(ForwardEvent::ControlFailed { .. })),
            "{last:?}"
        );
    }
}
