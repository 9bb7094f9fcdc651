//! Digests of the last operations, to compare repeated ones with.

use std::collections::VecDeque;

use crate::ingest::message::OperationIndex;

/// Digests of the operations right below an index, newest last.
#[derive(Debug)]
pub(super) struct Recent {
    digests: VecDeque<[u8; 32]>,
    most: usize,
}

impl Recent {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            digests: VecDeque::new(),
            most,
        }
    }

    pub(super) fn push(&mut self, digest: [u8; 32]) {
        if self.digests.len() >= self.most {
            self.digests.pop_front();
        }
        if self.most > 0 {
            self.digests.push_back(digest);
        }
    }

    /// Forgets the newest `count`.
    pub(super) fn take_back(&mut self, count: u64) {
        let kept = usize::try_from(count).map_or(0, |count| self.digests.len().saturating_sub(count));
        self.digests.truncate(kept);
    }

    pub(super) fn clear(&mut self) {
        self.digests.clear();
    }

    /// The digest of operation `index`, where `next` is the index after the newest.
    pub(super) fn get(&self, index: OperationIndex, next: OperationIndex) -> Option<&[u8; 32]> {
        let back = usize::try_from(next.distance_from(index)).ok()?;
        self.digests.get(self.digests.len().checked_sub(back)?)
    }
}
