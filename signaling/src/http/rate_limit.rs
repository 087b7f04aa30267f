//! How often one address may ask.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::address_class::AddressClass;

/// Requests per second and address. A participant asks three times when it starts and once in two minutes
/// afterwards; fifty behind one NAT that all come back within a second are 200.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("not zero");
/// What may come at once, after a pause.
const BURST: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Addresses that are remembered, some hundred bytes each; strangers above it share one quota.
const ADDRESSES_MAX: usize = 50_000;

/// Counts requests by address.
#[derive(Debug)]
pub(crate) struct RequestLimiter {
    by_address: DefaultKeyedRateLimiter<AddressClass>,
    shared: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl RequestLimiter {
    pub(crate) fn new() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self {
            by_address: RateLimiter::keyed(quota),
            shared: RateLimiter::direct(quota),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request, or says how long to wait before the next.
    pub(crate) fn check(&self, address: AddressClass) -> Result<(), Duration> {
        let outcome = if self.by_address.len() < ADDRESSES_MAX {
            self.by_address.check_key(&address)
        } else {
            self.shared.check()
        };
        outcome.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets addresses that have been quiet.
    pub(crate) fn forget_quiet(&self) {
        self.by_address.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_held_and_another_is_not() {
        let limiter = RequestLimiter::new();
        let [loud, quiet] = [1, 2].map(|last| AddressClass::of([192, 0, 2, last].into()));
        let granted = (0..2000).filter(|_| limiter.check(loud).is_ok()).count();
        assert!((500..700).contains(&granted), "{granted}");
        assert!(limiter.check(loud).unwrap_err() <= Duration::from_millis(20));
        assert_eq!(limiter.check(quiet), Ok(()));
    }
}
