//! Leaves that lately committed blocks changed, kept in memory: most of what a block changes was changed not long
//! ago, and a read of the store costs more than the rest of a change.

use std::collections::BTreeMap;

use honeygraph_chain::PathKey;
use honeygraph_chain::state::Leaf;

/// Bytes above which everything is forgotten, before the next commit is put in.
const MOST_BYTES: usize = 12 << 20;
/// What an entry takes besides its text, about.
const ENTRY_BYTES: usize = 128;

/// Leaves of the committed state that were changed lately, as they stand now. What was removed is not among them.
#[derive(Debug, Default)]
pub(super) struct RecentLeaves {
    leaves: BTreeMap<PathKey, Leaf>,
    bytes: usize,
}

impl RecentLeaves {
    /// Makes room before the changes of a commit are put in.
    pub(super) fn start_commit(&mut self) {
        if self.bytes >= MOST_BYTES {
            *self = Self::default();
        }
    }

    /// Takes a leaf as the commit leaves it.
    pub(super) fn put(&mut self, key: &PathKey, leaf: Option<&Leaf>) {
        let Some(leaf) = leaf else {
            if let Some(removed) = self.leaves.remove(key) {
                self.bytes -= entry_bytes(key, &removed);
            }
            return;
        };
        self.bytes += entry_bytes(key, leaf);
        if let Some(known) = self.leaves.get_mut(key) {
            self.bytes -= entry_bytes(key, known);
            *known = leaf.clone();
        } else {
            self.leaves.insert(key.clone(), leaf.clone());
        }
    }

    /// The leaf at a path; none where it is not known.
    pub(super) fn get(&self, key: &PathKey) -> Option<&Leaf> {
        self.leaves.get(key)
    }

    /// Whether one of these leaves stands below a path.
    pub(super) fn has_leaf_below(&self, key: &PathKey) -> bool {
        self.below(key).next().is_some()
    }

    /// The leaves below a path, in key order, where `count` of them are known.
    pub(super) fn leaves_below(&self, key: &PathKey, count: usize) -> Option<Vec<(PathKey, Leaf)>> {
        let known = self.below(key).map(|(at, leaf)| (at.clone(), leaf.clone()));
        let leaves: Vec<_> = known.collect();
        (leaves.len() == count).then_some(leaves)
    }

    fn below(&self, key: &PathKey) -> impl Iterator<Item = (&PathKey, &Leaf)> {
        let from = self.leaves.range(key..);
        from.take_while(move |(at, _)| at.is_at_or_below(key))
            .filter(move |(at, _)| *at != key)
    }
}

fn entry_bytes(key: &PathKey, leaf: &Leaf) -> usize {
    ENTRY_BYTES + key.as_bytes().len() + leaf.text_bytes()
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{JsonValue, Path};

    use super::*;

    fn key(text: &str) -> PathKey {
        PathKey::from(&Path::from_slashed(text))
    }

    fn leaf(text: &str) -> Leaf {
        Leaf::try_from(JsonValue::String(text.to_owned())).unwrap()
    }

    #[test]
    fn the_newest_change_counts_and_what_is_removed_is_unknown() {
        let mut leaves = RecentLeaves::default();
        leaves.put(&key("a/x"), Some(&leaf("one")));
        leaves.put(&key("a/x"), Some(&leaf("two, longer")));
        leaves.put(&key("a/y"), Some(&leaf("three")));
        assert_eq!(leaves.get(&key("a/x")), Some(&leaf("two, longer")));
        leaves.put(&key("a/x"), None);
        leaves.put(&key("a/z"), None);
        assert_eq!(leaves.get(&key("a/x")), None);
        leaves.put(&key("a/y"), None);
        assert_eq!(leaves.bytes, 0);
    }

    #[test]
    fn everything_is_forgotten_before_it_is_too_much() {
        let mut leaves = RecentLeaves::default();
        leaves.put(&key("a"), Some(&leaf(&"x".repeat(MOST_BYTES / 2))));
        leaves.start_commit();
        assert!(leaves.get(&key("a")).is_some());
        leaves.put(&key("b"), Some(&leaf(&"x".repeat(MOST_BYTES / 2))));
        leaves.start_commit();
        assert!(leaves.get(&key("a")).is_none() && leaves.bytes == 0);
    }

    #[test]
    fn leaves_below_a_path_are_given_only_where_all_are_known() {
        let mut leaves = RecentLeaves::default();
        leaves.put(&key("a/y"), Some(&leaf("2")));
        leaves.put(&key("ab"), Some(&leaf("9")));
        leaves.put(&key("a/x"), Some(&leaf("1")));
        let both = vec![(key("a/x"), leaf("1")), (key("a/y"), leaf("2"))];
        assert_eq!(leaves.leaves_below(&key("a"), 2), Some(both));
        assert_eq!(leaves.leaves_below(&key("a"), 3), None);
        assert!(leaves.has_leaf_below(&key("a")));
        assert!(!leaves.has_leaf_below(&key("a/x")));
    }
}
