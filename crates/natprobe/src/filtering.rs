//! The filtering test of RFC 5780, section 4.4, while it runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::evidence::FilteringEvidence;
use crate::silence::{Round, Rounds};

/// A filtering test that is running: a round is test II, test III, a control, and a packet to ourselves.
#[derive(Clone, Debug)]
pub(crate) struct FilteringTest {
    /// The server.
    pub(crate) server: SocketAddr,
    /// What was seen.
    pub(crate) evidence: FilteringEvidence,
    rounds: Rounds,
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
                server,
                both_changed: alternate,
                port_changed: SocketAddr::new(server.ip(), alternate.port()),
                both_answered: false,
                port_answered: false,
                unsupported: false,
                silence_counts: false,
                rounds: 0,
                controls_answered: 0,
            },
            rounds: Rounds::new(rtt, now),
        }
    }

    /// Returns when [`FilteringTest::advance`] will do something.
    pub(crate) const fn deadline(&self) -> Instant {
        self.rounds.deadline()
    }

    /// Notes the answer to a control, which took `rtt`.
    pub(crate) fn control_answered(&mut self, rtt: Duration) {
        self.rounds.control_answered(rtt);
    }

    /// Moves on if the time has come. `hairpin_open` says that a packet to ourselves may still come back, for
    /// which the first rounds are waited for although the filtering is known.
    pub(crate) fn advance(&mut self, hairpin_open: bool, now: Instant) -> Round {
        if self.evidence.unsupported || (self.evidence.both_answered && !hairpin_open) {
            return Round::Done;
        }
        let round = self.rounds.advance(self.evidence.both_answered, now);
        (self.evidence.rounds, self.evidence.controls_answered) = self.rounds.tally();
        self.evidence.silence_counts = self.rounds.silence_counts();
        round
    }
}
