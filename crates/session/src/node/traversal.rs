//! Extra sockets, samples and what is remembered: the part of the node that its ladders share.

use std::net::SocketAddr;
use std::time::Instant;

use natprobe::{PortAllocation, Report, SamplerEvent};
use rand::Rng;
use sansio::{Datagram, Handled};

use super::Node;
use crate::description::IdentityKey;
use crate::event::{Event, PeerId};
use crate::peer::Peer;
use crate::reason::Policy;
use crate::surroundings::Standing;
use crate::traversal::{
    LedgerEntry, Mapping, Profile, SURVEY_SOCKETS, SocketOwner, SocketRequestId, Strategy,
};

/// More identities than this are not remembered; a person has a handful of peers.
const REMEMBERED_MAX: usize = 256;

impl Node {
    /// The sockets that [`Event::OpenSockets`] asked for are there, by their local addresses as bound: fewer
    /// than asked for, or none, when the system refuses.
    pub fn sockets_opened(
        &mut self,
        request: SocketRequestId,
        sockets: Vec<SocketAddr>,
        now: Instant,
    ) {
        match self.commons.opened(request, &sockets) {
            Some(SocketOwner::Survey) => {
                if self.commons.survey.opened(&sockets, now) {
                    let mut seed = [0; 32];
                    self.rng.fill_bytes(&mut seed);
                    self.commons.sample(SocketOwner::Survey, sockets, seed, now);
                } else {
                    self.commons.close(sockets, &mut self.events);
                }
            }
            Some(SocketOwner::Peer(id)) => self.with_peers(|peers, surroundings| {
                if let Some(peer) = peers.get_mut(&id) {
                    peer.sockets_opened(sockets, surroundings, now);
                } else {
                    surroundings.commons.close(sockets, surroundings.events);
                }
            }),
            None => self.commons.close(sockets, &mut self.events),
        }
        self.drain_samples(now);
        self.drain_relays(now);
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

    /// Returns how our ports are allotted, where fresh sockets have shown it.
    pub(super) fn surveyed_ports(&self) -> Option<PortAllocation> {
        let is_per_destination = self.standing.ours.mapping == Mapping::PerDestination;
        self.commons
            .survey
            .found()
            .filter(|_| is_per_destination)
            .cloned()
    }

    /// What fresh sockets have shown of our ports is better evidence than what one socket shows.
    pub(super) fn with_surveyed_ports(&self, mut report: Report) -> Report {
        if let Some(ports) = self.surveyed_ports() {
            report.ports = ports;
        }
        report
    }

    /// Gathers what all ladders know of us. Returns whether it is something else than before.
    pub(super) fn update_standing(&mut self) {
        let base = self.gathered.base_of(false);
        let seen_at: Vec<_> = base
            .map(|base| self.gathered.reflexive_of(base).collect())
            .unwrap_or_default();
        let report = self.probing.latest(false);
        let mut ours = report.map(Profile::of_report).unwrap_or_default();
        ours = ours.or_seen_at(&seen_at);
        let has_moved = |seen: &[SocketAddr], before: &[SocketAddr]| {
            !before.is_empty()
                && !seen
                    .iter()
                    .any(|it| before.iter().any(|b| b.ip() == it.ip()))
        };
        if has_moved(&seen_at, &self.standing.seen_at) {
            self.commons.survey.forget();
        }
        if let (Mapping::PerDestination, Some(found)) = (ours.mapping, self.commons.survey.found())
        {
            ours = ours.with_ports(found);
        }
        if let Some(base) = base {
            self.commons.set_servers(self.probing.servers(base));
        }
        self.standing = Standing {
            instance: self.instance,
            ours,
            seen_at,
            base,
            may_climb: self.config.policy != Policy::RelayOnly,
            is_examining: report.is_none(),
        };
    }

    /// Looks at how our NAT allots ports, once somebody may need it.
    pub(super) fn survey_when_due(&mut self, now: Instant) {
        let is_needed = self.standing.may_climb
            && self.standing.ours.mapping == Mapping::PerDestination
            && self.peers.values().any(|peer| peer.needs_ladder(now));
        // Its sockets and those of a round together would be more than a router is promised.
        let is_free = !self.commons.budget.is_held();
        if !is_needed || !is_free || !self.commons.survey.is_due(now) {
            return;
        }
        let bindings = u32::from(SURVEY_SOCKETS);
        if self.commons.budget.spend_bindings(bindings, now).is_ok() {
            self.commons.survey.begin(now);
            self.commons
                .request(SocketOwner::Survey, SURVEY_SOCKETS, &mut self.events);
        }
    }

    /// A datagram at an extra socket is a sample or the peer's, and nobody else's.
    pub(super) fn handle_at_extra_socket(&mut self, datagram: Datagram<'_>, now: Instant) {
        if self.commons.handle_datagram(datagram, now) == Handled::Consumed {
            self.drain_samples(now);
            return;
        }
        self.offer_to_peers(datagram, now);
        self.drain_relays(now);
    }

    pub(super) fn handle_commons_timeout(&mut self, now: Instant) {
        self.survey_when_due(now);
        self.commons.handle_timeout(now);
        let late = self.commons.survey.handle_timeout(now);
        if !late.is_empty() {
            self.end_survey(late, now);
        }
        self.drain_samples(now);
    }

    pub(super) fn drain_samples(&mut self, now: Instant) {
        while let Some((owner, event)) = self.commons.poll_event() {
            match (owner, event) {
                (SocketOwner::Survey, SamplerEvent::Sampled { socket, mapped }) => {
                    self.commons.survey.sampled(socket, mapped);
                }
                (SocketOwner::Survey, SamplerEvent::Finished) => {
                    let sockets = self.commons.survey.finish();
                    self.end_survey(sockets, now);
                }
                (SocketOwner::Peer(id), SamplerEvent::Sampled { socket, mapped }) => {
                    self.with_peers(|peers, surroundings| {
                        if let Some(peer) = peers.get_mut(&id) {
                            peer.sampled(socket, mapped, surroundings, now);
                        }
                    });
                }
                // A round does not wait longer than it wants to, and `SamplerEvent` may grow.
                _ => {}
            }
        }
    }

    fn end_survey(&mut self, sockets: Vec<SocketAddr>, now: Instant) {
        self.commons.stop_sampling(SocketOwner::Survey);
        self.commons.close(sockets, &mut self.events);
        self.update_standing();
        if let Some(report) = self.probing.report(false).cloned() {
            let report = self.with_surveyed_ports(report);
            self.events.push_back(Event::NatClassified(report));
        }
        self.events.push_back(Event::DescriptionChanged);
        self.with_peers(|peers, surroundings| {
            for peer in peers.values_mut() {
                peer.drain(surroundings, now);
            }
        });
    }
}

impl Peer {
    /// Whether plain checks have not led to a direct path.
    fn needs_ladder(&self, now: Instant) -> bool {
        self.is_started() && !self.is_direct(now)
    }
}
