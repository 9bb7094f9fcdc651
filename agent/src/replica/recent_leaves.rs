//! Leaves that lately committed blocks changed, kept in memory: most of what a block changes was changed not long
//! ago, and a read of the store costs more than the rest of a change.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use foldhash::fast::RandomState;
use honeygraph_chain::PathKey;
use honeygraph_chain::state::Leaf;

/// Bytes above which everything is forgotten, before the next commit is put in.
const MOST_BYTES: usize = 20 << 20;
/// What an entry takes besides its text, about.
const ENTRY_BYTES: usize = 128;
/// What a group takes besides its name and its entries, about: most of a node of a tree.
const GROUP_BYTES: usize = 640;
/// Member names that say which leaves are kept together: those of one account or one contract. One large map would
/// be searched through twenty keys that stand far apart in memory.
const GROUP_DEPTH: usize = 2;

/// The leaves of a group by the rest of their keys.
type Group = BTreeMap<Box<[u8]>, Leaf>;

/// Leaves of the committed state that were changed lately, as they stand now. What was removed is not among them.
#[derive(Debug, Default)]
pub(super) struct RecentLeaves {
    /// By the first names of their paths, then by the rest of the key. No group is empty.
    groups: HashMap<Box<[u8]>, Group, RandomState>,
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
        let (group, rest) = split(key);
        let Some(leaf) = leaf else {
            if let Some(leaves) = self.groups.get_mut(group) {
                if let Some(removed) = leaves.remove(rest) {
                    self.bytes -= entry_bytes(key, &removed);
                }
                if leaves.is_empty() {
                    self.groups.remove(group);
                    self.bytes -= GROUP_BYTES + group.len();
                }
            }
            return;
        };
        self.bytes += entry_bytes(key, leaf);
        if let Some(leaves) = self.groups.get_mut(group) {
            if let Some(known) = leaves.get_mut(rest) {
                self.bytes -= entry_bytes(key, known);
                *known = leaf.clone();
            } else {
                leaves.insert(rest.into(), leaf.clone());
            }
        } else {
            self.bytes += GROUP_BYTES + group.len();
            let leaves = BTreeMap::from([(rest.into(), leaf.clone())]);
            self.groups.insert(group.into(), leaves);
        }
    }

    /// The leaf at a path; none where it is not known.
    pub(super) fn get(&self, key: &PathKey) -> Option<&Leaf> {
        let (group, rest) = split(key);
        self.groups.get(group)?.get(rest)
    }

    /// Whether one of these leaves stands below a path. Leaves that are kept in more than one group are not looked
    /// for.
    pub(super) fn has_leaf_below(&self, key: &PathKey) -> bool {
        self.below(key).next().is_some()
    }

    /// The leaves below a path, in key order, where `count` of them are known and kept together.
    pub(super) fn leaves_below(&self, key: &PathKey, count: usize) -> Option<Vec<(PathKey, Leaf)>> {
        let (group, _) = key.split_at_depth(GROUP_DEPTH);
        let whole = |rest: &[u8]| PathKey::from([group, rest].concat());
        let known = self.below(key).map(|(rest, leaf)| (whole(rest), leaf.clone()));
        let leaves: Vec<_> = known.take(count.saturating_add(1)).collect();
        (leaves.len() == count).then_some(leaves)
    }

    /// The leaves of its group below a path, by the rest of their keys.
    fn below<'leaves>(
        &'leaves self,
        key: &'leaves PathKey,
    ) -> impl Iterator<Item = (&'leaves [u8], &'leaves Leaf)> {
        let (group, top) = key.split_at_depth(GROUP_DEPTH);
        let leaves = self.groups.get(group).into_iter();
        leaves
            .flat_map(move |leaves| leaves.range::<[u8], _>((Bound::Included(top), Bound::Unbounded)))
            .map(|(rest, leaf)| (&**rest, leaf))
            .take_while(move |(rest, _)| rest.starts_with(top))
            .filter(move |(rest, _)| rest.len() > top.len())
    }
}

/// The name of the group of a leaf, and the rest of its key, which is never empty.
fn split(key: &PathKey) -> (&[u8], &[u8]) {
    let (group, rest) = key.split_at_depth(GROUP_DEPTH);
    if rest.is_empty() {
        key.split_at_depth(key.depth().saturating_sub(1))
    } else {
        (group, rest)
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
    fn groups_end_with_their_last_leaf() {
        let mut leaves = RecentLeaves::default();
        for at in ["a", "a/b", "a/b/c/d", "a/x/y"] {
            leaves.put(&key(at), Some(&leaf("1")));
        }
        assert!(
            leaves.bytes > 4 * (ENTRY_BYTES + GROUP_BYTES),
            "each stands alone in a group"
        );
        for at in ["a", "a/b", "a/b/c/d", "a/x/y"] {
            assert_eq!(leaves.get(&key(at)), Some(&leaf("1")), "{at}");
            leaves.put(&key(at), None);
            assert_eq!(leaves.get(&key(at)), None, "{at}");
        }
        assert!(leaves.groups.is_empty() && leaves.bytes == 0);
    }

    #[test]
    fn deep_leaves_are_found_from_every_path_above_them_in_their_group() {
        let mut leaves = RecentLeaves::default();
        let deep = [
            ("contract/alice/1/a", "1"),
            ("contract/alice/1/b/c", "2"),
            ("contract/alice/2/a", "3"),
        ];
        let deep = deep.map(|(at, text)| (key(at), leaf(text)));
        for (key, leaf) in &deep {
            leaves.put(key, Some(leaf));
        }
        assert_eq!(
            leaves.leaves_below(&key("contract/alice"), 3),
            Some(deep.to_vec())
        );
        assert_eq!(
            leaves.leaves_below(&key("contract/alice/1"), 2),
            Some(deep[..2].to_vec())
        );
        assert_eq!(
            leaves.leaves_below(&key("contract/alice/1/b"), 1),
            Some(deep[1..2].to_vec())
        );
        assert_eq!(
            leaves.leaves_below(&key("contract"), 3),
            None,
            "in more than one group"
        );
        assert!(!leaves.has_leaf_below(&key("contract/alice/2/a")));
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
