//! What the ladders of one node share: the budget, the extra sockets and whose they are, the samples.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use natprobe::{Sampler, SamplerEvent};
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

use super::budget::{Budget, SOCKETS_MAX};
use super::{SocketRequestId, Survey};
use crate::event::{Event, PeerId};

/// Requests for sockets that were not answered; one round and one survey at a time need two.
const REQUESTS_MAX: usize = 16;
/// One round samples twice, and so may a survey beside it.
const SAMPLERS_MAX: usize = 8;

/// For whom sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// The survey of our own NAT.
    Survey,
    /// The ladder of a peer.
    Peer(PeerId),
}

/// Shared by all ladders.
#[derive(Debug, Default)]
pub(crate) struct Commons {
    pub(crate) budget: Budget,
    pub(crate) survey: Survey,
    /// STUN servers, of IPv4.
    servers: Vec<SocketAddr>,
    last_request: u64,
    requests: BTreeMap<SocketRequestId, SocketOwner>,
    sockets: BTreeMap<SocketAddr, SocketOwner>,
    samplers: Vec<(SocketOwner, Sampler)>,
    notes_told: u64,
}

impl Commons {
    pub(crate) fn set_servers(&mut self, servers: &[SocketAddr]) {
        self.servers = servers.iter().copied().filter(|it| it.is_ipv4()).collect();
    }

    // --- sockets ---

    /// Asks for sockets: fewer than wanted where some of earlier rounds have won and are still in use.
    pub(crate) fn request(&mut self, owner: SocketOwner, count: u16, events: &mut VecDeque<Event>) {
        // Sockets of a round that was left in the middle are nobody's: the next round must not take them for its own.
        self.requests.retain(|_, asked| *asked != owner);
        self.last_request += 1;
        let request = SocketRequestId(self.last_request);
        if self.requests.len() >= REQUESTS_MAX {
            // Answered so late that nobody waits any more.
            self.requests.pop_first();
        }
        self.requests.insert(request, owner);
        let open = u16::try_from(self.sockets.len()).unwrap_or(u16::MAX);
        let count = count.min(SOCKETS_MAX.saturating_sub(open));
        events.push_back(Event::OpenSockets {
            request,
            ipv6: false,
            count,
        });
    }

    /// Returns who asked; nobody, when the request is not known (any more).
    pub(crate) fn opened(
        &mut self,
        request: SocketRequestId,
        sockets: &[SocketAddr],
    ) -> Option<SocketOwner> {
        let owner = self.requests.remove(&request)?;
        self.sockets
            .extend(sockets.iter().map(|socket| (*socket, owner)));
        Some(owner)
    }

    /// Closes sockets.
    pub(crate) fn close(&mut self, sockets: Vec<SocketAddr>, events: &mut VecDeque<Event>) {
        for socket in &sockets {
            self.sockets.remove(socket);
        }
        if !sockets.is_empty() {
            events.push_back(Event::CloseSockets { sockets });
        }
    }

    pub(crate) fn is_extra(&self, local: SocketAddr) -> bool {
        self.sockets.contains_key(&local)
    }

    /// A peer is gone: what it asked for is nobody's.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        let owner = SocketOwner::Peer(peer);
        self.budget.forget(peer);
        self.requests.retain(|_, asked| *asked != owner);
        self.samplers.retain(|(asked, _)| *asked != owner);
    }

    /// Numbers the next note in our description: over all peers, and for good, since a peer that we forget for a while
    /// remembers what it has read.
    pub(crate) const fn count_note(&mut self) -> u64 {
        self.notes_told += 1;
        self.notes_told
    }

    // --- samples ---

    /// Asks a STUN server from each of these sockets.
    pub(crate) fn sample(
        &mut self,
        owner: SocketOwner,
        sockets: Vec<SocketAddr>,
        seed: [u8; 32],
        now: Instant,
    ) {
        if self.samplers.len() >= SAMPLERS_MAX {
            self.samplers.remove(0);
        }
        let sampler = Sampler::new(self.servers.clone(), sockets, seed, now);
        self.samplers.push((owner, sampler));
    }

    /// Whoever sampled is done.
    pub(crate) fn stop_sampling(&mut self, owner: SocketOwner) {
        self.samplers.retain(|(asked, _)| *asked != owner);
    }

    pub(crate) fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        if !self.is_extra(datagram.local) {
            return Handled::NotMine;
        }
        let consumed = self
            .samplers
            .iter_mut()
            .any(|(_, sampler)| sampler.handle_datagram(datagram, now) == Handled::Consumed);
        if consumed {
            Handled::Consumed
        } else {
            Handled::NotMine
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for (_, sampler) in &mut self.samplers {
            sampler.handle_timeout(now);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.samplers
            .iter_mut()
            .find_map(|(_, sampler)| sampler.poll_transmit())
    }

    /// Returns what a sampler has to tell, and whom.
    pub(crate) fn poll_event(&mut self) -> Option<(SocketOwner, SamplerEvent)> {
        let (index, event) = self
            .samplers
            .iter_mut()
            .enumerate()
            .find_map(|(index, (_, sampler))| Some((index, sampler.poll_event()?)))?;
        let owner = self.samplers[index].0;
        if event == SamplerEvent::Finished {
            self.samplers.remove(index);
        }
        Some((owner, event))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let samplers = self.samplers.iter().map(|(_, it)| it.poll_timeout());
        let survey = self.survey.deadline();
        earliest(samplers.chain([survey.map(|at| Deadline::new(at, "end a survey of our ports"))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_nobody_waits_for_any_more_are_nobodys() {
        let mut commons = Commons::default();
        let mut events = VecDeque::new();
        let owner = SocketOwner::Peer(PeerId(1));
        commons.request(owner, 256, &mut events);
        commons.request(SocketOwner::Survey, 16, &mut events);
        // The peer began another round before the sockets were there.
        commons.request(owner, 256, &mut events);
        let mut requests = Vec::new();
        for event in events {
            if let Event::OpenSockets { request, .. } = event {
                requests.push(request);
            }
        }
        let owners: Vec<_> = requests
            .iter()
            .map(|request| commons.opened(*request, &[]))
            .collect();
        assert_eq!(owners, [None, Some(SocketOwner::Survey), Some(owner)]);
    }
}
