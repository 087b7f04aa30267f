//! Who may finish a TLS handshake with us: the keys of the descriptions that we opened.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use super::identity::PublicKey;

/// The most keys at once: a room's slots are far fewer.
const KEYS_MAX: usize = 65_536;

/// The keys that may connect; the driver changes them while handshakes read them.
#[derive(Debug, Default)]
pub struct KnownKeys {
    keys: RwLock<BTreeSet<PublicKey>>,
}

impl KnownKeys {
    /// An empty set, which refuses everybody.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets `key` connect. Returns false when it could before, or when the set is full.
    pub fn insert(&self, key: PublicKey) -> bool {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.len() < KEYS_MAX && keys.insert(key)
    }

    /// Refuses `key` from now on; its live carriers stay. Returns whether it could connect before.
    pub fn remove(&self, key: &PublicKey) -> bool {
        self.keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key)
    }

    /// Lets exactly these keys connect.
    pub fn replace_all(&self, keys: impl IntoIterator<Item = PublicKey>) {
        let keys = keys.into_iter().take(KEYS_MAX).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether `key` may connect.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(key)
    }
}
