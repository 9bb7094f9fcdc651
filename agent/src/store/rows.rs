//! Rows of blocks and of the state, as they are encoded into a batch.

use std::sync::Arc;

use fjall::OwnedWriteBatch as WriteBatch;
use honeygraph_chain::state::{Leaf, LeafChange};
use honeygraph_chain::{BlockNumber, PathKey};

use super::StoreError;
use super::layout::{Keyspaces, number_key};
use super::record::{StoredBlock, undo_to_bytes};

/// A batch that is being filled.
pub struct BlockRows {
    pub(super) keyspaces: Arc<Keyspaces>,
    pub(super) batch: WriteBatch,
}

impl BlockRows {
    pub(super) fn put_block(&mut self, number: BlockNumber, block: &StoredBlock) {
        self.batch
            .insert(&self.keyspaces.blocks, number_key(number), block.to_bytes());
    }

    /// Keeps what is needed to undo a block.
    pub fn put_undo(&mut self, number: BlockNumber, changes: &[LeafChange]) -> Result<(), StoreError> {
        let undo = undo_to_bytes(changes)?;
        self.batch.insert(&self.keyspaces.undo, number_key(number), undo);
        Ok(())
    }

    /// Sets or, with `None`, removes a leaf.
    pub fn set_leaf(&mut self, key: &PathKey, leaf: Option<&Leaf>) {
        let state = &self.keyspaces.state;
        match leaf {
            Some(leaf) => self
                .batch
                .insert(state, key.as_bytes(), leaf.value().to_canonical()),
            None => self.batch.remove(state, key.as_bytes()),
        }
    }
}

impl std::fmt::Debug for BlockRows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BlockRows")
            .field("rows", &self.batch.len())
            .finish_non_exhaustive()
    }
}
