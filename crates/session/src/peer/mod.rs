//! One peer run: its description, the agent that punches toward it, and the passing of time.
//!
//! * `channels`: which channels its allocations need; `paths`: what becomes of what the agent reports;
//!   `observation`: what is seen of the peer while no direct path works;
//!   `climbing`: what its ladder knows, wants and gets.

mod channels;
mod climbing;
mod observation;
mod paths;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairId, Role};
use rand::Rng;
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

use self::observation::Observation;
use crate::credentials::pair_credentials;
use crate::description::{Description, Side};
use crate::event::{DropCause, Event, PeerId};
use crate::kept::{KeptPaths, Path};
use crate::path::{PathId, PathView};
use crate::surroundings::Surroundings;
use crate::traversal::{Ladder, LedgerEntry};
use crate::watch::Verdict;

use climbing::Climb;

/// The egress side checks a path itself when nothing was heard on it for two of the ingress side's intervals
/// and a little: it is not kept, or our own NAT has moved and keeps the ingress side out.
const EGRESS_QUESTION: Duration = Duration::from_secs(46);
/// It forgets the path when nothing was heard for three of them.
const EGRESS_SILENCE: Duration = Duration::from_secs(68);
/// A path whose carrier could not be opened is tried again after this.
const CARRIER_PENALTY: Duration = Duration::from_secs(2);
/// Pairs that are younger are still in the brisk phases of their schedule, and news need not wake them.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// One run of one peer.
#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    side: Side,
    pub(crate) description: Description,
    agent: Agent,
    /// When checking began, and when news last made it begin anew.
    started: Option<Instant>,
    locals: Vec<Candidate>,
    paths: KeptPaths,
    restarts: Vec<(Instant, PairId)>,
    use_relays: bool,
    observation: Observation,
    climb: Climb,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        ours: &Description,
        theirs: Description,
        use_relays: bool,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) -> Self {
        let mut seed = [0; 32];
        surroundings.rng.fill_bytes(&mut seed);
        let role = match ours.role {
            Side::Ingress => Role::Controlling,
            Side::Egress => Role::Controlled,
        };
        let credentials = pair_credentials(ours, &theirs);
        let remembered = surroundings.remembered.get(&theirs.identity).copied();
        let mut ladder_seed = [0; 32];
        surroundings.rng.fill_bytes(&mut ladder_seed);
        let ladder = Ladder::new(id, ours.role, remembered, ladder_seed);
        Self {
            id,
            side: ours.role,
            agent: Agent::new(AgentConfig::default(), role, credentials, seed, now),
            description: theirs,
            started: None,
            locals: Vec::new(),
            paths: KeptPaths::default(),
            restarts: Vec::new(),
            use_relays,
            observation: Observation::default(),
            climb: Climb::new(ladder),
        }
    }

    /// Starts checking: the description is fresh (ingress) or the egress side opens its NAT early.
    pub(crate) fn start(
        &mut self,
        locals: &[Candidate],
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        self.started = Some(now);
        // A ladder that may not climb must not ask to be woken for it.
        if surroundings.standing.may_climb {
            self.climb.ladder.start(now);
        }
        self.set_local_candidates(locals, surroundings, now);
        self.apply_remote_candidates(surroundings, now);
    }

    pub(crate) const fn is_started(&self) -> bool {
        self.started.is_some()
    }

    pub(crate) fn set_description(
        &mut self,
        description: Description,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let is_news = description.candidates != self.description.candidates;
        self.description = description;
        if self.is_started() && is_news {
            self.apply_remote_candidates(surroundings, now);
            self.heed_news(now);
        }
        self.read_described_notes(surroundings, now);
        self.drain(surroundings, now);
    }

    fn apply_remote_candidates(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        let remotes = self.remote_candidates();
        self.agent.set_remote_candidates(remotes, now);
        self.bind_channels(surroundings, now);
        self.drain(surroundings, now);
    }

    fn remote_candidates(&self) -> Vec<Candidate> {
        let mut remotes = self.description.remote_candidates();
        if !self.use_relays {
            remotes.retain(|candidate| candidate.kind != CandidateKind::Relayed);
        }
        remotes
    }

    pub(crate) fn set_local_candidates(
        &mut self,
        locals: &[Candidate],
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        if !self.is_started() || self.locals == locals {
            return;
        }
        let vanished: BTreeSet<_> = self
            .locals
            .iter()
            .map(|old| old.base)
            .filter(|base| !locals.iter().any(|new| new.base == *base))
            .collect();
        for base in vanished {
            self.agent.remove_local_base(base, now);
        }
        for candidate in locals {
            if !self.locals.contains(candidate) {
                self.agent.add_local_candidate(*candidate, now);
            }
        }
        self.locals = locals.to_vec();
        self.bind_channels(surroundings, now);
        self.drain(surroundings, now);
    }

    /// Something has changed, here or there: what failed before may work now, and what worked may have to be
    /// opened anew from our side. Pairs that are new anyway are left alone.
    pub(crate) fn heed_news(&mut self, now: Instant) {
        if self.started.is_none_or(|since| now < since + NEWS_AFTER) {
            return;
        }
        self.started = Some(now);
        self.agent.restart_unvalidated(now);
        for (_, path) in self.paths.iter() {
            self.agent.check(path.pair, now);
        }
    }

    // --- input ---

    pub(crate) fn handle_datagram(
        &mut self,
        datagram: Datagram<'_>,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) -> Handled {
        let is_unwanted = !self.use_relays && self.is_relayed(datagram.remote);
        if !self.is_started() || is_unwanted {
            return Handled::NotMine;
        }
        let handled = self.agent.handle_datagram(datagram, now);
        if handled == Handled::Consumed {
            self.drain(surroundings, now);
        }
        handled
    }

    /// Packets of the path were heard at `at`.
    pub(crate) fn heard(&mut self, id: PathId, at: Instant) {
        if let Some(path) = self.paths.get_mut(id) {
            path.heard = path.heard.max(at);
            path.carried = path.carried.max(Some(at));
            path.watch.heard(at);
            // A path that is never quiet is never checked, and must not pass for abandoned.
            self.agent.note_heard(path.pair, path.heard);
        }
    }

    /// Data is outstanding on the path and nothing was heard since `since`.
    pub(crate) fn waiting(&mut self, id: PathId, since: Instant, now: Instant) {
        if let Some(path) = self.paths.get_mut(id) {
            path.watch.waiting(since, now);
        }
    }

    /// Somebody says that the path is dead: look at once.
    pub(crate) fn doubt(&mut self, id: PathId, now: Instant) {
        if let Some(path) = self.paths.get_mut(id) {
            path.watch.doubt(now);
        }
    }

    /// No carrier could be opened over the path.
    pub(crate) fn carrier_failed(
        &mut self,
        id: PathId,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let retry_at = now + CARRIER_PENALTY;
        self.drop_path(
            id,
            DropCause::CarrierFailed,
            Some(retry_at),
            surroundings,
            now,
        );
        self.drain(surroundings, now);
    }

    /// Drops every path: the peer goes.
    pub(crate) fn close(&mut self, surroundings: &mut Surroundings<'_>) {
        for path in self.paths.take_all() {
            let cause = DropCause::PeerRemoved;
            surroundings.events.push_back(Event::PathDropped {
                peer: self.id,
                path,
                cause,
            });
        }
        *surroundings.channels_stale = true;
        self.leave_ladder(surroundings);
    }

    // --- time ---

    pub(crate) fn handle_timeout(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        if !self.is_started() {
            return;
        }
        self.agent.handle_timeout(now);
        self.observe(surroundings, now);
        let (due, later): (Vec<_>, Vec<_>) =
            self.restarts.drain(..).partition(|(at, _)| *at <= now);
        self.restarts = later;
        for (_, pair) in due {
            self.agent.restart(pair, now);
        }
        match self.side {
            Side::Ingress => self.watch_kept_paths(surroundings, now),
            Side::Egress => {
                self.watch_doubted_paths(surroundings, now);
                self.question_silent_paths(surroundings, now);
            }
        }
        for path in self.paths.take_superseded(now) {
            let cause = DropCause::Superseded;
            surroundings.events.push_back(Event::PathDropped {
                peer: self.id,
                path,
                cause,
            });
            *surroundings.channels_stale = true;
        }
        self.sweep_winners(surroundings, now);
        self.drain(surroundings, now);
    }

    fn watch_kept_paths(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        for id in self.paths.watched() {
            self.watch_path(id, surroundings, now);
        }
    }

    /// The egress side looks at paths only when it is told that something is wrong with them.
    fn watch_doubted_paths(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        let doubted = self.paths.iter().filter(|it| it.1.watch.is_in_doubt());
        let doubted: Vec<_> = doubted.map(|(id, _)| id).collect();
        for id in doubted {
            self.watch_path(id, surroundings, now);
        }
    }

    fn watch_path(&mut self, id: PathId, surroundings: &mut Surroundings<'_>, now: Instant) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        match path.watch.handle_timeout(now) {
            Verdict::Wait => {}
            Verdict::Check => {
                let (pair, in_doubt) = (path.pair, path.watch.is_in_doubt());
                self.agent.check(pair, now);
                if in_doubt {
                    self.agent.check_small(pair, now);
                    self.look_for_alternatives(id, now);
                }
            }
            Verdict::Dead => {
                let cause = path.watch.cause();
                self.drop_path(id, cause, Some(now), surroundings, now);
            }
        }
    }

    /// The chosen path is in doubt: is the standby alive?
    fn look_for_alternatives(&mut self, doubted: PathId, now: Instant) {
        let standby = self.paths.standby().filter(|standby| *standby != doubted);
        if let Some(path) = standby.and_then(|id| self.paths.get(id)) {
            self.agent.check(path.pair, now);
        }
    }

    fn question_silent_paths(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        let mut silent = Vec::new();
        let mut questions = Vec::new();
        for (id, path) in self.paths.iter() {
            if now >= path.heard + EGRESS_SILENCE {
                silent.push(id);
            } else if now >= egress_deadline(path) {
                questions.push((id, path.pair));
            }
        }
        for (id, pair) in questions {
            self.agent.check(pair, now);
            if let Some(path) = self.paths.get_mut(id) {
                path.questioned = Some(now);
            }
        }
        for id in silent {
            self.drop_path(id, DropCause::Silent, Some(now), surroundings, now);
        }
    }

    /// Returns what each strategy has cost and brought.
    pub(crate) fn ledger(&self) -> &[LedgerEntry] {
        self.climb.ladder.ledger()
    }

    pub(crate) fn owns(&self, path: PathId) -> bool {
        self.paths.get(path).is_some()
    }

    pub(crate) fn view(&self, path: PathId) -> Option<&PathView> {
        self.paths.get(path).map(|path| &path.view)
    }

    /// Returns the path, if any, that packets between these addresses belong to.
    pub(crate) fn path_between(&self, local: SocketAddr, remote: SocketAddr) -> Option<PathId> {
        self.paths.between(local, remote)
    }

    // --- output ---

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.agent.poll_transmit()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        if !self.is_started() {
            return None;
        }
        let restart = self.restarts.iter().map(|(at, _)| *at).min();
        let superseded = self.paths.next_superseded();
        earliest([
            restart.map(|at| Deadline::new(at, "check again")),
            superseded.map(|at| Deadline::new(at, "drop a superseded path")),
            self.climb.ladder.poll_timeout(),
            self.climb
                .next_sweep()
                .map(|at| Deadline::new(at, "close a socket that won once")),
            self.next_look(),
            self.agent.poll_timeout(),
        ])
    }

    fn next_look(&self) -> Option<Deadline> {
        match self.side {
            Side::Ingress => earliest(
                self.paths
                    .watched()
                    .filter_map(|id| self.paths.get(id))
                    .map(|path| Some(path.watch.poll_timeout())),
            ),
            Side::Egress => earliest(self.paths.iter().map(|(_, path)| {
                if path.watch.is_in_doubt() {
                    return Some(path.watch.poll_timeout());
                }
                Some(Deadline::new(egress_deadline(path), "a silent path"))
            })),
        }
    }
}

/// When the egress side next looks at a path: it asks once per silence, then forgets.
fn egress_deadline(path: &Path) -> Instant {
    match path.questioned {
        Some(at) if at > path.heard => path.heard + EGRESS_SILENCE,
        _ => path.heard + EGRESS_QUESTION,
    }
}
