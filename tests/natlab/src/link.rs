//! Links: when a packet arrives, if it does, and how often.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};

/// UDP and IPv4 headers, which a payload does not show.
const HEADER_BYTES: u64 = 28;
/// A queue that holds more than this drops: a buffer of a quarter of a second is a usual home router's.
const QUEUE_MAX: Duration = Duration::from_millis(250);

/// What a link does to packets. Shares are percentages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added to the delay, uniform from nothing to this; packets overtake each other by it.
    pub jitter: Duration,
    /// Packets that vanish.
    pub loss: u32,
    /// Packets that are held back by `reorder_by`.
    pub reorder: u32,
    /// How long.
    pub reorder_by: Duration,
    /// Packets that arrive twice.
    pub duplicate: u32,
    /// Bits per second; behind it a queue of 250 ms. `None`: no limit.
    pub rate: Option<u64>,
}

impl Link {
    /// A link with a delay and no vices.
    #[must_use]
    pub const fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            reorder: 0,
            reorder_by: Duration::ZERO,
            duplicate: 0,
            rate: None,
        }
    }

    /// The same, losing `percent` of all packets.
    #[must_use]
    pub const fn losing(self, percent: u32) -> Self {
        Self {
            loss: percent,
            ..self
        }
    }
}

/// One direction of a link, with its queue.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    /// What it does. May be changed at any time.
    pub link: Link,
    busy_until: Option<Instant>,
}

impl Pipe {
    /// Makes an empty pipe.
    #[must_use]
    pub const fn new(link: Link) -> Self {
        Self {
            link,
            busy_until: None,
        }
    }

    /// Sends a packet of `bytes` payload. Returns when it arrives: never, once, or twice.
    pub fn send(&mut self, bytes: usize, now: Instant, rng: &mut StdRng) -> [Option<Instant>; 2] {
        let Some(sent) = self.leave(bytes, now) else {
            return [None; 2];
        };
        if happens(self.link.loss, rng) {
            return [None; 2];
        }
        let first = self.arrival(sent, rng);
        let second = happens(self.link.duplicate, rng).then(|| self.arrival(sent, rng));
        [Some(first), second]
    }

    /// Returns when the last bit leaves; `None` when the queue is full.
    fn leave(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.link.rate else {
            return Some(now);
        };
        let begin = self.busy_until.map_or(now, |until| until.max(now));
        if begin - now > QUEUE_MAX {
            return None;
        }
        let bits = (bytes as u64 + HEADER_BYTES) * 8;
        let end = begin + Duration::from_nanos(bits * 1_000_000_000 / rate.max(1));
        self.busy_until = Some(end);
        Some(end)
    }

    fn arrival(&self, sent: Instant, rng: &mut StdRng) -> Instant {
        let jitter = self.link.jitter.as_micros();
        let jitter = u64::try_from(jitter).unwrap_or(u64::MAX);
        // Drawn only where it matters, so that an unused vice does not change the rest of a run.
        let jitter = (jitter > 0).then(|| rng.random_range(0..=jitter));
        let held = happens(self.link.reorder, rng).then_some(self.link.reorder_by);
        sent + self.link.delay
            + Duration::from_micros(jitter.unwrap_or_default())
            + held.unwrap_or_default()
    }
}

fn happens(percent: u32, rng: &mut StdRng) -> bool {
    percent > 0 && rng.random_range(0..100) < percent
}
