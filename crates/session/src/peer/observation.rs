//! What do we see of the peer's direct packets while no direct path works?

use std::time::{Duration, Instant};

use punch::{CandidatePair, PairState};

use super::Peer;
use crate::event::Event;
use crate::path::PathKind;
use crate::reason::Seen;
use crate::surroundings::Surroundings;

/// What is seen must be seen twice, this far apart, before it is told: every pair looks one-sided for a round
/// trip while it opens.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(3);
/// A check that was heard longer ago says nothing about now.
const HEARD_LATELY: Duration = Duration::from_secs(90);
/// What was on its way when a path was given up says nothing about afterwards.
const LINGERING: Duration = Duration::from_secs(2);
/// So many checks of ours on a pair must have stayed unanswered: at 20 % loss each way all are lost once in
/// 3,500 times.
const UNANSWERED_MIN: u64 = 8;
/// Before this nobody can say why a plain path does not open: both descriptions and a few seconds of checks are
/// needed.
const EARLY: Duration = Duration::from_secs(10);

/// What was seen last, and what is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observation {
    told: Seen,
    candidate: Seen,
    looked_at: Option<Instant>,
    /// When the last direct path was given up.
    lost_at: Option<Instant>,
    begun_at: Option<Instant>,
}

impl Peer {
    /// Returns what was seen of the peer's direct packets.
    pub(crate) const fn seen(&self) -> Seen {
        self.observation.told
    }

    /// Returns whether direct paths have been tried for a moment only.
    pub(crate) fn is_early(&self) -> bool {
        let Observation {
            looked_at,
            begun_at,
            ..
        } = self.observation;
        match (begun_at, looked_at) {
            (Some(begun), Some(looked)) => looked < begun + EARLY,
            _ => true,
        }
    }

    /// A path without a relay is given up: what was heard on it says nothing any more.
    pub(super) const fn forget_what_was_heard(&mut self, now: Instant) {
        self.observation.lost_at = Some(now);
    }

    /// Looks, now and then.
    pub(super) fn observe(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        let observation = &mut self.observation;
        observation.begun_at.get_or_insert(now);
        let is_time = observation
            .looked_at
            .is_none_or(|at| now >= at + OBSERVE_INTERVAL);
        if !is_time {
            return;
        }
        observation.looked_at = Some(now);
        let seen = self.look(now);
        let observation = &mut self.observation;
        let is_certain = seen == Seen::Nothing || seen == observation.candidate;
        observation.candidate = seen;
        if is_certain && seen != observation.told {
            observation.told = seen;
            surroundings.events.push_back(Event::DescriptionChanged);
        }
    }

    fn look(&self, now: Instant) -> Seen {
        let is_direct = self
            .paths
            .iter()
            .any(|(_, path)| path.validated && path.view.kind != PathKind::Relay);
        if is_direct {
            return Seen::Nothing;
        }
        let not_before = self.observation.lost_at.map(|at| at + LINGERING);
        let heard_lately = |pair: &CandidatePair| {
            let heard = pair.last_heard.filter(|at| Some(*at) > not_before);
            heard.is_some_and(|at| now.saturating_duration_since(at) < HEARD_LATELY)
        };
        let direct = || self.agent.pairs().filter(|pair| !pair.is_relayed());
        if direct().any(|pair| pair.state == PairState::Narrow) {
            Seen::Narrow
        } else if direct().any(|pair| heard_lately(pair) && pair.checks_sent >= UNANSWERED_MIN) {
            Seen::Arrives
        } else {
            Seen::Nothing
        }
    }
}
