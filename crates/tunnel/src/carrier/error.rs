//! How carriers fail and end.

use quinn::ConnectionError;

use super::identity::{IdentityError, PublicKey};
use super::proof_outcome::ProofError;

/// Why the endpoint did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierStartError {
    /// The identity key was refused.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS configuration was refused.
    #[error("TLS configuration refused")]
    Tls(#[source] rustls::Error),
    /// QUIC needs a cipher suite that the provider lacks.
    #[error("the TLS provider lacks QUIC's initial cipher suite")]
    CipherSuite,
    /// The endpoint could not be made, for instance outside a tokio runtime.
    #[error("QUIC endpoint not started")]
    Io(#[source] std::io::Error),
}

/// Why there is no carrier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierError {
    /// This side only dials or only accepts, or the endpoint is closed.
    #[error("this endpoint does not dial")]
    Stopped,
    /// TLS was not done within five seconds.
    #[error("no TLS handshake within 5 s")]
    HandshakeTimeout,
    /// The proof was not done in time.
    #[error("no proof of the room in time")]
    ProofTimeout,
    /// TLS refused a key: the peer's is in no description that we opened, or ours in none that it opened.
    #[error("the key was refused in the TLS handshake: {0}")]
    Refused(CarrierClosed),
    /// The peer has a key, but not the one that was dialled.
    #[error("another peer answered than the one that was dialled")]
    WrongPeer(PublicKey),
    /// The room was not proven.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The connection ended on the way.
    #[error(transparent)]
    Closed(#[from] CarrierClosed),
}

/// Why a carrier has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierClosed {
    /// We closed it.
    #[error("closed by this end")]
    Local,
    /// The peer closed it.
    #[error("closed by the peer with code {code}: {text}")]
    Peer {
        /// The peer's reason.
        code: u64,
        /// The peer's words.
        text: String,
    },
    /// TLS ended it.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The peer's process has forgotten the connection.
    #[error("reset by the peer")]
    Reset,
    /// QUIC ended it, for reasons of its own; flows resume on another carrier.
    #[error("QUIC failed: {0}")]
    Transport(String),
}

/// The first error code of TLS alerts in QUIC, RFC 9001, section 4.8.
const CRYPTO_ERROR_FIRST: u64 = 0x100;
/// The last of them.
const CRYPTO_ERROR_LAST: u64 = 0x1ff;

impl From<ConnectionError> for CarrierClosed {
    fn from(error: ConnectionError) -> Self {
        let by_code = |code: u64, text: String| match code {
            CRYPTO_ERROR_FIRST..=CRYPTO_ERROR_LAST => Self::Tls(text),
            _ => Self::Transport(text),
        };
        match error {
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::ApplicationClosed(close) => Self::Peer {
                code: close.error_code.into_inner(),
                text: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TransportError(error) => {
                by_code(u64::from(error.code), error.to_string())
            }
            ConnectionError::ConnectionClosed(close) => {
                by_code(u64::from(close.error_code), close.to_string())
            }
            ConnectionError::VersionMismatch
            | ConnectionError::TimedOut
            | ConnectionError::CidsExhausted => Self::Transport(error.to_string()),
        }
    }
}

impl From<CarrierClosedInTls> for CarrierError {
    fn from(CarrierClosedInTls(closed): CarrierClosedInTls) -> Self {
        match closed {
            CarrierClosed::Tls(_) => Self::Refused(closed),
            CarrierClosed::Local
            | CarrierClosed::Peer { .. }
            | CarrierClosed::Reset
            | CarrierClosed::Transport(_) => Self::Closed(closed),
        }
    }
}

/// An end before the proof is done, when an alert means a refused key.
pub(super) struct CarrierClosedInTls(pub(super) CarrierClosed);

/// Why a stream gave or took nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer reset its half.
    #[error("stream reset by the peer with code {0}")]
    Reset(u64),
    /// The peer does not want our half any more.
    #[error("stream stopped by the peer with code {0}")]
    Stopped(u64),
    /// This half was finished, reset or stopped by us.
    #[error("stream ended by this end")]
    Ended,
    /// The carrier is gone.
    #[error(transparent)]
    Carrier(#[from] CarrierClosed),
}

/// Why a datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It is larger than the carrier takes now: fragment it.
    #[error("datagram above the carrier's {max_bytes} bytes")]
    TooLarge {
        /// The size that would fit.
        max_bytes: usize,
    },
    /// The carrier is gone.
    #[error(transparent)]
    Carrier(#[from] CarrierClosed),
}

/// Why a notice was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// Earlier notices are still on their way: the path does not answer.
    #[error("too many notices are waiting")]
    Full,
    /// The carrier is gone.
    #[error(transparent)]
    Carrier(#[from] CarrierClosed),
}
