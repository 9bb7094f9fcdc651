//! Blocks of one source that wait for what they link to.

use std::collections::VecDeque;

use honeygraph_chain::{BlockNumber, Operations};

use crate::ingest::{SourceCursor, weight_of};

/// A source's block whose parent is not here yet.
#[derive(Debug)]
pub(super) struct PendingBlock {
    pub(super) number: BlockNumber,
    pub(super) operations: Operations,
    pub(super) timestamp_ms: u64,
    pub(super) cursor: SourceCursor,
}

/// The waiting blocks of a source, oldest first, and the bytes that they take.
#[derive(Debug, Default)]
pub(super) struct Pending {
    blocks: VecDeque<(usize, PendingBlock)>,
    bytes: usize,
}

impl Pending {
    pub(super) fn push_back(&mut self, block: PendingBlock) {
        let weight = weight_of(&block.operations);
        self.bytes += weight;
        self.blocks.push_back((weight, block));
    }

    pub(super) fn push_front(&mut self, block: PendingBlock) {
        let weight = weight_of(&block.operations);
        self.bytes += weight;
        self.blocks.push_front((weight, block));
    }

    pub(super) fn pop_front(&mut self) -> Option<PendingBlock> {
        let (weight, block) = self.blocks.pop_front()?;
        self.bytes -= weight;
        Some(block)
    }

    pub(super) fn front(&self) -> Option<&PendingBlock> {
        self.blocks.front().map(|(_, block)| block)
    }

    pub(super) fn back(&self) -> Option<&PendingBlock> {
        self.blocks.back().map(|(_, block)| block)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingBlock> {
        self.blocks.iter().map(|(_, block)| block)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops those up to a block.
    pub(super) fn drop_through(&mut self, last: BlockNumber) {
        while self.front().is_some_and(|block| block.number <= last) {
            self.pop_front();
        }
    }

    /// Drops the oldest until no more wait than that; the newest one stays, however large it is.
    pub(super) fn keep_newest(&mut self, blocks: usize, bytes: usize) {
        while self.len() > 1 && (self.len() > blocks || self.bytes > bytes) {
            self.pop_front();
        }
    }

    /// Bytes that the blocks take in memory, estimated.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
