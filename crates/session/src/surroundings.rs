//! What a peer may use of the node that owns it, for the time of one call.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand::rngs::StdRng;

use crate::event::Event;
use crate::kind::Interfaces;
use crate::path::PathId;
use crate::relays::Relays;

/// What peers share.
pub(crate) struct Surroundings<'a> {
    pub(crate) relays: &'a mut Relays,
    pub(crate) interfaces: &'a Interfaces,
    pub(crate) events: &'a mut VecDeque<Event>,
    pub(crate) next_path: &'a mut u64,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) relayed: &'a [SocketAddr],
    /// Set when channels may be bound that nobody wants any more.
    pub(crate) channels_stale: &'a mut bool,
}

impl Surroundings<'_> {
    pub(crate) fn draw_path_id(&mut self) -> PathId {
        let id = PathId(*self.next_path);
        *self.next_path += 1;
        id
    }
}
