//! Joins fragments into payloads, each delivered once and whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::frame::PAYLOAD_MAX;
use crate::flow::{FlowId, IdSet};

/// How many payloads of a flow may lack fragments.
const INCOMPLETE_MAX: usize = 64;
/// How long a payload may lack fragments; a second path is not slower than that.
const INCOMPLETE_TIME: Duration = Duration::from_secs(2);
/// How much all incomplete payloads of a peer may hold.
const HELD_MAX: usize = 16 * 1024 * 1024;
/// What a fragment costs beside its bytes: its place in the tree. The bytes are copied, since a slice would pin
/// the buffer of up to 64 KiB that its packet was received in.
const FRAGMENT_COST: usize = 512;
/// How many gaps in the numbers of a flow's delivered payloads are remembered: at one loss in a hundred and
/// 100,000 packets a second, a second of history. What is older counts as delivered.
const DELIVERED_RANGES_MAX: usize = 1024;

/// One fragment, as [`super::Body::Payload`] has it.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The number of the payload.
    pub packet: u64,
    /// Where the bytes belong.
    pub offset: usize,
    /// They end the payload.
    pub last: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// What the bounds dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReassemblyStats {
    /// Payloads and fragments that came twice.
    pub repeated: u64,
    /// Payloads that lacked a fragment for too long.
    pub expired: u64,
    /// Fragments for which there was no room.
    pub no_room: u64,
    /// Fragments that cannot belong to a payload.
    pub malformed: u64,
}

/// The incomplete payloads of one peer.
#[derive(Debug, Default)]
pub struct Reassembler {
    flows: BTreeMap<FlowId, FlowPayloads>,
    held: usize,
    stats: ReassemblyStats,
}

#[derive(Debug)]
struct FlowPayloads {
    delivered: IdSet,
    incomplete: BTreeMap<u64, Incomplete>,
}

#[derive(Debug)]
struct Incomplete {
    since: Instant,
    fragments: BTreeMap<usize, Bytes>,
    bytes: usize,
    held: usize,
    length: Option<usize>,
}

impl Reassembler {
    /// Makes one that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a fragment; returns the payload that it completes.
    pub fn handle(&mut self, flow: FlowId, fragment: Fragment, now: Instant) -> Option<Bytes> {
        let end = fragment.offset.saturating_add(fragment.bytes.len());
        if end > PAYLOAD_MAX || (fragment.bytes.is_empty() && end > 0) {
            self.stats.malformed += 1;
            return None;
        }
        let payloads = self.flows.entry(flow).or_insert_with(|| FlowPayloads {
            delivered: IdSet::new(DELIVERED_RANGES_MAX),
            incomplete: BTreeMap::new(),
        });
        if fragment.offset == 0
            && fragment.last
            && !payloads.incomplete.contains_key(&fragment.packet)
        {
            let new = payloads.delivered.insert(fragment.packet);
            self.stats.repeated += u64::from(!new);
            return new.then_some(fragment.bytes);
        }
        if payloads.delivered.contains(fragment.packet) {
            self.stats.repeated += 1;
            return None;
        }
        self.hold(flow, fragment, end, now)
    }

    fn hold(
        &mut self,
        flow: FlowId,
        fragment: Fragment,
        end: usize,
        now: Instant,
    ) -> Option<Bytes> {
        let payloads = self.flows.get_mut(&flow)?;
        let cost = fragment.bytes.len() + FRAGMENT_COST;
        // The oldest make room: most likely they lack a fragment that was lost.
        while self.held + cost > HELD_MAX || payloads.lacks_room_for(fragment.packet) {
            self.stats.no_room += 1;
            self.held -= payloads.incomplete.pop_first()?.1.held;
        }
        let incomplete = payloads
            .incomplete
            .entry(fragment.packet)
            .or_insert_with(|| Incomplete {
                since: now,
                fragments: BTreeMap::new(),
                bytes: 0,
                held: 0,
                length: None,
            });
        if let Some(there) = incomplete.fragments.get(&fragment.offset) {
            if there.len() >= fragment.bytes.len() {
                self.stats.repeated += 1;
                return None;
            }
            // A carrier with larger datagrams sent it again.
            let cost = there.len() + FRAGMENT_COST;
            incomplete.bytes -= there.len();
            incomplete.held -= cost;
            self.held -= cost;
        }
        if fragment.last {
            incomplete.length = Some(end);
        }
        let bytes = Bytes::copy_from_slice(&fragment.bytes);
        incomplete.bytes += bytes.len();
        incomplete.held += cost;
        self.held += cost;
        incomplete.fragments.insert(fragment.offset, bytes);
        let payload = incomplete.join()?;
        payloads.delivered.insert(fragment.packet);
        if let Some(done) = payloads.incomplete.remove(&fragment.packet) {
            self.held -= done.held;
        }
        Some(payload)
    }

    /// Forgets what has lacked a fragment for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (held, expired) = (&mut self.held, &mut self.stats.expired);
        for payloads in self.flows.values_mut() {
            let delivered = &mut payloads.delivered;
            payloads.incomplete.retain(|packet, incomplete| {
                let keep = now < incomplete.since + INCOMPLETE_TIME;
                if !keep {
                    *held -= incomplete.held;
                    *expired += 1;
                    // Later fragments of it are of no use.
                    delivered.insert(*packet);
                }
                keep
            });
        }
    }

    /// Forgets a flow.
    pub fn forget(&mut self, flow: FlowId) {
        if let Some(payloads) = self.flows.remove(&flow) {
            self.held -= payloads
                .incomplete
                .values()
                .map(|incomplete| incomplete.held)
                .sum::<usize>();
        }
    }

    /// Returns how much is held, in bytes, with its overhead.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Returns what the bounds dropped.
    #[must_use]
    pub const fn stats(&self) -> ReassemblyStats {
        self.stats
    }
}

impl FlowPayloads {
    fn lacks_room_for(&self, packet: u64) -> bool {
        self.incomplete.len() >= INCOMPLETE_MAX && !self.incomplete.contains_key(&packet)
    }
}

impl Incomplete {
    /// Returns the payload when all of it is there. Fragments may overlap: two carriers cut differently.
    fn join(&self) -> Option<Bytes> {
        let length = self.length.filter(|length| self.bytes >= *length)?;
        let mut covered = 0;
        for (offset, bytes) in &self.fragments {
            if *offset > covered {
                return None;
            }
            covered = covered.max(offset + bytes.len());
        }
        if covered != length {
            return None;
        }
        let mut payload = BytesMut::with_capacity(length);
        for (offset, bytes) in &self.fragments {
            let overlap = payload.len() - offset;
            payload.extend_from_slice(bytes.get(overlap..).unwrap_or_default());
        }
        Some(payload.freeze())
    }
}
