//! Which channels a peer needs, and what happens when one is bound or an allocation is lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Peer;
use crate::event::DropCause;
use crate::path::Route;
use crate::surroundings::Surroundings;

/// Channels asked for per allocation and peer, relayed and reflexive addresses first. An allocation has 64
/// (see `relay`), and private addresses are refused by most relays, so that twenty peers fit.
const BINDS_MAX: usize = 8;
/// A channel to an address that checks came from, but that no path uses, is kept for this long.
const HEARD_CHANNEL_LIFETIME: Duration = Duration::from_secs(30);

impl Peer {
    /// Asks every allocation for a channel to each address at which the peer may be reached.
    pub(super) fn bind_channels(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        for (relayed, remote) in self.described_channels(surroundings.relayed) {
            surroundings.relays.bind(relayed, remote, now);
        }
        *surroundings.channels_stale = true;
    }

    fn described_channels(&self, allocations: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        if !self.is_started() || !self.use_relays {
            return Vec::new();
        }
        let mut remotes = self.description.remote_candidates();
        remotes.sort_by_key(|candidate| std::cmp::Reverse(candidate.kind));
        let mut channels = Vec::new();
        for relayed in allocations {
            let reachable = remotes
                .iter()
                .filter(|it| it.address.is_ipv4() == relayed.is_ipv4());
            channels.extend(
                reachable
                    .take(BINDS_MAX)
                    .map(|remote| (*relayed, remote.address)),
            );
        }
        channels
    }

    /// Returns the channels that this peer has a use for.
    pub(crate) fn wanted_channels(
        &self,
        allocations: &[SocketAddr],
        now: Instant,
    ) -> BTreeSet<(SocketAddr, SocketAddr)> {
        let heard_lately = |pair: &&punch::CandidatePair| {
            let heard = pair.last_heard;
            heard.is_some_and(|at| now.saturating_duration_since(at) < HEARD_CHANNEL_LIFETIME)
        };
        let heard = self.agent.pairs().filter(heard_lately);
        let used = self
            .paths
            .iter()
            .map(|(_, path)| (path.view.local, path.view.remote));
        self.described_channels(allocations)
            .into_iter()
            .chain(heard.map(|pair| (pair.local.base, pair.remote.address)))
            .chain(used)
            .filter(|(local, _)| allocations.contains(local))
            .collect()
    }

    /// A channel was bound: the pair through it can be checked at once, and its path used.
    pub(crate) fn relay_bound(
        &mut self,
        relayed: SocketAddr,
        remote: SocketAddr,
        route: Route,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let pair = self
            .agent
            .pairs()
            .find(|pair| pair.local.base == relayed && pair.remote.address == remote)
            .map(|pair| (pair.id, pair.is_validated()));
        let Some((pair, validated)) = pair else {
            return;
        };
        if let Some(path) = self.paths.of_pair(pair) {
            self.route_known(path, route, surroundings, now);
        }
        if !validated {
            // What was sent before went nowhere (see `Relays::send`), so the schedule begins now.
            self.agent.restart(pair, now);
        }
        self.drain(surroundings, now);
    }

    /// An allocation is gone, and with it every path through it.
    pub(crate) fn relay_lost(
        &mut self,
        relayed: SocketAddr,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        self.agent.remove_local_base(relayed, now);
        self.locals.retain(|candidate| candidate.base != relayed);
        let lost: Vec<_> = self
            .paths
            .iter()
            .filter(|(_, path)| path.view.through_our_relay && path.view.local == relayed)
            .map(|(id, _)| id)
            .collect();
        for path in lost {
            self.drop_path(path, DropCause::RelayLost, None, surroundings, now);
        }
        self.drain(surroundings, now);
    }
}
