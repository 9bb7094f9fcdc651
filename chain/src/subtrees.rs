//! Which paths have leaves below them, as counts: a hint that saves reading the state.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::path::PathKey;

/// Counts leaves below paths by a hash of the path: a path that is not counted certainly has none.
///
/// Holds about 16 bytes for each path that has leaves below it. The hash is a fast one: whoever makes two paths
/// collide only makes the hint worse.
#[derive(Debug, Default)]
pub struct SubtreeCounts {
    below: HashMap<u64, u32, RandomState>,
    hasher: RandomState,
}

impl SubtreeCounts {
    /// Counts a leaf that appeared.
    pub fn add(&mut self, leaf: &PathKey) {
        for prefix in leaf.prefixes() {
            let count = self.below.entry(self.hasher.hash_one(prefix)).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Takes back a leaf that is gone.
    pub fn remove(&mut self, leaf: &PathKey) {
        for prefix in leaf.prefixes() {
            let hash = self.hasher.hash_one(prefix);
            if let Some(count) = self.below.get_mut(&hash) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.below.remove(&hash);
                }
            }
        }
    }

    /// Whether a leaf may stand below a path; false is certain.
    pub fn may_have_leaf_below(&self, key: &PathKey) -> bool {
        self.may_have_leaf_below_prefix(key.as_bytes())
    }

    /// Whether a leaf may stand at a path; false is certain. Mostly false for the leaves of something new:
    /// nothing stands below the path above them yet.
    pub fn may_have_leaf_at(&self, key: &PathKey) -> bool {
        key.parent()
            .is_none_or(|parent| self.may_have_leaf_below_prefix(parent))
    }

    /// The most leaves that stand below a path. Where as many are known, they are all of them. None for the root,
    /// below which nothing is counted.
    pub fn most_leaves_below(&self, key: &PathKey) -> Option<usize> {
        if key.as_bytes().is_empty() {
            return None;
        }
        let count = self.below.get(&self.hasher.hash_one(key.as_bytes()));
        count.map_or(Some(0), |count| usize::try_from(*count).ok())
    }

    fn may_have_leaf_below_prefix(&self, prefix: &[u8]) -> bool {
        prefix.is_empty() || self.below.contains_key(&self.hasher.hash_one(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn key(text: &str) -> PathKey {
        PathKey::from(&Path::from_slashed(text))
    }

    #[test]
    fn counts_follow_the_leaves() {
        let mut counts = SubtreeCounts::default();
        counts.add(&key("a/b/c"));
        counts.add(&key("a/b/d"));
        assert!(counts.may_have_leaf_below(&key("a")));
        assert!(counts.may_have_leaf_below(&key("a/b")));
        assert!(!counts.may_have_leaf_below(&key("a/b/c")));
        assert!(!counts.may_have_leaf_below(&key("b")));
        assert!(counts.may_have_leaf_at(&key("a/b/c")));
        assert!(counts.may_have_leaf_at(&key("a/b/new")));
        assert!(!counts.may_have_leaf_at(&key("a/new/c")));
        assert!(counts.may_have_leaf_at(&key("a")));
        assert_eq!(counts.most_leaves_below(&key("a")), Some(2));
        assert_eq!(counts.most_leaves_below(&key("b")), Some(0));
        assert_eq!(counts.most_leaves_below(&PathKey::root()), None);
        counts.remove(&key("a/b/c"));
        assert_eq!(counts.most_leaves_below(&key("a/b")), Some(1));
        assert!(counts.may_have_leaf_below(&key("a/b")));
        counts.remove(&key("a/b/d"));
        assert!(!counts.may_have_leaf_below(&key("a")));
    }
}
