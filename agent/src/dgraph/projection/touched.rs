//! Which nodes of the state a change touches.

use std::collections::BTreeSet;

use honeygraph_chain::canonical_json::JsonValue;
use honeygraph_chain::operation::Operation;
use honeygraph_chain::{Operations, PathKey};

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

/// The next nodes of the state after a leaf, at most so many, with the last leaf looked at; none at the end.
pub(super) fn nodes_after(
    view: &View,
    after: Option<&PathKey>,
    most: usize,
) -> Result<(BTreeSet<StateNode>, Option<PathKey>), StoreError> {
    let mut nodes = BTreeSet::new();
    let from = after.cloned().unwrap_or_default();
    for row in view.leaves_from(&from) {
        let (key, _) = row?;
        if Some(&key) == after {
            continue;
        }
        nodes.insert(StateNode::of_leaf(&key));
        if nodes.len() >= most {
            return Ok((nodes, Some(key)));
        }
    }
    Ok((nodes, None))
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
    use honeygraph_chain::state::Leaf;

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
