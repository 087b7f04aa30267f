//! How many refusals a stranger's address receives.

use std::net::IpAddr;
use std::time::Instant;

use super::allocations::source_prefix;

/// Buckets; addresses share one by keyed hash, so that memory does not follow the number of strangers. 4096
/// buckets of 24 bytes are 96 KiB.
const BUCKETS: usize = 4096;

/// Tokens by address, in a table of fixed size.
pub(super) struct Limiter {
    buckets: Box<[Bucket]>,
    key: u64,
    per_second: f64,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Limiter {
    pub(super) fn new(key: u64, per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let full = Bucket {
            tokens: per_second * 2.0,
            filled: now,
        };
        Self {
            buckets: vec![full; BUCKETS].into_boxed_slice(),
            key,
            per_second,
        }
    }

    /// Takes a token of this address; `false` when there is none.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let index = self.index(ip);
        let Some(bucket) = self.buckets.get_mut(index) else {
            return false;
        };
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * self.per_second).min(self.per_second * 2.0);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Mixes the address with the key (the finaliser of MurmurHash3, twice): good enough to keep neighbours
    /// apart, and nobody gains from a collision but to be refused less.
    fn index(&self, ip: IpAddr) -> usize {
        let bits = match source_prefix(ip) {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                [a, b, c, d]
                    .into_iter()
                    .fold(0, |bits, part| bits << 16 | u64::from(part))
            }
        };
        let mixed = mix(mix(bits ^ self.key).wrapping_add(self.key));
        usize::try_from(mixed % BUCKETS as u64).unwrap_or(0)
    }
}

const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let epoch = Instant::now();
        let mut limiter = Limiter::new(7, 10, epoch);
        let victim = IpAddr::from([192, 0, 2, 1]);
        let burst = (0..1000).filter(|_| limiter.admit(victim, epoch)).count();
        assert_eq!(burst, 20);
        let later = epoch + Duration::from_secs(1);
        assert_eq!(
            (0..1000).filter(|_| limiter.admit(victim, later)).count(),
            10
        );
        assert!(
            limiter.admit(IpAddr::from([192, 0, 2, 2]), epoch),
            "another address"
        );
    }
}
