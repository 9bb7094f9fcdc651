//! Writing: one writer, one transaction at a time, all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fjall::{Keyspace, OwnedWriteBatch as WriteBatch, PersistMode};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::state::{Leaf, LeafChange};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, PathKey};
use serde::Serialize;
use tokio::sync::Notify;

use super::committer::{Committer, Job, Later};
use super::last_commit::LastCommitFile;
use super::layout::{
    DOCUMENT_CHUNK_BYTES, POSITION_KEY, REPLACING_STATE_KEY, chunk_key, fork_key, key_number, number_key,
};
use super::record::{CheckpointRecord, PeerRecord, StoredBlock, json_to_bytes};
use super::rows::BlockRows;
use super::{Position, Store, StoreError};

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    committer: Committer,
    position: Option<Position>,
    have: IntervalSet,
    /// What was durable before the commit that was started last.
    before: Durable,
}

/// Where a store stands.
#[derive(Debug, Clone, Default)]
pub struct Durable {
    /// Where the replica stands.
    pub position: Option<Position>,
    /// Which canonical blocks are stored.
    pub have: IntervalSet,
}

/// Changes that become durable and visible together, or not at all.
pub struct Transaction<'writer> {
    writer: &'writer mut Writer,
    rows: BlockRows,
    later: Vec<Later>,
    position: Option<Position>,
    have: IntervalSet,
    rows_before: BTreeMap<BlockNumber, BlockNumber>,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Transaction")
            .field("changes", &self.rows.batch.len())
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(store: Store, last_commit: LastCommitFile) -> Result<Self, StoreError> {
        let view = store.view();
        let (position, have) = (view.position()?, view.have()?);
        let mut writer = Self {
            store,
            committer: Committer::new(last_commit)?,
            position,
            have,
            before: Durable::default(),
        };
        if view.is_replacing_state()? {
            // A state was half written when the process ended: nothing of it counts.
            writer.discard_state()?;
        }
        Ok(writer)
    }

    /// The store, for reading what [`Writer::position`] says; waits for the commit under way.
    pub fn store(&self) -> &Store {
        self.committer.wait();
        &self.store
    }

    /// Where the replica stands once the commit under way is durable.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Which canonical blocks are stored once the commit under way is durable.
    pub const fn have(&self) -> &IntervalSet {
        &self.have
    }

    /// What is durable, as far as is known without waiting.
    pub fn durable(&self) -> Durable {
        if self.committer.is_idle() {
            Durable {
                position: self.position.clone(),
                have: self.have.clone(),
            }
        } else {
            self.before.clone()
        }
    }

    /// Whether the next commit would have to wait for the one before.
    pub fn would_wait(&self) -> bool {
        self.committer.look();
        !self.committer.is_idle()
    }

    /// Is told each time a commit is durable or failed.
    pub fn commit_ended(&self) -> Arc<Notify> {
        self.committer.ended()
    }

    /// Whether everything is durable; does not wait for a commit that is still under way.
    pub fn try_settle(&mut self) -> Result<bool, StoreError> {
        self.committer.look();
        self.committer.take_failure()?;
        Ok(self.committer.is_idle())
    }

    /// Waits until the commit under way is durable.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        self.committer.finish()
    }

    /// Starts a transaction.
    pub fn begin(&mut self) -> Transaction<'_> {
        self.committer.wait();
        let batch = self
            .store
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let (position, have) = (self.position.clone(), self.have.clone());
        let rows_before = have.iter().map(|run| (run.start(), run.end())).collect();
        Transaction {
            rows: BlockRows {
                keyspaces: Arc::clone(&self.store.keyspaces),
                batch,
            },
            later: Vec::new(),
            writer: self,
            position,
            have,
            rows_before,
        }
    }

    /// Replaces the whole state by the leaves of a document, which may be more than memory holds. Until
    /// [`Transaction::set_position`] is committed with `finish_replacing_state`, an interrupted replacement
    /// is discarded when the store is opened again.
    pub fn replace_state(
        &mut self,
        fill: impl FnOnce(&mut StateReplacement<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.settle()?;
        self.store.keyspaces.meta.insert(REPLACING_STATE_KEY, "1")?;
        self.store.database.persist(PersistMode::SyncData)?;
        self.discard_leaves()?;
        let mut replacement = StateReplacement {
            store: &self.store,
            batch: self.store.database.batch(),
        };
        fill(&mut replacement)?;
        replacement.flush()
    }

    /// Goes on with a replacement that [`Writer::replace_state`] began.
    pub fn continue_replacing(
        &mut self,
        fill: impl FnOnce(&mut StateReplacement<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut replacement = StateReplacement {
            store: &self.store,
            batch: self.store.database.batch(),
        };
        fill(&mut replacement)?;
        replacement.flush()
    }

    fn discard_leaves(&mut self) -> Result<(), StoreError> {
        self.store.keyspaces.state.clear()?;
        self.store.keyspaces.undo.clear()?;
        Ok(())
    }

    fn discard_state(&mut self) -> Result<(), StoreError> {
        self.discard_leaves()?;
        let mut transaction = self.begin();
        transaction.clear_position();
        transaction.finish_replacing_state();
        transaction.commit()
    }
}

/// A state that is being written leaf by leaf.
pub struct StateReplacement<'writer> {
    store: &'writer Store,
    batch: WriteBatch,
}

impl StateReplacement<'_> {
    /// Sets or removes a leaf.
    pub fn set(&mut self, key: &PathKey, leaf: Option<&Leaf>) -> Result<(), StoreError> {
        let state = &self.store.keyspaces.state;
        match leaf {
            Some(leaf) => self
                .batch
                .insert(state, key.as_bytes(), leaf.value().to_canonical()),
            None => self.batch.remove(state, key.as_bytes()),
        }
        if self.batch.len() >= 4_096 {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Makes what was set readable.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::replace(&mut self.batch, self.store.database.batch());
        Ok(batch.commit()?)
    }
}

impl<'writer> Transaction<'writer> {
    /// Where the replica stands once this transaction is committed.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Sets where the replica stands. The count of commits is kept by the store.
    pub fn set_position(&mut self, position: Position) {
        let commits = self.writer.position.as_ref().map_or(0, |before| before.commits);
        self.position = Some(Position { commits, ..position });
    }

    fn clear_position(&mut self) {
        self.position = None;
        self.rows
            .batch
            .remove(&self.writer.store.keyspaces.meta, POSITION_KEY);
    }

    /// Ends a replacement of the state: from this commit on the new one counts.
    pub fn finish_replacing_state(&mut self) {
        self.rows
            .batch
            .remove(&self.writer.store.keyspaces.meta, REPLACING_STATE_KEY);
    }

    /// Stores a canonical block, in place of another one if there is one.
    pub fn put_block(&mut self, number: BlockNumber, block: &StoredBlock) {
        self.rows.put_block(number, block);
        self.have.insert(BlockRange::single(number));
    }

    /// Stores canonical blocks that follow each other, with their leaves and what undoes them. `encode` fills
    /// the rows while the transaction is committed, on the thread that commits: the blocks come with their
    /// numbers, and every leaf once.
    pub fn put_blocks_encoded(
        &mut self,
        blocks: Vec<(BlockNumber, StoredBlock)>,
        encode: impl FnOnce(&mut BlockRows) -> Result<(), StoreError> + Send + 'static,
    ) {
        for (number, _) in &blocks {
            self.have.insert(BlockRange::single(*number));
        }
        self.later.push(Box::new(move |rows| {
            for (number, block) in &blocks {
                rows.put_block(*number, block);
            }
            encode(rows)
        }));
    }

    /// Removes canonical blocks.
    pub fn remove_blocks(&mut self, range: BlockRange) {
        let held: Vec<_> = self
            .have
            .iter()
            .filter_map(|run| run.intersection(range))
            .collect();
        for number in held.into_iter().flat_map(BlockRange::iter) {
            self.rows
                .batch
                .remove(&self.writer.store.keyspaces.blocks, number_key(number));
        }
        self.have.remove(range);
    }

    /// Removes canonical blocks and says how many there were.
    pub(super) fn remove_blocks_counted(&mut self, range: BlockRange) -> u64 {
        let held = self.have.present_in(range).map(BlockRange::len).sum();
        self.remove_blocks(range);
        held
    }

    /// Makes the intervals again from the stored blocks, whatever their rows say.
    pub(super) fn rebuild_intervals(&mut self) -> Result<(), StoreError> {
        let keyspaces = &self.writer.store.keyspaces;
        self.rows_before.clear();
        for row in keyspaces.have.iter() {
            let (start, end) = row.into_inner()?;
            match key_number(&start) {
                Ok(number) if number_key(number) == *start => {
                    let end = key_number(&end).unwrap_or(BlockNumber::MAX);
                    self.rows_before.insert(number, end);
                }
                _ => self.rows.batch.remove(&keyspaces.have, start),
            }
        }
        self.have = IntervalSet::new();
        for row in keyspaces.blocks.iter() {
            let key = row.key()?;
            if key.len() == size_of::<u64>() {
                self.have.insert(BlockRange::single(key_number(&key)?));
            }
        }
        Ok(())
    }

    /// Removes a row that is damaged.
    pub(super) fn remove_row(&mut self, keyspace: &Keyspace, key: &[u8]) {
        self.rows.batch.remove(keyspace, key);
    }

    /// Writes an entry of the index of checkpoints again.
    pub(super) fn index_checkpoint(&mut self, id: ContentId, number: [u8; 8]) {
        self.rows
            .batch
            .insert(&self.writer.store.keyspaces.checkpoint_ids, *id.digest(), number);
    }

    /// Stores a block that is not on the canonical chain.
    pub fn put_fork_block(&mut self, number: BlockNumber, block: &StoredBlock) {
        let key = fork_key(number, block.hash);
        self.rows
            .batch
            .insert(&self.writer.store.keyspaces.fork_blocks, key, block.to_bytes());
    }

    /// Removes a block that is not on the canonical chain.
    pub fn remove_fork_block(&mut self, block: BlockReference) {
        self.rows.batch.remove(
            &self.writer.store.keyspaces.fork_blocks,
            fork_key(block.number, block.hash),
        );
    }

    /// Keeps what is needed to undo a block.
    pub fn put_undo(&mut self, number: BlockNumber, changes: &[LeafChange]) -> Result<(), StoreError> {
        self.rows.put_undo(number, changes)
    }

    /// Forgets how to undo a block.
    pub fn remove_undo(&mut self, number: BlockNumber) {
        self.rows
            .batch
            .remove(&self.writer.store.keyspaces.undo, number_key(number));
    }

    /// Forgets how to undo the blocks up to one, at most `limit` of them. Gives their number.
    pub fn remove_undo_through(&mut self, number: BlockNumber, limit: usize) -> Result<usize, StoreError> {
        let undo = &self.writer.store.keyspaces.undo;
        let mut removed = 0;
        for row in undo.range(..=number_key(number)).take(limit) {
            self.rows.batch.remove(undo, row.key()?);
            removed += 1;
        }
        Ok(removed)
    }

    /// Sets or, with `None`, removes a leaf.
    pub fn set_leaf(&mut self, key: &PathKey, leaf: Option<&Leaf>) {
        self.rows.set_leaf(key, leaf);
    }

    /// Keeps a checkpoint.
    pub fn put_checkpoint(&mut self, record: &CheckpointRecord) -> Result<(), StoreError> {
        let number = number_key(record.block_num);
        let keyspaces = &self.writer.store.keyspaces;
        self.rows.batch.insert(
            &keyspaces.checkpoints,
            number,
            json_to_bytes("checkpoint", record)?,
        );
        self.rows
            .batch
            .insert(&keyspaces.checkpoint_ids, *record.state_hash.digest(), number);
        Ok(())
    }

    /// Forgets a checkpoint.
    pub fn remove_checkpoint(&mut self, record: &CheckpointRecord) {
        let keyspaces = &self.writer.store.keyspaces;
        self.rows
            .batch
            .remove(&keyspaces.checkpoints, number_key(record.block_num));
        self.rows
            .batch
            .remove(&keyspaces.checkpoint_ids, *record.state_hash.digest());
    }

    /// Stores a piece of a document; pieces are numbered from 0 and at most 256 KiB long.
    pub fn put_document_chunk(&mut self, id: ContentId, chunk: u32, bytes: &[u8]) {
        debug_assert!(bytes.len() <= DOCUMENT_CHUNK_BYTES);
        self.rows.batch.insert(
            &self.writer.store.keyspaces.documents,
            chunk_key(id, chunk),
            bytes,
        );
    }

    /// Stores a whole document.
    pub fn put_document(&mut self, id: ContentId, bytes: &[u8]) {
        for (chunk, piece) in (0_u32..).zip(bytes.chunks(DOCUMENT_CHUNK_BYTES)) {
            self.put_document_chunk(id, chunk, piece);
        }
    }

    /// Removes a document.
    pub fn remove_document(&mut self, id: ContentId) -> Result<(), StoreError> {
        let documents = &self.writer.store.keyspaces.documents;
        for row in documents.prefix(id.digest()) {
            self.rows.batch.remove(documents, row.key()?);
        }
        Ok(())
    }

    /// Replaces what is known of peers, by their URLs.
    pub fn set_peers(&mut self, records: &[(String, PeerRecord)]) -> Result<(), StoreError> {
        let peers = &self.writer.store.keyspaces.peers;
        for row in peers.iter() {
            let key = row.key()?;
            if !records.iter().any(|(url, _)| url.as_bytes() == &*key) {
                self.rows.batch.remove(peers, key);
            }
        }
        for (url, record) in records {
            self.rows
                .batch
                .insert(peers, url.as_str(), json_to_bytes("peer", record)?);
        }
        Ok(())
    }

    /// Replaces the retry queue; each entry goes with the first block of its range.
    pub fn set_retry_queue<T: Serialize>(
        &mut self,
        entries: impl IntoIterator<Item = (BlockNumber, T)>,
    ) -> Result<(), StoreError> {
        let retry = &self.writer.store.keyspaces.retry;
        for row in retry.iter() {
            self.rows.batch.remove(retry, row.key()?);
        }
        for (start, entry) in entries {
            self.rows.batch.insert(
                retry,
                number_key(start),
                json_to_bytes("entry of the retry queue", &entry)?,
            );
        }
        Ok(())
    }

    /// Keeps how far a source's log was taken.
    pub fn put_source_cursor<T: Serialize>(&mut self, source: &str, cursor: &T) -> Result<(), StoreError> {
        let value = json_to_bytes("cursor of a source", cursor)?;
        self.rows
            .batch
            .insert(&self.writer.store.keyspaces.sources, source, value);
        Ok(())
    }

    /// Makes everything durable and visible at once.
    pub fn commit(self) -> Result<(), StoreError> {
        self.start_commit(|_| ())?.committer.finish()
    }

    /// Starts to make everything durable and visible at once, and does not wait for it: the writer stands
    /// where the transaction ends, and what fails is told by whatever is done with it next. `on_durable` is
    /// told how long it took.
    pub fn commit_in_background(
        self,
        on_durable: impl FnOnce(Duration) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.start_commit(on_durable).map(|_| ())
    }

    fn start_commit(
        mut self,
        on_durable: impl FnOnce(Duration) + Send + 'static,
    ) -> Result<&'writer mut Writer, StoreError> {
        let keyspaces = &self.writer.store.keyspaces;
        let rows_after: BTreeMap<_, _> = self.have.iter().map(|run| (run.start(), run.end())).collect();
        for start in self
            .rows_before
            .keys()
            .filter(|start| !rows_after.contains_key(start))
        {
            self.rows.batch.remove(&keyspaces.have, number_key(*start));
        }
        for (start, end) in &rows_after {
            if self.rows_before.get(start) != Some(end) {
                self.rows
                    .batch
                    .insert(&keyspaces.have, number_key(*start), number_key(*end));
            }
        }
        if let Some(position) = &mut self.position {
            position.commits += 1;
            self.rows.batch.insert(
                &keyspaces.meta,
                POSITION_KEY,
                json_to_bytes("position", position)?,
            );
        }
        let writer = self.writer;
        writer.committer.start(Job {
            rows: self.rows,
            later: self.later,
            commits: self.position.as_ref().map_or(0, |position| position.commits),
            on_durable: Box::new(on_durable),
        })?;
        writer.before = Durable {
            position: std::mem::replace(&mut writer.position, self.position),
            have: std::mem::replace(&mut writer.have, self.have),
        };
        Ok(writer)
    }
}
