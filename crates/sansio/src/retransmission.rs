//! When a request over UDP is sent again, and when it is given up (RFC 8489, section 6.2.1).

use std::time::{Duration, Instant};

/// A retransmission policy.
///
/// The first wait is `rto`, each later one twice the one before but at most `rto_max`; after `sends`
/// transmissions the request has failed once `last_wait` has passed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// First retransmission timeout.
    pub rto: Duration,
    /// Upper bound of the doubling.
    pub rto_max: Duration,
    /// How many times the request is sent in all (`Rc`).
    pub sends: u32,
    /// How long to wait after the last transmission (`Rm × RTO`).
    pub last_wait: Duration,
}

impl Retransmission {
    /// The schedule of RFC 8489: RTO 500 ms, Rc = 7, Rm = 16; sends at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and
    /// 31.5 s, and gives up at 39.5 s.
    #[must_use]
    pub const fn rfc8489() -> Self {
        Self {
            rto: Duration::from_millis(500),
            rto_max: Duration::from_secs(16),
            sends: 7,
            last_wait: Duration::from_secs(8),
        }
    }

    /// The schedule for TCP and TLS: one transmission, `Ti` = 39.5 s (RFC 8489, section 6.2.2).
    #[must_use]
    pub const fn reliable() -> Self {
        let ti = Duration::from_millis(39_500);
        Self {
            rto: ti,
            rto_max: ti,
            sends: 1,
            last_wait: ti,
        }
    }

    /// Starts the schedule: the first transmission happens at `now`.
    #[must_use]
    pub fn start(self, now: Instant) -> Schedule {
        let wait = if self.sends <= 1 {
            self.last_wait
        } else {
            self.rto
        };
        Schedule {
            policy: self,
            sent: 1,
            wait: self.rto,
            at: Some(now + wait),
        }
    }
}

/// What a [`Schedule`] asks for when its deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due yet.
    Wait,
    /// Send the request again.
    Retransmit,
    /// No answer will come.
    GiveUp,
}

/// A running [`Retransmission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    policy: Retransmission,
    sent: u32,
    wait: Duration,
    at: Option<Instant>,
}

impl Schedule {
    /// Returns when [`Schedule::advance`] will next do something; `None` after it gave up.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Returns how many transmissions were made, the first included.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// Moves on if the deadline has come.
    pub fn advance(&mut self, now: Instant) -> Step {
        let Some(at) = self.at else { return Step::Wait };
        if now < at {
            return Step::Wait;
        }
        if self.sent >= self.policy.sends {
            self.at = None;
            return Step::GiveUp;
        }
        self.sent += 1;
        self.wait = (self.wait * 2).min(self.policy.rto_max);
        let wait = if self.sent >= self.policy.sends {
            self.policy.last_wait
        } else {
            self.wait
        };
        self.at = Some(now + wait);
        Step::Retransmit
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    #[test]
    fn rfc8489_sends_seven_times_and_gives_up_at_39_5_seconds() {
        let epoch = Instant::now();
        let mut schedule = Retransmission::rfc8489().start(epoch);
        let mut sends = vec![0];
        let end = loop {
            let at = schedule.deadline().unwrap();
            let elapsed_ms = (at - epoch).as_millis();
            match schedule.advance(at) {
                Step::Retransmit => sends.push(elapsed_ms),
                Step::GiveUp => break elapsed_ms,
                Step::Wait => unreachable!("the deadline has come"),
            }
        };
        assert_eq!(sends, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(end, 39_500);
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn a_reliable_transport_sends_once() {
        let epoch = Instant::now();
        let mut schedule = Retransmission::reliable().start(epoch);
        assert_eq!(
            schedule.deadline(),
            Some(epoch + Duration::from_millis(39_500))
        );
        assert_eq!(
            schedule.advance(epoch + Duration::from_secs(40)),
            Step::GiveUp
        );
    }

    #[test]
    fn an_early_call_changes_nothing() {
        let epoch = Instant::now();
        let mut schedule = Retransmission::rfc8489().start(epoch);
        let before = schedule.clone();
        assert_eq!(schedule.advance(epoch), Step::Wait);
        assert_eq!(schedule, before);
    }
}
