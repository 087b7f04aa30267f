//! One allocation, or the attempt at one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::{Client, Transport};
use stunwire::{Class, Message};

use crate::path::{RelayStreamId, Route};

/// A TCP connection that ended is dialled anew after this, doubling to [`REDIAL_MAX`].
const REDIAL_MIN: Duration = Duration::from_millis(250);
/// Upper bound of the pause between TCP connections.
const REDIAL_MAX: Duration = Duration::from_secs(15);
/// Answers that wait for their channel; a peer's checks come one by one.
const HELD_MAX: usize = 16;
/// An answer that is older would tell the peer a round trip that is not one.
const HELD_LIFETIME: Duration = Duration::from_secs(1);

/// One allocation, or the attempt at one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) client: Client,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    /// The base for UDP.
    pub(super) local: SocketAddr,
    /// The present connection for TCP.
    pub(super) stream: Option<RelayStreamId>,
    pub(super) stream_open: bool,
    pub(super) redial_at: Option<Instant>,
    redial_pause: Duration,
    pub(super) relayed: Option<SocketAddr>,
    /// The peers that a channel is wanted to.
    pub(super) wanted: BTreeSet<SocketAddr>,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    peer: SocketAddr,
    payload: Vec<u8>,
    until: Instant,
}

impl Entry {
    pub(super) const fn new(
        client: Client,
        server: SocketAddr,
        transport: Transport,
        local: SocketAddr,
        redial_at: Option<Instant>,
    ) -> Self {
        Self {
            client,
            server,
            transport,
            local,
            stream: None,
            stream_open: false,
            redial_at,
            redial_pause: REDIAL_MIN,
            relayed: None,
            wanted: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    /// Returns the route to a peer, once its channel is bound.
    pub(super) fn route(&self, peer: SocketAddr) -> Option<Route> {
        let channel = self.client.channel(peer)?.value();
        match self.transport {
            Transport::Udp => Some(Route::RelayedUdp {
                local: self.local,
                server: self.server,
                channel,
            }),
            Transport::Tcp => Some(Route::RelayedStream {
                stream: self.stream?,
                channel,
            }),
        }
    }

    /// Sends a payload over its channel. Returns `false` when it was dropped.
    ///
    /// Without the channel a check would be dropped by the relay anyway. An answer is held until the channel
    /// is bound, though there may be a permission for its address: the peer may use the path as soon as it has
    /// the answer, and we could not tell its packets from strangers' before.
    pub(super) fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) -> bool {
        if self.client.channel(peer).is_some() {
            return self.client.send(peer, payload, now);
        }
        self.held.retain(|held| now < held.until);
        if !is_answer(payload) || self.held.len() >= HELD_MAX {
            return false;
        }
        let until = now + HELD_LIFETIME;
        self.held.push(Held {
            peer,
            payload: payload.to_vec(),
            until,
        });
        true
    }

    /// Sends what waited for the channel to a peer.
    pub(super) fn release(&mut self, peer: SocketAddr, now: Instant) {
        for held in std::mem::take(&mut self.held) {
            if held.peer != peer {
                self.held.push(held);
            } else if now < held.until {
                self.client.send(peer, &held.payload, now);
            }
        }
    }

    /// The connection is gone: the client is told, and another one is dialled after a pause.
    pub(super) fn lose_stream(&mut self, now: Instant) {
        self.stream_open = false;
        self.redial_at = Some(now + self.redial_pause);
        self.redial_pause = (self.redial_pause * 2).min(REDIAL_MAX);
        self.client.disconnected(now);
    }

    /// A connection that led to an allocation was a good one.
    pub(super) const fn reset_redial(&mut self) {
        self.redial_pause = REDIAL_MIN;
    }

    /// The allocation is gone: its channels with it. Returns its relayed address.
    pub(super) fn forget_allocation(&mut self) -> Option<SocketAddr> {
        for peer in std::mem::take(&mut self.wanted) {
            self.client.unbind(peer);
        }
        self.held.clear();
        self.relayed.take()
    }
}

fn is_answer(payload: &[u8]) -> bool {
    let class = Message::decode(payload).map(|message| message.class());
    matches!(class, Ok(Class::SuccessResponse | Class::ErrorResponse))
}
