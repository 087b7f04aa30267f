//! Our allocations: what comes and goes through them, and what befalls them.
//!
//! * `offers`: which relays are tried, over which transport, and when;
//! * `entry`: one allocation, or the attempt at one; `words`: what befell it, for people.

mod entry;
mod offers;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::{SeedableRng, rngs::StdRng};
use relay::{FailReason, LostReason, Received};
use sansio::{Deadline, Transmit, earliest};

use self::entry::Entry;
use self::offers::{Offer, Pending};
pub use self::offers::{RelayServer, TlsAddress};
use self::words::{failed_text, lost_text};
use crate::path::{RelayStreamId, RelayTransport, Route};

/// Names one of our allocations or attempts at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelayId(u32);

/// What happened to an allocation.
#[derive(Debug)]
pub(crate) enum RelayEvent {
    Allocated {
        server: SocketAddr,
        transport: RelayTransport,
        relayed: SocketAddr,
    },
    Bound {
        relayed: SocketAddr,
        peer: SocketAddr,
        route: Route,
    },
    Refused {
        relayed: SocketAddr,
        peer: SocketAddr,
        code: u16,
    },
    Lost {
        server: SocketAddr,
        transport: RelayTransport,
        relayed: Option<SocketAddr>,
        reason: String,
        credentials_refused: bool,
    },
    OpenStream {
        stream: RelayStreamId,
        server: SocketAddr,
        tls_name: Option<String>,
    },
    CloseStream {
        stream: RelayStreamId,
    },
}

/// A datagram for a relay.
#[derive(Debug)]
pub(crate) enum RelayTransmit {
    Udp(Transmit),
    Stream {
        stream: RelayStreamId,
        frame: Vec<u8>,
    },
}

/// All our allocations.
#[derive(Debug)]
pub(crate) struct Relays {
    entries: BTreeMap<RelayId, Entry>,
    pending: Vec<Pending>,
    /// In the order in which they are to be tried.
    offers: Vec<Offer>,
    next_start_at: Option<Instant>,
    /// When all relays were last asked whether they live.
    doubted_at: Option<Instant>,
    /// When anybody was last heard, and over what.
    heard: Heard,
    events: VecDeque<RelayEvent>,
    next_id: u32,
    next_offer: u32,
    next_stream: u32,
    rng: StdRng,
    unsent: u64,
}

impl Relays {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            entries: BTreeMap::new(),
            pending: Vec::new(),
            offers: Vec::new(),
            next_start_at: None,
            doubted_at: None,
            heard: Heard::default(),
            events: VecDeque::new(),
            next_id: 0,
            next_offer: 0,
            next_stream: 0,
            rng: StdRng::from_seed(seed),
            unsent: 0,
        }
    }

    /// Returns the UDP addresses of our relays.
    pub(crate) fn udp_servers(&self) -> Vec<SocketAddr> {
        self.offers
            .iter()
            .filter_map(|offer| offer.server.udp)
            .collect()
    }

    /// Takes a datagram from a relay. Data in it goes to `deliver(relayed, peer, payload)`.
    pub(crate) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        payload: &[u8],
        now: Instant,
        deliver: impl FnMut(SocketAddr, SocketAddr, &[u8]),
    ) -> bool {
        let id = self.entries.iter().find_map(|(id, entry)| {
            (entry.transport == RelayTransport::Udp && entry.server == from).then_some(*id)
        });
        id.is_some_and(|id| self.handle_message(id, payload, now, deliver))
    }

    /// Takes one frame from a relay's TCP connection.
    pub(crate) fn handle_stream_frame(
        &mut self,
        stream: RelayStreamId,
        frame: &[u8],
        now: Instant,
        deliver: impl FnMut(SocketAddr, SocketAddr, &[u8]),
    ) -> bool {
        self.by_stream(stream)
            .is_some_and(|id| self.handle_message(id, frame, now, deliver))
    }

    fn handle_message(
        &mut self,
        id: RelayId,
        payload: &[u8],
        now: Instant,
        mut deliver: impl FnMut(SocketAddr, SocketAddr, &[u8]),
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        entry.on_frame_received();
        self.heard.note(entry.stream, now);
        let consumed = match entry.client.handle_message(payload, now) {
            Received::Consumed => true,
            Received::Data { peer, payload } => {
                if let Some(relayed) = entry.relayed {
                    deliver(relayed, peer, payload);
                }
                true
            }
            Received::NotMine => false,
        };
        self.drain(id, now);
        consumed
    }

    /// The TCP connection is established.
    pub(crate) fn stream_opened(&mut self, stream: RelayStreamId, now: Instant) {
        let Some(id) = self.by_stream(stream) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.stream_open = true;
        entry.client.reconnected(now);
        self.drain(id, now);
    }

    /// The TCP connection ended or could not be made.
    pub(crate) fn stream_closed(&mut self, stream: RelayStreamId, now: Instant) {
        let Some(id) = self.by_stream(stream) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.stream = None;
        entry.lose_stream(now);
        self.drain(id, now);
    }

    fn by_stream(&self, stream: RelayStreamId) -> Option<RelayId> {
        self.entries
            .iter()
            .find_map(|(id, entry)| (entry.stream == Some(stream)).then_some(*id))
    }

    fn by_relayed(&mut self, relayed: SocketAddr) -> Option<&mut Entry> {
        self.entries
            .values_mut()
            .find(|entry| entry.relayed == Some(relayed))
    }

    /// Wants a channel to `peer` on the allocation with the relayed address.
    pub(crate) fn bind(&mut self, relayed: SocketAddr, peer: SocketAddr, now: Instant) {
        if let Some(entry) = self.by_relayed(relayed) {
            entry.wanted.insert(peer);
            entry.client.bind(peer, now);
        }
        self.drain_all(now);
    }

    /// Keeps only these channels, each of a relayed address and a peer.
    pub(crate) fn retain_channels(&mut self, wanted: &BTreeSet<(SocketAddr, SocketAddr)>) {
        for entry in self.entries.values_mut() {
            let Some(relayed) = entry.relayed else {
                continue;
            };
            let unwanted = entry
                .wanted
                .extract_if(.., |peer| !wanted.contains(&(relayed, *peer)));
            for peer in unwanted {
                entry.client.unbind(peer);
            }
        }
    }

    /// Returns how many payloads were dropped because there was no channel or no allocation for them.
    pub(crate) const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Returns the route to `peer` through the allocation, once its channel is bound.
    pub(crate) fn route(&self, relayed: SocketAddr, peer: SocketAddr) -> Option<Route> {
        let entry = self
            .entries
            .values()
            .find(|entry| entry.relayed == Some(relayed))?;
        entry.route(peer)
    }

    /// Returns how the relay of an allocation is reached.
    pub(crate) fn transport(&self, relayed: SocketAddr) -> Option<RelayTransport> {
        self.entries
            .values()
            .find(|entry| entry.relayed == Some(relayed))
            .map(|entry| entry.transport)
    }

    /// Sends a payload from a relayed address; dropped and counted when it cannot be sent.
    pub(crate) fn send(
        &mut self,
        relayed: SocketAddr,
        peer: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) {
        let sent = self
            .by_relayed(relayed)
            .is_some_and(|entry| entry.send(peer, payload, now));
        self.unsent += u64::from(!sent);
    }

    /// Gives all allocations back.
    pub(crate) fn close(&mut self, now: Instant) {
        self.pending.clear();
        self.offers.clear();
        self.next_start_at = None;
        for entry in self.entries.values_mut() {
            entry.client.close(now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let (due, waiting): (Vec<_>, Vec<_>) = self
            .pending
            .drain(..)
            .partition(|pending| pending.start_at <= now);
        self.pending = waiting;
        for pending in due {
            self.start_stream(&pending, now);
        }
        if self.next_start_at.is_some_and(|at| at <= now) {
            self.start_offers(now);
        }
        self.hang_up_silent(now);
        for entry in self.entries.values_mut() {
            if entry.redial_at.is_some_and(|at| at <= now) && entry.stream.is_none() {
                entry.redial_at = None;
                let stream = RelayStreamId(self.next_stream);
                self.next_stream += 1;
                entry.stream = Some(stream);
                self.events.push_back(RelayEvent::OpenStream {
                    stream,
                    server: entry.server,
                    tls_name: entry.tls_name.clone(),
                });
            }
            entry.client.handle_timeout(now);
        }
        self.drain_all(now);
    }

    fn drain_all(&mut self, now: Instant) {
        let ids: Vec<_> = self.entries.keys().copied().collect();
        for id in ids {
            self.drain(id, now);
        }
    }

    fn drain(&mut self, id: RelayId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let mut allocated = false;
        let mut failed = false;
        while let Some(event) = entry.client.poll_event() {
            match event {
                relay::Event::Allocated { relayed, .. } => {
                    entry.relayed = Some(relayed);
                    entry.reset_redial();
                    allocated = true;
                    self.events.push_back(RelayEvent::Allocated {
                        server: entry.server,
                        transport: entry.transport,
                        relayed,
                    });
                }
                relay::Event::Bound { peer, .. } => {
                    if let (Some(relayed), Some(route)) = (entry.relayed, entry.route(peer)) {
                        self.events.push_back(RelayEvent::Bound {
                            relayed,
                            peer,
                            route,
                        });
                    }
                    entry.release(peer, now);
                }
                relay::Event::BindRefused { peer, code } => {
                    entry.wanted.remove(&peer);
                    if let Some(relayed) = entry.relayed {
                        self.events.push_back(RelayEvent::Refused {
                            relayed,
                            peer,
                            code,
                        });
                    }
                }
                relay::Event::Lost { reason } => {
                    failed |= reason != LostReason::Closed;
                    let relayed = entry.forget_allocation();
                    self.events.push_back(RelayEvent::Lost {
                        server: entry.server,
                        transport: entry.transport,
                        relayed,
                        reason: lost_text(reason),
                        credentials_refused: reason == LostReason::Refused(FORBIDDEN),
                    });
                }
                relay::Event::Failed { reason } => {
                    failed = true;
                    self.events.push_back(RelayEvent::Lost {
                        server: entry.server,
                        transport: entry.transport,
                        relayed: None,
                        reason: failed_text(reason),
                        credentials_refused: matches!(
                            reason,
                            FailReason::Unauthorized | FailReason::Rejected(FORBIDDEN)
                        ),
                    });
                }
                _ => {}
            }
        }
        let is_stream = entry.transport.is_stream();
        if allocated {
            self.on_allocated(id, now);
        } else if failed {
            self.on_failed(id, now);
            if is_stream {
                self.hang_up(id, now);
            }
        }
    }

    /// Somebody who is no relay was heard: the network works.
    pub(crate) const fn heard_others(&mut self, now: Instant) {
        self.heard.note(None, now);
    }

    /// A question went into a connection, and others answer meanwhile: it is dead.
    fn hang_up_silent(&mut self, now: Instant) {
        let silent = self.entries.iter().filter(|(_, entry)| {
            let silent_at = entry.silent_at(self.heard.beside(entry.stream));
            silent_at.is_some_and(|at| at <= now)
        });
        let silent: Vec<_> = silent.map(|(id, _)| *id).collect();
        for id in silent {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            if let Some(stream) = entry.stream.take() {
                self.events.push_back(RelayEvent::CloseStream { stream });
            }
            entry.lose_stream(now);
            self.drain(id, now);
        }
    }

    /// Nothing comes over the connection, or nothing good: another one may do better.
    fn hang_up(&mut self, id: RelayId, now: Instant) {
        let Some(entry) = self
            .entries
            .get_mut(&id)
            .filter(|entry| entry.relayed.is_none())
        else {
            return;
        };
        let Some(stream) = entry.stream.take() else {
            return;
        };
        self.events.push_back(RelayEvent::CloseStream { stream });
        entry.lose_stream(now);
        self.drain(id, now);
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<RelayTransmit> {
        for entry in self.entries.values_mut() {
            let Some(transmit) = entry.client.poll_transmit() else {
                continue;
            };
            match entry.stream {
                _ if !entry.transport.is_stream() => return Some(RelayTransmit::Udp(transmit)),
                Some(stream) if entry.stream_open => {
                    entry.on_frame_sent(&transmit.payload, now);
                    return Some(RelayTransmit::Stream {
                        stream,
                        frame: transmit.payload,
                    });
                }
                _ => {}
            }
        }
        None
    }

    pub(crate) fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let clients = self
            .entries
            .values()
            .map(|entry| entry.client.poll_timeout());
        let redials = self.entries.values().map(|entry| {
            entry
                .redial_at
                .map(|at| Deadline::new(at, "dial a relay over TCP"))
        });
        let pending = self
            .pending
            .iter()
            .map(|pending| Some(Deadline::new(pending.start_at, "try a relay over TCP")));
        let silent = self.entries.values().map(|entry| {
            let at = entry.silent_at(self.heard.beside(entry.stream));
            at.map(|at| Deadline::new(at, "a connection to a relay is silent"))
        });
        let next = [self.next_start()];
        earliest(
            clients
                .chain(redials)
                .chain(pending)
                .chain(silent)
                .chain(next),
        )
    }
}

/// The error code of what is forbidden; some relays give it for credentials that have ended.
const FORBIDDEN: u16 = stunwire::ErrorCode::FORBIDDEN;

/// When somebody was last heard, told apart by connection as far as it takes to say "somebody else".
#[derive(Debug, Default)]
struct Heard {
    last: Option<(Option<RelayStreamId>, Instant)>,
    /// The last time over anything else than `last`.
    before: Option<Instant>,
}

impl Heard {
    const fn note(&mut self, over: Option<RelayStreamId>, now: Instant) {
        if let Some((last_over, at)) = self.last
            && !is_same(last_over, over)
        {
            self.before = Some(at);
        }
        self.last = Some((over, now));
    }

    /// Returns when anybody was last heard over anything else than this connection.
    fn beside(&self, stream: Option<RelayStreamId>) -> Option<Instant> {
        let (over, at) = self.last?;
        if over.is_some() && over == stream {
            self.before
        } else {
            Some(at)
        }
    }
}

const fn is_same(one: Option<RelayStreamId>, other: Option<RelayStreamId>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.0 == other.0,
        (None, None) => true,
        _ => false,
    }
}
