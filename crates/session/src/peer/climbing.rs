//! The ladder's hands: what it knows comes from here, and what it wants is done here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use punch::{CandidateKind, PairId, Probe, Volley, VolleyId};
use rand::Rng;

use super::Peer;
use crate::description::{DescribedNote, Side};
use crate::event::{DropCause, Event};
use crate::hex;
use crate::path::{PathKind, PathView};
use crate::surroundings::Surroundings;
use crate::traversal::{
    Action, Knowledge, Ladder, Mapping, Note, PACKETS_PER_SECOND, Profile, SocketOwner, Strategy,
    VolleyOrder, public_addresses,
};

/// Sockets that found a path and are kept as its base. One is used; the others may find that theirs is better.
const WINNERS_MAX: usize = 4;
/// A socket that won is closed when no path has used it for this long: the path may come back after an outage.
const WINNER_LINGER: Duration = Duration::from_secs(30);
/// Notes in the description that the peer may not have read yet.
const DESCRIBED_MAX: usize = 3;
/// The egress side hears a path that the ingress side keeps at least this often (see `watch`).
const HEARD_LATELY: Duration = Duration::from_secs(30);

/// What the ladder has in use.
#[derive(Debug)]
pub(super) struct Climb {
    pub(super) ladder: Ladder,
    volley: Option<VolleyId>,
    /// Every extra socket that is ours, and since when no path uses it, if it has won and is kept.
    sockets: BTreeSet<SocketAddr>,
    winners: BTreeMap<SocketAddr, Option<Instant>>,
    described: Vec<DescribedNote>,
    notes_heard: u64,
    strategies_told: BTreeSet<Strategy>,
}

impl Climb {
    pub(super) const fn new(ladder: Ladder) -> Self {
        Self {
            ladder,
            volley: None,
            sockets: BTreeSet::new(),
            winners: BTreeMap::new(),
            described: Vec::new(),
            notes_heard: 0,
            strategies_told: BTreeSet::new(),
        }
    }

    pub(super) fn next_sweep(&self) -> Option<Instant> {
        let idle = self.winners.values().flatten().min();
        idle.map(|since| *since + WINNER_LINGER)
    }
}

impl Peer {
    /// Tells the ladder what is known, lets it decide, and does what it wants.
    pub(super) fn climb(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        if !self.is_started() || !surroundings.standing.may_climb {
            return;
        }
        self.tell_what_worked(surroundings);
        let known = self.knowledge(surroundings, now);
        let budget = &mut surroundings.commons.budget;
        self.climb.ladder.learn(known, budget, now);
        self.climb.ladder.handle_timeout(budget, now);
        self.act(surroundings, now);
    }

    fn knowledge(&self, surroundings: &Surroundings<'_>, now: Instant) -> Knowledge {
        let standing = surroundings.standing;
        let candidates = self.description.remote_candidates();
        let targets = public_addresses(&candidates, surroundings.interfaces, &standing.seen_at);
        // The relay of either end is one more destination, at which a NAT shows its nature early.
        let mut we_are_seen_at = standing.seen_at.clone();
        let mut they_are_seen_at: Vec<_> = candidates
            .iter()
            .filter(|it| it.kind == CandidateKind::ServerReflexive && it.address.is_ipv4())
            .map(|it| it.address)
            .collect();
        for pair in self.agent.pairs() {
            if Some(pair.local.base) == standing.base {
                we_are_seen_at.extend(pair.mapped.filter(SocketAddr::is_ipv4));
            } else if surroundings.relayed.contains(&pair.local.base)
                && pair.last_heard.is_some()
                && targets.iter().any(|it| it.ip() == pair.remote.address.ip())
            {
                they_are_seen_at.push(pair.remote.address);
            }
        }
        let our_ip = standing.seen_at.last().and_then(|it| match it.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        Knowledge {
            ours: standing.ours.or_seen_at(&we_are_seen_at),
            theirs: Profile::of_summary(&self.description.nat).or_seen_at(&they_are_seen_at),
            our_ip,
            base: standing.base,
            targets,
            is_direct: self.is_direct(now),
            notes_are_slow: self.note_pair().is_none(),
            surveying: is_survey_awaited(surroundings),
        }
    }

    /// Whether a path without a relay works.
    pub(crate) fn is_direct(&self, now: Instant) -> bool {
        match self.side {
            Side::Ingress => {
                let chosen = self.paths.chosen().and_then(|id| self.paths.get(id));
                chosen.is_some_and(|path| path.validated && path.view.kind != PathKind::Relay)
            }
            Side::Egress => self.paths.iter().any(|(_, path)| {
                path.validated
                    && path.view.kind != PathKind::Relay
                    && now.saturating_duration_since(path.heard) < HEARD_LATELY
            }),
        }
    }

    /// A strategy is reported once, when a path that it found is there.
    fn tell_what_worked(&mut self, surroundings: &mut Surroundings<'_>) {
        let paths: Vec<&PathView> = match self.side {
            Side::Ingress => self
                .paths
                .chosen()
                .and_then(|id| self.view(id))
                .into_iter()
                .collect(),
            Side::Egress => {
                let validated = self.paths.iter().filter(|(_, path)| path.validated);
                validated.map(|(_, path)| &path.view).collect()
            }
        };
        let worked: BTreeSet<_> = paths
            .into_iter()
            .filter(|view| view.kind != PathKind::Relay)
            .map(|view| self.strategy_of(view))
            .collect();
        for strategy in worked {
            if self.climb.strategies_told.insert(strategy) {
                let identity = self.description.identity;
                surroundings.remembered.insert(identity, strategy);
                surroundings.events.push_back(Event::StrategyWorked {
                    peer: self.id,
                    identity,
                    strategy,
                });
            }
        }
    }

    fn strategy_of(&self, view: &PathView) -> Strategy {
        if view.remote.is_ipv6() {
            return Strategy::Ipv6;
        }
        match view.found_as {
            CandidateKind::PortMapped => Strategy::PortMapped,
            CandidateKind::Predicted => match self.climb.ladder.strategy() {
                Some(Strategy::Block) => Strategy::Block,
                _ => Strategy::Predicted,
            },
            CandidateKind::Birthday => Strategy::Birthday,
            CandidateKind::Host
            | CandidateKind::PeerReflexive
            | CandidateKind::ServerReflexive
            | CandidateKind::Relayed => Strategy::Plain,
        }
    }

    // --- what the ladder wants ---

    fn act(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        for action in self.climb.ladder.take_actions() {
            match action {
                Action::OpenSockets { count } => {
                    let owner = SocketOwner::Peer(self.id);
                    surroundings
                        .commons
                        .request(owner, count, surroundings.events);
                }
                Action::Sample { sockets } => {
                    let mut seed = [0; 32];
                    surroundings.rng.fill_bytes(&mut seed);
                    let owner = SocketOwner::Peer(self.id);
                    surroundings.commons.sample(owner, sockets, seed, now);
                }
                Action::AddAnchors { sockets, kind } => {
                    for socket in sockets {
                        self.agent.add_anchor(socket, kind, now);
                    }
                }
                Action::StartVolley(order) => self.start_volley(order, now),
                Action::StopVolley => {
                    if let Some(volley) = self.climb.volley {
                        self.agent.stop_volley(volley);
                    }
                }
                Action::Release { sockets } => self.release(sockets, surroundings, now),
                Action::Send(note) => self.send_note(&note, surroundings, now),
                Action::Survey => surroundings.commons.survey.doubt(),
            }
        }
    }

    fn start_volley(&mut self, order: VolleyOrder, now: Instant) {
        if let Some(former) = self.climb.volley.take() {
            self.agent.stop_volley(former);
        }
        let probes = order.probes.into_iter();
        let volley = Volley {
            probes: probes
                .map(|(local, remote)| Probe { local, remote })
                .collect(),
            kind: order.kind,
            per_second: PACKETS_PER_SECOND,
            openers: order.openers,
            passes: order.passes,
            pass_gap: order.gap,
        };
        self.climb.volley = Some(self.agent.start_volley(volley, now));
    }

    /// Closes sockets, but keeps those at which the peer is met.
    fn release(
        &mut self,
        sockets: Vec<SocketAddr>,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        surroundings
            .commons
            .stop_sampling(SocketOwner::Peer(self.id));
        let has_won = |socket: &SocketAddr| {
            let pairs = self.agent.pairs();
            pairs
                .filter(|pair| pair.local.base == *socket)
                .any(punch::CandidatePair::is_validated)
        };
        let (mut winners, mut losers): (Vec<_>, Vec<_>) = sockets.into_iter().partition(has_won);
        winners.sort_by_key(|socket| Reverse(self.worth_of(*socket)));
        // Those of earlier rounds come after these: a round is played because their paths have died.
        let mut earlier: Vec<_> = self.climb.winners.keys().copied().collect();
        earlier.sort_by_key(|socket| Reverse(self.worth_of(*socket)));
        winners.extend(earlier);
        winners.sort_by_key(|socket| !self.is_in_use(*socket));
        losers.extend(winners.split_off(winners.len().min(WINNERS_MAX)));
        for winner in winners {
            self.climb.winners.entry(winner).or_insert(None);
        }
        self.close_sockets(losers, surroundings, now);
    }

    fn is_in_use(&self, socket: SocketAddr) -> bool {
        let used = self.paths.chosen().and_then(|id| self.view(id));
        used.is_some_and(|view| view.local == socket)
    }

    /// How likely it is that the peer uses a socket. The egress side does not choose: it knows by the carrier which
    /// path the peer has chosen, and before there is one, that the peer takes what it finds first.
    fn worth_of(&self, socket: SocketAddr) -> (Option<Instant>, Option<Reverse<Instant>>) {
        let paths = || {
            let all = self.paths.iter().map(|(_, path)| path);
            all.filter(|path| path.view.local == socket)
        };
        let carried = paths().filter_map(|path| path.carried).max();
        let made = paths().map(|path| path.made).min();
        (carried, made.map(Reverse))
    }

    fn close_sockets(
        &mut self,
        sockets: Vec<SocketAddr>,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let gone = self.paths.iter();
        let gone: Vec<_> = gone
            .filter(|(_, path)| sockets.contains(&path.view.local))
            .map(|(id, _)| id)
            .collect();
        for path in gone {
            self.drop_path(path, DropCause::Superseded, None, surroundings, now);
        }
        for socket in &sockets {
            self.agent.remove_local_base(*socket, now);
            self.climb.sockets.remove(socket);
            self.climb.winners.remove(socket);
        }
        surroundings.commons.close(sockets, surroundings.events);
    }

    /// Closes winners that no path has used for a while.
    pub(super) fn sweep_winners(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        if self.climb.winners.is_empty() {
            return;
        }
        let used: BTreeSet<_> = self.paths.iter().map(|(_, path)| path.view.local).collect();
        let mut idle = Vec::new();
        for (socket, since) in &mut self.climb.winners {
            if used.contains(socket) {
                *since = None;
            } else if now >= *since.get_or_insert(now) + WINNER_LINGER {
                idle.push(*socket);
            }
        }
        self.close_sockets(idle, surroundings, now);
    }

    /// The peer is gone, and so is all that was opened for it.
    pub(super) fn leave_ladder(&mut self, surroundings: &mut Surroundings<'_>) {
        surroundings.commons.forget(self.id);
        let sockets = std::mem::take(&mut self.climb.sockets);
        let sockets = sockets.into_iter().collect();
        surroundings.commons.close(sockets, surroundings.events);
    }

    // --- what became of it ---

    pub(crate) fn sockets_opened(
        &mut self,
        sockets: Vec<SocketAddr>,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        self.climb.sockets.extend(sockets.iter().copied());
        let budget = &mut surroundings.commons.budget;
        self.climb.ladder.sockets_opened(sockets, budget, now);
        self.act(surroundings, now);
        self.drain(surroundings, now);
    }

    pub(crate) fn sampled(
        &mut self,
        socket: SocketAddr,
        mapped: SocketAddr,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let budget = &mut surroundings.commons.budget;
        self.climb.ladder.sampled(socket, mapped, budget, now);
        self.act(surroundings, now);
        self.drain(surroundings, now);
    }

    pub(super) fn volley_ended(
        &mut self,
        volley: VolleyId,
        sent: u32,
        answered: u32,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        if self.climb.volley != Some(volley) {
            return;
        }
        self.climb.volley = None;
        let budget = &mut surroundings.commons.budget;
        self.climb.ladder.volley_ended(sent, answered, budget, now);
        self.act(surroundings, now);
    }

    // --- notes ---

    /// The pair that a note takes: that of the path in use, else the one that was heard last.
    fn note_pair(&self) -> Option<PairId> {
        let chosen = self.paths.chosen().and_then(|id| self.paths.get(id));
        let chosen = chosen.filter(|path| path.validated).map(|path| path.pair);
        let is_validated = |pair: &PairId| {
            let pair = self.agent.pair(*pair);
            pair.is_some_and(punch::CandidatePair::is_validated)
        };
        chosen.filter(is_validated).or_else(|| {
            let validated = self.agent.pairs().filter(|pair| pair.is_validated());
            let last = validated.max_by_key(|pair| pair.last_heard);
            last.map(|pair| pair.id)
        })
    }

    fn send_note(&mut self, note: &Note, surroundings: &mut Surroundings<'_>, now: Instant) {
        let bytes = note.encode();
        if let Some(pair) = self.note_pair() {
            // One that finds the queue full is lost: a peer that asks too often must not make us write our slot as often.
            self.agent.send_note(pair, bytes, now);
            return;
        }
        if self.climb.described.len() >= DESCRIBED_MAX {
            self.climb.described.remove(0);
        }
        self.climb.described.push(DescribedNote {
            to: self.description.instance,
            counter: surroundings.commons.count_note(),
            note: hex::encode(&bytes),
        });
        surroundings.events.push_back(Event::DescriptionChanged);
    }

    /// Notes for this peer that travel in our description.
    pub(crate) fn described_notes(&self) -> &[DescribedNote] {
        &self.climb.described
    }

    pub(super) fn hear_note(
        &mut self,
        bytes: &[u8],
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        if !surroundings.standing.may_climb {
            return;
        }
        let Some(note) = Note::decode(bytes) else {
            tracing::debug!(bytes = bytes.len(), "a note that we do not understand");
            return;
        };
        let known = self.knowledge(surroundings, now);
        let budget = &mut surroundings.commons.budget;
        self.climb.ladder.learn(known, budget, now);
        self.climb.ladder.handle_note(note, budget, now);
        self.act(surroundings, now);
    }

    /// Takes the notes to us in the peer's description that were not read before.
    pub(super) fn read_described_notes(
        &mut self,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        if !self.is_started() || !surroundings.standing.may_climb {
            return;
        }
        let notes = self.description.notes.iter();
        let mut new: Vec<_> = notes
            .filter(|note| note.to == surroundings.standing.instance)
            .filter(|note| note.counter > self.climb.notes_heard)
            .cloned()
            .collect();
        new.sort_by_key(|note| note.counter);
        for note in new {
            self.climb.notes_heard = note.counter;
            if let Some(bytes) = hex::decode(&note.note) {
                self.hear_note(&bytes, surroundings, now);
            }
        }
    }
}

/// Whether our ports are being looked at, or will be as soon as our NAT is known to map per destination.
fn is_survey_awaited(surroundings: &Surroundings<'_>) -> bool {
    let (standing, survey) = (surroundings.standing, &surroundings.commons.survey);
    let is_to_come = standing.is_examining || standing.ours.mapping == Mapping::PerDestination;
    survey.is_running() || (!survey.has_begun() && is_to_come)
}
