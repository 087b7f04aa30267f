//! What do we see of the peer's direct packets while no direct path works?

use std::time::{Duration, Instant};

use punch::{CandidatePair, PairState};

use super::Peer;
use crate::event::{DropCause, Event};
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
/// What a path was given up for holds for so long without being seen again: its pair is checked anew from small on, and
/// is not looked at twice before.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);
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
    /// What that one showed.
    lost_for: Seen,
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

    /// A path without a relay is given up: what was heard on it says nothing any more, but why it was given up does.
    pub(super) fn observe_loss(
        &mut self,
        cause: DropCause,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let shown = match cause {
            DropCause::SmallPacketsOnly => Seen::Narrow,
            DropCause::OneDirection => Seen::Arrives,
            DropCause::Silent
            | DropCause::RelayLost
            | DropCause::Superseded
            | DropCause::PeerRemoved
            | DropCause::CarrierFailed => Seen::Nothing,
        };
        let observation = &mut self.observation;
        observation.lost_at = Some(now);
        observation.lost_for = shown;
        if shown != Seen::Nothing && shown != observation.told {
            observation.candidate = shown;
            observation.told = shown;
            surroundings.events.push_back(Event::DescriptionChanged);
        }
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
        let lost_at = self.observation.lost_at;
        let not_before = lost_at.map(|at| at + LINGERING);
        let heard_lately = |pair: &CandidatePair| {
            let heard = pair.last_heard.filter(|at| Some(*at) > not_before);
            heard.is_some_and(|at| now.saturating_duration_since(at) < HEARD_LATELY)
        };
        let direct = || self.agent.pairs().filter(|pair| !pair.is_relayed());
        if direct().any(|pair| pair.state == PairState::Narrow) {
            Seen::Narrow
        } else if direct().any(|pair| heard_lately(pair) && pair.checks_sent >= UNANSWERED_MIN) {
            Seen::Arrives
        } else if lost_at.is_some_and(|at| now < at + GIVEN_UP_FOR) {
            self.observation.lost_for
        } else {
            Seen::Nothing
        }
    }
}
