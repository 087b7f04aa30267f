//! The one QUIC endpoint of a process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, ServerConfig, TokioRuntime, VarInt};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::accept::{AcceptCounters, AcceptStats, Acceptor};
use super::carrier::Carrier;
use super::error::CarrierStartError;
use super::hello::InstanceId;
use super::identity::{certified_key, public_key};
use super::known_keys::KnownKeys;
use super::proof_stream::Prover;
use super::settings::{endpoint_config, limit_incoming, transport_config};
use super::socket::DemuxSocket;
use super::tls;

/// Proven carriers that wait for [`CarrierEndpoint::accept`]; more wait in their own tasks, which are bounded too.
const PROVEN_QUEUE: usize = 16;

/// How long `close` waits for the peers to hear of it: one round trip of any path in use.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Which end of the tunnel this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Listens for local connections, dials every carrier and opens every stream.
    Ingress,
    /// Dials the services.
    Egress,
}

impl Side {
    /// The opposite end.
    pub const fn other(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    pub(super) const fn to_wire(self) -> u8 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
        }
    }

    pub(super) const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ingress),
            1 => Some(Self::Egress),
            _ => None,
        }
    }
}

/// What an endpoint is made from.
#[derive(Clone)]
pub struct CarrierConfig {
    /// Which end this is.
    pub side: Side,
    /// The seed of the Ed25519 identity.
    pub identity_seed: [u8; 32],
    /// Who may connect and be connected to.
    pub known_keys: Arc<KnownKeys>,
    /// What the room's key gave for the proof.
    pub proof_password: [u8; 32],
    /// This run, drawn at start.
    pub instance: InstanceId,
    /// How long flows are kept here without a carrier; the peer is told.
    pub resume: Duration,
    /// Optional abilities of this program.
    pub features: u64,
    /// Flows that the egress takes per carrier (`maxConnections`).
    pub max_connections: u32,
    /// Randomness for carrier names and proofs, from the system.
    pub seed: [u8; 32],
}

impl fmt::Debug for CarrierConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarrierConfig")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// What an endpoint has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// What became of the peers' handshakes.
    pub accepted: AcceptStats,
    /// Proofs that failed or are under way, as the accepting side counts them.
    pub failed_proofs: u64,
    /// Connections that are not drained yet.
    pub open_connections: usize,
}

/// Dials carriers on the ingress, accepts them on the egress. Cheap to clone.
#[derive(Clone)]
pub struct CarrierEndpoint {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) side: Side,
    pub(super) endpoint: Endpoint,
    pub(super) socket: Arc<DemuxSocket>,
    pub(super) prover: Arc<Prover>,
    pub(super) client_crypto: Arc<QuicClientConfig>,
    proven: tokio::sync::Mutex<mpsc::Receiver<Carrier>>,
    counters: Arc<AcceptCounters>,
    /// Ends the accept loop, which holds quinn's endpoint, with the last handle.
    _accepting: DropGuard,
}

impl CarrierEndpoint {
    /// Starts the endpoint on `socket`, which is read from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`CarrierStartError`].
    pub fn new(socket: Arc<DemuxSocket>, config: CarrierConfig) -> Result<Self, CarrierStartError> {
        let key = certified_key(&config.identity_seed)?;
        let client = tls::client_config(key.clone(), config.known_keys.clone())?;
        let client_crypto = Arc::new(
            QuicClientConfig::try_from(client).map_err(|_| CarrierStartError::CipherSuite)?,
        );
        let server = tls::server_config(key, config.known_keys.clone())?;
        let server_crypto = Arc::new(
            QuicServerConfig::try_from(server).map_err(|_| CarrierStartError::CipherSuite)?,
        );
        let server_config = |relayed| {
            let mut server = ServerConfig::with_crypto(server_crypto.clone());
            limit_incoming(&mut server);
            server.transport_config(Arc::new(transport_config(config.side, relayed, None)));
            server
        };
        let accepting = match config.side {
            // A QUIC packet for no connection of ours is dropped without an answer.
            Side::Ingress => None,
            Side::Egress => Some(server_config(false)),
        };
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(),
            accepting,
            socket.clone(),
            Arc::new(TokioRuntime),
        )
        .map_err(CarrierStartError::Io)?;
        let prover = Arc::new(Prover::new(&config, public_key(&config.identity_seed)));
        let (proven_tx, proven_rx) = mpsc::channel(PROVEN_QUEUE);
        let stop = CancellationToken::new();
        let counters = Arc::new(AcceptCounters::default());
        if config.side == Side::Egress {
            let acceptor = Acceptor {
                endpoint: endpoint.clone(),
                socket: socket.clone(),
                prover: prover.clone(),
                direct: Arc::new(server_config(false)),
                relayed: Arc::new(server_config(true)),
                max_connections: config.max_connections,
                proven: proven_tx,
                counters: counters.clone(),
            };
            tokio::spawn(acceptor.run(stop.clone()));
        }
        let inner = Inner {
            side: config.side,
            endpoint,
            socket,
            prover,
            client_crypto,
            proven: tokio::sync::Mutex::new(proven_rx),
            counters,
            _accepting: stop.drop_guard(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Waits for the next carrier whose peer has proven the room; `None` after `close`, and on the ingress.
    /// Cancel-safe.
    pub async fn accept(&self) -> Option<Carrier> {
        self.inner.proven.lock().await.recv().await
    }

    /// The socket underneath.
    pub fn socket(&self) -> &Arc<DemuxSocket> {
        &self.inner.socket
    }

    /// What was counted so far.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats {
            accepted: self.inner.counters.snapshot(),
            failed_proofs: self.inner.prover.failed_proofs(),
            open_connections: self.inner.endpoint.open_connections(),
        }
    }

    /// Closes all carriers for good and gives the peers a second to hear of it. Finish flows first.
    pub async fn close(&self, code: u32, text: &str) {
        self.inner
            .endpoint
            .close(VarInt::from_u32(code), text.as_bytes());
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.inner.endpoint.wait_idle()).await;
    }
}

impl fmt::Debug for CarrierEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarrierEndpoint")
            .field("side", &self.inner.side)
            .finish_non_exhaustive()
    }
}
