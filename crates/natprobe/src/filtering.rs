//! The filtering test: how much silence proves anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::evidence::FilteringEvidence;

/// Between two rounds. RFC 5780, section 4.6, allows ten new transactions a second; of a round only the control
/// is new.
const INTERVAL: Duration = Duration::from_millis(100);

/// Rounds before silence is judged at all: on a clean network these decide.
const ROUNDS_MIN: u32 = 8;

/// Rounds that are added while too many answers to controls are missing.
const ROUNDS_MORE: u32 = 4;

/// Rounds after which silence proves nothing: 4 s.
const ROUNDS_MAX: u32 = 40;

/// How likely it may be that every answer was lost although the filter let it through, by the share of controls
/// that were answered. At 30 % loss each way this takes about 22 rounds.
const WRONG_MAX: f64 = 1e-6;

/// The shortest wait for the answers to the last round, for want of a round trip.
const SETTLE_MIN: Duration = Duration::from_millis(250);

/// The longest: twice a round trip by satellite is more, but later answers to controls count too.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// A filtering test that is running.
#[derive(Clone, Debug)]
pub(crate) struct FilteringTest {
    /// The server.
    pub(crate) server: SocketAddr,
    /// What was seen.
    pub(crate) evidence: FilteringEvidence,
    rounds: u32,
    rounds_wanted: u32,
    controls_answered: u32,
    settle: Duration,
    next: Instant,
}

/// What the test wants when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// It is not time yet.
    Wait,
    /// Send test II, test III, a control and a packet to ourselves.
    Send,
    /// It is over.
    Done,
}

impl FilteringTest {
    /// Starts a test now; `rtt` says how long to wait for late answers.
    pub(crate) fn new(
        server: SocketAddr,
        alternate: SocketAddr,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Self {
        Self {
            server,
            evidence: FilteringEvidence {
                both_changed: alternate,
                port_changed: SocketAddr::new(server.ip(), alternate.port()),
                both_answered: false,
                port_answered: false,
                unsupported: false,
                silence_counts: false,
            },
            rounds: 0,
            rounds_wanted: ROUNDS_MIN,
            controls_answered: 0,
            settle: rtt.map_or(SETTLE_MIN, settle),
            next: now,
        }
    }

    /// Returns when [`FilteringTest::advance`] will do something.
    pub(crate) const fn deadline(&self) -> Instant {
        self.next
    }

    /// Notes the answer to a control, which took `rtt`.
    pub(crate) fn control_answered(&mut self, rtt: Duration) {
        self.controls_answered += 1;
        self.settle = self.settle.max(settle(rtt));
    }

    /// Moves on if the time has come. `hairpin_open` says that a packet to ourselves may still come back, for
    /// which the first rounds are waited for although the filtering is known.
    pub(crate) fn advance(&mut self, hairpin_open: bool, now: Instant) -> Round {
        if self.evidence.unsupported || (self.evidence.both_answered && !hairpin_open) {
            return Round::Done;
        }
        if now < self.next {
            return Round::Wait;
        }
        if self.rounds < self.rounds_wanted {
            self.rounds += 1;
            let last = self.rounds == self.rounds_wanted;
            self.next = now + if last { self.settle } else { INTERVAL };
            return Round::Send;
        }
        self.evidence.silence_counts = self.silence_counts();
        let decided = self.evidence.silence_counts || self.evidence.both_answered;
        if decided || self.rounds >= ROUNDS_MAX {
            return Round::Done;
        }
        self.rounds_wanted += ROUNDS_MORE;
        self.advance(hairpin_open, now)
    }

    /// Takes the share of answered controls for the chance of one round trip, one failure added so that few
    /// rounds are not trusted too much.
    fn silence_counts(&self) -> bool {
        let answered = f64::from(self.controls_answered) / f64::from(self.rounds + 1);
        let all_lost = (0..self.rounds).fold(1.0, |product, _| product * (1.0 - answered));
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
        assert!(counts && (16..=28).contains(&rounds), "{rounds} rounds");
    }

    #[test]
    fn silence_of_everything_proves_nothing() {
        assert_eq!(run(|_| false), (ROUNDS_MAX, false));
    }

    fn run(answered: impl Fn(u32) -> bool) -> (u32, bool) {
        let now = Instant::now();
        let server = "192.0.2.1:3478".parse().unwrap();
        let alternate = "192.0.2.2:3479".parse().unwrap();
        let mut test = FilteringTest::new(server, alternate, None, now);
        loop {
            match test.advance(true, test.deadline()) {
                Round::Send => {
                    if answered(test.rounds) {
                        test.control_answered(Duration::from_millis(40));
                    }
                }
                Round::Done => return (test.rounds, test.evidence.silence_counts),
                Round::Wait => unreachable!("the deadline has come"),
            }
        }
    }
}
