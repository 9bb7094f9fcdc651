//! How many blocks a step may have, by their size.

use honeygraph_chain::BlockRange;

use crate::store::{StoreError, View};

/// Bytes of the blocks of one step, beyond which it ends early: what is written of them, and what Dgraph keeps
/// of it until it is committed, takes some times as much memory.
pub(super) const STEP_BYTES: usize = 16 << 20;

/// How many of the first blocks of a range have no more than so many bytes together; at least one, whatever its
/// size.
pub(super) fn blocks_within(view: &View, range: BlockRange, most: usize) -> Result<u64, StoreError> {
    let (mut blocks, mut bytes) = (0, 0_usize);
    for row in view.blocks(range) {
        bytes = bytes.saturating_add(row?.1.bytes.len());
        if bytes > most {
            break;
        }
        blocks += 1;
    }
    Ok(blocks.max(1))
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{BlockNumber, ContentId};

    use super::*;
    use crate::store::{Store, StoreSettings, StoredBlock, Verification};

    #[test]
    fn a_step_ends_before_it_is_too_large_and_has_a_block_at_least() {
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
        let within = |from: u64, most| {
            let range = BlockRange::new(first.saturating_add(from), range.end()).unwrap();
            blocks_within(&store.view(), range, most).unwrap()
        };
        assert_eq!(within(0, 9), 1, "the first is larger than all may be");
        assert_eq!(within(0, 29), 1);
        assert_eq!(within(0, 30), 2);
        assert_eq!(within(0, 80), 3);
        assert_eq!(within(0, 81), 4);
        assert_eq!(within(2, 50), 1);
    }
}
