//! Which carriers of a peer live, and which one flows ride on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::clock::lock;
use super::event::{EventSink, ForwardEvent};
use crate::carrier::{Carrier, CarrierId};

/// The live carriers of one peer instance.
#[derive(Debug)]
pub(super) struct CarrierSet {
    state: Mutex<State>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    events: EventSink,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<CarrierId, Carrier>,
    preferred: Option<CarrierId>,
}

impl CarrierSet {
    pub(super) fn new(events: EventSink) -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            events,
        }
    }

    /// Adds a carrier, and forgets it by itself when it ends. False when it was there.
    pub(super) fn add(self: &Arc<Self>, carrier: Carrier) -> bool {
        let id = carrier.id();
        if lock(&self.state).live.insert(id, carrier.clone()).is_some() {
            return false;
        }
        self.changed();
        let set = Arc::clone(self);
        tokio::spawn(async move {
            let reason = carrier.closed().await.to_string();
            set.remove(id, reason);
        });
        true
    }

    fn remove(&self, id: CarrierId, reason: String) {
        let none_left = {
            let mut state = lock(&self.state);
            if state.live.remove(&id).is_none() {
                return;
            }
            state.preferred.take_if(|preferred| *preferred == id);
            state.live.is_empty()
        };
        self.changed();
        self.events.tell(ForwardEvent::CarrierLost {
            carrier: id,
            reason,
        });
        if none_left {
            self.events.tell(ForwardEvent::NoCarrier);
        }
    }

    /// Forgets all carriers, without closing them.
    pub(super) fn clear(&self) {
        *lock(&self.state) = State::default();
        self.changed();
    }

    pub(super) fn prefer(&self, id: CarrierId) {
        lock(&self.state).preferred = Some(id);
        self.changed();
    }

    /// The carrier to ride on: the preferred one, else the oldest of those that live, which is the one that
    /// flows are on.
    pub(super) fn current(&self) -> Option<Carrier> {
        let state = lock(&self.state);
        let preferred = state.preferred.and_then(|id| state.live.get(&id));
        preferred.or_else(|| state.live.values().next()).cloned()
    }

    pub(super) fn ids(&self) -> Vec<CarrierId> {
        lock(&self.state).live.keys().copied().collect()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
