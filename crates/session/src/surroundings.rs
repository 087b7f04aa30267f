//! What a peer may use of the node that owns it, for the time of one call.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use rand::rngs::StdRng;

use crate::description::{IdentityKey, InstanceId};
use crate::event::Event;
use crate::kind::Interfaces;
use crate::path::PathId;
use crate::relays::Relays;
use crate::traversal::{Commons, Profile, Strategy};

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
    pub(crate) commons: &'a mut Commons,
    pub(crate) standing: &'a Standing,
    pub(crate) remembered: &'a mut BTreeMap<IdentityKey, Strategy>,
}

/// What ladders know of this end.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) instance: InstanceId,
    pub(crate) ours: Profile,
    /// Where STUN servers see our main IPv4 socket, the newest last.
    pub(crate) seen_at: Vec<SocketAddr>,
    /// That socket.
    pub(crate) base: Option<SocketAddr>,
    /// Whether direct paths are wanted at all.
    pub(crate) may_climb: bool,
    /// Whether STUN servers have not said yet how our NAT maps.
    pub(crate) is_examining: bool,
}

impl Surroundings<'_> {
    pub(crate) fn draw_path_id(&mut self) -> PathId {
        let id = PathId(*self.next_path);
        *self.next_path += 1;
        id
    }
}
