//! Blocks at or below the state height: holes that a disk tore, and history behind the document that the
//! replica started from. Their place is fixed by hashes that are known already.

use std::collections::BTreeMap;

use honeygraph_chain::checkpoint::{DeltaDocument, DeltaReference, PreviousRoot};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::history_proof::{Finding, HistoryProof, ToldBlocks};
use super::tip::Tip;
use super::{FetchedBlock, Replica, StoreError};
use crate::store::{CheckpointRecord, Position, StoredBlock, View};

/// Blocks of history that are pruned in one transaction.
const PRUNED_AT_ONCE: u64 = 10_000;

/// What became of blocks of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryOutcome {
    /// All of them are stored.
    Stored,
    /// Those from a block on are stored; what stands below hangs on them, and is to be handed over again.
    StoredFrom {
        /// The first that is stored.
        first: BlockNumber,
    },
    /// Nothing that is known fixes the last block's hash: the checkpoints of this range must be learned
    /// first.
    NeedsCheckpoints {
        /// The blocks in question.
        range: BlockRange,
    },
    /// A delta document, whose id is known, tells what fixes the blocks.
    NeedsDocument {
        /// The blocks in question.
        range: BlockRange,
        /// Its content id.
        id: ContentId,
    },
    /// A block is wrong; none is stored.
    Rejected {
        /// The first wrong block.
        at: BlockNumber,
        /// What is wrong.
        fault: PeerFault,
        /// Whether what it contradicts is proven, and not only told by those who do not vote.
        is_certain: bool,
    },
}

impl Replica {
    /// Takes a run of blocks, without holes, at or below the state height.
    ///
    /// The run is followed backwards from a hash that is known: the one that the block after it links to,
    /// or the checkpoint at its end. It also has to link to what stands before it.
    pub fn fill_history(&mut self, blocks: &[FetchedBlock]) -> Result<HistoryOutcome, StoreError> {
        self.fill_history_as_told(blocks, &ToldBlocks::new())
    }

    /// [`fill_history`](Self::fill_history), where nothing else proves the block of a full state also by what is
    /// told of it.
    pub fn fill_history_as_told(
        &mut self,
        blocks: &[FetchedBlock],
        told: &ToldBlocks,
    ) -> Result<HistoryOutcome, StoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(HistoryOutcome::Stored);
        };
        let (start, end) = (first.block.number(), last.block.number());
        let Ok(range) = BlockRange::new(start, end) else {
            return Ok(HistoryOutcome::Stored);
        };
        let Some(position) = self.writer.position().cloned() else {
            return Ok(HistoryOutcome::NeedsCheckpoints { range });
        };
        let view = self.writer.store().view();
        let proof = HistoryProof {
            view: &view,
            position: &position,
            told,
        };
        let mut link = None;
        let mut below = blocks;
        let mut disproved = Vec::new();
        let mut stopped = None;
        while let Some(last) = below.last() {
            let period = position.schedule.period_of(last.block.number());
            let cut = below.partition_point(|fetched| fetched.block.number() < period.start());
            let (lower, blocks) = below.split_at(cut);
            match proof.judge(blocks, link)? {
                Finding::Proven {
                    disproved: checkpoint,
                } => disproved.extend(checkpoint),
                Finding::Stopped(outcome) => {
                    stopped = Some(outcome);
                    break;
                }
            }
            link = blocks.first().map(|first| first.block.previous_hash());
            below = lower;
        }
        let proven = blocks.get(below.len()..).unwrap_or_default();
        let Some(first) = proven.first() else {
            return Ok(stopped.unwrap_or(HistoryOutcome::Stored));
        };
        let first = first.block.number();
        self.store_history(&view, proven, &disproved)?;
        Ok(stopped.map_or(HistoryOutcome::Stored, |_| HistoryOutcome::StoredFrom { first }))
    }

    fn store_history(
        &mut self,
        view: &View,
        blocks: &[FetchedBlock],
        disproved: &[CheckpointRecord],
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(());
        };
        let Ok(range) = BlockRange::new(first.block.number(), last.block.number()) else {
            return Ok(());
        };
        let missing: Vec<BlockRange> = self.writer.have().missing_in(range).collect();
        let mut checkpoints: BTreeMap<BlockNumber, CheckpointRecord> = view
            .checkpoints(range)
            .map(|record| record.map(|record| (record.block_num, record)))
            .collect::<Result<_, _>>()?;
        let mut transaction = self.writer.begin();
        for record in disproved {
            tracing::warn!(checkpoint = %record.block_num, id = %record.state_hash, "the blocks after it name another checkpoint");
            checkpoints.remove(&record.block_num);
            transaction.remove_checkpoint(record);
        }
        for fetched in blocks {
            let number = fetched.block.number();
            if !missing.iter().any(|run| run.contains(number)) {
                continue;
            }
            let mut stored = StoredBlock::new(&fetched.block, fetched.timestamp_ms);
            if let Some(record) = checkpoints.get(&number) {
                stored.digest = record.state_digest;
                // What strangers told of a full state's block is no knowledge.
                if record.block_hash.is_none() && record.kind == CheckpointKind::Delta {
                    let known = CheckpointRecord {
                        block_hash: Some(stored.hash),
                        ..record.clone()
                    };
                    transaction.put_checkpoint(&known)?;
                }
            }
            transaction.put_block(number, &stored);
        }
        transaction.commit()?;
        self.counters.committed_blocks += blocks.len() as u64;
        self.renew_tip(range)?;
        self.after_advance()
    }

    /// Learns checkpoints of the past that most of the voters agree on, or that somebody else answers for: what fixes
    /// the blocks behind the replica's start. Those that are known already stay as they are; what contradicts the
    /// blocks that are stored is not taken.
    /// Gives the number of those that were new.
    pub fn learn_checkpoints(&mut self, records: &[CheckpointRecord]) -> Result<usize, StoreError> {
        let view = self.writer.store().view();
        let Some(position) = self.writer.position() else {
            return Ok(0);
        };
        let height = position.state_height;
        let fits = |record: &&CheckpointRecord| {
            record.block_num <= height && position.schedule.kind_at(record.block_num).is_some()
        };
        let fitting: Vec<_> = records.iter().filter(fits).collect();
        let mut learned = 0;
        let mut transaction = self.writer.begin();
        for record in fitting {
            let link = link_after(&view, record.block_num, height)?;
            if link.is_some_and(|link| link != record.state_hash) {
                tracing::warn!(checkpoint = %record.block_num, id = %record.state_hash, "the block after it names another checkpoint");
                continue;
            }
            match view.checkpoint(record.block_num)? {
                None => {
                    transaction.put_checkpoint(record)?;
                    learned += 1;
                }
                Some(known) if known.state_hash == record.state_hash => {
                    let block_hash = known.block_hash.or(record.block_hash);
                    let state_digest = known.state_digest.or(record.state_digest);
                    if (block_hash, state_digest) != (known.block_hash, known.state_digest) {
                        transaction.put_checkpoint(&CheckpointRecord {
                            block_hash,
                            state_digest,
                            ..known
                        })?;
                        learned += 1;
                    }
                }
                // The block after it proves the new one.
                Some(known) if link.is_some() => {
                    transaction.remove_checkpoint(&known);
                    transaction.put_checkpoint(record)?;
                    learned += 1;
                }
                Some(_) => {}
            }
        }
        transaction.commit()?;
        Ok(learned)
    }

    /// Learns the checkpoints of the past that a delta document names, whose content id was checked, where a stored
    /// block or a known checkpoint names the document. Gives whether anything was learned.
    pub fn learn_past_document(
        &mut self,
        id: ContentId,
        document: &DeltaDocument,
    ) -> Result<bool, StoreError> {
        let view = self.writer.store().view();
        let Some(position) = self.writer.position() else {
            return Ok(false);
        };
        let (schedule, covered) = (position.schedule, document.covered);
        let known = view.checkpoint(covered)?.map(|record| record.state_hash);
        let named = link_after(&view, covered, position.state_height)?.or(known);
        if named != Some(id) || covered > position.state_height {
            return Ok(false);
        }
        let root = view
            .checkpoint_by_id(document.root)?
            .map(|record| record.block_num);
        let Some(records) = named_records(&schedule, id, document, root) else {
            return Ok(false);
        };
        // The full state after it names the one before it as well.
        let above = BlockRange::starting_at(covered.next(), schedule.state_interval);
        let mut states = view.checkpoints(above).filter(|record| {
            record
                .as_ref()
                .is_ok_and(|record| record.kind == CheckpointKind::State)
        });
        let next_state = states.next().transpose()?;
        let contradicts =
            |state: &CheckpointRecord| state.root != document.root && state.root != state.state_hash;
        if next_state.as_ref().is_some_and(contradicts) {
            tracing::warn!(%id, %covered, root = %document.root, "a document of the past names another full state than the one after it");
            return Ok(false);
        }
        let mut learned = false;
        let mut transaction = self.writer.begin();
        for record in records {
            match view.checkpoint(record.block_num)? {
                None => transaction.put_checkpoint(&record)?,
                // What was applied here stays.
                Some(known) if known.state_digest.is_some() => continue,
                Some(known) if known.state_hash != record.state_hash => {
                    transaction.remove_checkpoint(&known);
                    transaction.put_checkpoint(&record)?;
                }
                Some(known)
                    if known.kind == CheckpointKind::Delta
                        && (known.root, known.prev_root) != (record.root, record.prev_root) =>
                {
                    let block_hash = known.block_hash;
                    transaction.put_checkpoint(&CheckpointRecord { block_hash, ..record })?;
                }
                Some(_) => continue,
            }
            learned = true;
        }
        if let Some(state) = next_state.filter(|state| state.root == document.root)
            && state.prev_root == PreviousRoot::Unknown
        {
            let prev_root = document.prev_root;
            transaction.put_checkpoint(&CheckpointRecord { prev_root, ..state })?;
        }
        transaction.commit()?;
        Ok(learned)
    }

    /// Wants blocks from `start` on: lower than before to fill in history, higher to prune it.
    pub fn set_history_start(&mut self, start: BlockNumber) -> Result<(), StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        // One transaction stays small: the rest is pruned with the next calls.
        let most = position.history_start.saturating_add(PRUNED_AT_ONCE);
        let start = start.min(position.state_height.next()).min(most);
        if start == position.history_start {
            return Ok(());
        }
        let pruned = start
            .previous()
            .and_then(|end| BlockRange::new(position.history_start, end).ok());
        let mut transaction = self.writer.begin();
        if let Some(range) = pruned {
            transaction.remove_blocks(range);
        }
        transaction.set_position(Position {
            history_start: start,
            ..position
        });
        transaction.commit()
    }

    /// Removes stored blocks, as damage would.
    #[cfg(test)]
    pub(crate) fn discard_blocks(&mut self, range: BlockRange) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin();
        transaction.remove_blocks(range);
        transaction.commit()?;
        self.renew_tip(range)
    }

    /// Reads the blocks since the last checkpoint again where some of them came or went.
    fn renew_tip(&mut self, changed: BlockRange) -> Result<(), StoreError> {
        let (Some(running), Some(position)) = (&mut self.running, self.writer.position()) else {
            return Ok(());
        };
        if changed.end() > position.checkpoints.last_block {
            running.tip = Tip::at(position, self.writer.store())?;
            running.stage.restart(running.tip.clone(), position);
        }
        Ok(())
    }
}

/// The checkpoints that a delta document names, itself included, from the full state up; none where they are not
/// those of the schedule. `root` is the block of the full state, where that is known.
fn named_records(
    schedule: &CheckpointSchedule,
    id: ContentId,
    document: &DeltaDocument,
    root: Option<BlockNumber>,
) -> Option<Vec<CheckpointRecord>> {
    if document.chain.len() as u64 > schedule.deltas_max() {
        return None;
    }
    let itself = DeltaReference {
        hash: id,
        hive_block: document.covered,
    };
    let deltas = || document.chain.iter().copied().chain([itself]);
    let before_first = || schedule.last_before(deltas().next()?.hive_block);
    let root = root.or_else(before_first)?;
    let mut last = root;
    for delta in deltas() {
        if schedule.next_at_or_after(last.next()) != delta.hive_block {
            return None;
        }
        last = delta.hive_block;
    }
    let delta_record = |delta: DeltaReference| CheckpointRecord {
        block_num: delta.hive_block,
        kind: CheckpointKind::Delta,
        state_hash: delta.hash,
        block_hash: None,
        state_digest: None,
        root: document.root,
        prev_root: document.prev_root,
    };
    let state = CheckpointRecord::of_past_state(root, document.root, document.prev_root);
    Some([state].into_iter().chain(deltas().map(delta_record)).collect())
}

/// What the stored block after one links to, if the state was applied up to there.
fn link_after(
    view: &View,
    number: BlockNumber,
    height: BlockNumber,
) -> Result<Option<ContentId>, StoreError> {
    if number >= height {
        return Ok(None);
    }
    let after = view.block(number.next())?;
    after.map(|block| block.previous_hash(number.next())).transpose()
}
