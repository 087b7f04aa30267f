//! The rooms, in memory: who owns which slot, who watches, and when all of it is forgotten.
//!
//! A pure state machine in the manner of `sansio`: time is an argument, notifications are polled. It knows
//! neither HTTP nor signatures; whoever calls it has verified them.

mod limits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansio::Deadline;
use signal_client::{PublicKey, RendezvousId, Signature, SlotName, SlotRemove};

pub(crate) use limits::{Full, RoomLimits, RoomStats};

use crate::address_class::AddressClass;

/// How long the owner of the `server` slot must have had neither watcher nor write before another key may
/// take it (DESIGN §3.2).
pub(crate) const TAKE_OVER_AFTER: Duration = Duration::from_secs(30);
/// How long a slot outlives the last sign of its owner (DESIGN §7). Waiting owners write every two minutes.
pub(crate) const EXPIRE_AFTER: Duration = Duration::from_secs(5 * 60);

/// Names one watcher for as long as it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatcherId(u64);

/// A verified write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: PublicKey,
    pub(crate) seq: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Signature,
}

/// A slot as it is now. Cheap to clone: watchers share the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotView {
    pub(crate) slot: SlotName,
    pub(crate) key: PublicKey,
    pub(crate) seq: u64,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) signature: Signature,
    pub(crate) age: Duration,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomEvent {
    /// The slot was written.
    Written(SlotView),
    /// The slot is no more; with its owner's word where it was not the clock's.
    Removed(SlotName, Option<SlotRemove>),
}

/// Why a write, a removal or a watch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The slot has a higher sequence.
    Stale(Occupant),
    /// The slot belongs to another key.
    Taken(Occupant),
    /// There is no such slot.
    NotFound,
    /// A limit is reached.
    Full(Full),
}

/// Who is in the slot that could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub(crate) key: PublicKey,
    pub(crate) seq: u64,
    /// The time since its last write.
    pub(crate) age: Duration,
}

/// All rooms of this server.
#[derive(Debug)]
pub(crate) struct Rooms {
    limits: RoomLimits,
    rooms: BTreeMap<RendezvousId, Room>,
    watchers: BTreeMap<WatcherId, Watcher>,
    watchers_of: BTreeMap<AddressClass, usize>,
    next_watcher: u64,
    /// One entry per slot: when to look whether it has expired.
    expiries: BTreeSet<(Instant, RendezvousId, SlotName)>,
    notifications: VecDeque<(WatcherId, RoomEvent)>,
    stats: RoomStats,
}

#[derive(Debug, Default)]
struct Room {
    slots: BTreeMap<SlotName, Slot>,
    watchers: BTreeSet<WatcherId>,
    /// How many watchers each owner has.
    present: BTreeMap<(SlotName, PublicKey), usize>,
}

#[derive(Debug)]
struct Slot {
    key: PublicKey,
    seq: u64,
    payload: Arc<[u8]>,
    signature: Signature,
    written_at: Instant,
    /// When its owner last wrote or stopped watching.
    seen_at: Instant,
    /// Its entry in `Rooms::expiries`.
    look_at: Instant,
}

#[derive(Debug)]
struct Watcher {
    room: RendezvousId,
    address: AddressClass,
    owner: Option<(SlotName, PublicKey)>,
}

impl Rooms {
    pub(crate) fn new(limits: RoomLimits) -> Self {
        Self {
            limits,
            rooms: BTreeMap::new(),
            watchers: BTreeMap::new(),
            watchers_of: BTreeMap::new(),
            next_watcher: 0,
            expiries: BTreeSet::new(),
            notifications: VecDeque::new(),
            stats: RoomStats::default(),
        }
    }

    /// Writes a slot and returns its sequence.
    pub(crate) fn publish(
        &mut self,
        rendezvous: RendezvousId,
        name: SlotName,
        write: Write,
        now: Instant,
    ) -> Result<u64, Refusal> {
        let room = self.rooms.get(&rendezvous);
        let before = match room.and_then(|room| room.slots.get(&name)) {
            Some(slot) => {
                let present = room.is_some_and(|room| room.has_present(name, slot.key));
                if let Some(refusal) = refusal_of(slot, &write, present, now) {
                    self.stats.conflicts += 1;
                    return Err(refusal);
                }
                Some((slot.payload.len(), slot.look_at))
            }
            None => None,
        };
        let (before, look_at) = before.unzip();
        self.check_place(rendezvous, before, write.payload.len())
            .map_err(|full| {
                self.stats.refused_full += 1;
                Refusal::Full(full)
            })?;
        self.stats.payload_bytes =
            self.stats.payload_bytes - before.unwrap_or(0) + write.payload.len();
        let slot = Slot {
            key: write.key,
            seq: write.seq,
            payload: write.payload.into(),
            signature: write.signature,
            written_at: now,
            seen_at: now,
            look_at: look_at.unwrap_or(now + EXPIRE_AFTER),
        };
        self.expiries.insert((slot.look_at, rendezvous, name));
        let view = slot.view(name, now);
        self.rooms
            .entry(rendezvous)
            .or_default()
            .slots
            .insert(name, slot);
        self.stats.writes += 1;
        self.notify(rendezvous, &RoomEvent::Written(view));
        Ok(write.seq)
    }

    /// Removes a slot at its owner's wish.
    pub(crate) fn remove(
        &mut self,
        rendezvous: RendezvousId,
        name: SlotName,
        removal: SlotRemove,
        now: Instant,
    ) -> Result<(), Refusal> {
        let slot = self
            .rooms
            .get(&rendezvous)
            .and_then(|room| room.slots.get(&name));
        let slot = slot.ok_or(Refusal::NotFound)?;
        if slot.key != removal.key {
            return Err(Refusal::Taken(slot.occupant(now)));
        }
        if removal.seq < slot.seq {
            return Err(Refusal::Stale(slot.occupant(now)));
        }
        self.take_slot(rendezvous, name, Some(removal));
        Ok(())
    }

    /// Returns every slot of a room, by name.
    pub(crate) fn snapshot(&self, rendezvous: RendezvousId, now: Instant) -> Vec<SlotView> {
        self.rooms.get(&rendezvous).map_or_else(Vec::new, |room| {
            room.slots
                .iter()
                .map(|(&name, slot)| slot.view(name, now))
                .collect()
        })
    }

    /// Begins a watch and returns the room as it is; what changes from now on is notified. A watcher that
    /// names a slot and its key keeps that slot from expiring and from being taken.
    pub(crate) fn open_watch(
        &mut self,
        rendezvous: RendezvousId,
        address: AddressClass,
        owner: Option<(SlotName, PublicKey)>,
        now: Instant,
    ) -> Result<(WatcherId, Vec<SlotView>), Refusal> {
        self.check_watch(rendezvous, address).map_err(|full| {
            self.stats.refused_full += 1;
            Refusal::Full(full)
        })?;
        let id = WatcherId(self.next_watcher);
        self.next_watcher += 1;
        self.watchers.insert(
            id,
            Watcher {
                room: rendezvous,
                address,
                owner,
            },
        );
        *self.watchers_of.entry(address).or_default() += 1;
        let room = self.rooms.entry(rendezvous).or_default();
        room.watchers.insert(id);
        if let Some(owner) = owner {
            *room.present.entry(owner).or_default() += 1;
        }
        Ok((id, self.snapshot(rendezvous, now)))
    }

    /// Ends a watch.
    pub(crate) fn close_watch(&mut self, id: WatcherId, now: Instant) {
        let Some(watcher) = self.watchers.remove(&id) else {
            return;
        };
        decrement(&mut self.watchers_of, &watcher.address);
        let Some(room) = self.rooms.get_mut(&watcher.room) else {
            return;
        };
        room.watchers.remove(&id);
        if let Some((name, key)) = watcher.owner {
            decrement(&mut room.present, &(name, key));
            if let Some(slot) = room.slots.get_mut(&name)
                && slot.key == key
            {
                slot.seen_at = now;
            }
        }
        self.forget_if_empty(watcher.room);
    }

    /// Removes what has expired.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, rendezvous, name)) = self.expiries.first()
            && at <= now
        {
            self.expiries.pop_first();
            let Some(room) = self.rooms.get_mut(&rendezvous) else {
                continue;
            };
            let Some(slot) = room.slots.get_mut(&name) else {
                continue;
            };
            let present = room.present.contains_key(&(name, slot.key));
            let seen_at = if present { now } else { slot.seen_at };
            if now.saturating_duration_since(seen_at) >= EXPIRE_AFTER {
                self.stats.expired += 1;
                self.take_slot(rendezvous, name, None);
            } else {
                slot.look_at = seen_at + EXPIRE_AFTER;
                self.expiries.insert((slot.look_at, rendezvous, name));
            }
        }
    }

    /// Returns who is to be told what, in order.
    pub(crate) fn poll_notification(&mut self) -> Option<(WatcherId, RoomEvent)> {
        self.notifications.pop_front()
    }

    /// Returns when to look for what has expired.
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.expiries
            .first()
            .map(|&(at, ..)| Deadline::new(at, "a slot may have expired"))
    }

    /// Returns the counters.
    pub(crate) fn stats(&self) -> RoomStats {
        RoomStats {
            rooms: self.rooms.len(),
            watchers: self.watchers.len(),
            ..self.stats
        }
    }

    fn check_place(
        &self,
        rendezvous: RendezvousId,
        before: Option<usize>,
        payload_len: usize,
    ) -> Result<(), Full> {
        let limits = &self.limits;
        let room = self.rooms.get(&rendezvous);
        if room.is_none() && self.rooms.len() >= limits.rooms_max {
            return Err(Full::Rooms);
        }
        let slots = room.map_or(0, |room| room.slots.len());
        if before.is_none() && slots >= limits.slots_per_room_max {
            return Err(Full::Slots);
        }
        let bytes = self.stats.payload_bytes - before.unwrap_or(0) + payload_len;
        if bytes > limits.payload_bytes_max {
            Err(Full::Memory)
        } else {
            Ok(())
        }
    }

    fn check_watch(&self, rendezvous: RendezvousId, address: AddressClass) -> Result<(), Full> {
        let limits = &self.limits;
        let room = self.rooms.get(&rendezvous);
        if self.watchers.len() >= limits.watchers_max {
            return Err(Full::Watchers);
        }
        if self.watchers_of.get(&address).copied().unwrap_or(0) >= limits.watchers_per_address_max {
            return Err(Full::WatchersOfAddress);
        }
        if room.map_or(0, |room| room.watchers.len()) >= limits.watchers_per_room_max {
            return Err(Full::WatchersOfRoom);
        }
        if room.is_none() && self.rooms.len() >= limits.rooms_max {
            return Err(Full::Rooms);
        }
        Ok(())
    }

    fn take_slot(&mut self, rendezvous: RendezvousId, name: SlotName, removal: Option<SlotRemove>) {
        let Some(room) = self.rooms.get_mut(&rendezvous) else {
            return;
        };
        let Some(slot) = room.slots.remove(&name) else {
            return;
        };
        self.stats.payload_bytes -= slot.payload.len();
        self.expiries.remove(&(slot.look_at, rendezvous, name));
        self.notify(rendezvous, &RoomEvent::Removed(name, removal));
        self.forget_if_empty(rendezvous);
    }

    fn notify(&mut self, rendezvous: RendezvousId, event: &RoomEvent) {
        let Some(room) = self.rooms.get(&rendezvous) else {
            return;
        };
        self.notifications
            .extend(room.watchers.iter().map(|&id| (id, event.clone())));
    }

    fn forget_if_empty(&mut self, rendezvous: RendezvousId) {
        if let Some(room) = self.rooms.get(&rendezvous)
            && room.slots.is_empty()
            && room.watchers.is_empty()
        {
            self.rooms.remove(&rendezvous);
        }
    }
}

impl Room {
    fn has_present(&self, name: SlotName, key: PublicKey) -> bool {
        self.present.contains_key(&(name, key))
    }
}

impl Slot {
    fn view(&self, slot: SlotName, now: Instant) -> SlotView {
        SlotView {
            slot,
            key: self.key,
            seq: self.seq,
            payload: Arc::clone(&self.payload),
            signature: self.signature,
            age: now.saturating_duration_since(self.written_at),
        }
    }

    fn occupant(&self, now: Instant) -> Occupant {
        let age = now.saturating_duration_since(self.written_at);
        Occupant {
            key: self.key,
            seq: self.seq,
            age,
        }
    }
}

/// Judges a write to a slot that exists: its owner needs a higher sequence (or repeats itself), another key
/// needs an owner that is gone.
fn refusal_of(slot: &Slot, write: &Write, present: bool, now: Instant) -> Option<Refusal> {
    if slot.key == write.key {
        let repeated = slot.seq == write.seq && slot.signature == write.signature;
        return (write.seq <= slot.seq && !repeated).then(|| Refusal::Stale(slot.occupant(now)));
    }
    let gone = !present && now.saturating_duration_since(slot.seen_at) >= TAKE_OVER_AFTER;
    (!gone).then(|| Refusal::Taken(slot.occupant(now)))
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
