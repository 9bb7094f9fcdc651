//! How many blocks a step may have, by their size.

use honeygraph_chain::BlockRange;

use crate::store::{StoreError, View};

/// Bytes of the blocks of one step at most: what is written of them, and what Dgraph keeps of it until it is
/// committed, takes some times as much memory.
const STEP_BYTES: usize = 16 << 20;

/// How much of the state one step may write.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateLimits {
    /// Nodes.
    pub nodes: usize,
    /// Bytes of their values, the largest not counted: one alone is never too large.
    pub bytes: usize,
}

impl StateLimits {
    /// Of what follows the log; where more changed, the state is written anew, in pieces.
    pub(super) const FOLLOWED: Self = Self {
        nodes: 20_000,
        bytes: STEP_BYTES,
    };

    /// Of a piece of so many nodes.
    pub(super) const fn piece(nodes: usize) -> Self {
        Self {
            nodes,
            bytes: STEP_BYTES,
        }
    }
}

/// Counts what a step is to write of the state.
#[derive(Debug, Default)]
pub(super) struct StateWeight {
    bytes: usize,
    largest: usize,
}

impl StateWeight {
    /// Adds a value; whether all of them are still few enough.
    pub(super) fn add(&mut self, bytes: usize, limits: StateLimits) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.largest = self.largest.max(bytes);
        self.bytes - self.largest <= limits.bytes
    }
}

/// Whether blocks are too large to be written in one step; one alone never is.
pub(super) fn is_heavy(view: &View, range: BlockRange) -> Result<bool, StoreError> {
    is_heavier(view, range, STEP_BYTES)
}

fn is_heavier(view: &View, range: BlockRange, most: usize) -> Result<bool, StoreError> {
    let mut bytes = 0_usize;
    for row in view.blocks(range) {
        bytes = bytes.saturating_add(row?.1.bytes.len());
        if bytes > most {
            return Ok(range.len() > 1);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{BlockNumber, ContentId};

    use super::*;
    use crate::store::{Store, StoreSettings, StoredBlock, Verification};

    #[test]
    fn blocks_are_too_heavy_together_and_never_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer, _) = Store::open(directory.path(), &StoreSettings::default()).unwrap();
        let first = BlockNumber::try_from(7).unwrap();
        let range = BlockRange::starting_at(first, 4);
        let mut transaction = writer.begin();
        for (number, bytes) in range.iter().zip([10, 20, 50, 1]) {
            let block = StoredBlock {
                hash: ContentId::of(&[bytes]),
                digest: None,
                timestamp_ms: 0,
                verification: Verification::Verified,
                bytes: vec![0; bytes.into()],
            };
            transaction.put_block(number, &block);
        }
        transaction.commit().unwrap();
        let heavier = |from: u64, count: u64, most| {
            let range = BlockRange::starting_at(first.saturating_add(from), count);
            is_heavier(&store.view(), range, most).unwrap()
        };
        assert!(heavier(0, 2, 29) && !heavier(0, 2, 30));
        assert!(heavier(0, 4, 80) && !heavier(0, 4, 81));
        assert!(!heavier(2, 1, 49), "there is nothing to leave out");
    }
}
