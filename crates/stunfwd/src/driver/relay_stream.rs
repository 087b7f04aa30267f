//! TCP connections to relays: frames in and out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use session::RelayStreamId;
use stunwire::{ChannelData, is_channel_data, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::trace;
use tunnel::carrier::DemuxSocket;

use super::input::Input;

/// A relay that does not answer a SYN for this long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// STUN frames of ours that wait to be written; there are a few per second.
const FRAMES_MAX: usize = 64;
/// One read asks for this much: several full packets.
const READ_BYTES: usize = 64 * 1024;

struct Handle {
    frames_tx: mpsc::Sender<Bytes>,
    cancel: CancellationToken,
}

/// The TCP connections to relays.
#[derive(Default)]
pub(super) struct RelayStreams {
    handles: BTreeMap<RelayStreamId, Handle>,
}

impl RelayStreams {
    /// Dials a relay; the outcome comes as an [`Input`].
    pub(super) fn open(
        &mut self,
        stream: RelayStreamId,
        server: SocketAddr,
        socket: Arc<DemuxSocket>,
        inputs_tx: mpsc::Sender<Input>,
    ) {
        let (frames_tx, frames_rx) = mpsc::channel(FRAMES_MAX);
        let cancel = CancellationToken::new();
        self.handles.insert(
            stream,
            Handle {
                frames_tx,
                cancel: cancel.clone(),
            },
        );
        tokio::spawn(async move {
            let connection = run_connection(stream, server, &socket, &inputs_tx, frames_rx);
            let reason = tokio::select! {
                () = cancel.cancelled() => return,
                ended = connection => match ended {
                    Ok(()) => "closed by the relay".to_owned(),
                    Err(error) => error.to_string(),
                },
            };
            let _ = inputs_tx.send(Input::StreamClosed { stream, reason }).await;
        });
    }

    /// Queues one frame; a full queue drops it, as UDP would.
    pub(super) fn send(&self, stream: RelayStreamId, frame: Vec<u8>) {
        let sent = self
            .handles
            .get(&stream)
            .map(|handle| handle.frames_tx.try_send(frame.into()));
        if !matches!(sent, Some(Ok(()))) {
            trace!(?stream, "a frame for a relay was dropped");
        }
    }

    /// Ends a connection, if it still runs.
    pub(super) fn forget(&mut self, stream: RelayStreamId) {
        if let Some(handle) = self.handles.remove(&stream) {
            handle.cancel.cancel();
        }
    }
}

async fn run_connection(
    stream: RelayStreamId,
    server: SocketAddr,
    socket: &DemuxSocket,
    inputs_tx: &mpsc::Sender<Input>,
    frames_rx: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let connection = timeout(CONNECT_TIMEOUT, TcpStream::connect(server))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the relay did not answer"))??;
    connection.set_nodelay(true)?;
    let (read_half, write_half) = connection.into_split();
    let packets_rx = socket.relay_stream_queue(tunnel::carrier::RelayStreamId(stream.0));
    if inputs_tx
        .send(Input::StreamOpened { stream })
        .await
        .is_err()
    {
        return Ok(());
    }
    tokio::select! {
        ended = read_frames(stream, read_half, socket, inputs_tx) => ended,
        ended = write_frames(write_half, frames_rx, packets_rx) => ended,
    }
}

async fn write_frames(
    mut write_half: OwnedWriteHalf,
    mut frames_rx: mpsc::Receiver<Bytes>,
    mut packets_rx: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            frame = frames_rx.recv() => frame,
            packet = packets_rx.recv() => packet,
        };
        let Some(first) = first else { return Ok(()) };
        batch.extend_from_slice(&first);
        while batch.len() < READ_BYTES {
            match packets_rx.try_recv() {
                Ok(packet) => batch.extend_from_slice(&packet),
                Err(_) => break,
            }
        }
        write_half.write_all(&batch).await?;
        batch.clear();
    }
}

async fn read_frames(
    stream: RelayStreamId,
    mut read_half: OwnedReadHalf,
    socket: &DemuxSocket,
    inputs_tx: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        buffer.reserve(READ_BYTES);
        if read_half.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        loop {
            let length = stream::next_frame(&buffer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some(length) = length.filter(|length| *length <= buffer.len()) else {
                break;
            };
            let frame = buffer.split_to(length).freeze();
            if !is_carrier_packet(stream, &frame, socket)
                && inputs_tx
                    .send(Input::StreamFrame { stream, frame })
                    .await
                    .is_err()
            {
                return Ok(());
            }
        }
    }
}

/// Hands a QUIC packet in a channel straight to the carriers. A check in a channel is the session's.
fn is_carrier_packet(stream: RelayStreamId, frame: &[u8], socket: &DemuxSocket) -> bool {
    if !frame.first().is_some_and(|first| is_channel_data(*first)) {
        return false;
    }
    let Ok(data) = ChannelData::decode(frame) else {
        return false;
    };
    let is_quic = data.payload.first().is_some_and(|first| first & 0x40 != 0);
    let stream = tunnel::carrier::RelayStreamId(stream.0);
    is_quic && socket.push_relayed(stream, data.channel.value(), data.payload)
}
