//! One carrier, as the flows and the driver see it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, FrameStats, SendDatagramError, VarInt};
use tokio::sync::mpsc;

use super::error::{CarrierClosed, DatagramError, NoticeError};
use super::hello::{CarrierToken, InstanceId};
use super::identity::PublicKey;
use super::notice::Notice;
use super::proof_outcome::ProofOutcome;
use super::socket::{DemuxSocket, now};
use super::stream::{StreamReceiver, StreamSender};
use super::virtual_addr::VirtualAddr;

/// The close code of a carrier that nobody uses any more.
const CLOSE_UNUSED: u32 = 0;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Names a carrier within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierId(pub u64);

/// What a carrier has counted and measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarrierStats {
    /// The smoothed round trip.
    pub rtt: Duration,
    /// UDP payload received, in bytes.
    pub bytes_in: u64,
    /// UDP payload sent, in bytes.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets taken for lost.
    pub packets_lost: u64,
    /// The congestion window, in bytes.
    pub congestion_window_bytes: u64,
    /// The largest packet that the path is known to carry, in bytes.
    pub mtu_bytes: u16,
    /// How often large packets stopped arriving and the MTU fell back.
    pub black_holes: u64,
}

/// An authenticated connection over one path, whose peer knows the room. Cheap to clone.
///
/// It closes when the last clone and the last stream of it are dropped.
#[derive(Clone)]
pub struct Carrier {
    inner: Arc<Inner>,
}

struct Inner {
    id: CarrierId,
    connection: Connection,
    socket: Arc<DemuxSocket>,
    addr: VirtualAddr,
    peer_key: PublicKey,
    outcome: ProofOutcome,
    notice_tx: mpsc::Sender<Notice>,
    notice_rx: tokio::sync::Mutex<mpsc::Receiver<Notice>>,
    waiting: Mutex<Waiting>,
}

/// Since when something is out that the peer must answer.
#[derive(Default)]
struct Waiting {
    packets_in: u64,
    eliciting_frames: u64,
    since: Option<Instant>,
}

impl Carrier {
    pub(super) fn new(
        connection: Connection,
        socket: Arc<DemuxSocket>,
        addr: VirtualAddr,
        peer_key: PublicKey,
        outcome: ProofOutcome,
        notice_tx: mpsc::Sender<Notice>,
        notice_rx: mpsc::Receiver<Notice>,
    ) -> Self {
        let id = CarrierId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let inner = Inner {
            id,
            connection,
            socket,
            addr,
            peer_key,
            outcome,
            notice_tx,
            notice_rx: tokio::sync::Mutex::new(notice_rx),
            waiting: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The carrier's name in this process.
    pub fn id(&self) -> CarrierId {
        self.inner.id
    }

    /// The carrier's name on both ends, chosen by the ingress.
    pub fn token(&self) -> CarrierToken {
        self.inner.outcome.token
    }

    /// The virtual address that it runs under.
    pub fn virtual_addr(&self) -> VirtualAddr {
        self.inner.addr
    }

    /// The peer's identity.
    pub fn peer_key(&self) -> PublicKey {
        self.inner.peer_key
    }

    /// The peer's run.
    pub fn peer_instance(&self) -> InstanceId {
        self.inner.outcome.peer.instance
    }

    /// How long the peer keeps flows without a carrier.
    pub fn peer_resume(&self) -> Duration {
        self.inner.outcome.peer.resume
    }

    /// The protocol version that both ends agreed on.
    pub fn version(&self) -> u16 {
        self.inner.outcome.version
    }

    /// The features that both ends have.
    pub fn features(&self) -> u64 {
        self.inner.outcome.features
    }

    /// Whether this carrier's proof was the first of the instance pair.
    pub fn is_first_of_pair(&self) -> bool {
        self.inner.outcome.first_of_pair
    }

    /// Opens a stream; the peer sees it with its first byte. Waits while the peer takes no more. Ingress only.
    ///
    /// # Errors
    /// The carrier is gone.
    pub async fn open_stream(&self) -> Result<(StreamSender, StreamReceiver), CarrierClosed> {
        let (send, recv) = self.inner.connection.open_bi().await?;
        Ok((
            StreamSender::new(send, self.clone()),
            StreamReceiver::new(recv, self.clone()),
        ))
    }

    /// Waits for the next stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// The carrier is gone.
    pub async fn accept_stream(&self) -> Result<(StreamSender, StreamReceiver), CarrierClosed> {
        let (send, recv) = self.inner.connection.accept_bi().await?;
        Ok((
            StreamSender::new(send, self.clone()),
            StreamReceiver::new(recv, self.clone()),
        ))
    }

    /// Sends a datagram, unreliably. When the buffer is full the oldest in it is lost.
    ///
    /// # Errors
    /// See [`DatagramError`].
    pub fn send_datagram(&self, payload: Bytes) -> Result<(), DatagramError> {
        self.inner
            .connection
            .send_datagram(payload)
            .map_err(|error| match error {
                SendDatagramError::ConnectionLost(error) => DatagramError::Carrier(error.into()),
                // Both ends of ours always take them; a peer that says otherwise takes none of any size.
                SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled => DatagramError::TooLarge {
                    max_bytes: self.max_datagram_size(),
                },
            })
    }

    /// The bytes of datagrams that can be sent before older ones are lost.
    pub fn datagram_space(&self) -> usize {
        self.inner.connection.datagram_send_buffer_space()
    }

    /// Waits for the next datagram. Cancel-safe.
    ///
    /// # Errors
    /// The carrier is gone.
    pub async fn read_datagram(&self) -> Result<Bytes, CarrierClosed> {
        Ok(self.inner.connection.read_datagram().await?)
    }

    /// The largest datagram that fits now, in bytes. It changes with the path's MTU: ask before each one.
    pub fn max_datagram_size(&self) -> usize {
        self.inner.connection.max_datagram_size().unwrap_or(0)
    }

    /// Waits for the carrier's end.
    pub async fn closed(&self) -> CarrierClosed {
        self.inner.connection.closed().await.into()
    }

    /// Why the carrier has ended; `None` while it lives.
    pub fn close_reason(&self) -> Option<CarrierClosed> {
        self.inner
            .connection
            .close_reason()
            .map(CarrierClosed::from)
    }

    /// Ends the carrier now; what has not arrived is lost to it.
    pub fn close(&self, code: u32, text: &str) {
        self.inner
            .connection
            .close(VarInt::from_u32(code), text.as_bytes());
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.inner.connection.rtt()
    }

    /// What was counted and measured so far.
    pub fn stats(&self) -> CarrierStats {
        let stats = self.inner.connection.stats();
        CarrierStats {
            rtt: stats.path.rtt,
            bytes_in: stats.udp_rx.bytes,
            bytes_out: stats.udp_tx.bytes,
            packets_in: stats.udp_rx.datagrams,
            packets_out: stats.udp_tx.datagrams,
            packets_lost: stats.path.lost_packets,
            congestion_window_bytes: stats.path.cwnd,
            mtu_bytes: stats.path.current_mtu,
            black_holes: stats.path.black_holes_detected,
        }
    }

    /// How long something is out that the peer must answer, with nothing heard since; `None` when nothing is.
    ///
    /// What was sent between the last packet received and the previous call is not seen, so ask every 100 ms or
    /// more often while it matters; QUIC's own repetition shows it soon in any case.
    pub fn unanswered(&self) -> Option<Duration> {
        let stats = self.inner.connection.stats();
        let (packets_in, frames) = (stats.udp_rx.datagrams, eliciting_frames(&stats.frame_tx));
        let now = now();
        let route = self.inner.socket.route_stats(self.inner.addr);
        let mut waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if packets_in != waiting.packets_in {
            *waiting = Waiting {
                packets_in,
                eliciting_frames: frames,
                since: None,
            };
        } else if frames > waiting.eliciting_frames && waiting.since.is_none() {
            // The route's first packet since may have been a mere acknowledgement, but not long before.
            let first = route.and_then(|route| route.sent_since_received);
            waiting.since = Some(first.unwrap_or(now));
        }
        waiting
            .since
            .map(|since| now.saturating_duration_since(since))
    }

    /// When the last packet came over the carrier's route.
    pub fn last_received(&self) -> Option<Instant> {
        self.inner
            .socket
            .route_stats(self.inner.addr)?
            .last_received
    }

    /// Sends the last packet once more; see [`DemuxSocket::resend_last`].
    pub fn resend_last(&self) -> bool {
        self.inner.socket.resend_last(self.inner.addr)
    }

    /// Sends a notice on this carrier.
    ///
    /// # Errors
    /// See [`NoticeError`].
    pub fn send_notice(&self, notice: Notice) -> Result<(), NoticeError> {
        self.inner
            .notice_tx
            .try_send(notice)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NoticeError::Full,
                mpsc::error::TrySendError::Closed(_) => {
                    NoticeError::Carrier(self.close_reason().unwrap_or(CarrierClosed::Local))
                }
            })
    }

    /// Waits for the peer's next notice; `None` when no more will come. Cancel-safe.
    pub async fn notices(&self) -> Option<Notice> {
        self.inner.notice_rx.lock().await.recv().await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The tasks of the first stream hold quinn's handles too, so dropping ours would not be enough.
        self.connection.close(VarInt::from_u32(CLOSE_UNUSED), b"");
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("id", &self.inner.id)
            .field("token", &self.token())
            .field("addr", &self.inner.addr)
            .finish_non_exhaustive()
    }
}

/// Frames that the peer must acknowledge: all but ACK, padding and CONNECTION_CLOSE (RFC 9002, section 2).
fn eliciting_frames(frames: &FrameStats) -> u64 {
    frames.ack_frequency
        + frames.crypto
        + frames.data_blocked
        + frames.datagram
        + u64::from(frames.handshake_done)
        // What quinn asks with when nothing new is to be sent: the only sign of a small message that is unanswered.
        + frames.immediate_ack
        + frames.max_data
        + frames.max_stream_data
        + frames.max_streams_bidi
        + frames.max_streams_uni
        + frames.new_connection_id
        + frames.new_token
        + frames.path_challenge
        + frames.path_response
        + frames.ping
        + frames.reset_stream
        + frames.retire_connection_id
        + frames.stream_data_blocked
        + frames.streams_blocked_bidi
        + frames.streams_blocked_uni
        + frames.stop_sending
        + frames.stream
}
