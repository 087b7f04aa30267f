//! Which relays are tried, over which transport, and when.
//!
//! The first two relays of the list are asked at once; each further one after a moment without an answer, or at
//! once when one fails. When two have allocated, the others are given up: they stand by, and are tried again
//! when one of the two fails or falls silent.
//!
//! Of one relay UDP is asked at once. When it has not allocated after a moment, TCP is tried beside it, then TLS;
//! an attempt that has not allocated is given up when a better one turns out to work, and begun again when that
//! one fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use relay::{Client, ClientConfig, Credential};
use sansio::Deadline;

use super::entry::Entry;
use super::{RelayEvent, RelayId, Relays};
use crate::path::RelayTransport;

/// How long UDP may stay unanswered before TCP is tried too, and TCP before TLS: two retransmissions of the
/// brisk Allocate.
const STREAM_AFTER: Duration = Duration::from_millis(400);
/// How long the relays that are asked may stay silent before the next is asked too.
const NEXT_AFTER: Duration = Duration::from_millis(500);
/// Relays that serve at once: the one in use, and one for the moment when it dies.
const KEPT_MAX: usize = 2;
/// Relays beyond this number are not used. The addresses of one name count each.
const OFFERS_MAX: usize = 8;

/// Where a relay answers over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsAddress {
    /// Where to dial.
    pub address: SocketAddr,
    /// The host name (or address) that its certificate must be for.
    pub name: String,
}

/// A relay that signaling or the configuration offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayServer {
    /// Where it answers over UDP, if it does.
    pub udp: Option<SocketAddr>,
    /// Where it answers over TCP, if it does.
    pub tcp: Option<SocketAddr>,
    /// Where it answers over TLS, if it does.
    pub tls: Option<TlsAddress>,
    /// The user name of the credential.
    pub username: String,
    /// The password of the credential.
    pub credential: Credential,
}

impl RelayServer {
    fn address(&self, transport: RelayTransport) -> Option<SocketAddr> {
        match transport {
            RelayTransport::Udp => self.udp,
            RelayTransport::Tcp => self.tcp,
            RelayTransport::Tls => self.tls.as_ref().map(|tls| tls.address),
        }
    }

    fn is_at_the_addresses_of(&self, other: &Self) -> bool {
        self.udp == other.udp && self.tcp == other.tcp && self.tls == other.tls
    }
}

/// Names an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfferId(u32);

/// A relay of the list, in use or standing by.
#[derive(Debug)]
pub(super) struct Offer {
    id: OfferId,
    pub(super) server: RelayServer,
    /// Our socket toward it over UDP.
    base: Option<SocketAddr>,
    is_started: bool,
    /// When it last failed.
    failed_at: Option<Instant>,
    /// Whether it is in the present list.
    is_listed: bool,
}

/// An attempt over a stream that waits for something better to fail.
#[derive(Debug)]
pub(super) struct Pending {
    offer: OfferId,
    transport: RelayTransport,
    /// When the better one was asked; what is heard over it from now on shows that it works.
    since: Instant,
    pub(super) start_at: Instant,
}

impl Relays {
    /// Tells which relays are offered; `base_for` names the socket to use toward a server. Those in use stay
    /// although they are offered no longer, for as long as they serve.
    pub(crate) fn set_servers(
        &mut self,
        servers: Vec<RelayServer>,
        base_for: impl Fn(SocketAddr) -> Option<SocketAddr>,
        now: Instant,
    ) {
        for offer in &mut self.offers {
            offer.is_listed = false;
        }
        let mut listed = Vec::new();
        for server in servers.into_iter().take(OFFERS_MAX) {
            let id = self.renew(&server, now).unwrap_or_else(|| {
                let id = OfferId(self.next_offer);
                self.next_offer += 1;
                self.offers.push(Offer {
                    id,
                    base: server.udp.and_then(&base_for),
                    server,
                    is_started: false,
                    failed_at: None,
                    is_listed: true,
                });
                id
            });
            listed.push(id);
        }
        let unlisted: Vec<_> = self
            .offers
            .iter()
            .filter(|offer| !offer.is_listed && !self.has_allocation(offer.id))
            .map(|offer| offer.id)
            .collect();
        for id in unlisted {
            self.stop(id, |_| true);
            self.offers.retain(|offer| offer.id != id);
        }
        let rank = |offer: &Offer| listed.iter().position(|id| *id == offer.id);
        self.offers
            .sort_by_key(|offer| rank(offer).unwrap_or(usize::MAX));
        self.start_offers(now);
    }

    /// Hands newer credentials to a relay that is known already; returns which one it is.
    fn renew(&mut self, server: &RelayServer, now: Instant) -> Option<OfferId> {
        let known = self
            .offers
            .iter_mut()
            .find(|offer| offer.server.is_at_the_addresses_of(server))?;
        known.is_listed = true;
        let id = known.id;
        if known.server == *server {
            return Some(id);
        }
        known.server = server.clone();
        for entry in self.entries.values_mut().filter(|entry| entry.offer == id) {
            let credential = server.credential.clone();
            entry
                .client
                .set_credentials(server.username.clone(), credential, now);
        }
        Some(id)
    }

    fn has_allocation(&self, id: OfferId) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| entry.offer == id && entry.relayed.is_some())
    }

    /// Returns whether the relay serves: it has allocated, and has answered since all relays were last asked
    /// whether they live.
    fn serves(&self, id: OfferId, now: Instant) -> bool {
        let doubted = self
            .doubted_at
            .filter(|doubted_at| now >= *doubted_at + NEXT_AFTER);
        self.entries.values().any(|entry| {
            entry.offer == id
                && entry.relayed.is_some()
                && doubted.is_none_or(|doubted_at| entry.client.last_heard() >= doubted_at)
        })
    }

    /// Starts as many relays as there should be, and gives up those that there need not be.
    pub(super) fn start_offers(&mut self, now: Instant) {
        let serving = self
            .offers
            .iter()
            .filter(|offer| self.serves(offer.id, now))
            .count();
        if serving >= KEPT_MAX {
            self.next_start_at = None;
            self.give_up_spare_relays();
            return;
        }
        let is_time = self.next_start_at.is_some_and(|at| at <= now);
        let mut wanted = usize::from(is_time);
        let hopeful = |offer: &&Offer| offer.is_started && offer.failed_at.is_none();
        let busy = self
            .offers
            .iter()
            .filter(|offer| self.serves(offer.id, now) || hopeful(offer));
        wanted = wanted.max(KEPT_MAX.saturating_sub(busy.count()));
        for _ in 0..wanted {
            let standing_by = self.offers.iter().enumerate();
            let standing_by = standing_by.filter(|(_, offer)| !offer.is_started);
            let next = standing_by.min_by_key(|(index, offer)| (offer.failed_at, *index));
            let Some((index, _)) = next else { break };
            self.start_offer(index, now);
            self.next_start_at = None;
        }
        let is_any_left = self.offers.iter().any(|offer| !offer.is_started);
        self.next_start_at = match self.next_start_at {
            at if is_any_left => Some(at.unwrap_or(now + NEXT_AFTER)),
            _ => None,
        };
    }

    /// Returns when the next relay may have to be asked.
    pub(super) fn next_start(&self) -> Option<Deadline> {
        let at = self.next_start_at?;
        Some(Deadline::new(at, "ask the next relay"))
    }

    /// Forgets the attempts of relays that are not needed now.
    fn give_up_spare_relays(&mut self) {
        let spare: Vec<_> = self
            .offers
            .iter()
            .filter(|offer| offer.is_started && !self.has_allocation(offer.id))
            .map(|offer| offer.id)
            .collect();
        for id in spare {
            self.stop(id, |_| true);
            if let Some(offer) = self.offer_mut(id) {
                offer.is_started = false;
            }
        }
    }

    fn offer_mut(&mut self, id: OfferId) -> Option<&mut Offer> {
        self.offers.iter_mut().find(|offer| offer.id == id)
    }

    fn offer(&self, id: OfferId) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.id == id)
    }

    /// Forgets the attempts of a relay over these transports.
    fn stop(&mut self, id: OfferId, over: impl Fn(RelayTransport) -> bool) {
        self.pending
            .retain(|pending| pending.offer != id || !over(pending.transport));
        let gone = self.entries.extract_if(.., |_, entry| {
            entry.offer == id && over(entry.transport) && entry.relayed.is_none()
        });
        for stream in gone.filter_map(|(_, entry)| entry.stream) {
            self.events.push_back(RelayEvent::CloseStream { stream });
        }
    }

    fn start_offer(&mut self, index: usize, now: Instant) {
        let offer = &mut self.offers[index];
        offer.is_started = true;
        let (id, base) = (offer.id, offer.base);
        let has_udp = match (offer.server.udp, base) {
            (Some(address), Some(base)) => {
                self.start(id, address, RelayTransport::Udp, base, now);
                true
            }
            _ => false,
        };
        let wait = if has_udp {
            STREAM_AFTER
        } else {
            Duration::ZERO
        };
        self.queue_streams(id, RelayTransport::Udp, now, now + wait);
    }

    /// Queues the streams that are worse than `than`, the best of them for `start_at`.
    fn queue_streams(
        &mut self,
        id: OfferId,
        than: RelayTransport,
        since: Instant,
        mut start_at: Instant,
    ) {
        for transport in [RelayTransport::Tcp, RelayTransport::Tls] {
            let offer = self.offer(id);
            let is_offered = offer.is_some_and(|it| it.server.address(transport).is_some());
            let is_tried = self
                .entries
                .values()
                .any(|entry| entry.offer == id && entry.transport == transport)
                || self
                    .pending
                    .iter()
                    .any(|pending| pending.offer == id && pending.transport == transport);
            if transport <= than || !is_offered || is_tried {
                continue;
            }
            self.pending.push(Pending {
                offer: id,
                transport,
                since,
                start_at,
            });
            start_at += STREAM_AFTER;
        }
    }

    fn start(
        &mut self,
        offer: OfferId,
        server: SocketAddr,
        transport: RelayTransport,
        local: SocketAddr,
        now: Instant,
    ) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let Some(offered) = self.offer(offer) else {
            return;
        };
        let config = ClientConfig {
            server,
            transport: transport.wire(),
            local,
            username: offered.server.username.clone(),
            credential: offered.server.credential.clone(),
        };
        let tls_name = match (transport, &offered.server.tls) {
            (RelayTransport::Tls, Some(tls)) => Some(tls.name.clone()),
            _ => None,
        };
        let id = RelayId(self.next_id);
        self.next_id += 1;
        let client = Client::new(config, seed, now);
        let redial_at = transport.is_stream().then_some(now);
        let mut entry = Entry::new(client, offer, server, transport, local, redial_at);
        entry.tls_name = tls_name;
        self.entries.insert(id, entry);
        self.handle_timeout(now);
    }

    /// Nothing is heard of a peer on any path: do the relays still answer?
    pub(crate) fn doubt(&mut self, now: Instant) {
        let mut asked = Vec::new();
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.relayed.is_some())
        {
            entry.client.check(now);
            asked.push((entry.offer, entry.transport));
        }
        for (offer, transport) in asked {
            self.queue_streams(offer, transport, now, now + STREAM_AFTER);
        }
        self.doubted_at = Some(now);
        if self.offers.iter().any(|offer| !offer.is_started) {
            self.next_start_at = Some(now + NEXT_AFTER);
        }
        self.drain_all(now);
    }

    /// A relay over this transport does not work, or no longer: the next transport is tried in a moment, and
    /// another relay at once.
    pub(super) fn on_failed(&mut self, id: RelayId, now: Instant) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let (offer, transport) = (entry.offer, entry.transport);
        self.queue_streams(offer, transport, now, now + STREAM_AFTER);
        if !self.has_allocation(offer) {
            if let Some(offer) = self.offer_mut(offer) {
                offer.failed_at = Some(now);
            }
            self.start_offers(now);
        }
    }

    /// A relay has allocated: worse attempts at it are not needed, nor perhaps other relays.
    pub(super) fn on_allocated(&mut self, id: RelayId, now: Instant) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let (offer, better) = (entry.offer, entry.transport);
        self.stop(offer, |transport| transport > better);
        if let Some(offer) = self.offer_mut(offer) {
            offer.failed_at = None;
        }
        self.start_offers(now);
    }

    /// A stream is tried only when nothing better serves by now.
    pub(super) fn start_stream(&mut self, pending: &Pending, now: Instant) {
        let Pending {
            offer,
            transport,
            since,
            ..
        } = *pending;
        let better_serves = self.entries.values().any(|entry| {
            entry.offer == offer
                && entry.transport < transport
                && entry.relayed.is_some()
                && entry.client.last_heard() >= since
        });
        if better_serves {
            return;
        }
        let offered = self.offer(offer);
        if let Some(address) = offered.and_then(|it| it.server.address(transport)) {
            // The base of an allocation over a stream is the connection itself; the server's address family
            // is all that matters of it.
            let unspecified = match address {
                SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
            };
            self.start(offer, address, transport, unspecified, now);
        }
    }
}
