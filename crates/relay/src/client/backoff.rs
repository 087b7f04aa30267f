//! How long to wait before the relay is asked again.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

/// Doubling waits with a jitter of ±20 %, so that a thousand clients of a relay that was away do not come
/// back in one instant.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Nobody answered. At most ten seconds: asking costs one small packet, and the network may be back.
    pub(super) fn after_silence(&mut self, rng: &mut StdRng) -> Duration {
        self.next(Duration::from_secs(10), rng)
    }

    /// The relay said no. At most a minute: quotas and credentials change slowly.
    pub(super) fn after_refusal(&mut self, rng: &mut StdRng) -> Duration {
        self.next(Duration::from_secs(60), rng)
    }

    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self, ceiling: Duration, rng: &mut StdRng) -> Duration {
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(ceiling);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(rng.random_range(0.8..1.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let mut rng = StdRng::from_seed([1; 32]);
        let mut backoff = Backoff::default();
        let waits: Vec<f64> = (0..8)
            .map(|_| backoff.after_refusal(&mut rng).as_secs_f64())
            .collect();
        for (wait, nominal) in waits
            .iter()
            .zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        {
            assert!((nominal * 0.8..=nominal * 1.2).contains(wait), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.after_silence(&mut rng) < Duration::from_secs(2));
    }
}
