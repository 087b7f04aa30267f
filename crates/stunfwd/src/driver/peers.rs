//! Who is in the room: slots, the runs behind them, and when they go.

use std::collections::BTreeMap;
use std::time::Instant;

use session::{Description, InstanceId, PeerId, Side, UNANSWERED_LIFETIME};
use signal_client::{PublicKey, SlotName};
use tracing::{debug, warn};

use super::Driver;
use crate::clock::now;

/// One run of one participant.
#[derive(Clone, Debug)]
pub(super) struct PeerEntry {
    pub(super) slot: SlotName,
    pub(super) key: PublicKey,
    pub(super) instance: InstanceId,
    /// When its first description came.
    pub(super) since: Instant,
    /// Its slot is gone: once its carriers are gone too, so is the peer.
    pub(super) slot_gone: bool,
    pub(super) path_changes: u64,
}

/// The runs that we know, by the name that [`session`] uses.
#[derive(Default)]
pub(super) struct PeerBook {
    entries: BTreeMap<PeerId, PeerEntry>,
    next: u64,
}

impl PeerBook {
    pub(super) fn get(&self, id: PeerId) -> Option<&PeerEntry> {
        self.entries.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut PeerEntry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, &PeerEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(super) fn by_instance(&self, instance: InstanceId) -> Option<PeerId> {
        self.iter()
            .find(|(_, entry)| entry.instance == instance)
            .map(|(id, _)| id)
    }

    fn insert(&mut self, entry: PeerEntry) -> PeerId {
        let id = PeerId(self.next);
        self.next += 1;
        self.entries.insert(id, entry);
        id
    }

    fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        self.entries.values().map(|entry| entry.key.0)
    }
}

impl Driver {
    /// A slot of the room was opened: it comes from somebody who knows the secret.
    pub(super) fn on_opened(&mut self, slot: SlotName, key: PublicKey, plaintext: &[u8]) {
        if self.replaced {
            return;
        }
        let description = match Description::decode(plaintext) {
            Ok(description) => description,
            Err(error) => {
                warn!(%slot, %error, "a description in this room cannot be used");
                return;
            }
        };
        let expected = match self.side {
            Side::Ingress => Side::Egress,
            Side::Egress => Side::Ingress,
        };
        let in_its_place = slot.is_server() == (description.role == Side::Egress);
        if description.role != expected || !in_its_place || description.identity.0 != key.0 {
            return;
        }
        let instance = description.instance;
        // Another member of the room may write any instance id, but only under its own key.
        let known = self
            .peers
            .iter()
            .find(|(_, it)| it.key == key && it.instance == instance);
        let id = match known.map(|(id, _)| id) {
            Some(id) => id,
            None => self.add_peer(slot, key, instance),
        };
        // A slot holds one description: runs that it described before are not in the room any more.
        for (other, entry) in &mut self.peers.entries {
            if *other == id {
                entry.slot_gone = false;
            } else if entry.slot == slot {
                entry.slot_gone = true;
            }
        }
        self.forget_old_peers(now());
        if self.node.set_peer(id, description, now()) {
            self.journal.peer_described(id, key, self.node.is_fresh(id));
        } else {
            self.remove_peer(id);
        }
    }

    /// A later run with our key has taken our place in the room: its peers are no longer ours.
    pub(super) fn on_replaced(&mut self, text: String) {
        self.replaced = true;
        let ids: Vec<_> = self
            .peers
            .iter()
            .map(|(id, it)| (id, it.instance))
            .collect();
        for (id, instance) in ids {
            self.close_carriers_of(id, super::carriers::CODE_SUPERSEDED, "replaced");
            self.forwarding.peer_gone(instance);
            self.remove_peer(id);
        }
        self.journal.signaling.replaced(text);
    }

    fn add_peer(&mut self, slot: SlotName, key: PublicKey, instance: InstanceId) -> PeerId {
        let entry = PeerEntry {
            slot,
            key,
            instance,
            since: now(),
            slot_gone: false,
            path_changes: 0,
        };
        let id = self.peers.insert(entry);
        self.known_keys.replace_all(self.peers.keys());
        debug!(%slot, instance = %instance.short(), "a peer has described itself");
        id
    }

    pub(super) fn on_slot_removed(&mut self, slot: SlotName) {
        let ids: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.slot == slot)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            if let Some(entry) = self.peers.get_mut(id) {
                entry.slot_gone = true;
            }
        }
        self.forget_old_peers(now());
    }

    /// Drops the runs that left, and those that never answered: neither may keep sending checks.
    pub(super) fn forget_old_peers(&mut self, at: Instant) {
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter(|(id, entry)| {
                let answered = self.node.is_fresh(*id);
                let unanswered = !answered && at >= entry.since + UNANSWERED_LIFETIME;
                let useless = entry.slot_gone || (unanswered && self.side == Side::Egress);
                useless && !self.carriers.any_of(*id)
            })
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.remove_peer(id);
        }
    }

    /// Forgets a run: its paths, its key, and on the egress side its connections once they expire.
    pub(super) fn remove_peer(&mut self, id: PeerId) {
        self.node.remove_peer(id);
        self.peers.entries.remove(&id);
        self.carriers.forget_peer(id);
        self.paths.forget_peer(id);
        self.journal.forget_peer(id);
        self.known_keys.replace_all(self.peers.keys());
    }

    /// A run has proven itself: older runs under the same key are over, and on the ingress side, where
    /// there is one server, those under any other key too.
    pub(super) fn supersede_others(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get(id).cloned() else {
            return;
        };
        let others: Vec<_> = self
            .peers
            .iter()
            .filter(|(other, it)| {
                *other != id
                    && it.since <= entry.since
                    && (it.key == entry.key || self.side == Side::Ingress)
            })
            .map(|(other, it)| (other, it.instance))
            .collect();
        for (other, instance) in others {
            self.journal.peer_replaced(entry.key);
            self.close_carriers_of(other, super::carriers::CODE_SUPERSEDED, "superseded");
            self.forwarding.peer_gone(instance);
            self.remove_peer(other);
        }
    }
}
