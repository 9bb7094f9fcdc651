//! Which nodes of the state a change touches.

use std::collections::{BTreeMap, BTreeSet};

use honeygraph_chain::canonical_json::JsonValue;
use honeygraph_chain::operation::Operation;
use honeygraph_chain::state::Leaf;
use honeygraph_chain::{Operations, PathKey};

use super::weight::{StateLimits, StateWeight};
use crate::store::{StoreError, View};

/// Depth of the leaves, and above, that have a node of their own: networks keep a member an account right
/// below a top-level name.
const LEAF_DEPTH: usize = 2;

/// A node of the state in Dgraph; the rule looks at the path alone, so that every writer agrees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StateNode {
    /// One leaf, right below a top-level name or above.
    Leaf(PathKey),
    /// The scalars right below a path that is further down.
    Object(PathKey),
}

impl StateNode {
    /// The node that a leaf is kept in.
    pub(super) fn of_leaf(leaf: &PathKey) -> Self {
        match leaf.above() {
            Some(above) if leaf.depth() > LEAF_DEPTH => Self::Object(above),
            _ => Self::Leaf(leaf.clone()),
        }
    }

    /// Whether the rule has such a node at its path.
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::Leaf(key) => key.depth() <= LEAF_DEPTH,
            Self::Object(key) => key.depth() >= LEAF_DEPTH,
        }
    }

    /// Where it stands.
    pub(super) const fn key(&self) -> &PathKey {
        match self {
            Self::Leaf(key) | Self::Object(key) => key,
        }
    }

    /// Its value as the view has it: canonical JSON, an object of the scalars for an object. None where
    /// nothing stands there.
    pub(super) fn value(&self, view: &View) -> Result<Option<String>, StoreError> {
        use honeygraph_chain::state::Leaves as _;
        let canonical = match self {
            Self::Leaf(key) => view.leaf(key)?.map(|leaf| leaf.value().to_canonical()),
            Self::Object(key) => object_text(view, key)?,
        };
        // Canonical JSON is UTF-8 by construction.
        Ok(canonical.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn object_text(view: &View, key: &PathKey) -> Result<Option<Vec<u8>>, StoreError> {
    let members = view.members(key)?;
    if members.is_empty() {
        return Ok(None);
    }
    let mut text = vec![b'{'];
    for (at, (member, leaf)) in members.iter().enumerate() {
        let path = member
            .to_path()
            .map_err(|error| StoreError::damaged("key of a leaf", error))?;
        if at > 0 {
            text.push(b',');
        }
        let name = path.0.last().map_or("", String::as_str);
        honeygraph_chain::canonical_json::write_string(name, &mut text);
        text.push(b':');
        leaf.value().write_canonical(&mut text);
    }
    text.push(b'}');
    Ok(Some(text))
}

/// The next nodes of the state after a leaf, at most so many, with the last leaf looked at; none at the end. From leaf
/// to leaf each node is among them once.
pub(super) fn nodes_after(
    view: &View,
    after: Option<&PathKey>,
    limits: StateLimits,
) -> Result<(BTreeSet<StateNode>, Option<PathKey>), StoreError> {
    let mut nodes = BTreeSet::new();
    let mut weight = StateWeight::default();
    let from = after.cloned().unwrap_or_default();
    let mut last = None;
    // Objects above `after`, and whether they were among the nodes up to there.
    let mut begun = BTreeMap::new();
    for row in view.leaves_from(&from) {
        let (key, leaf) = row?;
        if Some(&key) == after {
            continue;
        }
        if !weight.add(weight_of(&key, &leaf), limits) && last.is_some() {
            return Ok((nodes, last));
        }
        let node = StateNode::of_leaf(&key);
        let is_begun = match (&node, after) {
            (StateNode::Object(object), Some(after)) if after.is_at_or_below(object) => {
                match begun.get(object) {
                    Some(is_begun) => *is_begun,
                    None => {
                        let first = view.members(object)?.into_iter().next();
                        let is_begun = first.is_some_and(|(first, _)| first <= *after);
                        begun.insert(object.clone(), is_begun);
                        is_begun
                    }
                }
            }
            _ => false,
        };
        if !is_begun {
            nodes.insert(node);
        }
        if nodes.len() >= limits.nodes {
            return Ok((nodes, Some(key)));
        }
        last = Some(key);
    }
    Ok((nodes, None))
}

/// About the bytes that a leaf takes where it stands in Dgraph.
fn weight_of(key: &PathKey, leaf: &Leaf) -> usize {
    let value = match leaf.value() {
        JsonValue::String(text) => text.len(),
        _ => 0,
    };
    key.as_bytes().len() + value
}

/// The nodes that the leaves of a change are kept in.
pub(super) fn touched_by_leaves<'key>(
    leaves: impl IntoIterator<Item = &'key PathKey>,
) -> BTreeSet<StateNode> {
    leaves.into_iter().map(StateNode::of_leaf).collect()
}

/// The nodes that a block may have touched that is not on the chain any more, as far as they can be known
/// from its operations and the state that stands now: those its puts set, and those that stand again where it
/// deleted. What a delete removed and nothing put back was not there before it either.
pub(super) fn touched_by_orphan(
    operations: &Operations,
    view: &View,
) -> Result<BTreeSet<StateNode>, StoreError> {
    let mut touched = BTreeSet::new();
    for operation in operations.as_slice() {
        match operation {
            Operation::Put { path, data } => leaves_of_put(&mut PathKey::from(path), data, &mut touched),
            Operation::Del { path } => {
                let key = PathKey::from(path);
                touched.insert(StateNode::of_leaf(&key));
                for row in view.leaves(&key) {
                    touched.insert(StateNode::of_leaf(&row?.0));
                }
            }
            Operation::WriteMarker => {}
        }
    }
    Ok(touched)
}

fn leaves_of_put(key: &mut PathKey, data: &JsonValue, touched: &mut BTreeSet<StateNode>) {
    match data {
        JsonValue::Object(members) => {
            for (name, value) in members {
                leaves_of_put(&mut key.child(name), value, touched);
            }
        }
        JsonValue::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves_of_put(&mut key.child(&index.to_string()), value, touched);
            }
        }
        _ => {
            touched.insert(StateNode::of_leaf(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreSettings};
    use honeygraph_chain::Path;

    fn key(text: &str) -> PathKey {
        PathKey::from(&Path::from_slashed(text))
    }

    fn leaf(json: &str) -> Leaf {
        Leaf::try_from(serde_json::from_str::<JsonValue>(json).unwrap()).unwrap()
    }

    fn view_of(leaves: &[(&str, &str)]) -> (tempfile::TempDir, View) {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer, _) = Store::open(directory.path(), &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        for (path, value) in leaves {
            transaction.set_leaf(&key(path), Some(&leaf(value)));
        }
        transaction.commit().unwrap();
        (directory, store.view())
    }

    #[test]
    fn accounts_have_nodes_of_their_own_and_objects_one() {
        let nodes = touched_by_leaves([
            &key("balances/alice"),
            &key("dex/hive/1/rate"),
            &key("dex/hive/1/from"),
            &key("supply"),
        ]);
        let expected = [
            StateNode::Leaf(key("balances/alice")),
            StateNode::Leaf(key("supply")),
            StateNode::Object(key("dex/hive/1")),
        ];
        assert_eq!(nodes, BTreeSet::from(expected));
    }

    #[test]
    fn the_value_of_an_object_is_its_scalars() {
        let (_directory, view) = view_of(&[
            ("a/b/x", "1"),
            ("a/b/deep/y", "2"),
            ("a/b/deep/z/w", "3"),
            ("a/b/é\"", r#""ü""#),
            ("a/b/zz", "null"),
            ("a/bb/x", "4"),
        ]);
        let value = StateNode::Object(key("a/b")).value(&view).unwrap().unwrap();
        assert_eq!(value, r#"{"x":1,"zz":null,"é\"":"ü"}"#);
        let value = StateNode::Object(key("a/b/deep")).value(&view).unwrap().unwrap();
        assert_eq!(value, r#"{"y":2}"#);
        assert_eq!(StateNode::Object(key("a/c")).value(&view).unwrap(), None);
        assert_eq!(StateNode::Leaf(key("a/b")).value(&view).unwrap(), None);
    }

    #[test]
    fn each_node_is_in_one_piece_whatever_is_cut() {
        let leaves = [
            ("a/b/deep/y", "2"),
            ("a/b/deep/z/w", "3"),
            ("a/b/x", "1"),
            ("a/b/zz", "null"),
            ("a/c/x", "4"),
            ("balances/alice", "5"),
            ("balances/bob", "\"0123456789012345678901234567890123456789\""),
            ("balances/carol", "\"0123456789012345678901234567890123456789\""),
            ("dex/1/a", "1"),
            ("dex/1/b/c", "1"),
            ("dex/1/d", "1"),
        ];
        let (_directory, view) = view_of(&leaves);
        let all = touched_by_leaves(
            leaves
                .iter()
                .map(|(path, _)| key(path))
                .collect::<Vec<_>>()
                .iter(),
        );
        for (nodes, bytes) in [(1, 1_000), (2, 1_000), (3, 1_000), (100, 1), (100, 60)] {
            let (mut found, mut after, mut count) = (BTreeSet::new(), None, 0);
            loop {
                let limits = StateLimits { nodes, bytes };
                let (piece, last) = nodes_after(&view, after.as_ref(), limits).unwrap();
                assert!(piece.len() <= nodes);
                count += piece.len();
                found.extend(piece);
                after = last;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, all, "{nodes} nodes, {bytes} bytes");
            assert_eq!(count, all.len(), "{nodes} nodes, {bytes} bytes");
        }
    }

    #[test]
    fn an_orphan_touches_what_it_set_and_what_stands_where_it_deleted() {
        let (_directory, view) = view_of(&[("dex/hive/1/rate", "1"), ("gone/but/back", "2")]);
        let operations = Operations::new(vec![
            Operation::Put {
                path: Path::from_slashed("orders"),
                data: serde_json::from_str(r#"{"x":{"y":[1]},"z":2}"#).unwrap(),
            },
            Operation::Del {
                path: Path::from_slashed("dex/hive"),
            },
            Operation::WriteMarker,
        ])
        .unwrap();
        let touched = touched_by_orphan(&operations, &view).unwrap();
        let expected = [
            StateNode::Object(key("orders/x/y")),
            StateNode::Leaf(key("orders/z")),
            StateNode::Leaf(key("dex/hive")),
            StateNode::Object(key("dex/hive/1")),
        ];
        assert_eq!(touched, BTreeSet::from(expected));
    }
}
