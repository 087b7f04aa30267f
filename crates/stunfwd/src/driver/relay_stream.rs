//! TCP and TLS connections to relays: frames in and out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use session::{RelayStreamId, RelayTransport};
use signal_client::server_tls_config;
use stunwire::{ChannelData, is_channel_data, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;
use tracing::trace;
use tunnel::carrier::DemuxSocket;

use super::input::Input;

/// A relay that does not answer a SYN for this long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When further sockets are dialled beside the first, because one lost SYN costs a second: the first that
/// connects is used. natlab's model of the dial follows these.
const DIALS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_millis(1500),
];
/// A TLS handshake is two round trips; lost segments come again within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// STUN frames of ours that wait to be written; there are a few per second.
const FRAMES_MAX: usize = 64;
/// One read asks for this much: several full packets.
const READ_BYTES: usize = 64 * 1024;

struct Handle {
    destination: Destination,
    is_open: bool,
    frames_tx: mpsc::Sender<Bytes>,
    cancel: CancellationToken,
}

/// Which connection to make.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) server: SocketAddr,
    /// With TLS: the name that the certificate must be for.
    pub(super) tls_name: Option<String>,
}

impl Destination {
    pub(super) const fn transport(&self) -> RelayTransport {
        match self.tls_name {
            Some(_) => RelayTransport::Tls,
            None => RelayTransport::Tcp,
        }
    }
}

/// The TCP and TLS connections to relays.
#[derive(Default)]
pub(super) struct RelayStreams {
    handles: BTreeMap<RelayStreamId, Handle>,
}

impl RelayStreams {
    /// Dials a relay; the outcome comes as an [`Input`].
    pub(super) fn open(
        &mut self,
        stream: RelayStreamId,
        destination: Destination,
        socket: Arc<DemuxSocket>,
        inputs_tx: mpsc::Sender<Input>,
    ) {
        let (frames_tx, frames_rx) = mpsc::channel(FRAMES_MAX);
        let cancel = CancellationToken::new();
        self.handles.insert(
            stream,
            Handle {
                destination: destination.clone(),
                is_open: false,
                frames_tx,
                cancel: cancel.clone(),
            },
        );
        tokio::spawn(async move {
            let connection = run_connection(stream, destination, &socket, &inputs_tx, frames_rx);
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

    /// The connection is there.
    pub(super) fn opened(&mut self, stream: RelayStreamId) {
        if let Some(handle) = self.handles.get_mut(&stream) {
            handle.is_open = true;
        }
    }

    /// Returns where a connection was to lead that never was there.
    pub(super) fn failed(&self, stream: RelayStreamId) -> Option<&Destination> {
        let handle = self.handles.get(&stream)?;
        (!handle.is_open).then_some(&handle.destination)
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
    destination: Destination,
    socket: &DemuxSocket,
    inputs_tx: &mpsc::Sender<Input>,
    frames_rx: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let Destination { server, tls_name } = destination;
    let connection = timeout(CONNECT_TIMEOUT, dial(server))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the relay did not answer"))??;
    connection.set_nodelay(true)?;
    let carried = Carried {
        stream,
        socket,
        inputs_tx,
        frames_rx,
    };
    if let Some(name) = tls_name {
        let connection = timeout(HANDSHAKE_TIMEOUT, secure(connection, name))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS was not answered"))??;
        let (read_half, write_half) = tokio::io::split(connection);
        carried.run(read_half, write_half).await
    } else {
        let (read_half, write_half) = connection.into_split();
        carried.run(read_half, write_half).await
    }
}

/// Connects: the first of a few sockets that is answered decides, be it with a refusal.
async fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let mut dials = JoinSet::new();
    for pause in DIALS {
        dials.spawn(async move {
            sleep(pause).await;
            TcpStream::connect(server).await
        });
    }
    match dials.join_next().await {
        Some(Ok(answer)) => answer,
        _ => Err(io::Error::other("dialling was given up")),
    }
}

async fn secure(connection: TcpStream, name: String) -> io::Result<TlsStream<TcpStream>> {
    let config = server_tls_config().map_err(io::Error::other)?;
    let name = ServerName::try_from(name)
        .map_err(|_| io::Error::other("its name is none that a certificate could be for"))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, connection)
        .await
}

/// What goes over a connection, and who takes what comes.
struct Carried<'a> {
    stream: RelayStreamId,
    socket: &'a DemuxSocket,
    inputs_tx: &'a mpsc::Sender<Input>,
    frames_rx: mpsc::Receiver<Bytes>,
}

impl Carried<'_> {
    async fn run(
        self,
        read_half: impl AsyncRead + Unpin,
        write_half: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let Self {
            stream,
            socket,
            inputs_tx,
            frames_rx,
        } = self;
        let packets_rx = socket.relay_stream_queue(tunnel::carrier::RelayStreamId(stream.0));
        let opened = inputs_tx.send(Input::StreamOpened { stream }).await;
        if opened.is_err() {
            return Ok(());
        }
        tokio::select! {
            ended = read_frames(stream, read_half, socket, inputs_tx) => ended,
            ended = write_frames(write_half, frames_rx, packets_rx) => ended,
        }
    }
}

async fn write_frames(
    mut write_half: impl AsyncWrite + Unpin,
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
        write_half.flush().await?;
        batch.clear();
    }
}

async fn read_frames(
    stream: RelayStreamId,
    mut read_half: impl AsyncRead + Unpin,
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
