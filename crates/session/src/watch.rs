//! Is this path alive?
//!
//! A quiet path costs one check per interval. When the driver says that data is outstanding and nothing
//! is heard, or a check stays unanswered, the path is *in doubt*: checks go out in quick succession, and
//! when none is answered and nothing else is heard the path is dead.
//!
//! Packets that arrive prove one direction, and small ones no more than small ones. So there is a *grave* doubt
//! too: somebody says that what we send does not arrive. Only a round trip of full size ends it.

use std::time::{Duration, Instant};

use sansio::Deadline;

use crate::event::DropCause;

/// A quiet path is checked this often, ± 10 %: inside the 30 s that the shortest-lived NAT bindings live
/// (facts: 30 s for one-packet UDP at home gateways and cloud NATs).
const QUIET_INTERVAL: Duration = Duration::from_secs(20);
/// A check on a quiet path that is unanswered for this long puts the path in doubt.
const QUIET_ANSWER: Duration = Duration::from_secs(1);
/// Checks on a path in doubt are this far apart.
const DOUBT_INTERVAL: Duration = Duration::from_millis(100);
/// How many checks in doubt must stay unanswered.
const DOUBT_CHECKS: u32 = 3;
/// In grave doubt nothing but an answer counts, so loss must not look like death: at 20 % each way six in a row
/// are lost once in 450 times, three once in 20.
const GRAVE_CHECKS: u32 = 6;
/// Least time without an answer before a path is called dead; three round trips if those are longer.
const DOUBT_FLOOR: Duration = Duration::from_millis(300);

/// What the watch wants to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is due.
    Wait,
    /// Send one check on the path now.
    Check,
    /// The path is dead.
    Dead,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Heard lately; the next check is due at the instant.
    Quiet { next_check: Instant },
    /// A check of a quiet path is outstanding.
    Asked { since: Instant },
    /// Checks in quick succession.
    Doubt {
        since: Instant,
        next_check: Instant,
        sent: u32,
        grave: bool,
    },
}

/// What was heard although full-size checks stay unanswered.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// Packets of the peer.
    of_peer: bool,
    /// Answers to small checks.
    of_small: bool,
}

/// The watch over one kept path.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    state: State,
    /// Since the present doubt began.
    signs: Signs,
    heard: Instant,
    rtt: Duration,
    interval: Duration,
}

impl Watch {
    /// Starts watching a path that was heard at `now`; `jitter` in 0..=1 spreads the checks of many paths.
    pub(crate) fn new(rtt: Duration, jitter: f64, now: Instant) -> Self {
        let interval = QUIET_INTERVAL.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        Self {
            state: State::Quiet {
                next_check: now + interval,
            },
            signs: Signs::default(),
            heard: now,
            rtt,
            interval,
        }
    }

    /// Something authentic arrived on the path at `at`.
    pub(crate) fn heard(&mut self, at: Instant) {
        if at <= self.heard {
            return;
        }
        self.heard = at;
        let answers_a_question = match self.state {
            State::Quiet { .. } => false,
            State::Asked { since } => at >= since,
            State::Doubt { since, grave, .. } => {
                self.signs.of_peer |= at >= since;
                at >= since && !grave
            }
        };
        if answers_a_question {
            self.state = State::Quiet {
                next_check: at + self.interval,
            };
        }
    }

    /// A check of the peer's own arrived: that says nothing about what we send.
    pub(crate) const fn asked(&mut self) {
        self.signs.of_peer = true;
    }

    /// A small check was answered, which says nothing about full-size ones.
    pub(crate) const fn small_answered(&mut self) {
        self.signs.of_small = true;
    }

    /// Returns what a dead path died of.
    pub(crate) const fn cause(&self) -> DropCause {
        match self.signs {
            Signs { of_small: true, .. } => DropCause::SmallPacketsOnly,
            Signs { of_peer: true, .. } => DropCause::OneDirection,
            Signs { .. } => DropCause::Silent,
        }
    }

    /// A check was answered.
    pub(crate) fn answered(&mut self, rtt: Duration, now: Instant) {
        self.rtt = rtt;
        self.heard = now;
        self.state = State::Quiet {
            next_check: now + self.interval,
        };
    }

    /// Data is outstanding and nothing has been heard since `since`.
    pub(crate) fn waiting(&mut self, since: Instant, now: Instant) {
        let patience = (3 * self.rtt).max(DOUBT_FLOOR);
        if now < since.max(self.heard) + patience {
            return;
        }
        self.begin_doubt(false, now);
    }

    /// The path is suspected for a reason from outside: check it now, quickly; only an answer will do. A doubt
    /// that is there goes on, so that repeated suspicions do not postpone its end.
    pub(crate) fn doubt(&mut self, now: Instant) {
        self.begin_doubt(true, now);
    }

    fn begin_doubt(&mut self, is_grave: bool, now: Instant) {
        if let State::Doubt { grave, .. } = &mut self.state {
            *grave |= is_grave;
            return;
        }
        self.signs = Signs::default();
        self.state = State::Doubt {
            since: now,
            next_check: now,
            sent: 0,
            grave: is_grave,
        };
    }

    pub(crate) const fn is_in_doubt(&self) -> bool {
        matches!(self.state, State::Doubt { .. })
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Verdict {
        match self.state {
            State::Quiet { next_check } if now >= next_check => {
                if self.heard + self.interval > now {
                    self.state = State::Quiet {
                        next_check: self.heard + self.interval,
                    };
                    return Verdict::Wait;
                }
                self.state = State::Asked { since: now };
                Verdict::Check
            }
            State::Asked { since } if now >= since + QUIET_ANSWER => {
                self.begin_doubt(false, now);
                self.handle_timeout(now)
            }
            State::Doubt {
                since,
                next_check,
                sent,
                grave,
            } if now >= next_check => {
                let checks = if grave { GRAVE_CHECKS } else { DOUBT_CHECKS };
                if sent >= checks && now >= since + self.patience_in_doubt(checks) {
                    return Verdict::Dead;
                }
                self.state = State::Doubt {
                    since,
                    next_check: now + DOUBT_INTERVAL,
                    sent: sent + 1,
                    grave,
                };
                Verdict::Check
            }
            State::Quiet { .. } | State::Asked { .. } | State::Doubt { .. } => Verdict::Wait,
        }
    }

    /// So many checks 100 ms apart, and time for the answer to the last of them.
    fn patience_in_doubt(&self, checks: u32) -> Duration {
        DOUBT_INTERVAL * (checks - 1) + (3 * self.rtt).max(DOUBT_FLOOR)
    }

    pub(crate) fn poll_timeout(&self) -> Deadline {
        match self.state {
            State::Quiet { next_check } => Deadline::new(next_check, "check a quiet path"),
            State::Asked { since } => Deadline::new(since + QUIET_ANSWER, "answer on a quiet path"),
            State::Doubt { next_check, .. } => Deadline::new(next_check, "check a path in doubt"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    fn run_until_dead(watch: &mut Watch, mut now: Instant) -> (Instant, u32) {
        let mut checks = 0;
        loop {
            now = now.max(watch.poll_timeout().at);
            match watch.handle_timeout(now) {
                Verdict::Check => checks += 1,
                Verdict::Dead => return (now, checks),
                Verdict::Wait => {}
            }
        }
    }

    #[test]
    fn a_silent_path_with_data_outstanding_is_dead_within_a_second() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.5, epoch);
        let now = epoch + Duration::from_millis(400);
        watch.waiting(epoch, now);
        let (dead_at, checks) = run_until_dead(&mut watch, now);
        assert!(
            dead_at <= epoch + Duration::from_secs(1),
            "{:?}",
            dead_at - epoch
        );
        assert!(checks >= DOUBT_CHECKS);
    }

    #[test]
    fn a_quiet_path_costs_one_check_per_interval() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.5, epoch);
        let mut now = epoch;
        let mut checks = 0;
        while now < epoch + Duration::from_secs(200) {
            now = watch.poll_timeout().at;
            if watch.handle_timeout(now) == Verdict::Check {
                checks += 1;
                watch.answered(RTT, now + RTT);
            }
        }
        assert!((9..=11).contains(&checks), "{checks}");
    }

    #[test]
    fn anything_heard_ends_the_doubt() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.5, epoch);
        watch.waiting(epoch, epoch + Duration::from_millis(350));
        assert_eq!(
            watch.handle_timeout(epoch + Duration::from_millis(350)),
            Verdict::Check
        );
        watch.heard(epoch + Duration::from_millis(360));
        assert_eq!(
            watch.handle_timeout(epoch + Duration::from_millis(900)),
            Verdict::Wait
        );
    }

    #[test]
    fn in_grave_doubt_only_an_answer_counts_and_what_is_heard_names_the_cause() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.5, epoch);
        watch.doubt(epoch);
        watch.heard(epoch + Duration::from_millis(10));
        let (dead_at, checks) = run_until_dead(&mut watch, epoch);
        assert!(dead_at <= epoch + Duration::from_secs(1));
        assert_eq!(watch.cause(), DropCause::OneDirection);
        assert!(checks >= GRAVE_CHECKS);
        watch.small_answered();
        assert_eq!(watch.cause(), DropCause::SmallPacketsOnly);

        watch.answered(RTT, dead_at);
        assert!(!watch.is_in_doubt());
        watch.waiting(dead_at, dead_at + Duration::from_secs(1));
        let (_, _) = run_until_dead(&mut watch, dead_at + Duration::from_secs(1));
        assert_eq!(
            watch.cause(),
            DropCause::Silent,
            "what was heard before is forgotten"
        );
    }

    #[test]
    fn a_doubt_becomes_grave_when_the_peer_hears_nothing_either() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.5, epoch);
        let now = epoch + Duration::from_millis(350);
        watch.waiting(epoch, now);
        watch.doubt(now);
        watch.heard(now + Duration::from_millis(10));
        assert!(watch.is_in_doubt());
        watch.answered(RTT, now + Duration::from_millis(20));
        assert!(!watch.is_in_doubt());
    }

    #[test]
    fn repeated_suspicions_do_not_postpone_the_end() {
        let slow = Duration::from_millis(300);
        let epoch = Instant::now();
        let mut watch = Watch::new(slow, 0.5, epoch);
        let mut now = epoch;
        while watch.handle_timeout(now) != Verdict::Dead {
            watch.doubt(now);
            now += Duration::from_millis(100);
            assert!(now < epoch + Duration::from_secs(2), "the doubt never ends");
        }
    }

    #[test]
    fn every_deadline_makes_progress() {
        let epoch = Instant::now();
        let mut watch = Watch::new(RTT, 0.0, epoch);
        let (dead_at, _) = run_until_dead(&mut watch, epoch);
        assert!(dead_at < epoch + Duration::from_secs(25));
    }
}
