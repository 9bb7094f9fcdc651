//! Forks that this writer took back in Dgraph, where others write too.
//!
//! Two nodes that follow different forks and know each other's would take them back in turn without end. So each does
//! it once: what stands there again is left to the other, or to a person.

use std::collections::VecDeque;

use honeygraph_chain::ContentId;
use honeygraph_chain::fork::BlockReference;

use crate::store::{StoreError, View};

/// Tips that are kept.
const KEPT: usize = 64;

/// Highest blocks of forks that were taken back, the last one last.
#[derive(Debug, Clone, Default)]
pub(super) struct TakenBack(VecDeque<BlockReference>);

impl TakenBack {
    /// Notes one.
    pub(super) fn note(&mut self, tip: BlockReference) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(tip);
    }

    /// Forgets those that the log follows by now.
    pub(super) fn forget_followed(&mut self, view: &View) -> Result<(), StoreError> {
        let mut left = VecDeque::new();
        for tip in self.0.drain(..) {
            if view.block(tip.number)?.is_none_or(|ours| ours.hash != tip.hash) {
                left.push_back(tip);
            }
        }
        self.0 = left;
        Ok(())
    }

    /// Whether one of them is among some blocks.
    pub(super) fn is_among(&self, mut hashes: impl Iterator<Item = ContentId>) -> bool {
        !self.0.is_empty() && hashes.any(|hash| self.0.iter().any(|tip| tip.hash == hash))
    }
}
