//! Reading: the store as it was at one moment.

use std::sync::Arc;

use fjall::{Readable, Snapshot};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::state::{Leaf, Leaves};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, PathKey};

use super::layout::{
    DOCUMENT_CHUNK_BYTES, Keyspaces, POSITION_KEY, chunk_key, chunk_of_key, document_of_key, fork_key,
    key_number, number_key,
};
use super::record::{
    CheckpointRecord, PeerRecord, StoredBlock, json_from_bytes, leaf_from_bytes, undo_from_bytes,
};
use super::{Position, StoreError};

/// Leaves as they were before a block; none where there was none.
pub type LeavesBefore = Vec<(PathKey, Option<Leaf>)>;

/// The store as it was when the view was taken.
pub struct View {
    snapshot: Snapshot,
    keyspaces: Arc<Keyspaces>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("View").finish_non_exhaustive()
    }
}

impl View {
    pub(super) fn new(snapshot: Snapshot, keyspaces: Arc<Keyspaces>) -> Self {
        Self { snapshot, keyspaces }
    }

    /// Where the replica stands; none before it was started from a document.
    pub fn position(&self) -> Result<Option<Position>, StoreError> {
        let bytes = self.snapshot.get(&self.keyspaces.meta, POSITION_KEY)?;
        bytes.map(|bytes| json_from_bytes("position", &bytes)).transpose()
    }

    /// The canonical block with this number.
    pub fn block(&self, number: BlockNumber) -> Result<Option<StoredBlock>, StoreError> {
        let bytes = self.snapshot.get(&self.keyspaces.blocks, number_key(number))?;
        bytes
            .map(|bytes| StoredBlock::from_bytes(number, &bytes))
            .transpose()
    }

    /// The canonical blocks of a range that are there, in order.
    pub fn blocks(
        &self,
        range: BlockRange,
    ) -> impl DoubleEndedIterator<Item = Result<(BlockNumber, StoredBlock), StoreError>> + use<> {
        let rows = self.snapshot.range(
            &self.keyspaces.blocks,
            number_key(range.start())..=number_key(range.end()),
        );
        rows.map(|row| {
            let (key, value) = row.into_inner()?;
            let number = key_number(&key)?;
            Ok((number, StoredBlock::from_bytes(number, &value)?))
        })
    }

    /// A block that is not on the canonical chain.
    pub fn fork_block(&self, block: BlockReference) -> Result<Option<StoredBlock>, StoreError> {
        let bytes = self
            .snapshot
            .get(&self.keyspaces.fork_blocks, fork_key(block.number, block.hash))?;
        bytes
            .map(|bytes| StoredBlock::from_bytes(block.number, &bytes))
            .transpose()
    }

    /// Every block that is not on the canonical chain, by number.
    pub fn fork_blocks(
        &self,
    ) -> impl Iterator<Item = Result<(BlockNumber, StoredBlock), StoreError>> + use<> {
        self.snapshot.iter(&self.keyspaces.fork_blocks).map(|row| {
            let (key, value) = row.into_inner()?;
            let number = key_number(&key)?;
            Ok((number, StoredBlock::from_bytes(number, &value)?))
        })
    }

    /// The blocks with one number that are not on the canonical chain.
    pub fn fork_blocks_at(
        &self,
        number: BlockNumber,
    ) -> impl Iterator<Item = Result<StoredBlock, StoreError>> + use<> {
        let rows = self
            .snapshot
            .prefix(&self.keyspaces.fork_blocks, number_key(number));
        rows.map(move |row| StoredBlock::from_bytes(number, &row.value()?))
    }

    /// Whether the leaves as they were before each block of a range are kept.
    pub fn keeps_changes_of(&self, range: BlockRange) -> Result<bool, StoreError> {
        let rows = self.snapshot.range(
            &self.keyspaces.undo,
            number_key(range.start())..=number_key(range.end()),
        );
        let mut kept = 0;
        for row in rows {
            row.key()?;
            kept += 1;
        }
        Ok(kept == range.len())
    }

    /// The leaves as they were before a block above the last irreversible one.
    pub fn undo(&self, number: BlockNumber) -> Result<Option<LeavesBefore>, StoreError> {
        let bytes = self.snapshot.get(&self.keyspaces.undo, number_key(number))?;
        bytes.map(|bytes| undo_from_bytes(number, &bytes)).transpose()
    }

    /// Every leaf at or below a path, in key order.
    pub fn leaves(
        &self,
        below: &PathKey,
    ) -> impl Iterator<Item = Result<(PathKey, Leaf), StoreError>> + use<> {
        leaves_of(self.snapshot.prefix(&self.keyspaces.state, below.as_bytes()))
    }

    /// The leaves right below a path, not those further down, in key order.
    pub fn members(&self, of: &PathKey) -> Result<Vec<(PathKey, Leaf)>, StoreError> {
        let depth = of.depth() + 1;
        let mut members = Vec::new();
        let mut next = Some(of.clone());
        while let Some(from) = next.take() {
            for row in leaves_of(self.snapshot.range(&self.keyspaces.state, from.as_bytes()..)) {
                let (key, leaf) = row?;
                if !key.is_at_or_below(of) {
                    break;
                }
                match key.depth() {
                    at if at == depth => members.push((key, leaf)),
                    at if at < depth => {}
                    _ => {
                        // Jump over the object that stands there: it may be large.
                        let object = key.ancestors().nth(depth);
                        next = object.and_then(|object| object.after_subtree());
                        break;
                    }
                }
            }
        }
        Ok(members)
    }

    /// Leaves from a key on, in key order.
    pub fn leaves_from(
        &self,
        from: &PathKey,
    ) -> impl Iterator<Item = Result<(PathKey, Leaf), StoreError>> + use<> {
        leaves_of(self.snapshot.range(&self.keyspaces.state, from.as_bytes()..))
    }

    /// A checkpoint by its block.
    pub fn checkpoint(&self, number: BlockNumber) -> Result<Option<CheckpointRecord>, StoreError> {
        let bytes = self
            .snapshot
            .get(&self.keyspaces.checkpoints, number_key(number))?;
        bytes
            .map(|bytes| json_from_bytes("checkpoint", &bytes))
            .transpose()
    }

    /// A checkpoint by its content id.
    pub fn checkpoint_by_id(&self, id: ContentId) -> Result<Option<CheckpointRecord>, StoreError> {
        match self.snapshot.get(&self.keyspaces.checkpoint_ids, id.digest())? {
            Some(number) => self.checkpoint(key_number(&number)?),
            None => Ok(None),
        }
    }

    /// The checkpoints of a range, by block.
    pub fn checkpoints(
        &self,
        range: BlockRange,
    ) -> impl DoubleEndedIterator<Item = Result<CheckpointRecord, StoreError>> + use<> {
        self.snapshot
            .range(
                &self.keyspaces.checkpoints,
                number_key(range.start())..=number_key(range.end()),
            )
            .map(|row| json_from_bytes("checkpoint", &row.value()?))
    }

    /// The pieces of a stored document in order; none if it is not stored.
    pub fn document(&self, id: ContentId) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> + use<> {
        self.snapshot
            .prefix(&self.keyspaces.documents, id.digest())
            .map(|row| Ok(row.value()?.to_vec()))
    }

    /// The content ids of the stored documents.
    pub fn document_ids(&self) -> impl Iterator<Item = Result<ContentId, StoreError>> + use<'_> {
        let documents = &self.keyspaces.documents;
        let mut from = Some(Vec::new());
        std::iter::from_fn(move || {
            // One seek a document, however many pieces it has.
            let row = self.snapshot.range(documents, from.take()?..).next()?;
            let id = row
                .key()
                .map_err(StoreError::from)
                .and_then(|key| document_of_key(&key));
            from = id.as_ref().ok().map(|id| chunk_key(*id, u32::MAX).to_vec());
            if let Some(from) = &mut from {
                from.push(0);
            }
            Some(id)
        })
    }

    /// One stored piece of a document, counted from 0: all but the last have 256 KiB.
    pub fn document_chunk(&self, id: ContentId, chunk: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self
            .snapshot
            .get(&self.keyspaces.documents, chunk_key(id, chunk))?;
        Ok(bytes.map(|bytes| bytes.to_vec()))
    }

    /// Size of a stored document in bytes; none if it is not stored.
    pub fn document_bytes(&self, id: ContentId) -> Result<Option<u64>, StoreError> {
        let mut chunks = self.snapshot.prefix(&self.keyspaces.documents, id.digest());
        let Some(last) = chunks.next_back() else {
            return Ok(None);
        };
        let (key, value) = last.into_inner()?;
        let before = chunk_of_key(&key)?;
        Ok(Some(
            u64::from(before) * DOCUMENT_CHUNK_BYTES as u64 + value.len() as u64,
        ))
    }

    /// Whether a document is stored.
    pub fn has_document(&self, id: ContentId) -> Result<bool, StoreError> {
        Ok(self
            .snapshot
            .contains_key(&self.keyspaces.documents, chunk_key(id, 0))?)
    }

    /// Which canonical blocks are stored.
    pub fn have(&self) -> Result<IntervalSet, StoreError> {
        let mut have = IntervalSet::default();
        for row in self.snapshot.iter(&self.keyspaces.have) {
            let (start, end) = row.into_inner()?;
            let range = BlockRange::new(key_number(&start)?, key_number(&end)?)
                .map_err(|error| StoreError::damaged("have interval", error))?;
            have.insert(range);
        }
        Ok(have)
    }

    /// The stored retry queue.
    pub fn retry_queue<T: for<'de> serde::Deserialize<'de>>(&self) -> Result<Vec<T>, StoreError> {
        self.snapshot
            .iter(&self.keyspaces.retry)
            .map(|row| json_from_bytes("entry of the retry queue", &row.value()?))
            .collect()
    }

    /// The stored peers by URL.
    pub fn peers(&self) -> Result<Vec<(String, PeerRecord)>, StoreError> {
        self.snapshot
            .iter(&self.keyspaces.peers)
            .map(|row| {
                let (key, value) = row.into_inner()?;
                Ok((
                    String::from_utf8_lossy(&key).into_owned(),
                    json_from_bytes("peer", &value)?,
                ))
            })
            .collect()
    }

    /// How far a source's log was taken.
    pub fn source_cursor<T: for<'de> serde::Deserialize<'de>>(
        &self,
        source: &str,
    ) -> Result<Option<T>, StoreError> {
        let bytes = self.snapshot.get(&self.keyspaces.sources, source)?;
        bytes
            .map(|bytes| json_from_bytes("cursor of a source", &bytes))
            .transpose()
    }

    /// Whether a state was being replaced when the store was last written.
    pub(super) fn is_replacing_state(&self) -> Result<bool, StoreError> {
        Ok(self
            .snapshot
            .contains_key(&self.keyspaces.meta, super::layout::REPLACING_STATE_KEY)?)
    }
}

impl Leaves for View {
    type Error = StoreError;

    fn leaf(&self, key: &PathKey) -> Result<Option<Leaf>, StoreError> {
        let bytes = self.snapshot.get(&self.keyspaces.state, key.as_bytes())?;
        bytes.map(|bytes| leaf_from_bytes(&bytes)).transpose()
    }

    fn leaves_at_or_below(&self, key: &PathKey) -> Result<Vec<(PathKey, Leaf)>, StoreError> {
        self.leaves(key).collect()
    }

    fn has_leaf_below(&self, key: &PathKey) -> Result<bool, StoreError> {
        let mut below = self.snapshot.prefix(&self.keyspaces.state, key.as_bytes());
        below.try_fold(false, |found, row| Ok(found || *row.key()? != *key.as_bytes()))
    }
}

fn leaves_of(rows: fjall::Iter) -> impl Iterator<Item = Result<(PathKey, Leaf), StoreError>> {
    rows.map(|row| {
        let (key, value) = row.into_inner()?;
        Ok((PathKey::from(key.to_vec()), leaf_from_bytes(&value)?))
    })
}
