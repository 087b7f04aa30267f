//! Carriers: authenticated, encrypted connections, one per path.
//!
//! A carrier's life, from the bottom up:
//!
//! 1. [`DemuxSocket`] owns the real UDP sockets. Whatever arrives is told apart first by source address and
//!    then by first byte, per segment: STUN and TURN go to [`DemuxSocket::recv_control`], QUIC packets from a
//!    mapped [`Route`] go to quinn under the route's [`VirtualAddr`].
//! 2. `session` validates a path; its driver [installs](DemuxSocket::install) the route under a new virtual
//!    address, and the ingress [dials](CarrierEndpoint::dial) it.
//! 3. TLS 1.3 with Ed25519 raw public keys runs; a peer whose key is not in [`KnownKeys`] is refused there.
//! 4. The first stream proves that both ends know the room ([`Proof`]): SPAKE2 for the first carrier of an
//!    instance pair, a MAC for later ones. Until then nothing else is accepted.
//! 5. The [`Carrier`] is handed out. Its first stream stays open for [`Notice`]s; all others are flows.
//! 6. [Extra sockets](DemuxSocket::bind_extra) come and go while a hole is punched; one that wins is a socket like
//!    the first.
//! 7. A NAT rebinding [replaces](DemuxSocket::replace) the route and QUIC does not notice. A path of another
//!    kind is another carrier at another virtual address.
//!
//! The invariants, most of them absences: quinn never sees an `Err` from its socket; no lock of ours is held
//! while quinn is called; no virtual address is used twice; nobody else's packet ever reaches quinn; there is
//! no idle timeout and no keep-alive (`session` judges paths), no migration, no ticket, no 0-RTT.
//!
//! `PROTOCOL-carrier.md` beside the crate's manifest has the first stream byte by byte.

mod accept;
#[expect(
    clippy::module_inception,
    reason = "the file is named after the type it holds"
)]
mod carrier;
mod counters;
mod demux;
mod dial;
mod endpoint;
mod error;
mod extra;
mod failures;
mod frame;
mod hello;
mod identity;
mod known_keys;
mod notice;
mod pair_keys;
#[cfg(test)]
mod pitfalls;
mod proof;
mod proof_outcome;
mod proof_stream;
mod real_socket;
mod receive;
mod routes;
mod secrets;
mod send;
mod settings;
mod socket;
mod spake_rng;
mod stream;
mod tls;
mod traffic;
mod virtual_addr;

pub use accept::AcceptStats;
pub use carrier::{Carrier, CarrierId, CarrierStats};
pub use counters::SocketStats;
pub use dial::DialOptions;
pub use endpoint::{CarrierConfig, CarrierEndpoint, EndpointStats, Side};
pub use error::{
    CarrierClosed, CarrierError, CarrierStartError, DatagramError, NoticeError, StreamError,
};
pub use failures::Failures;
pub use frame::FrameError;
pub use hello::{CarrierToken, Hello, InstanceId, PROTOCOL_VERSION};
pub use identity::{IdentityError, PublicKey, public_key};
pub use known_keys::KnownKeys;
pub use notice::{KindView, Notice, PathKind};
pub use pair_keys::PairKeys;
pub use proof::{Channel, Credentials, Output, Proof};
pub use proof_outcome::{ProofError, ProofOutcome};
pub use real_socket::SocketReport;
pub use routes::RouteError;
pub use socket::{ControlDatagram, DemuxSocket};
pub use stream::{StreamReceiver, StreamSender};
pub use traffic::RouteStats;
pub use virtual_addr::{RelayStreamId, Route, VirtualAddr};
