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
use relay::{LostReason, Received, Transport};
use sansio::{Deadline, Transmit, earliest};

use self::entry::Entry;
use self::offers::Pending;
pub use self::offers::RelayServer;
use self::words::{failed_text, lost_text};
use crate::path::{RelayStreamId, Route};

/// Names one of our allocations or attempts at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelayId(u32);

/// What happened to an allocation.
#[derive(Debug)]
pub(crate) enum RelayEvent {
    Allocated {
        server: SocketAddr,
        transport: Transport,
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
        transport: Transport,
        relayed: Option<SocketAddr>,
        reason: String,
    },
    OpenStream {
        stream: RelayStreamId,
        server: SocketAddr,
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
    pending_tcp: Vec<Pending>,
    offered: Vec<RelayServer>,
    events: VecDeque<RelayEvent>,
    next_id: u32,
    next_stream: u32,
    rng: StdRng,
    unsent: u64,
}

impl Relays {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            entries: BTreeMap::new(),
            pending_tcp: Vec::new(),
            offered: Vec::new(),
            events: VecDeque::new(),
            next_id: 0,
            next_stream: 0,
            rng: StdRng::from_seed(seed),
            unsent: 0,
        }
    }

    /// Returns the UDP addresses of our relays.
    pub(crate) fn udp_servers(&self) -> Vec<SocketAddr> {
        self.offered
            .iter()
            .filter_map(|server| server.udp)
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
            (entry.transport == Transport::Udp && entry.server == from).then_some(*id)
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
    pub(crate) fn transport(&self, relayed: SocketAddr) -> Option<Transport> {
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
        self.pending_tcp.clear();
        for entry in self.entries.values_mut() {
            entry.client.close(now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let (due, waiting): (Vec<_>, Vec<_>) = self
            .pending_tcp
            .drain(..)
            .partition(|pending| pending.start_at <= now);
        self.pending_tcp = waiting;
        for pending in due {
            self.start_tcp(&pending, now);
        }
        for entry in self.entries.values_mut() {
            if entry.redial_at.is_some_and(|at| at <= now) && entry.stream.is_none() {
                entry.redial_at = None;
                let stream = RelayStreamId(self.next_stream);
                self.next_stream += 1;
                entry.stream = Some(stream);
                self.events.push_back(RelayEvent::OpenStream {
                    stream,
                    server: entry.server,
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
                    });
                }
                relay::Event::Failed { reason } => {
                    failed = true;
                    self.events.push_back(RelayEvent::Lost {
                        server: entry.server,
                        transport: entry.transport,
                        relayed: None,
                        reason: failed_text(reason),
                    });
                }
                _ => {}
            }
        }
        let server = entry.server;
        match entry.transport {
            Transport::Udp if allocated => self.give_up_unused_tcp(server),
            Transport::Udp if failed => self.try_tcp_beside(server, now),
            Transport::Tcp if failed => self.hang_up(id, now),
            Transport::Udp | Transport::Tcp => {}
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

    pub(crate) fn poll_transmit(&mut self) -> Option<RelayTransmit> {
        for entry in self.entries.values_mut() {
            let Some(transmit) = entry.client.poll_transmit() else {
                continue;
            };
            match (entry.transport, entry.stream) {
                (Transport::Udp, _) => return Some(RelayTransmit::Udp(transmit)),
                (Transport::Tcp, Some(stream)) if entry.stream_open => {
                    return Some(RelayTransmit::Stream {
                        stream,
                        frame: transmit.payload,
                    });
                }
                (Transport::Tcp, _) => {}
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
            .pending_tcp
            .iter()
            .map(|pending| Some(Deadline::new(pending.start_at, "try a relay over TCP")));
        earliest(clients.chain(redials).chain(pending))
    }
}
