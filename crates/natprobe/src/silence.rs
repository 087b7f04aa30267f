//! How much silence proves anything: rounds of questions beside ordinary requests whose answers are counted.

use std::time::{Duration, Instant};

/// Between two rounds. RFC 5780, section 4.6, allows ten new transactions a second; of a round only the control
/// is new.
const INTERVAL: Duration = Duration::from_millis(100);

/// Rounds before silence is judged at all: on a clean network these decide.
const ROUNDS_MIN: u32 = 8;

/// Rounds after which silence proves nothing: 3 s. At 30 % loss each way one run in a hundred ends here, and is said
/// to be unknown.
const ROUNDS_MAX: u32 = 30;

/// How likely it may be that every answer was lost although it was let through, by the share of controls that were
/// answered: far less than what else goes wrong. At 30 % loss each way this takes about 18 rounds.
const WRONG_MAX: f64 = 1e-5;

/// The shortest wait for the answers to the last round, for want of a round trip.
const SETTLE_MIN: Duration = Duration::from_millis(250);

/// The longest: twice a round trip by satellite is more, but later answers to controls count too.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// Rounds of questions that may stay unanswered, each with a control.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    sent: u32,
    controls_answered: u32,
    settle: Duration,
    settling: bool,
    next: Instant,
    silence_counts: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// It is not time yet.
    Wait,
    /// Send the questions and a control.
    Send,
    /// It is over.
    Done,
}

impl Rounds {
    /// Starts now; `rtt` says how long to wait for late answers.
    pub(crate) fn new(rtt: Option<Duration>, now: Instant) -> Self {
        Self {
            sent: 0,
            controls_answered: 0,
            settle: rtt.map_or(SETTLE_MIN, settle),
            settling: false,
            next: now,
            silence_counts: false,
        }
    }

    /// Returns when [`Rounds::advance`] will do something.
    pub(crate) const fn deadline(&self) -> Instant {
        self.next
    }

    /// Returns how many rounds were sent, and how many of their controls were answered.
    pub(crate) const fn tally(&self) -> (u32, u32) {
        (self.sent, self.controls_answered)
    }

    /// Returns whether silence proves something. Asked after [`Round::Done`].
    pub(crate) const fn silence_counts(&self) -> bool {
        self.silence_counts
    }

    /// Notes the answer to a control, which took `rtt`.
    pub(crate) fn control_answered(&mut self, rtt: Duration) {
        self.controls_answered += 1;
        self.settle = self.settle.max(settle(rtt));
    }

    /// Moves on if the time has come. `answered` says that the questions are answered, so that nothing is left to
    /// silence once the first rounds are over.
    pub(crate) fn advance(&mut self, answered: bool, now: Instant) -> Round {
        if now < self.next {
            return Round::Wait;
        }
        if self.settling {
            self.silence_counts = self.enough();
            return Round::Done;
        }
        let more = self.sent < ROUNDS_MIN || (!answered && !self.enough());
        if more && self.sent < ROUNDS_MAX {
            self.sent += 1;
            self.next = now + INTERVAL;
            return Round::Send;
        }
        self.settling = true;
        self.next = now + self.settle.saturating_sub(INTERVAL);
        Round::Wait
    }

    /// Takes the share of answered controls for the chance of one round trip, one failure added so that few
    /// rounds are not trusted too much.
    fn enough(&self) -> bool {
        let answered = f64::from(self.controls_answered) / f64::from(self.sent + 1);
        let all_lost = (0..self.sent).fold(1.0, |product, _| product * (1.0 - answered));
        all_lost < WRONG_MAX
    }
}

fn settle(rtt: Duration) -> Duration {
    (rtt * 2).clamp(SETTLE_MIN, SETTLE_MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    #[test]
    fn a_clean_network_decides_after_the_first_rounds() {
        assert_eq!(run(|_| true), (ROUNDS_MIN, true));
    }

    #[test]
    fn a_lossy_network_takes_more_rounds() {
        let (rounds, counts) = run(|round| round.is_multiple_of(2));
        assert!(counts && (14..=22).contains(&rounds), "{rounds} rounds");
    }

    #[test]
    fn silence_of_everything_proves_nothing() {
        assert_eq!(run(|_| false), (ROUNDS_MAX, false));
    }

    fn run(answered: impl Fn(u32) -> bool) -> (u32, bool) {
        let mut rounds = Rounds::new(None, Instant::now());
        loop {
            match rounds.advance(false, rounds.deadline()) {
                Round::Send => {
                    if answered(rounds.sent) {
                        rounds.control_answered(Duration::from_millis(40));
                    }
                }
                Round::Done => return (rounds.sent, rounds.silence_counts()),
                Round::Wait => {}
            }
        }
    }
}
