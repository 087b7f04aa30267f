//! Which paths a peer has, which of them carries traffic, and which stands by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use punch::PairId;

use crate::path::{PathId, PathKind, PathView, Route};
use crate::watch::Watch;

/// How long a path that lost its job is kept: the new carrier needs a handshake, which the layer above gives
/// up after five seconds, and then moves its flows.
const SUPERSEDED_LINGER: Duration = Duration::from_secs(10);

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) pair: PairId,
    pub(crate) view: PathView,
    pub(crate) route: Option<Route>,
    /// Whether our own check was answered, so that packets flow both ways.
    pub(crate) validated: bool,
    /// When it was found.
    pub(crate) made: Instant,
    /// When a check of ours was last answered.
    pub(crate) answered: Instant,
    /// Since when, and how often, the peer has been asking about it in quick succession.
    pub(crate) asked: (Instant, u32),
    pub(crate) watch: Watch,
    /// When anything authentic last arrived on it.
    pub(crate) heard: Instant,
    /// When a carrier last heard something on it.
    pub(crate) carried: Option<Instant>,
    /// When it was last checked because it had been silent (egress).
    pub(crate) questioned: Option<Instant>,
}

/// Whoever has its answer asks again after 20 s. One in doubt, or one that looks for a path, asks at least twice
/// a second.
const ASKED_IN_VAIN: u32 = 4;
const QUICKLY: Duration = Duration::from_secs(3);
/// While a path opens both ends ask on it.
const OPENING: Duration = Duration::from_secs(5);
/// An answer that is no older says more than a question.
const ANSWERED_LATELY: Duration = Duration::from_secs(1);

impl Path {
    /// Returns whether both ends know the path, and it was not proven just now.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.validated && now >= self.made + OPENING && now >= self.answered + ANSWERED_LATELY
    }

    /// The peer asks. Returns whether it asks so often that it has no answer.
    pub(crate) fn is_asked_in_vain(&mut self, now: Instant) -> bool {
        if now >= self.asked.0 + QUICKLY {
            self.asked = (now, 0);
        }
        self.asked.1 += 1;
        self.asked.1 >= ASKED_IN_VAIN
    }

    fn is_usable(&self) -> bool {
        self.route.is_some() && self.validated
    }
}

/// What a choice changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// This path carries traffic from now on.
    pub(crate) chosen: Option<PathId>,
    /// This path stands by from now on.
    pub(crate) standby: Option<PathId>,
}

/// The paths of one peer.
#[derive(Debug, Default)]
pub(crate) struct KeptPaths {
    entries: BTreeMap<PathId, Path>,
    by_pair: BTreeMap<PairId, PathId>,
    chosen: Option<PathId>,
    standby: Option<PathId>,
    lingering: Vec<(Instant, PathId)>,
}

impl KeptPaths {
    pub(crate) fn insert(&mut self, id: PathId, path: Path) {
        self.by_pair.insert(path.pair, id);
        self.entries.insert(id, path);
    }

    pub(crate) fn get(&self, id: PathId) -> Option<&Path> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn of_pair(&self, pair: PairId) -> Option<PathId> {
        self.by_pair.get(&pair).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PathId, &Path)> {
        self.entries.iter().map(|(id, path)| (*id, path))
    }

    pub(crate) fn between(&self, local: SocketAddr, remote: SocketAddr) -> Option<PathId> {
        self.iter()
            .find(|(_, path)| path.view.local == local && path.view.remote == remote)
            .map(|(id, _)| id)
    }

    pub(crate) const fn chosen(&self) -> Option<PathId> {
        self.chosen
    }

    pub(crate) const fn standby(&self) -> Option<PathId> {
        self.standby
    }

    /// Returns the paths that are watched: the chosen one, then the standby.
    pub(crate) fn watched(&self) -> impl Iterator<Item = PathId> + use<> {
        [self.chosen, self.standby].into_iter().flatten()
    }

    /// Takes a path out, and out of its job.
    pub(crate) fn remove(&mut self, id: PathId) -> Option<Path> {
        let path = self.entries.remove(&id)?;
        self.by_pair.remove(&path.pair);
        self.lingering.retain(|(_, lingering)| *lingering != id);
        if self.chosen == Some(id) {
            self.chosen = None;
        }
        if self.standby == Some(id) {
            self.standby = None;
        }
        Some(path)
    }

    pub(crate) fn take_all(&mut self) -> Vec<PathId> {
        let ids = self.entries.keys().copied().collect();
        *self = Self::default();
        ids
    }

    /// The chosen path is dead: the standby takes its place. Returns it, and the paths that are neither:
    /// nobody watched those, and they have probably died with the chosen one.
    pub(crate) fn promote_standby(&mut self) -> (Option<PathId>, Vec<PathId>) {
        self.chosen = self.standby.take();
        let chosen = self.chosen;
        let idle = self
            .entries
            .keys()
            .copied()
            .filter(|id| Some(*id) != chosen)
            .collect();
        (chosen, idle)
    }

    /// Picks the best usable path and a standby. Within one rank the present choice stays: equal paths must
    /// not flap.
    pub(crate) fn choose(&mut self, now: Instant) -> Choice {
        let mut choice = Choice::default();
        let Some(best) = self.best(|_, _| true) else {
            return choice;
        };
        let former = self.chosen;
        if self.is_better(best, former) {
            self.chosen = Some(best);
            self.standby = self.standby.filter(|standby| *standby != best);
            self.lingering.retain(|(_, id)| *id != best);
            choice.chosen = Some(best);
        }
        let wanted = self.wanted_standby(former);
        if wanted != self.standby {
            let replaced = std::mem::replace(&mut self.standby, wanted);
            self.let_linger(replaced, now);
            self.lingering.retain(|(_, id)| Some(*id) != wanted);
            choice.standby = wanted;
        }
        if choice.chosen.is_some() {
            self.let_linger(former, now);
        }
        choice
    }

    /// A path through no relay wants one through a relay beside it: the present one, else the one that
    /// carried traffic until now, else the best.
    fn wanted_standby(&self, former: Option<PathId>) -> Option<PathId> {
        let chosen = self.chosen?;
        if self.kind(chosen)? == PathKind::Relay {
            return None;
        }
        let fits = |id: PathId, path: &Path| id != chosen && path.view.kind == PathKind::Relay;
        let best = self.best(fits);
        let present = [self.standby, former].into_iter().flatten().find(|id| {
            self.entries
                .get(id)
                .is_some_and(|path| path.is_usable() && fits(*id, path))
        });
        match (present, best) {
            (Some(present), Some(best)) if !self.is_better(best, Some(present)) => Some(present),
            (_, best) => best,
        }
    }

    fn best(&self, fits: impl Fn(PathId, &Path) -> bool) -> Option<PathId> {
        self.iter()
            .filter(|(id, path)| path.is_usable() && fits(*id, path))
            .min_by_key(|(_, path)| (path.view.rank(), path.view.rtt))
            .map(|(id, _)| id)
    }

    fn is_better(&self, id: PathId, than: Option<PathId>) -> bool {
        let rank = |id: PathId| self.entries.get(&id).map(|path| path.view.rank());
        match (rank(id), than.and_then(rank)) {
            (Some(new), Some(present)) => new < present,
            (new, None) => new.is_some(),
            (None, Some(_)) => false,
        }
    }

    fn kind(&self, id: PathId) -> Option<PathKind> {
        self.entries.get(&id).map(|path| path.view.kind)
    }

    fn let_linger(&mut self, id: Option<PathId>, now: Instant) {
        if let Some(id) = id.filter(|id| self.has_no_job(*id)) {
            self.lingering.push((now + SUPERSEDED_LINGER, id));
        }
    }

    fn has_no_job(&self, id: PathId) -> bool {
        self.chosen != Some(id) && self.standby != Some(id)
    }

    /// Takes out the paths that had a job once and have lingered long enough.
    pub(crate) fn take_superseded(&mut self, now: Instant) -> Vec<PathId> {
        let due = self
            .lingering
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| *id);
        let due: Vec<_> = due.collect();
        for id in &due {
            self.remove(*id);
        }
        due
    }

    /// When the next path has lingered long enough.
    pub(crate) fn next_superseded(&self) -> Option<Instant> {
        self.lingering.iter().map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use crate::path::RelayTransport as Transport;
    use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairCredentials, Role};

    use super::*;

    const UDP: Transport = Transport::Udp;
    const TCP: Transport = Transport::Tcp;

    /// Pair ids cannot be made up, so an agent makes some.
    fn pairs(now: Instant) -> Vec<PairId> {
        let credentials = PairCredentials {
            local_ufrag: "a".into(),
            remote_ufrag: "b".into(),
            password: "c".into(),
        };
        let mut agent = Agent::new(
            AgentConfig::default(),
            Role::Controlling,
            credentials,
            [0; 32],
            now,
        );
        let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let host = |port| Candidate::new(CandidateKind::Host, address(port), address(port), 1);
        agent.add_local_candidate(host(1), now);
        for port in 2..10 {
            agent.add_remote_candidate(host(port), now);
        }
        agent.pairs().map(|pair| pair.id).collect()
    }

    fn path(pair: PairId, kind: PathKind, transport: Transport, now: Instant) -> Path {
        let local = SocketAddr::from(([192, 0, 2, 1], 1));
        let remote = SocketAddr::from(([192, 0, 2, 2], 2));
        Path {
            pair,
            view: PathView {
                kind,
                transport,
                local,
                remote,
                remote_kind: CandidateKind::Host,
                found_as: CandidateKind::Host,
                through_our_relay: kind == PathKind::Relay,
                rtt: None,
            },
            route: Some(Route::Direct { local, remote }),
            validated: true,
            made: now,
            answered: now,
            asked: (now, 0),
            watch: Watch::new(Duration::from_millis(10), 0.5, now),
            heard: now,
            carried: None,
            questioned: None,
        }
    }

    #[test]
    fn the_relay_that_carried_traffic_becomes_the_standby_of_a_direct_path() {
        let now = Instant::now();
        let pairs = pairs(now);
        let mut kept = KeptPaths::default();
        let chosen = |id| Choice {
            chosen: Some(PathId(id)),
            standby: None,
        };
        kept.insert(PathId(5), path(pairs[0], PathKind::Relay, UDP, now));
        assert_eq!(kept.choose(now), chosen(5));
        kept.insert(PathId(1), path(pairs[1], PathKind::Relay, UDP, now));
        assert_eq!(
            kept.choose(now),
            Choice::default(),
            "equal paths do not flap"
        );
        kept.insert(PathId(7), path(pairs[2], PathKind::Direct, UDP, now));
        let moved = Choice {
            chosen: Some(PathId(7)),
            standby: Some(PathId(5)),
        };
        assert_eq!(kept.choose(now), moved);
        assert_eq!(kept.next_superseded(), None, "both have a job");
    }

    #[test]
    fn a_path_that_lost_its_job_lingers_until_flows_have_moved() {
        let now = Instant::now();
        let pairs = pairs(now);
        let mut kept = KeptPaths::default();
        kept.insert(PathId(0), path(pairs[0], PathKind::Direct, UDP, now));
        kept.choose(now);
        kept.insert(PathId(1), path(pairs[1], PathKind::Lan, UDP, now));
        kept.choose(now);
        assert_eq!(kept.take_superseded(now), []);
        let later = kept.next_superseded().unwrap();
        assert_eq!(kept.take_superseded(later), [PathId(0)]);
        assert!(kept.get(PathId(0)).is_none());
        assert_eq!(kept.chosen(), Some(PathId(1)));
    }

    #[test]
    fn a_relay_over_udp_takes_the_place_of_one_over_tcp() {
        let now = Instant::now();
        let pairs = pairs(now);
        let mut kept = KeptPaths::default();
        kept.insert(PathId(0), path(pairs[0], PathKind::Relay, TCP, now));
        kept.choose(now);
        kept.insert(PathId(1), path(pairs[1], PathKind::Direct, UDP, now));
        kept.choose(now);
        assert_eq!(kept.standby(), Some(PathId(0)));
        kept.insert(PathId(2), path(pairs[2], PathKind::Relay, UDP, now));
        let choice = kept.choose(now);
        assert_eq!(
            choice,
            Choice {
                chosen: None,
                standby: Some(PathId(2))
            }
        );
        assert!(kept.next_superseded().is_some());
    }

    #[test]
    fn the_death_of_the_chosen_path_leaves_the_standby_and_doubts_about_all_others() {
        let now = Instant::now();
        let pairs = pairs(now);
        let mut kept = KeptPaths::default();
        for (id, kind) in [
            PathKind::Relay,
            PathKind::Relay,
            PathKind::Direct,
            PathKind::Direct,
        ]
        .into_iter()
        .enumerate()
        {
            kept.insert(PathId(id as u64), path(pairs[id], kind, UDP, now));
            kept.choose(now);
        }
        assert_eq!(
            (kept.chosen(), kept.standby()),
            (Some(PathId(2)), Some(PathId(0)))
        );
        kept.remove(PathId(2));
        let (chosen, idle) = kept.promote_standby();
        assert_eq!(chosen, Some(PathId(0)));
        assert_eq!(idle, [PathId(1), PathId(3)]);
    }
}
