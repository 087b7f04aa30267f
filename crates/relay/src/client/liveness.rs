//! Is the relay still there, and does it still know us?

use std::time::Instant;

use super::config::{KEEPALIVE, SUSPICION};

/// When the relay was last spoken to and last heard, and what that asks for.
#[derive(Debug)]
pub(super) struct Liveness {
    sent: Instant,
    heard: Instant,
    /// The first packet after which nothing was heard.
    unanswered_since: Option<Instant>,
    /// The layer above wants to know now.
    asked: Option<Instant>,
    /// Silence was reported, and is not reported again until it ends.
    pub(super) reported: bool,
}

impl Liveness {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            sent: now,
            heard: now,
            unanswered_since: None,
            asked: None,
            reported: false,
        }
    }

    pub(super) fn on_sent(&mut self, now: Instant) {
        self.sent = now;
        self.unanswered_since.get_or_insert(now);
    }

    pub(super) const fn on_heard(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered_since = None;
        self.asked = None;
        self.reported = false;
    }

    pub(super) const fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    pub(super) const fn heard(&self) -> Instant {
        self.heard
    }

    /// When the relay must be asked whether the allocation lives.
    pub(super) fn question_at(&self) -> Instant {
        let quiet = self.sent.min(self.heard) + KEEPALIVE;
        let suspicious = self.unanswered_since.map(|since| since + SUSPICION);
        [suspicious, self.asked]
            .into_iter()
            .flatten()
            .fold(quiet, Instant::min)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_quiet_line_is_asked_after_the_keepalive() {
        let epoch = Instant::now();
        let mut liveness = Liveness::new(epoch);
        assert_eq!(liveness.question_at(), epoch + KEEPALIVE);
        liveness.on_heard(epoch + Duration::from_secs(7));
        assert_eq!(
            liveness.question_at(),
            epoch + KEEPALIVE,
            "our own side was quiet"
        );
    }

    #[test]
    fn unanswered_packets_are_suspicious_from_the_first_one_on() {
        let epoch = Instant::now();
        let mut liveness = Liveness::new(epoch);
        liveness.on_sent(epoch + Duration::from_secs(1));
        liveness.on_sent(epoch + Duration::from_secs(2));
        assert_eq!(
            liveness.question_at(),
            epoch + Duration::from_secs(1) + SUSPICION
        );
        liveness.on_heard(epoch + Duration::from_secs(2));
        assert_eq!(
            liveness.question_at(),
            epoch + Duration::from_secs(2) + KEEPALIVE
        );
    }
}
