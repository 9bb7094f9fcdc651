//! Leaves that lately committed blocks changed, kept in memory: most of what a block changes was changed not long
//! ago, and a read of the store costs more than the rest of a change.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use honeygraph_chain::PathKey;
use honeygraph_chain::state::Leaf;

/// Bytes of the leaves that are kept at most, twice: what was changed last, and what was changed before that.
const GENERATION_BYTES: usize = 6 << 20;
/// What an entry takes besides its text, about.
const ENTRY_BYTES: usize = 128;

/// The newest changes of the committed state; a removed leaf is none. What was changed longest ago is forgotten.
#[derive(Debug, Default)]
pub(super) struct RecentLeaves {
    young: BTreeMap<PathKey, Option<Leaf>>,
    /// No key of `young` is here.
    old: BTreeMap<PathKey, Option<Leaf>>,
    young_bytes: usize,
}

impl RecentLeaves {
    /// Makes room before the changes of a commit are put in, so that all of them stay until the next one.
    pub(super) fn start_commit(&mut self) {
        if self.young_bytes >= GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Takes a leaf as the commit leaves it.
    pub(super) fn put(&mut self, key: &PathKey, leaf: Option<&Leaf>) {
        self.young_bytes += leaf.map_or(0, Leaf::text_bytes);
        if let Some(known) = self.young.get_mut(key) {
            self.young_bytes -= known.as_ref().map_or(0, Leaf::text_bytes);
            *known = leaf.cloned();
            return;
        }
        self.old.remove(key);
        self.young_bytes += ENTRY_BYTES + key.as_bytes().len();
        self.young.insert(key.clone(), leaf.cloned());
    }

    /// The leaf at a path, if it was changed lately: none inside where it was removed.
    pub(super) fn get(&self, key: &PathKey) -> Option<Option<&Leaf>> {
        let known = self.young.get(key).or_else(|| self.old.get(key))?;
        Some(known.as_ref())
    }

    /// Whether a leaf that was changed lately stands below a path.
    pub(super) fn has_leaf_below(&self, key: &PathKey) -> bool {
        let mut generations = [&self.young, &self.old].into_iter();
        generations.any(|leaves| standing_below(leaves.range(key..), key).next().is_some())
    }

    /// The leaves below a path, in key order, where `count` of them were changed lately.
    pub(super) fn leaves_below(&self, key: &PathKey, count: usize) -> Option<Vec<(PathKey, Leaf)>> {
        let young = standing_below(self.young.range(key..), key);
        let old = standing_below(self.old.range(key..), key);
        let mut leaves: Vec<_> = young.map(owned).collect();
        let from_old = leaves.len();
        leaves.extend(old.map(owned));
        if leaves.len() != count {
            return None;
        }
        if from_old > 0 && from_old < leaves.len() {
            leaves.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        }
        Some(leaves)
    }
}

fn standing_below<'leaves>(
    from: Range<'leaves, PathKey, Option<Leaf>>,
    key: &PathKey,
) -> impl Iterator<Item = (&'leaves PathKey, &'leaves Leaf)> {
    from.take_while(move |(at, _)| at.is_at_or_below(key))
        .filter(move |(at, _)| *at != key)
        .filter_map(|(at, leaf)| Some((at, leaf.as_ref()?)))
}

fn owned((key, leaf): (&PathKey, &Leaf)) -> (PathKey, Leaf) {
    (key.clone(), leaf.clone())
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{JsonValue, Path};

    use super::*;

    fn key(text: &str) -> PathKey {
        PathKey::from(&Path::from_slashed(text))
    }

    fn leaf(number: f64) -> Leaf {
        Leaf::try_from(JsonValue::Number(number)).unwrap()
    }

    fn start_generation(leaves: &mut RecentLeaves) {
        leaves.young_bytes = GENERATION_BYTES;
        leaves.start_commit();
    }

    #[test]
    fn the_newest_change_counts_and_the_oldest_are_forgotten() {
        let mut leaves = RecentLeaves::default();
        leaves.put(&key("a/x"), Some(&leaf(1.0)));
        leaves.put(&key("a/y"), Some(&leaf(2.0)));
        start_generation(&mut leaves);
        leaves.put(&key("a/x"), None);
        leaves.put(&key("a/w"), Some(&leaf(3.0)));
        assert_eq!(leaves.get(&key("a/x")), Some(None));
        assert_eq!(leaves.get(&key("a/y")), Some(Some(&leaf(2.0))));
        assert_eq!(leaves.get(&key("a/z")), None);
        start_generation(&mut leaves);
        assert_eq!(leaves.get(&key("a/y")), None);
        assert_eq!(leaves.get(&key("a/x")), Some(None));
    }

    #[test]
    fn leaves_below_a_path_are_given_only_where_all_are_known() {
        let mut leaves = RecentLeaves::default();
        leaves.put(&key("a/y"), Some(&leaf(2.0)));
        leaves.put(&key("ab"), Some(&leaf(9.0)));
        start_generation(&mut leaves);
        leaves.put(&key("a/x"), Some(&leaf(1.0)));
        leaves.put(&key("a/z"), None);
        let both = vec![(key("a/x"), leaf(1.0)), (key("a/y"), leaf(2.0))];
        assert_eq!(leaves.leaves_below(&key("a"), 2), Some(both));
        assert_eq!(leaves.leaves_below(&key("a"), 3), None);
        assert!(leaves.has_leaf_below(&key("a")));
        assert!(!leaves.has_leaf_below(&key("a/x")));
        assert!(!leaves.has_leaf_below(&key("a/z")));
    }
}
