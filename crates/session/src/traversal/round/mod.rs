//! One round: who does what when, and how long each wait lasts.
//!
//! ```text
//! leader (ingress)                         follower (egress)
//! propose ───────────────────────────────▶ has it the turn? does it make sense?
//!         ◀─────────────────── accept, or decline
//! anchor: open sockets; samples, openers, samples      scout: waits
//!         anchored ──────────────────────▶ probes
//!         ◀─────────────────────── scouted
//!         ended ─────────────────────────▶
//! ```
//!
//! Either may be the anchor. When both are, each tells its window and probes the other's, and both say `ended`.
//!
//! * `anchor`, `scout`: what is done in these parts; here is who has the word, and how long it is waited for.

mod anchor;
mod scout;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use punch::CandidateKind;
use rand::rngs::StdRng;

use super::budget::{Budget, PACKETS_PER_SECOND};
use super::ledger::{Outcome, Tally};
use super::note::{Message, Note, Part, Window};
use super::plan::{SAMPLES, sockets_for};
use super::{Action, Knowledge, Strategy};

/// Opening 256 sockets takes a millisecond.
const OPENING: Duration = Duration::from_secs(2);
/// A STUN server is asked again within this, and a slower answer is stale anyway.
const SAMPLING: Duration = Duration::from_millis(1_200);
/// One packet of the volley.
const SLOT: Duration = Duration::from_millis(1_000 / PACKETS_PER_SECOND as u64);
/// The scout is told when so much of the volley is out, so that its probes meet bindings that exist.
const BIRTHDAY_HEAD_START: Duration = Duration::from_millis(200);
/// Between low-TTL openers and full ones: the scout's probes should come first, where its router would take our
/// packet for a conversation of its own (facts/lab.md, early-packet clash).
const OPENER_GAP: Duration = Duration::from_millis(400);
const BIRTHDAY_OPENER_GAP: Duration = Duration::from_millis(1_500);
/// Between two passes of a window: longer than a round trip, so that what both send meets what both opened.
const WINDOW_GAP: Duration = Duration::from_millis(250);
/// After the last probe: the next round is worth more than a later answer.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// An answered probe becomes a path within two round trips.
const SETTLING: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The leader waits to be accepted.
    Proposing,
    /// The scout waits for the anchor's word.
    Awaiting,
    /// Waits for sockets.
    Opening,
    /// Waits for what the NAT gave; the sample behind the openers is taken at the instant.
    Sampling { after_at: Option<Instant> },
    /// The openers are on their way; the scout is told at the instant.
    Announcing { at: Instant },
    /// The scout probes.
    Holding,
    /// Both: waits for the other's window.
    Exchanging,
    /// Our probes are on their way.
    Probing,
    /// The other end has the last word.
    Concluding,
}

/// What a round may use, for the time of one call.
pub(crate) struct Table<'a> {
    pub(crate) known: &'a Knowledge,
    pub(crate) budget: &'a mut Budget,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) now: Instant,
}

impl Table<'_> {
    fn send(&mut self, round: u32, message: Message) {
        self.actions.push(Action::Send(Note { round, message }));
    }
}

/// A round that is being played.
#[derive(Debug)]
pub(crate) struct Round {
    id: u32,
    part: Part,
    pub(crate) strategy: Strategy,
    step: Step,
    deadline: Instant,
    /// All that we opened.
    sockets: Vec<SocketAddr>,
    /// Those that the peer is to hit.
    anchors: Vec<SocketAddr>,
    samples: BTreeMap<SocketAddr, SocketAddr>,
    arrived: BTreeSet<(SocketAddr, SocketAddr)>,
    their_window: Option<Window>,
    has_path: bool,
    /// The path that the peer says is there was waited for.
    has_settled: bool,
    tally: Tally,
    /// How often the volley was told to stop.
    stops: u8,
    /// What has happened, once it is over.
    outcome: Option<Outcome>,
}

impl Round {
    /// We lead: the peer is asked.
    pub(crate) fn propose(id: u32, part: Part, strategy: Strategy, table: &mut Table<'_>) -> Self {
        let message = Message::Propose {
            part: part.of_the_other(),
            profile: table.known.ours,
        };
        table.send(id, message);
        let patience = table.known.patience();
        Self::new(id, part, strategy, Step::Proposing, table.now + patience)
    }

    /// The peer leads, and we join.
    pub(crate) fn accept(id: u32, part: Part, strategy: Strategy, table: &mut Table<'_>) -> Self {
        let message = Message::Accept {
            profile: table.known.ours,
        };
        table.send(id, message);
        let mut round = Self::new(id, part, strategy, Step::Awaiting, table.now);
        round.begin(table);
        round
    }

    const fn new(id: u32, part: Part, strategy: Strategy, step: Step, deadline: Instant) -> Self {
        Self {
            id,
            part,
            strategy,
            step,
            deadline,
            sockets: Vec::new(),
            anchors: Vec::new(),
            samples: BTreeMap::new(),
            arrived: BTreeSet::new(),
            their_window: None,
            has_path: false,
            has_settled: false,
            tally: Tally {
                sockets: 0,
                planned: 0,
                sent: 0,
                arrived: None,
                answered: 0,
            },
            stops: 0,
            outcome: None,
        }
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    pub(crate) const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn into_sockets(self) -> Vec<SocketAddr> {
        self.sockets
    }

    pub(crate) fn deadline(&self) -> Instant {
        match self.step {
            Step::Sampling { after_at: Some(at) } | Step::Announcing { at } => {
                at.min(self.deadline)
            }
            Step::Proposing
            | Step::Awaiting
            | Step::Opening
            | Step::Sampling { after_at: None }
            | Step::Holding
            | Step::Exchanging
            | Step::Probing
            | Step::Concluding => self.deadline,
        }
    }

    /// Both have agreed.
    fn begin(&mut self, table: &mut Table<'_>) {
        if self.part == Part::Scout {
            // The other opens and samples first.
            self.wait(Step::Awaiting, table.known.patience() + OPENING, table.now);
            return;
        }
        let count = if self.part == Part::Both {
            SAMPLES
        } else {
            sockets_for(self.strategy, table.known.ours.ports)
        };
        if table
            .budget
            .spend_bindings(u32::from(count), table.now)
            .is_err()
        {
            self.abandon(Outcome::NoBudget, table);
            return;
        }
        table.actions.push(Action::OpenSockets { count });
        self.wait(Step::Opening, OPENING, table.now);
    }

    fn wait(&mut self, step: Step, patience: Duration, now: Instant) {
        self.step = step;
        self.deadline = now + patience;
    }

    /// Something is missing at our end, and the other need not wait.
    fn abandon(&mut self, outcome: Outcome, table: &mut Table<'_>) {
        let message = match self.part {
            Part::Scout => Message::Scouted {
                planned: self.tally.planned,
                sent: 0,
                answered: 0,
            },
            Part::Anchor | Part::Both => self.ended(),
        };
        table.send(self.id, message);
        self.end(outcome);
    }

    const fn end(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
    }

    // --- input ---

    fn kind(&self) -> CandidateKind {
        match self.strategy {
            Strategy::Birthday => CandidateKind::Birthday,
            Strategy::Plain
            | Strategy::PortMapped
            | Strategy::Ipv6
            | Strategy::Predicted
            | Strategy::Block => CandidateKind::Predicted,
        }
    }

    /// The agent heard the peer at one of our sockets.
    pub(crate) fn heard(&mut self, local: SocketAddr, remote: SocketAddr) {
        if self.anchors.contains(&local) {
            self.arrived.insert((local, remote));
        }
    }

    /// A path without a relay works.
    pub(crate) fn path_found(&mut self, table: &mut Table<'_>) {
        if self.has_path {
            return;
        }
        self.has_path = true;
        match self.step {
            Step::Probing => {
                table.actions.push(Action::StopVolley);
                self.deadline = table.now + SETTLING;
            }
            Step::Holding | Step::Concluding => {
                self.deadline = self.deadline.min(table.now + SETTLING);
            }
            Step::Proposing
            | Step::Awaiting
            | Step::Opening
            | Step::Sampling { .. }
            | Step::Announcing { .. }
            | Step::Exchanging => self.conclude_early(table),
        }
    }

    /// Plain checks were faster.
    fn conclude_early(&mut self, table: &mut Table<'_>) {
        table.send(self.id, self.ended());
        self.end(Outcome::Failed);
    }

    fn ended(&self) -> Message {
        Message::Ended {
            arrived: self.arrivals(),
            worked: self.has_path,
        }
    }

    fn arrivals(&self) -> u32 {
        u32::try_from(self.arrived.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn volley_ended(&mut self, sent: u32, answered: u32, table: &mut Table<'_>) {
        if self.step != Step::Probing {
            return;
        }
        (self.tally.sent, self.tally.answered) = (sent, answered);
        if self.part == Part::Scout {
            let unsent = self.tally.planned.saturating_sub(sent);
            table.budget.refund_probes(unsent);
        }
        let message = if self.part == Part::Both {
            self.ended()
        } else {
            Message::Scouted {
                planned: self.tally.planned,
                sent,
                answered,
            }
        };
        table.send(self.id, message);
        let patience = if self.has_path {
            SETTLING
        } else {
            table.known.patience()
        };
        self.wait(Step::Concluding, patience, table.now);
    }

    pub(crate) fn handle_message(&mut self, message: Message, table: &mut Table<'_>) {
        match (message, self.step) {
            (Message::Accept { .. }, Step::Proposing) => self.begin(table),
            (Message::Decline { .. }, Step::Proposing) => self.end(Outcome::PeerDeclined),
            (Message::Anchored(anchored), Step::Proposing | Step::Awaiting)
                if self.part == Part::Scout =>
            {
                self.probe(&anchored, table);
            }
            (Message::Window(window), _) if self.part == Part::Both => {
                self.their_window.get_or_insert(window);
                self.probe_their_window(table);
            }
            (
                Message::Scouted {
                    planned,
                    sent,
                    answered,
                },
                step,
            ) if self.part == Part::Anchor && step != Step::Concluding => {
                let arrived = self.arrivals();
                self.tally = Tally {
                    planned,
                    sent,
                    answered,
                    arrived: Some(arrived),
                    ..self.tally
                };
                if self.has_path || answered == 0 {
                    self.give_the_last_word(table);
                } else {
                    self.wait(Step::Concluding, SETTLING, table.now);
                }
            }
            (Message::Ended { arrived, worked }, step) => {
                self.tally.arrived = Some(arrived);
                let is_settling = step == Step::Concluding && worked && !self.has_path;
                // Once: whoever says it again and again would keep the turn from everybody else.
                let is_settling = is_settling && !std::mem::replace(&mut self.has_settled, true);
                if self.part == Part::Both && (step == Step::Probing || is_settling) {
                    // Ours are still on their way, and may be what opens the path.
                    return;
                }
                if is_settling {
                    self.wait(Step::Concluding, SETTLING, table.now);
                    return;
                }
                self.end_by_path();
            }
            _ => {}
        }
    }

    fn give_the_last_word(&mut self, table: &mut Table<'_>) {
        table.send(self.id, self.ended());
        self.end_by_path();
    }

    const fn end_by_path(&mut self) {
        self.end(if self.has_path {
            Outcome::Worked
        } else {
            Outcome::Failed
        });
    }

    // --- time ---

    pub(crate) fn handle_timeout(&mut self, table: &mut Table<'_>) {
        match self.step {
            Step::Sampling { after_at: Some(at) } if table.now >= at => {
                let after = self.sockets[1..2].to_vec();
                table.actions.push(Action::Sample { sockets: after });
                self.step = Step::Sampling { after_at: None };
            }
            Step::Announcing { at } if table.now >= at => self.announce_spread(table),
            Step::Proposing
            | Step::Awaiting
            | Step::Opening
            | Step::Sampling { .. }
            | Step::Announcing { .. }
            | Step::Holding
            | Step::Exchanging
            | Step::Probing
            | Step::Concluding => {}
        }
        if table.now >= self.deadline {
            self.lose_patience(table);
        }
    }

    fn lose_patience(&mut self, table: &mut Table<'_>) {
        match self.step {
            Step::Proposing | Step::Awaiting | Step::Exchanging => self.end(Outcome::PeerSilent),
            Step::Opening => self.abandon(Outcome::NoSockets, table),
            Step::Sampling { .. } => {
                self.tell_where(table);
                if matches!(self.step, Step::Sampling { .. }) && self.outcome.is_none() {
                    self.abandon(Outcome::NoSamples, table);
                }
            }
            Step::Announcing { .. } => self.end(Outcome::Failed),
            Step::Probing => {
                // Its end is reported at once, with what was sent and answered.
                table.actions.push(Action::StopVolley);
                self.wait(Step::Probing, SETTLING, table.now);
                self.stops += 1;
                if self.stops > 2 {
                    self.end_by_path();
                }
            }
            Step::Holding | Step::Concluding => {
                if self.part == Part::Anchor {
                    let arrived = self.arrivals();
                    self.tally.arrived.get_or_insert(arrived);
                    self.give_the_last_word(table);
                } else {
                    self.end_by_path();
                }
            }
        }
    }
}
