//! honeycomb's state rules: what a block does to the leaves, and how that is undone.
//!
//! `docs/protocol.md`, section 4. Where the leaves are kept is the caller's: anything that implements
//! [`Leaves`]. A [`StateOverlay`] applies blocks on top without touching it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::canonical_json::JsonValue;
use crate::operation::{Operation, Operations};
use crate::path::{MAX_DEPTH, MAX_KEY_BYTES, Path, PathKey};
use crate::state_digest::{LeafDigest, StateDigest};

/// The value of a leaf: a JSON scalar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JsonValue", into = "JsonValue")]
pub struct Leaf(JsonValue);

/// An object or an array where only a scalar can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a leaf holds a JSON scalar")]
pub struct NotScalar;

impl TryFrom<JsonValue> for Leaf {
    type Error = NotScalar;

    fn try_from(value: JsonValue) -> Result<Self, NotScalar> {
        if value.is_scalar() {
            Ok(Self(value))
        } else {
            Err(NotScalar)
        }
    }
}

impl From<Leaf> for JsonValue {
    fn from(leaf: Leaf) -> Self {
        leaf.0
    }
}

impl Leaf {
    /// The scalar.
    pub const fn value(&self) -> &JsonValue {
        &self.0
    }

    /// Bytes of text that it holds in memory.
    pub const fn text_bytes(&self) -> usize {
        match &self.0 {
            JsonValue::String(text) => text.len(),
            _ => 0,
        }
    }
}

/// Read access to a state.
pub trait Leaves {
    /// Why a read can fail; [`Infallible`] in memory.
    type Error;

    /// The leaf at exactly this path.
    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, Self::Error>;

    /// Every leaf at or below a path, in key order.
    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, Self::Error>;

    /// Whether a leaf stands below a path (not at it).
    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, Self::Error>;
}

impl<L: Leaves> Leaves for &L {
    type Error = L::Error;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, L::Error> {
        (**self).leaf(key)
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, L::Error> {
        (**self).leaves_at_or_below(key)
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, L::Error> {
        (**self).has_leaf_below(key)
    }
}

/// A state in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryState {
    leaves: BTreeMap<PathKey, Leaf>,
    digest: StateDigest,
}

impl MemoryState {
    /// Sets or, with `None`, removes a leaf.
    pub fn set(&mut self, key: PathKey, leaf: Option<Leaf>) {
        let mut digest = LeafDigest::at(&key);
        let before = match leaf {
            Some(leaf) => {
                self.digest = self.digest.plus(digest.of(leaf.value()));
                self.leaves.insert(key, leaf)
            }
            None => self.leaves.remove(&key),
        };
        if let Some(before) = before {
            self.digest = self.digest.minus(digest.of(before.value()));
        }
    }

    /// Every leaf in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&PathKey, &Leaf)> {
        self.leaves.iter()
    }

    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The state digest.
    pub const fn digest(&self) -> StateDigest {
        self.digest
    }

    /// Applies one block, or nothing of it.
    pub fn apply(&mut self, operations: &Operations) -> Result<BlockEffect, StateError<Infallible>> {
        let mut overlay = StateOverlay::new(&*self, self.digest);
        let effect = overlay.apply(operations)?;
        self.digest = overlay.digest();
        for change in &effect.changes {
            match &change.after {
                Some(leaf) => self.leaves.insert(change.key.clone(), leaf.clone()),
                None => self.leaves.remove(&change.key),
            };
        }
        Ok(effect)
    }

    /// Takes back the block that had this effect.
    pub fn undo(&mut self, effect: &BlockEffect) {
        for change in &effect.changes {
            self.set(change.key.clone(), change.before.clone());
        }
    }
}

impl Leaves for MemoryState {
    type Error = Infallible;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, Infallible> {
        Ok(self.leaves.get(key).cloned())
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, Infallible> {
        let from = self.leaves.range(key..);
        Ok(from
            .take_while(|(at, _)| at.is_at_or_below(key))
            .map(|(at, leaf)| (at.clone(), leaf.clone()))
            .collect())
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, Infallible> {
        let mut below = self.leaves.range((Bound::Excluded(key), Bound::Unbounded));
        Ok(below.next().is_some_and(|(at, _)| at.is_at_or_below(key)))
    }
}

/// One leaf before and after a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeafChange {
    /// Where; the key's bytes.
    #[serde(with = "key_bytes")]
    pub key: PathKey,
    /// What stood there (`previousValue`).
    pub before: Option<Leaf>,
    /// What stands there now.
    pub after: Option<Leaf>,
}

mod key_bytes {
    use super::PathKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &PathKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(key.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text)
            .map(PathKey::from)
            .map_err(serde::de::Error::custom)
    }
}

/// What a block did to the state: enough to undo it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BlockEffect {
    /// Every leaf that changed, once, in key order.
    pub changes: Vec<LeafChange>,
}

impl BlockEffect {
    fn of(mut journal: Journal) -> Self {
        // Stable: the changes of one leaf stay in their order, and become one.
        journal.sort_by(|one, other| one.key.cmp(&other.key));
        journal.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                kept.after = later.after.take();
            }
            same
        });
        journal.retain(|change| change.before != change.after);
        Self { changes: journal }
    }
}

/// A block that the state cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError<E> {
    /// A leaf would stand where a subtree stands. honeycomb does not check that; a node stops the chain.
    #[error("a leaf would stand at `{leaf}` and a subtree at `{subtree}`")]
    LeafWhereSubtreeStands {
        /// The leaf.
        leaf: Path,
        /// A leaf below it.
        subtree: Path,
    },
    /// A path longer than a state takes.
    #[error("a path of {bytes} bytes is longer than {MAX_KEY_BYTES}")]
    PathTooLong {
        /// Bytes of its key.
        bytes: usize,
    },
    /// A path with more segments than a state takes.
    #[error("a path of {segments} segments is deeper than {MAX_DEPTH}")]
    PathTooDeep {
        /// Its segments.
        segments: usize,
    },
    /// A scalar put at the root.
    #[error("a scalar cannot stand at the root of the state")]
    LeafAtRoot,
    /// The state could not be read.
    #[error("the state cannot be read: {0}")]
    Read(E),
}

/// Blocks applied on top of a state that itself stays as it is.
#[derive(Debug)]
pub struct StateOverlay<L> {
    below: L,
    changed: BTreeMap<PathKey, Changed>,
    digest: StateDigest,
}

/// A leaf that the overlay has touched.
#[derive(Debug, Clone)]
struct Changed {
    now: Option<Leaf>,
    /// Whether one stands in the state below.
    stood: bool,
}

/// Leaves before and after each change, oldest first.
type Journal = Vec<LeafChange>;

impl<L: Leaves> StateOverlay<L> {
    /// An overlay without changes over a state with this digest.
    pub const fn new(below: L, digest: StateDigest) -> Self {
        Self {
            below,
            changed: BTreeMap::new(),
            digest,
        }
    }

    /// The digest of the state with every applied block.
    pub const fn digest(&self) -> StateDigest {
        self.digest
    }

    /// The same changes over another view of the same state below.
    pub fn over<M>(self, below: M) -> StateOverlay<M> {
        StateOverlay {
            below,
            changed: self.changed,
            digest: self.digest,
        }
    }

    /// The state below.
    pub const fn below(&self) -> &L {
        &self.below
    }

    /// The state below, to be replaced by another view of the same state.
    pub const fn below_mut(&mut self) -> &mut L {
        &mut self.below
    }

    /// Every leaf that differs from the state below, in key order; `None` is a removed one.
    pub fn changed(&self) -> impl Iterator<Item = (&PathKey, Option<&Leaf>)> {
        self.changed
            .iter()
            .map(|(key, changed)| (key, changed.now.as_ref()))
    }

    /// Every leaf that the state below has and this one has not, and the other way round, in key order; true
    /// for those that appeared.
    pub fn appeared_and_gone(&self) -> impl Iterator<Item = (&PathKey, bool)> {
        let differs = |changed: &&Changed| changed.stood != changed.now.is_some();
        let entries = self.changed.iter().filter(move |(_, changed)| differs(changed));
        entries.map(|(key, changed)| (key, changed.now.is_some()))
    }

    fn changed_at_or_below(&self, key: &PathKey) -> impl Iterator<Item = (&PathKey, &Changed)> {
        let from = self.changed.range(key..);
        from.take_while(|(at, _)| at.is_at_or_below(key))
    }

    /// Number of leaves that differ: what the overlay holds in memory.
    pub fn changed_len(&self) -> usize {
        self.changed.len()
    }

    /// Applies one block, or nothing of it.
    pub fn apply(&mut self, operations: &Operations) -> Result<BlockEffect, StateError<L::Error>> {
        let digest_before = self.digest;
        let mut journal = Journal::new();
        for batch in operations.batches() {
            if let Err(error) = self.apply_batch(batch, &mut journal) {
                for change in journal.into_iter().rev() {
                    if let Some(changed) = self.changed.get_mut(&change.key) {
                        changed.now = change.before;
                    }
                }
                self.digest = digest_before;
                return Err(error);
            }
        }
        Ok(BlockEffect::of(journal))
    }

    /// Takes back the block that stands last: `before` are the leaves it changed, as they were.
    pub fn undo(
        &mut self,
        before: impl IntoIterator<Item = (PathKey, Option<Leaf>)>,
    ) -> Result<(), L::Error> {
        for (key, leaf) in before {
            self.replace(&key, leaf)?;
        }
        Ok(())
    }

    fn apply_batch(
        &mut self,
        batch: &[Operation],
        journal: &mut Journal,
    ) -> Result<(), StateError<L::Error>> {
        let mut puts = BTreeMap::new();
        let mut deleted = Vec::new();
        for operation in batch {
            match operation {
                Operation::Put { path, data } => flatten(PathKey::from(path), data, &mut puts)?,
                Operation::Del { path } => {
                    let key = PathKey::from(path);
                    if key.as_bytes().len() > MAX_KEY_BYTES {
                        // Nothing can stand there.
                        continue;
                    }
                    let leaves = self.leaves_at_or_below(&key).map_err(StateError::Read)?;
                    deleted.extend(leaves.into_iter().map(|(key, _)| key));
                }
                Operation::WriteMarker => {}
            }
        }
        let mut created = Vec::new();
        for (key, leaf) in puts {
            let before = self.replace(&key, Some(leaf.clone())).map_err(StateError::Read)?;
            if before.is_none() {
                created.push(key.clone());
            }
            let after = Some(leaf);
            journal.push(LeafChange { key, before, after });
        }
        // What stood before the batch goes, also where the batch wrote it again.
        for key in deleted {
            let before = self.replace(&key, None).map_err(StateError::Read)?;
            if before.is_some() {
                let after = None;
                journal.push(LeafChange { key, before, after });
            }
        }
        let mut checked = PathKey::root();
        for key in created {
            self.check_place(&key, &checked)?;
            checked = key;
        }
        Ok(())
    }

    /// A leaf never stands where a subtree stands. Only a leaf that the batch created can break that. The
    /// paths above `checked`, another such leaf, are known to be free.
    fn check_place(&self, key: &PathKey, checked: &PathKey) -> Result<(), StateError<L::Error>> {
        let conflict = |leaf: &PathKey, subtree: &PathKey| StateError::LeafWhereSubtreeStands {
            leaf: leaf.to_path().unwrap_or_default(),
            subtree: subtree.to_path().unwrap_or_default(),
        };
        let unchecked = key
            .ancestors()
            .skip(1)
            .filter(|ancestor| ancestor == checked || !checked.is_at_or_below(ancestor));
        for ancestor in unchecked {
            if self.leaf(&ancestor).map_err(StateError::Read)?.is_some() {
                return Err(conflict(&ancestor, key));
            }
        }
        if self.has_leaf_below(key).map_err(StateError::Read)? {
            let below = self.leaves_at_or_below(key).map_err(StateError::Read)?;
            let subtree = below
                .iter()
                .map(|(at, _)| at)
                .find(|at| *at != key)
                .unwrap_or(key);
            return Err(conflict(key, subtree));
        }
        Ok(())
    }

    /// Sets or removes a leaf and gives the one before.
    fn replace(&mut self, key: &PathKey, after: Option<Leaf>) -> Result<Option<Leaf>, L::Error> {
        let (before, changed) = match self.changed.entry(key.clone()) {
            Entry::Occupied(entry) => {
                let changed = entry.into_mut();
                (changed.now.take(), changed)
            }
            Entry::Vacant(entry) => {
                let before = self.below.leaf(key)?;
                let stood = before.is_some();
                (before, entry.insert(Changed { now: None, stood }))
            }
        };
        if before != after {
            let mut digest = LeafDigest::at(key);
            if let Some(before) = &before {
                self.digest = self.digest.minus(digest.of(before.value()));
            }
            if let Some(after) = &after {
                self.digest = self.digest.plus(digest.of(after.value()));
            }
        }
        changed.now = after;
        Ok(before)
    }
}

impl<L: Leaves> Leaves for StateOverlay<L> {
    type Error = L::Error;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, L::Error> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.now.clone()),
            None => self.below.leaf(key),
        }
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, L::Error> {
        let mut changed = self.changed_at_or_below(key).peekable();
        let below = self.below.leaves_at_or_below(key)?;
        if changed.peek().is_none() {
            return Ok(below);
        }
        let mut leaves: BTreeMap<_, _> = below.into_iter().collect();
        for (at, changed) in changed {
            match &changed.now {
                Some(leaf) => leaves.insert(at.clone(), leaf.clone()),
                None => leaves.remove(at),
            };
        }
        Ok(leaves.into_iter().collect())
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, L::Error> {
        let mut changed = self
            .changed_at_or_below(key)
            .filter(|(at, _)| *at != key)
            .peekable();
        if changed.peek().is_none() {
            return self.below.has_leaf_below(key);
        }
        if changed.any(|(_, changed)| changed.now.is_some()) {
            return Ok(true);
        }
        Ok(self.leaves_at_or_below(key)?.iter().any(|(at, _)| at != key))
    }
}

/// Spells a put as the leaves it sets: each member of an object, an array keyed by index; an empty object
/// or array sets nothing.
fn flatten<E>(
    key: PathKey,
    data: &JsonValue,
    puts: &mut BTreeMap<PathKey, Leaf>,
) -> Result<(), StateError<E>> {
    if key.is_too_deep() {
        return Err(StateError::PathTooDeep {
            segments: key.depth(),
        });
    }
    match data {
        JsonValue::Object(members) => {
            for (name, value) in members {
                flatten(key.child(name), value, puts)?;
            }
        }
        JsonValue::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(key.child(&index.to_string()), value, puts)?;
            }
        }
        scalar if key == PathKey::root() => {
            debug_assert!(scalar.is_scalar());
            return Err(StateError::LeafAtRoot);
        }
        _ if key.as_bytes().len() > MAX_KEY_BYTES => {
            return Err(StateError::PathTooLong {
                bytes: key.as_bytes().len(),
            });
        }
        scalar => {
            puts.insert(key, Leaf(scalar.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        Path::from_slashed(text)
    }

    fn put(at: &str, data: &str) -> Operation {
        Operation::Put {
            path: path(at),
            data: serde_json::from_str(data).unwrap(),
        }
    }

    fn del(at: &str) -> Operation {
        Operation::Del { path: path(at) }
    }

    fn block(operations: Vec<Operation>) -> Operations {
        Operations::new(operations).unwrap()
    }

    fn spelled(state: &MemoryState) -> Vec<String> {
        state
            .iter()
            .map(|(key, leaf)| {
                format!(
                    "{}={}",
                    key.to_path().unwrap(),
                    String::from_utf8(leaf.value().to_canonical()).unwrap()
                )
            })
            .collect()
    }

    #[test]
    fn a_put_of_an_object_keeps_what_it_does_not_name() {
        let mut state = MemoryState::default();
        state
            .apply(&block(vec![
                put("a/x", "1"),
                put("a/y", "2"),
                Operation::WriteMarker,
            ]))
            .unwrap();
        state
            .apply(&block(vec![
                put("a", r#"{"y":3,"z":[true,{}]}"#),
                Operation::WriteMarker,
            ]))
            .unwrap();
        assert_eq!(spelled(&state), ["a/x=1", "a/y=3", "a/z/0=true"]);
    }

    #[test]
    fn a_delete_takes_what_stood_before_its_batch() {
        let mut state = MemoryState::default();
        state
            .apply(&block(vec![
                put("a/x", "1"),
                put("a/y", "2"),
                Operation::WriteMarker,
            ]))
            .unwrap();
        let again = vec![
            del("a"),
            put("a/x", "5"),
            put("a/new", "6"),
            Operation::WriteMarker,
        ];
        state.apply(&block(again)).unwrap();
        assert_eq!(spelled(&state), ["a/new=6"]);
    }

    #[test]
    fn a_leaf_where_a_subtree_stands_applies_nothing() {
        let mut state = MemoryState::default();
        state
            .apply(&block(vec![put("a/x", "1"), Operation::WriteMarker]))
            .unwrap();
        let before = state.clone();
        let broken = vec![
            put("b", "1"),
            Operation::WriteMarker,
            put("a", "2"),
            Operation::WriteMarker,
        ];
        assert_eq!(
            state.apply(&block(broken)),
            Err(StateError::LeafWhereSubtreeStands {
                leaf: path("a"),
                subtree: path("a/x")
            })
        );
        let below = vec![put("a/x/deep", "1"), Operation::WriteMarker];
        assert!(state.apply(&block(below)).is_err());
        assert_eq!(state, before);
        // The subtree may go in the same batch.
        state
            .apply(&block(vec![del("a/x"), put("a", "2"), Operation::WriteMarker]))
            .unwrap();
        assert_eq!(spelled(&state), ["a=2"]);
    }

    #[test]
    fn a_path_that_no_store_can_index_is_refused() {
        let mut state = MemoryState::default();
        let long = "x".repeat(MAX_KEY_BYTES);
        let refused = state.apply(&block(vec![put(&long, "1"), Operation::WriteMarker]));
        assert_eq!(
            refused,
            Err(StateError::PathTooLong {
                bytes: MAX_KEY_BYTES + 2
            })
        );
        state
            .apply(&block(vec![del(&long), Operation::WriteMarker]))
            .unwrap();
        assert!(state.is_empty());
    }

    #[test]
    fn a_path_that_no_reader_reads_is_refused() {
        let mut state = MemoryState::default();
        let deep = |segments: usize| vec!["x"; segments].join("/");
        let below = format!("{}{}", r#"{"x":"#.repeat(60), "[]".to_owned() + &"}".repeat(60));
        state
            .apply(&block(vec![put(&deep(60), &below), Operation::WriteMarker]))
            .unwrap();
        for (path, data) in [(deep(MAX_DEPTH + 1), "1"), (deep(61), below.as_str())] {
            let refused = state.apply(&block(vec![put(&path, data), Operation::WriteMarker]));
            let segments = MAX_DEPTH + 1;
            assert_eq!(refused, Err(StateError::PathTooDeep { segments }));
        }
        state
            .apply(&block(vec![del(&deep(1_000)), Operation::WriteMarker]))
            .unwrap();
        assert!(state.is_empty());
    }

    fn any_operations() -> impl Strategy<Value = Operations> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("c")];
        let at = prop::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"));
        let data = prop_oneof![
            Just("1"),
            Just("null"),
            Just(r#"{"a":1,"b":{"c":2}}"#),
            Just("[1,2]")
        ];
        let operation = prop_oneof![
            4 => (at.clone(), data).prop_map(|(at, data)| put(&at, data)),
            2 => at.prop_map(|at| del(&at)),
            2 => Just(Operation::WriteMarker),
        ];
        prop::collection::vec(operation, 0..12).prop_map(|mut operations| {
            operations.push(Operation::WriteMarker);
            block(operations)
        })
    }

    proptest! {
        /// I4: undo after apply gives byte-equal state.
        #[test]
        fn undo_after_apply_gives_the_state_back(blocks in prop::collection::vec(any_operations(), 1..8)) {
            let mut state = MemoryState::default();
            let mut undo = Vec::new();
            for operations in &blocks {
                let before = state.clone();
                if let Ok(effect) = state.apply(operations) {
                    undo.push((before, effect));
                } else {
                    prop_assert_eq!(&state, &before);
                }
            }
            while let Some((before, effect)) = undo.pop() {
                state.undo(&effect);
                prop_assert_eq!(&state, &before);
            }
        }

        /// Keys below a leaf would stand right after it.
        #[test]
        fn no_leaf_ever_stands_above_another(blocks in prop::collection::vec(any_operations(), 1..8)) {
            let mut state = MemoryState::default();
            for operations in &blocks {
                let _ = state.apply(operations);
                let keys: Vec<_> = state.iter().map(|(key, _)| key).collect();
                prop_assert!(keys.windows(2).all(|pair| !pair[1].is_at_or_below(pair[0])));
                let mut sum = StateDigest::EMPTY;
                for (key, leaf) in state.iter() {
                    sum = sum.plus(StateDigest::of_leaf(key, leaf.value()));
                }
                prop_assert_eq!(sum, state.digest());
            }
        }

        /// Many blocks in one overlay are the same as block after block, and the digest is the sum.
        #[test]
        fn an_overlay_equals_applying_each(blocks in prop::collection::vec(any_operations(), 1..8)) {
            let mut state = MemoryState::default();
            let below = MemoryState::default();
            let mut overlay = StateOverlay::new(&below, StateDigest::EMPTY);
            for operations in &blocks {
                prop_assert_eq!(state.apply(operations), overlay.apply(operations));
                prop_assert_eq!(state.digest(), overlay.digest());
            }
            let mut rebuilt = MemoryState::default();
            for (key, leaf) in overlay.changed() {
                if let Some(leaf) = leaf {
                    rebuilt.set(key.clone(), Some(leaf.clone()));
                }
            }
            prop_assert_eq!(rebuilt, state);
        }
    }
}
