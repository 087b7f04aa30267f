//! How does our own NAT allot ports? Fresh sockets ask a STUN server, one after the other.
//!
//! Done once, as soon as the NAT is known to map per destination, and again when what was found led nowhere.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use natprobe::{PortAllocation, PortSample, infer_allocation};

/// A block is known after sixteen samples (see `natprobe`).
pub(crate) const SOCKETS: u16 = 16;
/// Sixteen requests 10 ms apart, and a round trip; with one lost and repeated still less.
const PATIENCE: Duration = Duration::from_secs(2);
/// Fewer answers than this show no pattern.
const SAMPLES_MIN: usize = 4;
/// Between two surveys.
const SPACING: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Opening {
        until: Instant,
    },
    Sampling {
        sockets: Vec<SocketAddr>,
        samples: Vec<(SocketAddr, SocketAddr)>,
        until: Instant,
    },
}

/// What was found, and what is being looked at.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    state: State,
    found: Option<PortAllocation>,
    /// When the last one began.
    begun: Option<Instant>,
    is_stale: bool,
}

impl Survey {
    /// Returns what was found.
    pub(crate) const fn found(&self) -> Option<&PortAllocation> {
        self.found.as_ref()
    }

    pub(crate) const fn is_running(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Returns whether there ever was one in this network.
    pub(crate) const fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Returns whether it is time for one, for a NAT that maps per destination.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let is_wanted = self.found.is_none() || self.is_stale;
        let is_spaced = self.begun.is_none_or(|begun| now >= begun + SPACING);
        !self.is_running() && is_wanted && is_spaced
    }

    /// What was found has led nowhere.
    pub(crate) const fn doubt(&mut self) {
        self.is_stale = true;
    }

    /// The network is another: nothing is known.
    pub(crate) fn forget(&mut self) {
        self.found = None;
        self.begun = None;
    }

    /// Sockets were asked for.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.state = State::Opening {
            until: now + PATIENCE,
        };
    }

    /// They are there; returns whether they are to be sampled.
    pub(crate) fn opened(&mut self, sockets: &[SocketAddr], now: Instant) -> bool {
        let is_wanted = matches!(self.state, State::Opening { .. });
        if !is_wanted || sockets.len() < SAMPLES_MIN {
            self.state = State::Idle;
            return false;
        }
        self.state = State::Sampling {
            sockets: sockets.to_vec(),
            samples: Vec::new(),
            until: now + PATIENCE,
        };
        true
    }

    pub(crate) fn sampled(&mut self, socket: SocketAddr, mapped: SocketAddr) {
        if let State::Sampling { samples, .. } = &mut self.state {
            samples.push((socket, mapped));
        }
    }

    /// No more samples come. Returns the sockets to close, and judges.
    pub(crate) fn finish(&mut self) -> Vec<SocketAddr> {
        let State::Sampling {
            sockets, samples, ..
        } = std::mem::take(&mut self.state)
        else {
            return Vec::new();
        };
        // In the order in which the sockets were used, not in that of the answers.
        let sample = |socket: &SocketAddr| {
            let (_, mapped) = samples.iter().find(|(sampled, _)| sampled == socket)?;
            Some(PortSample {
                local: socket.port(),
                mapped: mapped.port(),
            })
        };
        let in_order: Vec<_> = sockets.iter().filter_map(sample).collect();
        if in_order.len() >= SAMPLES_MIN {
            let found = infer_allocation(&in_order);
            tracing::debug!(samples = in_order.len(), ?found, "ports surveyed");
            self.found = Some(found);
            self.is_stale = false;
        }
        sockets
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Opening { until } | State::Sampling { until, .. } => Some(*until),
        }
    }

    /// Returns the sockets to close when it took too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<SocketAddr> {
        if self.deadline().is_none_or(|until| now < until) {
            return Vec::new();
        }
        if matches!(self.state, State::Opening { .. }) {
            self.state = State::Idle;
        }
        self.finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    fn socket(port: u16) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], port))
    }

    fn sockets() -> Vec<SocketAddr> {
        [50_117, 33_001, 41_220, 60_001, 35_999, 47_474]
            .into_iter()
            .map(socket)
            .collect()
    }

    #[test]
    fn answers_that_overtake_each_other_do_not_spoil_the_order() {
        let now = Instant::now();
        let mut survey = Survey::default();
        assert!(survey.is_due(now));
        survey.begin(now);
        assert!(survey.opened(&sockets(), now));
        for (index, local) in sockets().iter().enumerate().rev() {
            let port = 40_000 + 2 * u16::try_from(index).unwrap();
            survey.sampled(*local, SocketAddr::from(([203, 0, 113, 1], port)));
        }
        assert_eq!(survey.finish(), sockets());
        let stride = match survey.found() {
            Some(PortAllocation::Sequential { stride }) => *stride,
            other => panic!("{other:?}"),
        };
        assert_eq!(stride, 2);
        assert!(!survey.is_due(now + SPACING), "it is known now");
        survey.doubt();
        assert!(survey.is_due(now + SPACING));
    }

    #[test]
    fn silent_servers_end_it_without_a_judgement_and_it_is_tried_again() {
        let now = Instant::now();
        let mut survey = Survey::default();
        survey.begin(now);
        assert!(survey.opened(&sockets(), now));
        let end = survey.deadline().unwrap();
        assert_eq!(survey.handle_timeout(end), sockets());
        assert_eq!(survey.found(), None);
        assert!(!survey.is_due(end));
        assert!(survey.is_due(now + SPACING));
    }

    #[test]
    fn too_few_sockets_are_no_survey() {
        let now = Instant::now();
        let mut survey = Survey::default();
        survey.begin(now);
        assert!(!survey.opened(&sockets()[..3], now));
        assert!(!survey.is_running());
    }
}
