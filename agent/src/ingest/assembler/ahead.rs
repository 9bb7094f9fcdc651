//! Operations that arrived behind a hole, waiting for it to be filled.

use std::collections::BTreeMap;

use super::entry::{Entry, IndexOrigin};
use crate::ingest::message::OperationIndex;

/// What became of an operation that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It is here.
    Kept,
    /// There was no room; the source will be asked again.
    Dropped,
    /// Another one with its index says something else.
    Contradicts,
}

/// Bounded in number and bytes: the highest indexes give way to lower ones.
#[derive(Debug)]
pub(super) struct Ahead {
    entries: BTreeMap<OperationIndex, Entry>,
    weight: usize,
    most_entries: usize,
    most_weight: usize,
}

impl Ahead {
    pub(super) const fn new(most_entries: usize, most_weight: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            weight: 0,
            most_entries,
            most_weight,
        }
    }

    pub(super) fn hold(&mut self, index: OperationIndex, entry: Entry) -> Held {
        if let Some(present) = self.entries.get(&index) {
            if present.says_the_same(&entry) {
                return Held::Kept;
            }
            if (present.origin, entry.origin) != (IndexOrigin::Assumed, IndexOrigin::Stated) {
                return Held::Contradicts;
            }
            self.remove(index);
        }
        self.weight = self.weight.saturating_add(entry.weight());
        self.entries.insert(index, entry);
        let mut held = Held::Kept;
        while self.entries.len() > self.most_entries || self.weight > self.most_weight {
            let Some((dropped, entry)) = self.entries.pop_last() else {
                break;
            };
            self.weight = self.weight.saturating_sub(entry.weight());
            if dropped == index {
                held = Held::Dropped;
            }
        }
        held
    }

    pub(super) fn remove(&mut self, index: OperationIndex) -> Option<Entry> {
        let entry = self.entries.remove(&index)?;
        self.weight = self.weight.saturating_sub(entry.weight());
        Some(entry)
    }

    /// Forgets what lies below an index.
    pub(super) fn drop_below(&mut self, index: OperationIndex) {
        while let Some(first) = self.first().filter(|first| *first < index) {
            self.remove(first);
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.weight = 0;
    }

    pub(super) fn first(&self) -> Option<OperationIndex> {
        self.entries.first_key_value().map(|(index, _)| *index)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
