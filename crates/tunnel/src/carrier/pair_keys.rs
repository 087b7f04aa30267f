//! Which instance pairs have proven the room to each other, and under which key.

use std::collections::{BTreeMap, VecDeque};

use super::hello::InstanceId;
use super::identity::PublicKey;
use super::secrets::PairKey;

/// The most pairs remembered. A forgotten one costs its next carrier one SPAKE2.
const PAIRS_MAX: usize = 1024;

/// A peer's run, as proven: our own run is the process.
type Pair = (PublicKey, InstanceId);

/// Keys of proven instance pairs; the oldest are forgotten.
#[derive(Debug)]
pub struct PairKeys {
    own_instance: InstanceId,
    keys: BTreeMap<Pair, PairKey>,
    order: VecDeque<Pair>,
}

impl PairKeys {
    /// An empty table of the run `own_instance`.
    pub fn new(own_instance: InstanceId) -> Self {
        Self {
            own_instance,
            keys: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The run that the table belongs to.
    pub fn own_instance(&self) -> InstanceId {
        self.own_instance
    }

    /// Whether the peer's run has proven the room.
    pub fn contains(&self, peer: &PublicKey, instance: &InstanceId) -> bool {
        self.keys.contains_key(&(*peer, *instance))
    }

    /// The run that last proved the room with this key.
    pub fn latest_instance(&self, peer: &PublicKey) -> Option<InstanceId> {
        self.order
            .iter()
            .rev()
            .find(|(key, _)| key == peer)
            .map(|(_, instance)| *instance)
    }

    pub(super) fn get(&self, peer: &PublicKey, instance: &InstanceId) -> Option<PairKey> {
        self.keys.get(&(*peer, *instance)).cloned()
    }

    /// Remembers a proof. A new run of a peer replaces its older ones, which are gone.
    pub(super) fn insert(&mut self, peer: PublicKey, instance: InstanceId, key: PairKey) {
        self.order.retain(|(known, _)| *known != peer);
        self.keys.retain(|(known, _), _| *known != peer);
        if self.order.len() >= PAIRS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back((peer, instance));
        self.keys.insert((peer, instance), key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PublicKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_new_run_of_a_peer_replaces_the_old_one() {
        let mut pairs = PairKeys::new([0; 16]);
        pairs.insert(peer(1), [1; 16], PairKey([1; 32]));
        pairs.insert(peer(1), [2; 16], PairKey([2; 32]));
        assert!(!pairs.contains(&peer(1), &[1; 16]));
        assert_eq!(pairs.get(&peer(1), &[2; 16]), Some(PairKey([2; 32])));
        assert_eq!(pairs.latest_instance(&peer(1)), Some([2; 16]));
    }

    #[test]
    fn the_oldest_pair_is_forgotten_at_the_bound() {
        let mut pairs = PairKeys::new([0; 16]);
        for number in 0..=1024 {
            pairs.insert(peer(number), [1; 16], PairKey([1; 32]));
        }
        assert!(!pairs.contains(&peer(0), &[1; 16]));
        assert!(pairs.contains(&peer(1), &[1; 16]));
        assert_eq!((pairs.keys.len(), pairs.order.len()), (1024, 1024));
    }
}
