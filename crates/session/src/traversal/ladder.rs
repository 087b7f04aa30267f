//! When a round is played against one peer, and when not.
//!
//! The ingress side leads: it decides and proposes; the egress side judges by what it knows of its own NAT, and
//! joins or declines. Both tell their profile whenever they speak, since what one knows of the other through
//! signaling is older.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sansio::Deadline;

use super::backoff::rest;
use super::budget::{Budget, TURN_RETRY};
use super::ledger::{Ledger, LedgerEntry, Outcome};
use super::note::{Message, Note, Part, Refusal};
use super::plan::{Plan, jittered, plan, strategy_for};
use super::profile::{Mapping, Ports, Profile};
use super::round::{Round, Table};
use super::{Action, Knowledge, Strategy};
use crate::description::Side;
use crate::event::PeerId;

/// How often it is looked again while something is not known; what arrives is looked at anyway.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_LATE: Duration = Duration::from_secs(5);
/// What is not known by then arrives as news, or never.
const LATE: Duration = Duration::from_secs(10);
/// News makes a resting ladder try again, but not oftener than this: a peer that changes its description all the
/// time must not make us play all the time.
const NEWS_SPACING: Duration = Duration::from_secs(5);
/// And it does not make the rests short again more often than this.
const FORGIVING_SPACING: Duration = Duration::from_secs(30);
/// A survey of ports takes a fifth of a second.
const SURVEY_WAIT_MS: u32 = 300;
/// After so many failed rounds in a row the pattern of our ports is looked at anew.
const SURVEY_AFTER: u32 = 3;

#[derive(Debug)]
enum Stage {
    /// Nothing to do before news, or before the peer proposes.
    Idle,
    /// Looks again at the instant.
    Waiting {
        until: Instant,
    },
    Playing(Box<Round>),
}

/// The ladder toward one run of one peer.
#[derive(Debug)]
pub(crate) struct Ladder {
    peer: PeerId,
    leads: bool,
    stage: Stage,
    known: Knowledge,
    /// What the peer said of its NAT in its last note: newer than its description.
    told: Option<Profile>,
    /// When plain checks began, or began anew.
    since: Option<Instant>,
    /// Rounds that failed in a row.
    failures: u32,
    last_id: u32,
    last_end: Option<Instant>,
    /// When news last made earlier failures count for nothing.
    forgiven: Option<Instant>,
    worked: Option<Strategy>,
    ledger: Ledger,
    actions: Vec<Action>,
    rng: StdRng,
}

impl Ladder {
    /// `remembered` is what worked against this peer before: it is tried without waiting for plain checks.
    pub(crate) fn new(
        peer: PeerId,
        side: Side,
        remembered: Option<Strategy>,
        seed: [u8; 32],
    ) -> Self {
        Self {
            peer,
            leads: side == Side::Ingress,
            stage: Stage::Idle,
            known: Knowledge::default(),
            told: None,
            since: None,
            failures: 0,
            last_id: 0,
            last_end: None,
            forgiven: None,
            worked: remembered,
            ledger: Ledger::default(),
            actions: Vec::new(),
            rng: StdRng::from_seed(seed),
        }
    }

    pub(crate) fn ledger(&self) -> &[LedgerEntry] {
        self.ledger.entries()
    }

    /// Returns the strategy of the round that is being played, else of the one that worked last.
    pub(crate) const fn strategy(&self) -> Option<Strategy> {
        match &self.stage {
            Stage::Playing(round) => Some(round.strategy),
            Stage::Idle | Stage::Waiting { .. } => self.worked,
        }
    }

    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Waiting { until } => Some(Deadline::new(*until, "traversal: look again")),
            Stage::Playing(round) => Some(Deadline::new(round.deadline(), "traversal: round")),
        }
    }

    // --- knowledge ---

    /// Checking has begun.
    pub(crate) fn start(&mut self, now: Instant) {
        self.since = Some(now);
        self.wait(now);
    }

    /// Takes what is known now; the same again changes nothing.
    pub(crate) fn learn(&mut self, known: Knowledge, budget: &mut Budget, now: Instant) {
        if known == self.known {
            return;
        }
        let before = std::mem::replace(&mut self.known, known);
        if before.theirs != self.known.theirs {
            self.told = None;
        }
        match (before.is_direct, self.known.is_direct) {
            (false, true) => return self.went_direct(budget, now),
            (true, false) => {
                self.since = Some(now);
                self.failures = 0;
                self.wait(now);
            }
            (true, true) | (false, false) => {}
        }
        let is_other_network = before.our_ip != self.known.our_ip
            || before.base != self.known.base
            || hosts(&before.targets) != hosts(&self.known.targets);
        let is_news = is_other_network
            || before.ours.mapping != self.known.ours.mapping
            || before.ours.ports != self.known.ours.ports
            || before.theirs != self.known.theirs;
        let is_spaced = self.forgiven.is_none_or(|at| now >= at + FORGIVING_SPACING);
        if is_other_network && is_spaced {
            self.failures = 0;
            self.forgiven = Some(now);
        }
        if is_news {
            self.heed_news(now);
        } else if matches!(self.stage, Stage::Idle) {
            self.wait(now);
        }
    }

    fn heed_news(&mut self, now: Instant) {
        let at = self.last_end.map_or(now, |end| now.max(end + NEWS_SPACING));
        match self.stage {
            Stage::Idle => self.wait(at),
            Stage::Waiting { until } => self.wait(until.min(at)),
            Stage::Playing(_) => {}
        }
    }

    fn went_direct(&mut self, budget: &mut Budget, now: Instant) {
        self.failures = 0;
        if matches!(self.stage, Stage::Playing(_)) {
            self.play(budget, now, Round::path_found);
        } else {
            self.stage = Stage::Idle;
        }
    }

    fn wait(&mut self, until: Instant) {
        if self.since.is_some() && !matches!(self.stage, Stage::Playing(_)) {
            self.stage = Stage::Waiting { until };
        }
    }

    fn theirs(&self) -> Profile {
        self.told.unwrap_or_default().or(self.known.theirs)
    }

    // --- rounds ---

    pub(crate) fn handle_timeout(&mut self, budget: &mut Budget, now: Instant) {
        match self.stage {
            Stage::Waiting { until } if now >= until => self.look(budget, now),
            Stage::Playing(_) => self.play(budget, now, Round::handle_timeout),
            Stage::Idle | Stage::Waiting { .. } => {}
        }
    }

    /// Is it time for a round?
    fn look(&mut self, budget: &mut Budget, now: Instant) {
        let Some(since) = self.since else {
            self.stage = Stage::Idle;
            return;
        };
        let is_possible = !self.known.targets.is_empty() && self.known.base.is_some();
        if !self.leads || self.known.is_direct || !is_possible {
            self.stage = Stage::Idle;
            return;
        }
        let waited = now.saturating_duration_since(since);
        let (part, after) = match plan(&self.known.ours, &self.theirs(), waited) {
            Plan::Nothing => {
                self.stage = Stage::Idle;
                return;
            }
            Plan::Wait => {
                let again = if waited < LATE {
                    LOOK_AGAIN
                } else {
                    LOOK_AGAIN_LATE
                };
                return self.wait(now + again);
            }
            Plan::Play { part, after } => (part, after),
        };
        let is_remembered = self.worked.is_some_and(Strategy::is_aggressive);
        if !is_remembered && waited < after {
            return self.wait(since + after);
        }
        let is_anchor = matches!(part, Part::Anchor | Part::Both);
        if is_anchor && self.known.surveying && waited < LATE {
            return self.wait(now + Duration::from_millis(SURVEY_WAIT_MS.into()));
        }
        if let Err(wait) = budget.take_turn(self.peer, now) {
            let wait = jittered(wait, &mut self.rng);
            return self.wait(now + wait);
        }
        self.last_id = budget.name_round();
        let (id, strategy) = (self.last_id, self.strategy_of(part));
        tracing::debug!(peer = self.peer.0, ?part, %strategy, "round proposed");
        self.begin(budget, now, |table| {
            Round::propose(id, part, strategy, table)
        });
    }

    /// By what is known; the anchor knows better, and says so.
    fn strategy_of(&self, part: Part) -> Strategy {
        match part {
            Part::Anchor => strategy_for(self.known.ours.ports, self.failures),
            Part::Scout => strategy_for(self.theirs().ports, self.failures),
            Part::Both => Strategy::Predicted,
        }
    }

    fn begin(
        &mut self,
        budget: &mut Budget,
        now: Instant,
        make: impl FnOnce(&mut Table<'_>) -> Round,
    ) {
        let mut table = Table {
            known: &self.known,
            budget,
            rng: &mut self.rng,
            actions: &mut self.actions,
            now,
        };
        let round = make(&mut table);
        self.stage = Stage::Playing(Box::new(round));
        self.conclude(budget, now);
    }

    fn play(
        &mut self,
        budget: &mut Budget,
        now: Instant,
        act: impl FnOnce(&mut Round, &mut Table<'_>),
    ) {
        let Stage::Playing(round) = &mut self.stage else {
            return;
        };
        let mut table = Table {
            known: &self.known,
            budget,
            rng: &mut self.rng,
            actions: &mut self.actions,
            now,
        };
        act(round, &mut table);
        self.conclude(budget, now);
    }

    /// Ends the round that has come to its end.
    fn conclude(&mut self, budget: &mut Budget, now: Instant) {
        let Stage::Playing(round) = &self.stage else {
            return;
        };
        let Some(outcome) = round.outcome() else {
            return;
        };
        let (strategy, tally) = (round.strategy, round.tally());
        tracing::debug!(peer = self.peer.0, %strategy, ?outcome, ?tally, "round ended");
        self.leave_round(budget);
        self.ledger.add(strategy, tally, outcome);
        self.last_end = Some(now);
        if self.known.is_direct {
            if outcome == Outcome::Worked {
                self.worked = Some(strategy);
            }
            self.stage = Stage::Idle;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let may_be_wrong = matches!(outcome, Outcome::Failed | Outcome::NoSamples);
        if may_be_wrong && self.failures.is_multiple_of(SURVEY_AFTER) {
            self.actions.push(Action::Survey);
        }
        let rest = rest(strategy, outcome, self.failures, &mut self.rng);
        self.wait(now + rest);
    }

    /// Gives back what the round has, however far it came.
    fn leave_round(&mut self, budget: &mut Budget) {
        budget.end_turn(self.peer);
        let Stage::Playing(round) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        self.actions.push(Action::StopVolley);
        let sockets = round.into_sockets();
        if !sockets.is_empty() {
            self.actions.push(Action::Release { sockets });
        }
    }

    // --- what became of actions ---

    pub(crate) fn sockets_opened(
        &mut self,
        sockets: Vec<SocketAddr>,
        budget: &mut Budget,
        now: Instant,
    ) {
        if matches!(self.stage, Stage::Playing(_)) {
            self.play(budget, now, |round, table| {
                round.sockets_opened(sockets, table);
            });
        } else if !sockets.is_empty() {
            self.actions.push(Action::Release { sockets });
        }
    }

    pub(crate) fn sampled(
        &mut self,
        socket: SocketAddr,
        mapped: SocketAddr,
        budget: &mut Budget,
        now: Instant,
    ) {
        self.play(budget, now, |round, table| {
            round.sampled(socket, mapped, table);
        });
    }

    pub(crate) fn volley_ended(
        &mut self,
        sent: u32,
        answered: u32,
        budget: &mut Budget,
        now: Instant,
    ) {
        self.play(budget, now, |round, table| {
            round.volley_ended(sent, answered, table);
        });
    }

    /// The peer was heard at a socket of ours.
    pub(crate) fn heard(&mut self, local: SocketAddr, remote: SocketAddr) {
        if let Stage::Playing(round) = &mut self.stage {
            round.heard(local, remote);
        }
    }

    // --- notes ---

    pub(crate) fn handle_note(&mut self, note: Note, budget: &mut Budget, now: Instant) {
        let Note { round, message } = note;
        match message {
            Message::Propose { part, profile } => {
                self.told = Some(profile);
                if !self.leads && round > self.last_id {
                    self.consider(round, part, budget, now);
                }
            }
            Message::Decline {
                refusal,
                retry_after_ms,
                profile,
            } => {
                self.told = Some(profile);
                if self.is_playing(round) {
                    self.declined(refusal, retry_after_ms, budget, now);
                }
            }
            message @ (Message::Accept { .. }
            | Message::Anchored(_)
            | Message::Window(_)
            | Message::Scouted { .. }
            | Message::Ended { .. }) => {
                if let Message::Accept { profile } = &message {
                    self.told = Some(*profile);
                }
                if self.is_playing(round) {
                    self.play(budget, now, |round, table| {
                        round.handle_message(message, table);
                    });
                }
            }
        }
    }

    fn is_playing(&self, id: u32) -> bool {
        matches!(&self.stage, Stage::Playing(round) if round.id() == id)
    }

    /// The leader proposes.
    fn consider(&mut self, id: u32, part: Part, budget: &mut Budget, now: Instant) {
        self.last_id = id;
        if matches!(self.stage, Stage::Playing(_)) {
            // The leader has given the old one up.
            self.leave_round(budget);
        }
        if self.since.is_none() {
            return;
        }
        if let Err((refusal, retry_after_ms)) = self.judge(part, budget, now) {
            let message = Message::Decline {
                refusal,
                retry_after_ms,
                profile: self.known.ours,
            };
            self.actions.push(Action::Send(Note { round: id, message }));
            self.wait(now + LATE);
            return;
        }
        let strategy = self.strategy_of(part);
        tracing::debug!(peer = self.peer.0, ?part, %strategy, "round accepted");
        self.begin(budget, now, |table| {
            Round::accept(id, part, strategy, table)
        });
    }

    fn judge(&self, part: Part, budget: &mut Budget, now: Instant) -> Result<(), (Refusal, u32)> {
        let ours = &self.known.ours;
        if self.known.targets.is_empty() || self.known.base.is_none() {
            return Err((Refusal::Unable, 0));
        }
        let is_anchor = matches!(part, Part::Anchor | Part::Both);
        match (part, ours.mapping) {
            (Part::Anchor | Part::Both, Mapping::Stable)
            | (Part::Scout, Mapping::PerDestination) => return Err((Refusal::Unable, 0)),
            (Part::Anchor | Part::Both, Mapping::Unknown | Mapping::PerDestination)
            | (Part::Scout, Mapping::Unknown | Mapping::Stable) => {}
        }
        if is_anchor && self.known.surveying {
            return Err((Refusal::Busy, SURVEY_WAIT_MS));
        }
        if part == Part::Both && !matches!(ours.ports, Ports::Sequential { .. }) {
            return Err((Refusal::Unable, 0));
        }
        budget.take_turn(self.peer, now).map_err(|wait| {
            (
                Refusal::Busy,
                u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            )
        })
    }

    fn declined(
        &mut self,
        refusal: Refusal,
        retry_after_ms: u32,
        budget: &mut Budget,
        now: Instant,
    ) {
        match refusal {
            // Nothing was spent, and nothing has failed.
            Refusal::Busy => {
                self.leave_round(budget);
                let wait = Duration::from_millis(u64::from(retry_after_ms));
                let wait = wait.clamp(TURN_RETRY / 4, LATE);
                let wait = jittered(wait, &mut self.rng);
                self.wait(now + wait);
            }
            Refusal::Unable => {
                let message = Message::Decline {
                    refusal,
                    retry_after_ms,
                    profile: self.theirs(),
                };
                self.play(budget, now, |round, table| {
                    round.handle_message(message, table);
                });
                // What it said of itself may call for another part at once.
                self.heed_news(now);
            }
        }
    }
}

fn hosts(addresses: &[SocketAddr]) -> Vec<std::net::IpAddr> {
    let mut hosts: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}
