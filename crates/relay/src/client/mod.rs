//! The TURN client: one allocation on one relay, kept for as long as the client lives.
//!
//! * `allocate`: the life of the allocation, from nothing to lost and back;
//! * `answers`: which answers are believed, and what each asks for;
//! * `channels`: which peers have a channel; `data`: what goes through them;
//! * `authentication`: credentials and challenges; `request`: the wire form;
//! * `liveness` and `backoff`: when to ask, and when to wait;
//! * `config` and `event`: what comes in at the start, and what comes out.

mod allocate;
mod answers;
mod authentication;
mod backoff;
mod channels;
mod config;
mod data;
mod event;
mod liveness;
mod request;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rand::{SeedableRng, rngs::StdRng};
use sansio::{Deadline, Transactions, Transmit, earliest};
use stunwire::{AddressFamily, Class, Message, Method, is_channel_data};

use crate::{PeerAddr, Transport};
use allocate::Phase;
use authentication::Authentication;
use backoff::Backoff;
use channels::Channels;
pub use config::{ClientConfig, Credential};
use config::{EVENTS_MAX, REQUESTS_MAX, TRANSMITS_MAX};
pub use event::{ClientStats, Event, FailReason, LostReason, Received};
use liveness::Liveness;
use request::Request;

/// A TURN client (RFC 8656) over UDP or over a stream that the layer above dials.
///
/// Over UDP it starts asking when it is made; over TCP at [`Client::reconnected`].
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: StdRng,
    authentication: Authentication,
    phase: Phase,
    /// Which family of relayed address is asked for.
    family: AddressFamily,
    requests: Transactions<Request>,
    channels: Channels,
    backoff: Backoff,
    liveness: Liveness,
    /// The latest time that any input brought.
    now: Instant,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: ClientStats,
}

impl Client {
    /// Makes a client. The seed makes its transaction ids and its jitter.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32], now: Instant) -> Self {
        let authentication =
            Authentication::new(config.username.clone(), config.credential.clone());
        let mut client = Self {
            rng: StdRng::from_seed(seed),
            authentication,
            phase: Phase::Disconnected,
            // What peers are most likely to have; what a relay gives to those who do not ask.
            family: AddressFamily::Ipv4,
            requests: Transactions::new(REQUESTS_MAX, "relay request"),
            channels: Channels::new(),
            backoff: Backoff::default(),
            liveness: Liveness::new(now),
            now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: ClientStats::default(),
            config,
        };
        if client.config.transport == Transport::Udp {
            client.allocate(now);
        }
        client
    }

    /// Takes one message from the relay: a UDP datagram, or one frame of the stream.
    ///
    /// Answers to Binding requests are [`Received::NotMine`]: the relay's socket is often a STUN server too.
    pub fn handle_message<'a>(&mut self, payload: &'a [u8], now: Instant) -> Received<'a> {
        self.now = now;
        let Some(first) = payload.first() else {
            return Received::NotMine;
        };
        if is_channel_data(*first) {
            return self.handle_channel_data(payload, now);
        }
        let Ok(message) = Message::decode(payload) else {
            return Received::NotMine;
        };
        let received = match message.class() {
            Class::SuccessResponse | Class::ErrorResponse => self.handle_answer(&message, now),
            Class::Indication if message.method() == Method::DATA => {
                self.handle_data_indication(message, now)
            }
            Class::Indication | Class::Request => Received::NotMine,
        };
        self.drive(now);
        received
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.handle_silence(now);
        self.drive(now);
    }

    /// Wants a channel to a peer, and so a permission for its address, kept until [`Client::unbind`].
    /// At most 64; more are refused and counted. Wanting twice is wanting once.
    pub fn bind(&mut self, peer: SocketAddr, now: Instant) {
        self.now = now;
        if !self.channels.want(PeerAddr::new(peer), now) {
            self.stats.channels_refused += 1;
            return;
        }
        self.drive(now);
    }

    /// Wants the channel no longer. The relay forgets it by itself within ten minutes.
    pub fn unbind(&mut self, peer: SocketAddr) {
        self.channels.retire(PeerAddr::new(peer));
    }

    /// Takes newer time-limited credentials; the next request uses them. A client that waits because the old
    /// ones were refused asks again at once.
    pub fn set_credentials(&mut self, username: String, credential: Credential, now: Instant) {
        self.now = now;
        self.authentication.set_credentials(username, credential);
        self.backoff.reset();
        self.stop_waiting(now);
        self.drive(now);
    }

    /// Asks the relay at once whether the allocation lives (after a change of the network, say).
    pub fn check(&mut self, now: Instant) {
        self.now = now;
        self.liveness.ask(now);
        self.stop_waiting(now);
        self.drive(now);
    }

    /// Gives the allocation back: a Refresh with lifetime zero, then [`Event::Lost`] with
    /// [`LostReason::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        self.release_for_good(now);
    }

    /// TCP: the stream to the relay is there.
    pub fn reconnected(&mut self, now: Instant) {
        self.now = now;
        self.handle_stream_opened(now);
    }

    /// TCP: the stream to the relay is gone, and the allocation with it.
    pub fn disconnected(&mut self, now: Instant) {
        self.now = now;
        self.handle_stream_closed(LostReason::Disconnected);
    }

    /// Returns the relayed address while there is an allocation.
    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.phase
            .allocation()
            .map(|allocation| allocation.relayed.get())
    }

    /// Returns when the relay was last heard; at first, when the client was made.
    #[must_use]
    pub const fn last_heard(&self) -> Instant {
        self.liveness.heard()
    }

    /// Returns the configuration it was made with.
    #[must_use]
    pub const fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> ClientStats {
        self.stats
    }

    /// Returns the next packet to send; over TCP its payload is one padded frame for the stream.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Client::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        earliest([self.requests.poll_timeout(), self.next_duty()])
    }

    /// Queues a packet for the relay. Returns `false`, and counts it, when nobody drains.
    fn transmit(&mut self, payload: Vec<u8>, now: Instant) -> bool {
        if self.transmits.len() >= TRANSMITS_MAX {
            self.stats.transmits_dropped += 1;
            return false;
        }
        self.liveness.on_sent(now);
        self.transmits.push_back(Transmit {
            source: self.config.local,
            destination: self.config.server,
            ttl: None,
            payload,
        });
        true
    }

    fn report(&mut self, event: Event) {
        tracing::debug!(?event, "relay client");
        if self.events.len() >= EVENTS_MAX {
            self.stats.events_dropped += 1;
            return;
        }
        self.events.push_back(event);
    }
}
