//! What arrived here and is not yet with the local socket.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::config::FlowConfig;
use super::queue::ByteQueue;

/// How many separate stretches may wait behind a gap. Every generation sends upwards and starts over at most
/// once for each lost one, so honest peers make a handful.
const RUNS_MAX: usize = 64;

/// The receiving half of one end of a flow.
#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    /// In order, not yet read.
    ready: ByteQueue,
    /// Behind a gap: stretches that neither touch nor overlap, by their first offset.
    runs: BTreeMap<u64, ByteQueue>,
    /// How much the local socket took.
    consumed: u64,
    window: u64,
    window_max: u64,
    /// The last credit said.
    granted: u64,
    /// When the measurement for doubling the window began, and at which offset.
    measured_from: (Instant, u64),
    fin: Option<u64>,
    /// The last acknowledgement said.
    acked: u64,
}

/// How the other end broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    BeyondCredit,
    BeyondFin,
    TooScattered,
}

impl ReceiveHalf {
    pub(crate) fn new(config: &FlowConfig, now: Instant) -> Self {
        Self {
            ready: ByteQueue::new(0),
            runs: BTreeMap::new(),
            consumed: 0,
            window: config.initial_credit,
            window_max: config.max_credit,
            granted: config.initial_credit,
            measured_from: (now, 0),
            fin: None,
            acked: 0,
        }
    }

    /// How many bytes there will have been in all, once that is known.
    pub(crate) const fn fin(&self) -> Option<u64> {
        self.fin
    }

    /// Everything below is held here.
    pub(crate) const fn received(&self) -> u64 {
        self.ready.end()
    }

    pub(crate) const fn unacked(&self) -> u64 {
        self.ready.end() - self.acked
    }

    /// Says how much is held, as of now.
    pub(crate) const fn acknowledge(&mut self) -> u64 {
        self.acked = self.ready.end();
        self.acked
    }

    /// Says how much may be sent, as of now.
    pub(crate) fn grant(&mut self) -> u64 {
        self.granted = self.granted.max(self.consumed + self.window);
        self.granted
    }

    /// A grant is worth a record: a quarter of the window, so that the other end never waits for it.
    pub(crate) const fn grant_is_due(&self) -> bool {
        self.fin.is_none() && self.consumed + self.window >= self.granted + self.window / 4
    }

    pub(crate) const fn granted(&self) -> u64 {
        self.granted
    }

    /// How many bytes are held that the local socket did not take.
    pub(crate) fn buffered(&self) -> u64 {
        self.runs.values().map(ByteQueue::len).sum::<u64>() + self.ready.end() - self.consumed
    }

    pub(crate) const fn is_readable(&self) -> bool {
        !self.ready.is_empty()
    }

    /// All bytes were read and there are no more.
    pub(crate) fn is_at_end(&self) -> bool {
        self.fin == Some(self.ready.start())
    }

    /// All bytes and the end arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.fin == Some(self.ready.end())
    }

    pub(crate) fn read(&mut self, max: usize) -> Option<Bytes> {
        self.ready.pop(max)
    }

    /// The local socket took `n` more bytes.
    pub(crate) fn consumed(&mut self, n: usize, config: &FlowConfig, now: Instant) {
        self.consumed = (self.consumed + n as u64).min(self.ready.start());
        let (since, from) = self.measured_from;
        if self.consumed - from >= self.window {
            if now.saturating_duration_since(since) < config.growth_time {
                self.window = (self.window * 2).min(self.window_max);
            }
            self.measured_from = (now, self.consumed);
        }
    }

    pub(crate) fn handle_fin(&mut self, final_offset: u64) -> Result<(), Violation> {
        let highest = self
            .runs
            .values()
            .next_back()
            .map_or_else(|| self.ready.end(), ByteQueue::end);
        if final_offset < highest || self.fin.is_some_and(|fin| fin != final_offset) {
            return Err(Violation::BeyondFin);
        }
        if final_offset > self.granted {
            return Err(Violation::BeyondCredit);
        }
        self.fin = Some(final_offset);
        Ok(())
    }

    pub(crate) fn handle_data(&mut self, offset: u64, bytes: Bytes) -> Result<(), Violation> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.granted {
            return Err(Violation::BeyondCredit);
        }
        if self.fin.is_some_and(|fin| end > fin) {
            return Err(Violation::BeyondFin);
        }
        let Some((offset, bytes)) = without_front(offset, bytes, self.ready.end()) else {
            return Ok(());
        };
        if offset == self.ready.end() {
            self.ready.push(bytes);
            self.join_runs();
            return Ok(());
        }
        self.insert_behind_gap(offset, bytes);
        if self.runs.len() > RUNS_MAX {
            Err(Violation::TooScattered)
        } else {
            Ok(())
        }
    }

    /// Drops everything: the flow was reset.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.runs.clear();
        self.consumed = self.ready.start();
    }

    /// Moves the stretches that the contiguous part has reached into it.
    fn join_runs(&mut self) {
        while let Some(entry) = self.runs.first_entry()
            && *entry.key() <= self.ready.end()
        {
            append(&mut self.ready, entry.remove());
        }
    }

    /// Keeps those of the bytes that are new, and joins stretches that now touch.
    fn insert_behind_gap(&mut self, mut offset: u64, mut bytes: Bytes) {
        let before = self
            .runs
            .range(..=offset)
            .next_back()
            .map(|(at, run)| (*at, run.end()));
        let mut run = match before {
            Some((at, end)) if end >= offset => {
                let Some((cut_offset, rest)) = without_front(offset, bytes, end) else {
                    return;
                };
                (offset, bytes) = (cut_offset, rest);
                self.runs
                    .remove(&at)
                    .unwrap_or_else(|| ByteQueue::new(offset))
            }
            _ => ByteQueue::new(offset),
        };
        debug_assert_eq!(
            run.end(),
            offset,
            "the new bytes follow the stretch they extend"
        );
        while let Some((at, after)) = self
            .runs
            .range(offset..)
            .next()
            .map(|(at, run)| (*at, run.end()))
            && at <= offset + bytes.len() as u64
        {
            let front = bytes.split_to((at - offset) as usize);
            run.push(front);
            if let Some(next) = self.runs.remove(&at) {
                append(&mut run, next);
            }
            match without_front(at, bytes, after) {
                Some((rest_offset, rest)) => (offset, bytes) = (rest_offset, rest),
                None => {
                    self.runs.insert(run.start(), run);
                    return;
                }
            }
        }
        run.push(bytes);
        self.runs.insert(run.start(), run);
    }
}

/// Appends the part of `run` that lies behind `queue`.
fn append(queue: &mut ByteQueue, mut run: ByteQueue) {
    run.advance_to(queue.end());
    while let Some(piece) = run.pop(usize::MAX) {
        queue.push(piece);
    }
}

/// Cuts off what lies before `from`; `None` when nothing is left.
fn without_front(offset: u64, mut bytes: Bytes, from: u64) -> Option<(u64, Bytes)> {
    let past = from.saturating_sub(offset);
    if past >= bytes.len() as u64 {
        return None;
    }
    bytes.advance(past as usize);
    Some((offset.max(from), bytes))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn half() -> ReceiveHalf {
        let config = FlowConfig {
            initial_credit: 64 * 1024,
            ..FlowConfig::default()
        };
        ReceiveHalf::new(&config, Instant::now())
    }

    fn byte_at(offset: u64) -> u8 {
        (offset.wrapping_mul(131) >> 3) as u8
    }

    fn piece(offset: u64, length: u64) -> Bytes {
        (offset..offset + length).map(byte_at).collect()
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_overlap_come_out_once_and_in_order(
            starts in proptest::collection::vec((0u64..60_000, 1u64..4000), 1..40),
        ) {
            let mut half = half();
            let mut out: Vec<u8> = Vec::new();
            let whole = (0..64u64).map(|index| (index * 1024, 1024));
            for (offset, length) in starts.into_iter().chain(whole) {
                let length = length.min(64 * 1024 - offset);
                prop_assert_eq!(half.handle_data(offset, piece(offset, length)), Ok(()));
                prop_assert!(half.buffered() <= 64 * 1024);
                while let Some(bytes) = half.read(3000) {
                    out.extend_from_slice(&bytes);
                }
            }
            prop_assert_eq!(out.len(), 64 * 1024);
            prop_assert!(out.iter().enumerate().all(|(at, byte)| *byte == byte_at(at as u64)));
            prop_assert!(half.runs.is_empty());
        }
    }

    #[test]
    fn data_beyond_credit_is_a_violation() {
        assert_eq!(
            half().handle_data(64 * 1024, piece(0, 1)),
            Err(Violation::BeyondCredit)
        );
        assert_eq!(
            half().handle_data(u64::MAX, piece(0, 2)),
            Err(Violation::BeyondCredit)
        );
    }

    #[test]
    fn scattered_data_is_a_violation_before_it_costs_memory() {
        let mut half = half();
        let results: Vec<_> = (1..=65u64)
            .map(|index| half.handle_data(index * 2, piece(0, 1)))
            .collect();
        assert!(results[..64].iter().all(Result::is_ok));
        assert_eq!(results[64], Err(Violation::TooScattered));
    }

    #[test]
    fn data_after_the_end_is_a_violation() {
        let mut half = half();
        assert_eq!(half.handle_fin(10), Ok(()));
        assert_eq!(half.handle_data(5, piece(5, 6)), Err(Violation::BeyondFin));
        assert_eq!(half.handle_fin(11), Err(Violation::BeyondFin));
        assert_eq!(half.handle_data(0, piece(0, 10)), Ok(()));
        assert!(half.is_complete() && !half.is_at_end());
    }
}
