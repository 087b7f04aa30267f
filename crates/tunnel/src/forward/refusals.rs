//! Which refused mappings the shell was told of.

use std::collections::BTreeSet;
use std::sync::Mutex;

use mapping_core::WireMapping;

use super::clock::lock;

/// The ids of refused mappings that were told: each version names all mappings, and each refusal is told once.
#[derive(Debug, Default)]
pub(super) struct ToldRefusals(Mutex<BTreeSet<u32>>);

impl ToldRefusals {
    /// Forgets all but these mappings, which are proposed now: proposals that are never put in force have no end.
    pub(super) fn keep(&self, proposed: &[WireMapping]) {
        let proposed: BTreeSet<u32> = proposed.iter().map(|it| it.id.value()).collect();
        lock(&self.0).retain(|id| proposed.contains(id));
    }

    /// Says whether the refusal of this mapping is news.
    pub(super) fn is_new(&self, mapping: u32) -> bool {
        lock(&self.0).insert(mapping)
    }
}

#[cfg(test)]
mod tests {
    use mapping_core::MappingId;

    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_what_is_no_longer_proposed_is_forgotten() {
        let rule = "tcp:8080:22".parse().unwrap();
        let told = ToldRefusals::default();
        let propose = |ids: std::ops::Range<u32>| {
            let id = MappingId::new;
            let mappings: Vec<_> = ids.map(|it| WireMapping::new(id(it), &rule)).collect();
            told.keep(&mappings);
            mappings
                .iter()
                .filter(|it| told.is_new(it.id.value()))
                .count()
        };
        assert_eq!([propose(0..1), propose(0..3), propose(1..3)], [1, 2, 0]);
        for round in 1..50 {
            assert_eq!(propose(100 * round..100 * round + 100), 100);
        }
        assert_eq!(lock(&told.0).len(), 100);
    }
}
