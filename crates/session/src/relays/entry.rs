//! One allocation, or the attempt at one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::Client;
use stunwire::{Class, Message};

use super::offers::OfferId;
use crate::path::{RelayStreamId, RelayTransport, Route};

/// A TCP connection that ended is dialled anew after this, doubling to [`REDIAL_MAX`].
const REDIAL_MIN: Duration = Duration::from_millis(250);
/// Upper bound of the pause between TCP connections.
const REDIAL_MAX: Duration = Duration::from_secs(15);
/// A connection whose question stays unanswered for so long while others answer is dialled anew: four
/// retransmissions of TCP fit. While nobody answers it is the network, and dialling would not help.
const STREAM_SILENCE: Duration = Duration::from_secs(2);
/// Answers that wait for their channel; a peer's checks come one by one.
const HELD_MAX: usize = 16;
/// An answer that is older would tell the peer a round trip that is not one.
const HELD_LIFETIME: Duration = Duration::from_secs(1);

/// One allocation, or the attempt at one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) client: Client,
    /// The relay of the list that this is about.
    pub(super) offer: OfferId,
    pub(super) server: SocketAddr,
    pub(super) transport: RelayTransport,
    /// The name that the certificate must be for, with TLS.
    pub(super) tls_name: Option<String>,
    /// The base for UDP.
    pub(super) local: SocketAddr,
    /// The present connection for TCP and TLS.
    pub(super) stream: Option<RelayStreamId>,
    pub(super) stream_open: bool,
    /// When the first question that is not answered yet went into the connection.
    asked_at: Option<Instant>,
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
        offer: OfferId,
        server: SocketAddr,
        transport: RelayTransport,
        local: SocketAddr,
        redial_at: Option<Instant>,
    ) -> Self {
        Self {
            client,
            offer,
            server,
            transport,
            tls_name: None,
            local,
            stream: None,
            stream_open: false,
            asked_at: None,
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
            RelayTransport::Udp => Some(Route::RelayedUdp {
                local: self.local,
                server: self.server,
                channel,
            }),
            RelayTransport::Tcp | RelayTransport::Tls => Some(Route::RelayedStream {
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
        self.asked_at = None;
        self.redial_at = Some(now + self.redial_pause);
        self.redial_pause = (self.redial_pause * 2).min(REDIAL_MAX);
        self.client.disconnected(now);
    }

    /// A frame goes into the connection; a question wants an answer.
    pub(super) fn on_frame_sent(&mut self, frame: &[u8], now: Instant) {
        let is_question =
            Message::decode(frame).is_ok_and(|message| message.class() == Class::Request);
        if is_question {
            self.asked_at.get_or_insert(now);
        }
    }

    /// Something came over the connection.
    pub(super) fn on_frame_received(&mut self) {
        self.asked_at = None;
    }

    /// Returns when the connection counts as dead, given when anybody else was last heard.
    pub(super) fn silent_at(&self, others_heard_at: Option<Instant>) -> Option<Instant> {
        let asked_at = self.asked_at.filter(|_| self.stream_open)?;
        others_heard_at
            .filter(|heard_at| *heard_at > asked_at)
            .map(|_| asked_at + STREAM_SILENCE)
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
