//! The TURN server, sans-IO: packets in, packets and commands out.
//!
//! The layer above owns the sockets. It hands in what arrives ([`Server::handle_client`] on the socket that
//! clients know, [`Server::handle_peer`] on a relay port), does what the returned [`Forward`] says, then
//! drains [`Server::poll_command`]: answers to send, relay ports to open and to close. Each opened port is
//! reported back by [`Server::handle_port_opened`] or [`Server::handle_port_failed`].
//!
//! * `auth`, `credentials`, `nonce`: who asks; `limiter`: how much a stranger is answered;
//! * `allocate`, `refresh`, `peers`: the four requests; `answer`: their wire form;
//! * `allocations`, `permissions`, `channels`, `ports`, `reservations`, `five_tuple`: what the server knows;
//! * `address_rules`: where it relays to; `forward`: packets on their way through;
//! * `binding`: the STUN server beside it (RFC 5780), which needs no state at all.

mod address_rules;
mod allocate;
mod allocations;
mod answer;
mod auth;
mod binding;
mod channels;
mod config;
mod credentials;
mod five_tuple;
mod forward;
mod limiter;
mod nonce;
mod peers;
mod permissions;
mod ports;
mod refresh;
mod reservations;
mod stats;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};
use sansio::Deadline;
use stunwire::{
    AttributeType, Class, IntegrityKey, Message, Method, TransactionId, is_channel_data,
};

use crate::{PeerAddr, Transport};
use address_rules::AddressRules;
use allocations::Allocations;
use answer::{Outcome, UNKNOWN_MAX};
use auth::{Identity, Stranger, authenticate};
pub use binding::{BindingAddresses, BindingResponder, BindingResponse, RedirectLimiter};
pub use config::{ExternalAddresses, Lifetimes, Quotas, ServerConfig, SharedSecret};
pub use credentials::time_limited_credentials;
pub use five_tuple::{ClientAddr, RelayPort};
pub use forward::{Forward, Frame};
use limiter::Limiter;
use nonce::Nonces;
use reservations::Reservations;
pub use stats::ServerStats;

/// Answers waiting for `poll_command`; drained after every packet, so only a caller that never drains meets
/// this. Commands about ports are bounded by the number of allocations.
const ANSWERS_MAX: usize = 4096;

/// The comprehension-required attributes that requests may have. DONT-FRAGMENT is not among them: the
/// shell's sockets never fragment anyway, but cannot do it per packet (RFC 8656, section 7.2: then 420).
const KNOWN: [AttributeType; 11] = [
    AttributeType::USERNAME,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::RESERVATION_TOKEN,
];

/// What the server wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send an answer to a client, as a datagram or on its stream.
    Send {
        /// Which client.
        client: ClientAddr,
        /// One whole message; its length is a multiple of four.
        payload: Vec<u8>,
    },
    /// Open a UDP socket bound to this address, then say whether it worked.
    OpenPort {
        /// The address.
        port: RelayPort,
    },
    /// Close that socket.
    ClosePort {
        /// The address.
        port: RelayPort,
    },
}

/// A TURN server (RFC 8656) for UDP relaying, to clients over UDP and streams.
pub struct Server {
    config: ServerConfig,
    rules: AddressRules,
    rng: StdRng,
    nonces: Nonces,
    limiter: Limiter,
    allocations: Allocations,
    reservations: Reservations,
    commands: VecDeque<Command>,
    answers_waiting: usize,
    stats: ServerStats,
}

impl Server {
    /// Makes a server. The seed makes its nonces' key and its choice of ports: it must be unpredictable,
    /// and another one after a restart.
    #[must_use]
    pub fn new(config: ServerConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut nonce_key = [0; 32];
        rng.fill_bytes(&mut nonce_key);
        let own = config
            .own_addresses
            .iter()
            .copied()
            .chain(config.external.all());
        Self {
            rules: AddressRules::new(config.allow.clone(), own),
            nonces: Nonces::new(nonce_key, now, config.lifetimes.nonce),
            limiter: Limiter::new(rng.next_u64(), config.quotas.refusals_per_second, now),
            rng,
            allocations: Allocations::default(),
            reservations: Reservations::default(),
            commands: VecDeque::new(),
            answers_waiting: 0,
            stats: ServerStats::default(),
            config,
        }
    }

    /// Takes a packet from a client: a datagram, or one frame of its stream.
    ///
    /// Binding requests are not for a TURN server: offer them to a [`BindingResponder`] first.
    pub fn handle_client<'a>(
        &mut self,
        client: ClientAddr,
        payload: &'a [u8],
        now: Instant,
    ) -> Forward<'a> {
        if payload.first().is_some_and(|first| is_channel_data(*first)) {
            return self.forward_channel_data(client, payload, now);
        }
        let Ok(message) = Message::decode(payload) else {
            self.stats.malformed += 1;
            return Forward::Nothing;
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => self.forward_send(client, &message, now),
            (
                Class::Request,
                Method::ALLOCATE
                | Method::REFRESH
                | Method::CREATE_PERMISSION
                | Method::CHANNEL_BIND,
            ) => {
                self.handle_request(client, &message, now);
                Forward::Nothing
            }
            _ => {
                self.stats.ignored += 1;
                Forward::Nothing
            }
        }
    }

    /// Takes a datagram that arrived at a relay port.
    pub fn handle_peer<'a>(
        &mut self,
        port: RelayPort,
        from: SocketAddr,
        payload: &'a [u8],
        now: Instant,
    ) -> Forward<'a> {
        self.forward_from_peer(port, PeerAddr::new(from), payload, now)
    }

    /// A client's stream was closed; its allocation ends.
    pub fn handle_client_gone(&mut self, client: ClientAddr) {
        self.end_allocation(&client);
    }

    /// A relay port is open, as asked for by [`Command::OpenPort`].
    pub fn handle_port_opened(&mut self, port: RelayPort, now: Instant) {
        self.on_port_opened(port, now);
    }

    /// A relay port could not be opened; another one is tried.
    pub fn handle_port_failed(&mut self, port: RelayPort) {
        self.on_port_failed(port);
    }

    /// Ends what has run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(allocation) = self.allocations.take_expired(now) {
            self.stats.allocations_expired += 1;
            self.commands.push_back(Command::ClosePort {
                port: allocation.port,
            });
        }
    }

    /// Returns the next command.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.commands.pop_front()?;
        if matches!(command, Command::Send { .. }) {
            self.answers_waiting -= 1;
        }
        Some(command)
    }

    /// Returns when [`Server::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.allocations
            .next_expiry()
            .map(|at| Deadline::new(at, "allocation runs out"))
    }

    /// Returns how many allocations there are.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> ServerStats {
        self.stats
    }

    fn handle_request(&mut self, client: ClientAddr, message: &Message<'_>, now: Instant) {
        self.stats.requests += 1;
        let identity = match authenticate(message, &client, &self.config, &self.nonces, now) {
            Ok(identity) => identity,
            Err(stranger) => {
                self.refuse_stranger(client, stranger, message, now);
                return;
            }
        };
        let key = identity.key.clone();
        if let Some(outcome) = self.outcome(client, message, identity, now) {
            let id = message.transaction_id();
            self.answer_signed(client, &outcome, message.method(), id, &key);
        }
    }

    fn outcome(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: Identity,
        now: Instant,
    ) -> Option<Outcome> {
        let unknown: Vec<_> = message.unknown_required(&KNOWN).take(UNKNOWN_MAX).collect();
        if !unknown.is_empty() {
            return Some(Outcome::NotUnderstood(unknown));
        }
        match message.method() {
            Method::ALLOCATE => self.handle_allocate(client, message, identity, now),
            Method::REFRESH => Some(self.handle_refresh(client, message, &identity, now)),
            Method::CREATE_PERMISSION => {
                Some(self.handle_create_permission(client, message, &identity, now))
            }
            Method::CHANNEL_BIND => Some(self.handle_channel_bind(client, message, &identity, now)),
            _ => None,
        }
    }

    fn refuse_stranger(
        &mut self,
        client: ClientAddr,
        stranger: Stranger,
        message: &Message<'_>,
        now: Instant,
    ) {
        match stranger {
            Stranger::Unsigned => self.stats.challenged += 1,
            Stranger::Incomplete => self.stats.malformed += 1,
            Stranger::StaleNonce => self.stats.stale_nonces += 1,
            Stranger::WrongCredentials => self.stats.unauthenticated += 1,
        }
        // The source of a stream is proven by its handshake; that of a datagram may be forged.
        let forgeable = client.transport == Transport::Udp;
        if forgeable && !self.limiter.admit(client.source_ip(), now) {
            self.stats.refusals_limited += 1;
            return;
        }
        let nonce = self.nonces.issue(&client, now);
        if let Ok(payload) = answer::encode_refusal(stranger, message, &self.config, &nonce) {
            self.answer(client, payload);
        }
    }

    fn answer_signed(
        &mut self,
        client: ClientAddr,
        outcome: &Outcome,
        method: Method,
        id: TransactionId,
        key: &IntegrityKey,
    ) {
        tracing::debug!(?method, ?outcome, client = %client.remote, "turn request");
        if let Ok(payload) = answer::encode(outcome, method, id, key, &self.config.software) {
            self.answer(client, payload);
        }
    }

    fn answer(&mut self, client: ClientAddr, payload: Vec<u8>) {
        if self.answers_waiting >= ANSWERS_MAX {
            self.stats.answers_dropped += 1;
            return;
        }
        self.answers_waiting += 1;
        self.commands.push_back(Command::Send { client, payload });
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("allocations", &self.allocations.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
