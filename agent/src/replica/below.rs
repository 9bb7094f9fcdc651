//! The state that a stage stands on: as it is committed, with the commit under way.

use std::cmp::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use fjall::Keyspace;
use honeygraph_chain::PathKey;
use honeygraph_chain::state::{Leaf, Leaves, StateOverlay};
use honeygraph_chain::subtrees::SubtreeCounts;
use itertools::{EitherOrBoth, Itertools};

use super::recent_leaves::RecentLeaves;
use crate::store::{Store, StoreError};

/// Reads the state as it is committed now.
#[derive(Clone)]
pub(super) struct CommittedState {
    leaves: Keyspace,
    /// What is known without reading; kept with every commit. None while the state is being replaced.
    known: Option<Arc<RwLock<Known>>>,
}

/// What is known of a state without reading it.
#[derive(Default)]
struct Known {
    /// Where leaves stand below.
    counts: SubtreeCounts,
    recent: RecentLeaves,
}

impl CommittedState {
    /// Counts every leaf once.
    pub(super) fn of(store: &Store) -> Result<Self, StoreError> {
        let mut state = Self::uncounted(store);
        let mut known = Known::default();
        for row in state.leaves.iter() {
            known.counts.add(&PathKey::from(row.key()?.to_vec()));
        }
        state.known = Some(Arc::new(RwLock::new(known)));
        Ok(state)
    }

    pub(super) fn uncounted(store: &Store) -> Self {
        Self {
            leaves: store.state_keyspace().clone(),
            known: None,
        }
    }

    /// Takes what a stage that is committed now has changed.
    pub(super) fn on_committed<L: Leaves>(&self, overlay: &StateOverlay<L>) {
        let Some(known) = &self.known else { return };
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        for (key, appeared) in overlay.appeared_and_gone() {
            if appeared {
                known.counts.add(key);
            } else {
                known.counts.remove(key);
            }
        }
        known.recent.start_commit();
        for (key, leaf) in overlay.changed() {
            known.recent.put(key, leaf);
        }
    }

    fn rows(&self, below: &PathKey) -> impl Iterator<Item = Result<(PathKey, Leaf), StoreError>> + use<> {
        self.leaves.prefix(below.as_bytes()).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((
                PathKey::from(key.to_vec()),
                crate::store::leaf_from_bytes(&value)?,
            ))
        })
    }
}

impl Leaves for CommittedState {
    type Error = StoreError;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, StoreError> {
        self.leaves
            .get(key.as_bytes())?
            .map(|bytes| crate::store::leaf_from_bytes(&bytes))
            .transpose()
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, StoreError> {
        self.rows(key).collect()
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, StoreError> {
        // At most the leaf itself comes before a leaf below it.
        for row in self.leaves.prefix(key.as_bytes()).take(2) {
            if *row.key()? != *key.as_bytes() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The state that a stage stands on.
#[derive(Clone)]
pub(super) enum Below {
    /// The committed state.
    Committed(CommittedState),
    /// The committed state with the changes of the commit under way.
    Committing(Arc<StateOverlay<CommittedState>>),
}

impl Below {
    /// Every leaf at or below a path, in key order.
    pub(super) fn rows(
        &self,
        below: &PathKey,
    ) -> Box<dyn Iterator<Item = Result<(PathKey, Leaf), StoreError>> + '_> {
        match self {
            Self::Committed(committed) => Box::new(committed.rows(below)),
            Self::Committing(overlay) => Box::new(overlaid(overlay.changed(), overlay.below().rows(below))),
        }
    }
}

/// Every leaf of a state with changes on top, in key order.
pub(super) fn overlaid<'changes>(
    changed: impl Iterator<Item = (&'changes PathKey, Option<&'changes Leaf>)>,
    below: impl Iterator<Item = Result<(PathKey, Leaf), StoreError>>,
) -> impl Iterator<Item = Result<(PathKey, Leaf), StoreError>> {
    let order = |(key, _): &(&PathKey, _), row: &Result<(PathKey, Leaf), _>| {
        row.as_ref().map_or(Ordering::Greater, |(at, _)| (*key).cmp(at))
    };
    changed.merge_join_by(below, order).filter_map(|row| match row {
        // What is changed hides what stands below it.
        EitherOrBoth::Left((key, leaf)) | EitherOrBoth::Both((key, leaf), _) => {
            leaf.map(|leaf| Ok((key.clone(), leaf.clone())))
        }
        EitherOrBoth::Right(row) => Some(row),
    })
}

impl Below {
    /// What is known up to the commit under way without reading.
    fn known(&self) -> Option<RwLockReadGuard<'_, Known>> {
        let committed = match self {
            Self::Committed(committed) => committed,
            Self::Committing(overlay) => overlay.below(),
        };
        let known = committed.known.as_ref()?;
        Some(known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Leaves for Below {
    type Error = StoreError;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, StoreError> {
        if let Some(known) = self.known() {
            if !known.counts.may_have_leaf_at(key) {
                return Ok(None);
            }
            if let Some(recent) = known.recent.get(key) {
                return Ok(Some(recent.clone()));
            }
        }
        match self {
            Self::Committed(committed) => committed.leaf(key),
            Self::Committing(overlay) => overlay.leaf(key),
        }
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, StoreError> {
        if let Some(known) = self.known() {
            match known.counts.most_leaves_below(key) {
                // Reading one leaf is much cheaper than a range.
                Some(0) => {
                    drop(known);
                    let leaf = self.leaf(key)?;
                    return Ok(leaf.map(|leaf| (key.clone(), leaf)).into_iter().collect());
                }
                // Where leaves stand below, none stands at the path itself.
                Some(count) => {
                    if let Some(leaves) = known.recent.leaves_below(key, count) {
                        return Ok(leaves);
                    }
                }
                None => {}
            }
        }
        match self {
            Self::Committed(committed) => committed.leaves_at_or_below(key),
            Self::Committing(overlay) => overlay.leaves_at_or_below(key),
        }
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, StoreError> {
        if let Some(known) = self.known() {
            if !known.counts.may_have_leaf_below(key) {
                return Ok(false);
            }
            if known.recent.has_leaf_below(key) {
                return Ok(true);
            }
        }
        match self {
            Self::Committed(committed) => committed.has_leaf_below(key),
            Self::Committing(overlay) => overlay.has_leaf_below(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::state::MemoryState;
    use honeygraph_chain::{Operation, Operations, Path, StateDigest};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{StoreSettings, Writer};

    fn any_operations() -> impl Strategy<Value = Operations> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("c")];
        let at = prop::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"));
        let data = prop_oneof![Just("1"), Just("2"), Just(r#"{"a":1,"b":{"c":2}}"#)];
        let operation = prop_oneof![
            4 => (at.clone(), data).prop_map(|(at, data)| Operation::Put {
                path: Path::from_slashed(&at),
                data: serde_json::from_str(data).unwrap(),
            }),
            2 => at.prop_map(|at| Operation::Del { path: Path::from_slashed(&at) }),
            1 => Just(Operation::WriteMarker),
        ];
        prop::collection::vec(operation, 0..8).prop_map(|mut operations| {
            operations.push(Operation::WriteMarker);
            Operations::new(operations).unwrap()
        })
    }

    /// What happens after a block.
    #[derive(Debug, Clone, Copy)]
    enum Then {
        Nothing,
        Commit,
        /// Nothing is known but what the next commits change.
        Forget,
    }

    fn commit(writer: &mut Writer, committing: &StateOverlay<CommittedState>) {
        let mut transaction = writer.begin();
        for (key, leaf) in committing.changed() {
            transaction.set_leaf(key, leaf);
        }
        transaction.commit().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However much of it is known without reading, and whether the commit under way is durable or not.
        #[test]
        fn blocks_do_the_same_as_on_a_state_in_memory(
            blocks in prop::collection::vec(
                (any_operations(), prop_oneof![Just(Then::Nothing), Just(Then::Commit), Just(Then::Forget)]),
                1..20,
            )
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (store, mut writer, _) = Store::open(directory.path(), &StoreSettings::default()).unwrap();
            let mut committed = CommittedState::of(&store).unwrap();
            let mut memory = MemoryState::default();
            let mut overlay = StateOverlay::new(Below::Committed(committed.clone()), StateDigest::EMPTY);
            let mut under_way: Option<Arc<StateOverlay<CommittedState>>> = None;
            for (operations, then) in &blocks {
                let expected = memory.apply(operations).ok();
                prop_assert_eq!(overlay.apply(operations).ok(), expected);
                prop_assert_eq!(overlay.digest(), memory.digest());
                if matches!(then, Then::Nothing) {
                    continue;
                }
                if let Some(before) = under_way.take() {
                    commit(&mut writer, &before);
                }
                committed.on_committed(&overlay);
                let empty = StateOverlay::new(Below::Committed(committed.clone()), memory.digest());
                let applied = std::mem::replace(&mut overlay, empty);
                let committing = Arc::new(applied.over(committed.clone()));
                if matches!(then, Then::Commit) {
                    *overlay.below_mut() = Below::Committing(Arc::clone(&committing));
                    under_way = Some(committing);
                } else {
                    commit(&mut writer, &committing);
                    committed = CommittedState::of(&store).unwrap();
                    *overlay.below_mut() = Below::Committed(committed.clone());
                }
            }
        }
    }
}
