//! Extra sockets and what is remembered: the part of the node that ladders share.

use std::net::SocketAddr;
use std::time::Instant;

use super::Node;
use crate::description::IdentityKey;
use crate::event::{Event, PeerId};
use crate::traversal::{LedgerEntry, SocketRequestId, Strategy};

/// More identities than this are not remembered; a person has a handful of peers.
const REMEMBERED_MAX: usize = 256;

impl Node {
    /// The sockets that [`Event::OpenSockets`] asked for are there, by their local addresses as bound: fewer
    /// than asked for, or none, when the system refuses.
    pub fn sockets_opened(
        &mut self,
        _request: SocketRequestId,
        sockets: Vec<SocketAddr>,
        _now: Instant,
    ) {
        if !sockets.is_empty() {
            self.events.push_back(Event::CloseSockets { sockets });
        }
    }

    /// Takes what worked against these identities in earlier runs: it is tried first.
    pub fn remember(&mut self, strategies: Vec<(IdentityKey, Strategy)>) {
        self.remembered.extend(strategies);
        while self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_first();
        }
    }

    /// Returns what each strategy has cost and brought against a peer.
    #[must_use]
    pub fn ledger(&self, peer: PeerId) -> Vec<LedgerEntry> {
        self.peers
            .get(&peer)
            .map(|peer| peer.ledger().to_vec())
            .unwrap_or_default()
    }
}
