//! Which flows there are between two instances, and which there were.

use std::collections::{BTreeMap, VecDeque};

use super::id_set::IdSet;
use super::record::{FlowId, OpenRequest, Record};

/// How many ranges of used ids are remembered. Ids are given in order and arrive almost so; UDP flows whose
/// first datagrams were lost leave the gaps.
const SEEN_RANGES_MAX: usize = 4096;
/// How many ended flows keep a last word for their peer, at least: an ended flow holds no data, about a
/// kilobyte, and goes when the peer confirms, which is a round trip later.
const ENDED_MIN: usize = 1024;

/// What is to be done with a stream, by its first record.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<'a, F> {
    /// It belongs to this flow; hand it the record.
    Existing(&'a F),
    /// Make a flow, [`FlowTable::insert`] it, and hand it the record.
    New(FlowId, OpenRequest),
    /// As `New`, but there are too many: refuse it.
    Full(FlowId, OpenRequest),
    /// There is no such flow (any more): answer UNKNOWN.
    Unknown,
}

/// The flows between two instances. `F` is whatever holds one.
#[derive(Debug)]
pub struct FlowTable<F> {
    flows: BTreeMap<FlowId, F>,
    live: usize,
    live_max: usize,
    /// Ended, in that order, and still in `flows`.
    ended: VecDeque<FlowId>,
    seen: IdSet,
    next: u64,
    refused: u64,
}

impl<F> FlowTable<F> {
    /// Makes an empty table for at most `live_max` flows that have not ended.
    #[must_use]
    pub const fn new(live_max: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            live: 0,
            live_max,
            ended: VecDeque::new(),
            seen: IdSet::new(SEEN_RANGES_MAX),
            next: 1,
            refused: 0,
        }
    }

    /// Ingress: returns an id that was never given before. 2^62 of them outlast any process.
    pub const fn next_id(&mut self) -> FlowId {
        let id = FlowId::new(self.next).expect("2^62 flows outlast any process");
        self.next += 1;
        id
    }

    /// Tells whether there is room for one more, next to `others` that are counted elsewhere; counts the
    /// refusal when there is not.
    pub const fn has_room(&mut self, others: usize) -> bool {
        let room = self.live + others < self.live_max;
        if !room {
            self.refused += 1;
        }
        room
    }

    /// Egress: judges the first record of a stream. `others` are flows that are counted elsewhere.
    pub fn admit(&mut self, first: &Record, others: usize) -> Admission<'_, F> {
        let (id, request) = match first {
            Record::Open { flow, request, .. } => (*flow, Some(*request)),
            Record::Attach { flow, .. } => (*flow, None),
            Record::Opened { .. }
            | Record::Refused { .. }
            | Record::Attached { .. }
            | Record::Unknown
            | Record::Data { .. }
            | Record::Ack { .. }
            | Record::Credit { .. }
            | Record::Fin { .. }
            | Record::FinAck
            | Record::Reset { .. }
            | Record::ResetAck
            | Record::Reading { .. }
            | Record::Done => return Admission::Unknown,
        };
        if self.flows.contains_key(&id) {
            return self
                .flows
                .get(&id)
                .map_or(Admission::Unknown, Admission::Existing);
        }
        // An id that was attached to or ended before must not be dialled by a late OPEN: a request would be
        // made twice.
        let new = self.seen.insert(id.value());
        match request {
            Some(request) if new && (id == FlowId::CONTROL || self.has_room(others)) => {
                Admission::New(id, request)
            }
            Some(request) if new => Admission::Full(id, request),
            _ => Admission::Unknown,
        }
    }

    /// Egress: marks the id of a UDP flow as used; false when it was.
    pub fn mark_seen(&mut self, id: FlowId) -> bool {
        self.seen.insert(id.value())
    }

    /// Adds a flow.
    pub fn insert(&mut self, id: FlowId, flow: F) {
        if self.flows.insert(id, flow).is_none() && id != FlowId::CONTROL {
            self.live += 1;
        }
    }

    /// The flow has ended but may have a last word to repeat. Returns the flow that had to go for it.
    pub fn mark_ended(&mut self, id: FlowId) -> Option<F> {
        if id == FlowId::CONTROL || !self.flows.contains_key(&id) || self.ended.contains(&id) {
            return None;
        }
        self.live -= 1;
        self.ended.push_back(id);
        if self.ended.len() <= self.live_max.max(ENDED_MIN) {
            return None;
        }
        self.ended
            .pop_front()
            .and_then(|oldest| self.flows.remove(&oldest))
    }

    /// Forgets a flow: the peer needs nothing more of it.
    pub fn remove(&mut self, id: FlowId) -> Option<F> {
        let flow = self.flows.remove(&id)?;
        match self.ended.iter().position(|ended| *ended == id) {
            Some(at) => drop(self.ended.remove(at)),
            None if id == FlowId::CONTROL => {}
            None => self.live -= 1,
        }
        Some(flow)
    }

    /// Returns the flow of this id.
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&F> {
        self.flows.get(&id)
    }

    /// Returns all flows, ended ones too, by id.
    pub fn flows(&self) -> impl Iterator<Item = &F> {
        self.flows.values()
    }

    /// Returns how many flows have not ended.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Returns how many were refused for lack of room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Generation;

    fn open(id: u64) -> Record {
        let request = OpenRequest {
            table_version: 1,
            mapping: 1,
            port_offset: 0,
            local_peer: None,
        };
        let flow = FlowId::new(id).unwrap();
        Record::Open {
            flow,
            generation: Generation(1),
            request,
            credit: 0,
            reading: Vec::new(),
        }
    }

    fn attach(id: u64) -> Record {
        let flow = FlowId::new(id).unwrap();
        Record::Attach {
            flow,
            generation: Generation(2),
            received: 0,
            credit: 0,
            reading: vec![],
        }
    }

    #[test]
    fn an_open_that_is_late_or_repeated_is_never_dialled_again() {
        let mut table: FlowTable<&str> = FlowTable::new(10);
        assert!(matches!(table.admit(&open(5), 0), Admission::New(..)));
        table.insert(FlowId::new(5).unwrap(), "five");
        assert_eq!(table.admit(&open(5), 0), Admission::Existing(&"five"));
        table.remove(FlowId::new(5).unwrap());
        assert_eq!(table.admit(&open(5), 0), Admission::Unknown);
        assert_eq!(table.admit(&attach(6), 0), Admission::Unknown);
        assert_eq!(table.admit(&open(6), 0), Admission::Unknown);
    }

    #[test]
    fn ended_flows_make_room_and_are_bounded() {
        let mut table: FlowTable<u64> = FlowTable::new(1);
        for id in 1..=3000 {
            let Admission::New(id, _) = table.admit(&open(id), 0) else {
                panic!("{id} is refused")
            };
            table.insert(id, id.value());
            let full = matches!(
                table.admit(&open(10_000 + id.value()), 0),
                Admission::Full(..)
            );
            assert!(full, "one flow is the limit");
            let evicted = table.mark_ended(id);
            assert_eq!(evicted, (id.value() > 1024).then(|| id.value() - 1024));
        }
        assert_eq!((table.live(), table.flows().count()), (0, 1024));
    }
}
