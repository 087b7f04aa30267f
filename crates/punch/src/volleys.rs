//! Which volleys are being sent: whose turn it is, and whose answer arrived.
//!
//! A probe costs no memory beyond its place in the volley: its transaction id is made of a number that belongs
//! to the volley and of its index, so that an answer leads back to it without a table. An id that can be guessed
//! from another one is no harm where every answer is authenticated.

use std::time::{Duration, Instant};

use stunwire::TransactionId;

use crate::{CandidateKind, Probe, Volley, VolleyId};

/// How many volleys may be sent at a time: an old one that still waits for answers, two ways of guessing, and
/// openers beside them.
const VOLLEYS_MAX: usize = 4;
/// After the last probe its answer is waited for that long: longer than any round trip on the ground, and what
/// comes later arrives by the peer's own check. A round of guessing takes no longer for it than a second.
const ANSWERS_WAIT: Duration = Duration::from_secs(1);
/// A driver that wakes late sends what it missed in this time, and no more: a rate, not a number, is promised
/// to routers. Timers that are 10 ms late must not slow it down.
const CATCH_UP: Duration = Duration::from_millis(10);

/// A probe to be sent now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DueProbe {
    pub(crate) id: TransactionId,
    pub(crate) probe: Probe,
    pub(crate) kind: CandidateKind,
    pub(crate) is_opener: bool,
}

/// How a volley ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) volley: VolleyId,
    pub(crate) sent: u32,
    pub(crate) answered: u32,
}

/// The volleys of one agent.
#[derive(Debug)]
pub(crate) struct Volleys {
    running: Vec<Running>,
    last_id: u64,
    spacing: Duration,
    /// No probe of any volley leaves before this.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    id: VolleyId,
    nonce: [u8; 8],
    probes: Vec<Probe>,
    is_answered: Vec<bool>,
    kind: CandidateKind,
    interval: Duration,
    has_openers: bool,
    passes: u8,
    pass_gap: Duration,
    pass: u8,
    next: usize,
    step: Step,
    sent: u32,
    answered: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Sending { due: Instant },
    Waiting { until: Instant },
}

impl Volleys {
    pub(crate) fn new(per_second_max: u32) -> Self {
        Self {
            running: Vec::new(),
            last_id: 0,
            spacing: interval(per_second_max),
            not_before: None,
        }
    }

    /// Takes a volley; `Err` when too many are being sent. `nonce` makes its transaction ids.
    pub(crate) fn start(
        &mut self,
        volley: Volley,
        nonce: [u8; 8],
        now: Instant,
    ) -> Result<VolleyId, VolleyId> {
        self.last_id += 1;
        let id = VolleyId(self.last_id);
        if self.running.len() >= VOLLEYS_MAX {
            return Err(id);
        }
        let is_empty = volley.probes.is_empty() || volley.passes == 0;
        self.running.push(Running {
            id,
            nonce,
            is_answered: vec![false; volley.probes.len()],
            probes: volley.probes,
            kind: volley.kind,
            interval: interval(volley.per_second).max(self.spacing),
            has_openers: volley.openers,
            passes: volley.passes,
            pass_gap: volley.pass_gap,
            pass: 0,
            next: 0,
            step: if is_empty {
                Step::Waiting { until: now }
            } else {
                Step::Sending { due: now }
            },
            sent: 0,
            answered: 0,
        });
        Ok(id)
    }

    pub(crate) fn stop(&mut self, id: VolleyId) -> Option<Ended> {
        let index = self.running.iter().position(|volley| volley.id == id)?;
        Some(self.running.remove(index).ended())
    }

    /// Takes out a volley that has nothing left to send or to wait for.
    pub(crate) fn take_ended(&mut self, now: Instant) -> Option<Ended> {
        let ended = self
            .running
            .iter()
            .position(|volley| matches!(volley.step, Step::Waiting { until } if until <= now))?;
        Some(self.running.remove(ended).ended())
    }

    /// Returns the probe whose turn it is, if one is due; those that are not wanted (any more) are passed over.
    pub(crate) fn next_probe(
        &mut self,
        now: Instant,
        is_wanted: impl Fn(&Probe) -> bool,
    ) -> Option<DueProbe> {
        if self.not_before.is_some_and(|at| at > now) {
            return None;
        }
        let spacing = self.spacing;
        while let Some(volley) = self.most_due(now) {
            if let Some(due) = volley.take_probe(now, &is_wanted) {
                let earliest = self.not_before.unwrap_or(now).max(floor(now));
                self.not_before = Some(earliest + spacing);
                return Some(due);
            }
        }
        None
    }

    fn most_due(&mut self, now: Instant) -> Option<&mut Running> {
        self.running
            .iter_mut()
            .filter_map(|volley| match volley.step {
                Step::Sending { due } if due <= now => Some((due, volley)),
                Step::Sending { .. } | Step::Waiting { .. } => None,
            })
            .min_by_key(|(due, volley)| (*due, volley.id))
            .map(|(_, volley)| volley)
    }

    /// Returns the probe that has this transaction id, and how its volley finds pairs.
    pub(crate) fn find(&self, id: &TransactionId) -> Option<(Probe, CandidateKind)> {
        let (volley, index) = self.locate(id)?;
        let volley = &self.running[volley];
        Some((volley.probes[index], volley.kind))
    }

    /// Notes the answer to a probe; returns whether it is the first one to it.
    pub(crate) fn note_answered(&mut self, id: &TransactionId) -> bool {
        let Some((volley, index)) = self.locate(id) else {
            return false;
        };
        let volley = &mut self.running[volley];
        let is_first = !std::mem::replace(&mut volley.is_answered[index], true);
        volley.answered += u32::from(is_first);
        is_first
    }

    fn locate(&self, id: &TransactionId) -> Option<(usize, usize)> {
        let (nonce, rest) = id.as_bytes().split_first_chunk::<8>()?;
        let index = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let volley = self
            .running
            .iter()
            .position(|volley| volley.nonce == *nonce)?;
        let known = &self.running[volley];
        let was_sent = u16::from(known.pass) > u16::from(rest[2])
            || (known.pass == rest[2] && index < known.next);
        (index < known.probes.len() && rest[3] == 0 && was_sent).then_some((volley, index))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running
            .iter()
            .map(|volley| match volley.step {
                Step::Sending { due } => self.not_before.map_or(due, |at| at.max(due)),
                Step::Waiting { until } => until,
            })
            .min()
    }
}

impl Running {
    fn take_probe(&mut self, now: Instant, is_wanted: impl Fn(&Probe) -> bool) -> Option<DueProbe> {
        let Step::Sending { due } = self.step else {
            return None;
        };
        let is_answered = &self.is_answered;
        let next = (self.next..self.probes.len())
            .find(|index| !is_answered[*index] && is_wanted(&self.probes[*index]));
        let Some(index) = next else {
            self.end_pass(now);
            return None;
        };
        let taken = DueProbe {
            id: self.transaction(index),
            probe: self.probes[index],
            kind: self.kind,
            is_opener: self.has_openers && self.pass == 0,
        };
        self.sent += 1;
        self.next = index + 1;
        self.step = Step::Sending {
            due: due.max(floor(now)) + self.interval,
        };
        if self.next >= self.probes.len() {
            self.end_pass(now);
        }
        Some(taken)
    }

    fn end_pass(&mut self, now: Instant) {
        self.pass = self.pass.saturating_add(1);
        self.next = 0;
        self.step = if self.pass >= self.passes {
            Step::Waiting {
                until: now + ANSWERS_WAIT,
            }
        } else {
            Step::Sending {
                due: now + self.pass_gap.max(self.interval),
            }
        };
    }

    fn transaction(&self, index: usize) -> TransactionId {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.nonce);
        // A volley has at most 2,048 probes.
        id[8..10].copy_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes());
        id[10] = self.pass;
        TransactionId::new(id)
    }

    fn ended(&self) -> Ended {
        Ended {
            volley: self.id,
            sent: self.sent,
            answered: self.answered,
        }
    }
}

/// The earliest due time that still counts.
fn floor(now: Instant) -> Instant {
    now.checked_sub(CATCH_UP).unwrap_or(now)
}

fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}
