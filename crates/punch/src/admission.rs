//! Which verified requests are served: not too many per second, and none that was seen elsewhere before.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stunwire::TransactionId;

/// How many requests are remembered. A peer with full pacing sends 200 a second and 500 with a volley, so a recorded
/// request is known for some seconds; an older one sent again costs what the other bounds allow, and can never
/// validate a pair.
const REMEMBERED_MAX: usize = 4096;

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a verified request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is new.
    Fresh,
    /// The network delivered it twice: it is answered again, as RFC 8489, section 6.3.1, asks, and has no
    /// other effect.
    Duplicate,
    /// It was heard from another address before: somebody recorded it. (Our own peers never send one
    /// transaction twice.)
    Replayed,
    /// Too many in this second.
    Capped,
}

#[derive(Debug)]
pub(crate) struct AdmissionControl {
    remembered: BTreeMap<TransactionId, (SocketAddr, SocketAddr)>,
    order: VecDeque<TransactionId>,
    per_second: u32,
    window_start: Instant,
    window_count: u32,
}

impl AdmissionControl {
    pub(crate) const fn new(per_second: u32, now: Instant) -> Self {
        Self {
            remembered: BTreeMap::new(),
            order: VecDeque::new(),
            per_second,
            window_start: now,
            window_count: 0,
        }
    }

    pub(crate) fn admit(
        &mut self,
        id: TransactionId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Admission {
        let known = self.remembered.get(&id).copied();
        if known.is_some_and(|from| from != (local, remote)) {
            return Admission::Replayed;
        }
        // Whoever recorded a request can send it again as often as he likes; that must not use up what the
        // peer's next one needs.
        let limit = if known.is_some() {
            self.per_second / 2
        } else {
            self.per_second
        };
        if !self.has_budget(limit, now) {
            return Admission::Capped;
        }
        if known.is_some() {
            return Admission::Duplicate;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.order.push_back(id);
        self.remembered.insert(id, (local, remote));
        Admission::Fresh
    }

    fn has_budget(&mut self, limit: u32, now: Instant) -> bool {
        if now.saturating_duration_since(self.window_start) >= SECOND {
            self.window_start = now;
            self.window_count = 0;
        }
        let granted = self.window_count < limit;
        self.window_count += u32::from(granted);
        granted
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_fresh_duplicate_replayed_or_too_many() {
        let now = Instant::now();
        let local: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let remote: SocketAddr = "192.0.2.2:2".parse().unwrap();
        let thief: SocketAddr = "192.0.2.3:3".parse().unwrap();
        let mut control = AdmissionControl::new(4, now);
        let id = TransactionId::new([1; 12]);
        assert_eq!(control.admit(id, local, remote, now), Admission::Fresh);
        assert_eq!(control.admit(id, local, remote, now), Admission::Duplicate);
        assert_eq!(control.admit(id, local, thief, now), Admission::Replayed);
        let other = TransactionId::new([2; 12]);
        assert_eq!(control.admit(other, local, remote, now), Admission::Fresh);
        let third = TransactionId::new([3; 12]);
        assert_eq!(control.admit(third, local, remote, now), Admission::Fresh);
        let fourth = TransactionId::new([4; 12]);
        assert_eq!(control.admit(fourth, local, remote, now), Admission::Capped);
        assert_eq!(
            control.admit(fourth, local, remote, now + SECOND),
            Admission::Fresh
        );
    }

    #[test]
    fn a_recorded_request_sent_a_thousand_times_leaves_room_for_the_peers_next_one() {
        let now = Instant::now();
        let local: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let remote: SocketAddr = "192.0.2.2:2".parse().unwrap();
        let mut control = AdmissionControl::new(400, now);
        let recorded = TransactionId::new([1; 12]);
        assert_eq!(
            control.admit(recorded, local, remote, now),
            Admission::Fresh
        );
        let answered = (0..1000)
            .filter(|_| control.admit(recorded, local, remote, now) == Admission::Duplicate)
            .count();
        assert_eq!(answered, 199);
        let next = TransactionId::new([2; 12]);
        assert_eq!(control.admit(next, local, remote, now), Admission::Fresh);
    }

    #[test]
    fn the_memory_of_requests_is_bounded() {
        let now = Instant::now();
        let local: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut control = AdmissionControl::new(u32::MAX, now);
        for number in 0..10_000_u32 {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let _ = control.admit(TransactionId::new(bytes), local, local, now);
        }
        assert_eq!(control.remembered.len(), REMEMBERED_MAX);
        assert_eq!(control.order.len(), REMEMBERED_MAX);
    }
}
