//! What has passed over one route, and the last packet of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Counter;

/// What has passed over one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// QUIC packets received.
    pub packets_in: u64,
    /// Bytes of these packets.
    pub bytes_in: u64,
    /// QUIC packets sent.
    pub packets_out: u64,
    /// Bytes of these packets.
    pub bytes_out: u64,
    /// When the last packet came in.
    pub last_received: Option<Instant>,
    /// When the last packet went out.
    pub last_sent: Option<Instant>,
    /// When the first packet after the last received one went out; `None` when nothing was sent since.
    pub sent_since_received: Option<Instant>,
}

/// Running totals and the last packet of one route; shared, so that no table lock is held while sending.
#[derive(Debug)]
pub(super) struct Traffic {
    epoch: Instant,
    packets_in: Counter,
    bytes_in: Counter,
    packets_out: Counter,
    bytes_out: Counter,
    last_received: Stamp,
    last_sent: Stamp,
    sent_since_received: Stamp,
    last_packet: Mutex<Vec<u8>>,
}

impl Traffic {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            packets_in: Counter::default(),
            bytes_in: Counter::default(),
            packets_out: Counter::default(),
            bytes_out: Counter::default(),
            last_received: Stamp::default(),
            last_sent: Stamp::default(),
            sent_since_received: Stamp::default(),
            last_packet: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn received(&self, packets: u64, bytes: usize, now: Instant) {
        self.packets_in.add(packets);
        self.bytes_in.add(bytes as u64);
        self.last_received.set(now, self.epoch);
        self.sent_since_received.clear();
    }

    /// Counts a transmission of one or several packets, and keeps the last of them.
    pub(super) fn sent(&self, contents: &[u8], segment_size: usize, now: Instant) {
        let packets = contents.len().div_ceil(segment_size.max(1)) as u64;
        self.packets_out.add(packets);
        self.bytes_out.add(contents.len() as u64);
        self.last_sent.set(now, self.epoch);
        self.sent_since_received.set_if_clear(now, self.epoch);
        if let Some(last) = contents.chunks(segment_size.max(1)).last() {
            let mut kept = self
                .last_packet
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            kept.clear();
            kept.extend_from_slice(last);
        }
    }

    /// A copy of the last packet sent; `None` before the first.
    pub(super) fn last_packet(&self) -> Option<Vec<u8>> {
        let kept = self
            .last_packet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (!kept.is_empty()).then(|| kept.clone())
    }

    pub(super) fn stats(&self) -> RouteStats {
        RouteStats {
            packets_in: self.packets_in.get(),
            bytes_in: self.bytes_in.get(),
            packets_out: self.packets_out.get(),
            bytes_out: self.bytes_out.get(),
            last_received: self.last_received.get(self.epoch),
            last_sent: self.last_sent.get(self.epoch),
            sent_since_received: self.sent_since_received.get(self.epoch),
        }
    }
}

/// A point in time in an atomic: nanoseconds since an epoch plus one, 0 for never.
#[derive(Debug, Default)]
struct Stamp(AtomicU64);

impl Stamp {
    fn nanos(at: Instant, epoch: Instant) -> u64 {
        let since = at.saturating_duration_since(epoch).as_nanos();
        u64::try_from(since)
            .unwrap_or(u64::MAX - 1)
            .saturating_add(1)
    }

    fn set(&self, at: Instant, epoch: Instant) {
        self.0.store(Self::nanos(at, epoch), Ordering::Relaxed);
    }

    fn set_if_clear(&self, at: Instant, epoch: Instant) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.set(at, epoch);
        }
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn get(&self, epoch: Instant) -> Option<Instant> {
        let nanos = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(epoch + Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_an_answer_starts_with_the_first_packet_after_the_last_received() {
        let epoch = tokio::time::Instant::now().into_std();
        let traffic = Traffic::new(epoch);
        let at = |millis| epoch + Duration::from_millis(millis);
        traffic.sent(b"a", 1, at(10));
        traffic.sent(b"bcd", 2, at(20));
        assert_eq!(traffic.stats().sent_since_received, Some(at(10)));
        assert_eq!(
            (traffic.stats().packets_out, traffic.stats().bytes_out),
            (3, 4)
        );
        assert_eq!(traffic.last_packet().as_deref(), Some(&b"d"[..]));
        traffic.received(1, 5, at(30));
        assert_eq!(traffic.stats().sent_since_received, None);
        assert_eq!(traffic.stats().last_received, Some(at(30)));
    }
}
