//! Which numbers were seen, in little memory.

use std::collections::BTreeMap;

/// A set of numbers that mostly arrive in order, kept as ranges and bounded.
///
/// When there are too many gaps, the lowest is closed: numbers in it count as seen. So a number may be taken
/// for a repetition wrongly, but never the other way round.
#[derive(Clone, Debug)]
pub struct IdSet {
    /// First to last of each range; they neither touch nor overlap.
    ranges: BTreeMap<u64, u64>,
    ranges_max: usize,
}

impl IdSet {
    /// Makes an empty set of at most `ranges_max` ranges.
    #[must_use]
    pub const fn new(ranges_max: usize) -> Self {
        Self {
            ranges: BTreeMap::new(),
            ranges_max,
        }
    }

    /// Adds `id`; false when it was there.
    pub fn insert(&mut self, id: u64) -> bool {
        let before = self
            .ranges
            .range(..=id)
            .next_back()
            .map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| id <= last) {
            return false;
        }
        let mut first = id;
        if let Some((before_first, last)) = before
            && last + 1 == id
        {
            first = before_first;
        }
        let last = self.ranges.remove(&(id + 1)).unwrap_or(id);
        self.ranges.insert(first, last);
        self.close_lowest_gap();
        true
    }

    /// Tells whether `id` was added.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ranges
            .range(..=id)
            .next_back()
            .is_some_and(|(_, last)| id <= *last)
    }

    fn close_lowest_gap(&mut self) {
        if self.ranges.len() <= self.ranges_max.max(1) {
            return;
        }
        if let (Some((first, _)), Some((_, last))) =
            (self.ranges.pop_first(), self.ranges.pop_first())
        {
            self.ranges.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_unbounded_set_agrees_with_a_plain_one(ids in proptest::collection::vec(0u64..200, 0..300)) {
            let mut set = IdSet::new(usize::MAX);
            let mut plain = BTreeSet::new();
            for id in ids {
                prop_assert_eq!(set.insert(id), plain.insert(id));
            }
            for id in 0..200 {
                prop_assert_eq!(set.contains(id), plain.contains(&id));
            }
        }

        #[test]
        fn a_bounded_set_never_forgets(ids in proptest::collection::vec(0u64..2000, 0..300)) {
            let mut set = IdSet::new(4);
            for id in &ids {
                set.insert(*id);
                prop_assert!(set.ranges.len() <= 4);
            }
            for id in ids {
                prop_assert!(set.contains(id));
            }
        }
    }
}
