//! Blocks at or below the state height: holes that a disk tore, and history behind the document that the
//! replica started from. Their place is fixed by hashes that are known already.

use std::collections::BTreeMap;

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::DeltaWriter;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::reorganize::checkpoint_chain_at;
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
    /// Nothing that is known fixes the last block's hash: the checkpoints of this range must be learned
    /// first.
    NeedsCheckpoints {
        /// The blocks in question.
        range: BlockRange,
    },
    /// A block is wrong; none is stored.
    Rejected {
        /// The first wrong block.
        at: BlockNumber,
        /// What is wrong.
        fault: PeerFault,
    },
}

impl Replica {
    /// Takes a run of blocks, without holes, at or below the state height.
    ///
    /// The run is followed backwards from a hash that is known: the one that the block after it links to,
    /// or the checkpoint at its end. It also has to link to what stands before it.
    pub fn fill_history(&mut self, blocks: &[FetchedBlock]) -> Result<HistoryOutcome, StoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(HistoryOutcome::Stored);
        };
        let (start, end) = (first.block.number(), last.block.number());
        let Ok(range) = BlockRange::new(start, end) else {
            return Ok(HistoryOutcome::Stored);
        };
        let Some(position) = self.writer.position() else {
            return Ok(HistoryOutcome::NeedsCheckpoints { range });
        };
        let schedule = position.schedule;
        let view = self.writer.store().view();
        let checkpoints: BTreeMap<BlockNumber, CheckpointRecord> = view
            .checkpoints(BlockRange::new(start.saturating_sub(1), end).unwrap_or(range))
            .map(|record| record.map(|record| (record.block_num, record)))
            .collect::<Result<_, _>>()?;

        for record in checkpoints
            .values()
            .filter(|record| range.contains(record.block_num))
        {
            // A content id proves the operations of a whole period, whoever named the block's hash.
            match proves_period(record, blocks, &view)? {
                None if record.block_hash.is_none() => return Ok(HistoryOutcome::NeedsCheckpoints { range }),
                Some(false) => {
                    let fault = PeerFault::CheckpointMismatch;
                    return Ok(HistoryOutcome::Rejected {
                        at: record.block_num,
                        fault,
                    });
                }
                None | Some(true) => {}
            }
        }

        // What the last block's hash must be.
        let successor = view
            .block(end.next())?
            .map(|block| block.previous_hash(end.next()))
            .transpose()?;
        let pinned = if schedule.kind_at(end).is_some() {
            match checkpoints.get(&end) {
                Some(record) => record.block_hash.or(Some(last.block.hash())),
                None => return Ok(HistoryOutcome::NeedsCheckpoints { range }),
            }
        } else if end == position.state_height {
            position.state_block_hash
        } else {
            successor
        };
        let Some(mut expected) = pinned else {
            return Ok(HistoryOutcome::NeedsCheckpoints { range });
        };

        for fetched in blocks.iter().rev() {
            let number = fetched.block.number();
            if fetched.block.hash() != expected {
                return Ok(HistoryOutcome::Rejected {
                    at: number,
                    fault: PeerFault::WrongHash,
                });
            }
            let Some(before) = number.previous() else { break };
            expected = if schedule.kind_at(before).is_none() {
                fetched.block.previous_hash()
            } else {
                match checkpoints.get(&before) {
                    Some(record) if record.state_hash != fetched.block.previous_hash() => {
                        return Ok(HistoryOutcome::Rejected {
                            at: number,
                            fault: PeerFault::BrokenLink,
                        });
                    }
                    Some(record) => match record.block_hash {
                        Some(hash) => hash,
                        None => hash_before(blocks, before).unwrap_or(expected),
                    },
                    None if number == start => expected,
                    None => return Ok(HistoryOutcome::NeedsCheckpoints { range }),
                }
            };
        }
        if let Some(before) = start.previous()
            && schedule.kind_at(before).is_none()
            && let Some(stored) = view.block(before)?
            && stored.hash != first.block.previous_hash()
        {
            return Ok(HistoryOutcome::Rejected {
                at: start,
                fault: PeerFault::BrokenLink,
            });
        }
        self.store_history(blocks, &checkpoints, range)?;
        Ok(HistoryOutcome::Stored)
    }

    fn store_history(
        &mut self,
        blocks: &[FetchedBlock],
        checkpoints: &BTreeMap<BlockNumber, CheckpointRecord>,
        range: BlockRange,
    ) -> Result<(), StoreError> {
        let missing: Vec<BlockRange> = self.writer.have().missing_in(range).collect();
        let mut transaction = self.writer.begin();
        for fetched in blocks {
            let number = fetched.block.number();
            if !missing.iter().any(|run| run.contains(number)) {
                continue;
            }
            let mut stored = StoredBlock::new(&fetched.block, fetched.timestamp_ms);
            if let Some(record) = checkpoints.get(&number) {
                stored.digest = record.state_digest;
                if record.block_hash.is_none() {
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

    /// Learns checkpoints of the past, as peers tell them: what fixes the blocks behind the replica's start.
    /// Those that are known already stay as they are.
    /// Gives the number of those that were new.
    pub fn learn_checkpoints(&mut self, records: &[CheckpointRecord]) -> Result<usize, StoreError> {
        let view = self.writer.store().view();
        let Some(position) = self.writer.position() else {
            return Ok(0);
        };
        let fits = |record: &&CheckpointRecord| {
            record.block_num <= position.state_height && position.schedule.kind_at(record.block_num).is_some()
        };
        let fitting: Vec<_> = records.iter().filter(fits).collect();
        let mut learned = 0;
        let mut transaction = self.writer.begin();
        for record in fitting {
            match view.checkpoint(record.block_num)? {
                None => {
                    transaction.put_checkpoint(record)?;
                    learned += 1;
                }
                Some(known)
                    if known.state_hash == record.state_hash
                        && known.block_hash.is_none()
                        && record.block_hash.is_some() =>
                {
                    let state_digest = known.state_digest.or(record.state_digest);
                    transaction.put_checkpoint(&CheckpointRecord {
                        block_hash: record.block_hash,
                        state_digest,
                        ..known
                    })?;
                    learned += 1;
                }
                Some(_) => {}
            }
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

/// Whether the operations of the period that ends at a checkpoint have its content id; none where the
/// period is not whole, or the checkpoint is a full state.
fn proves_period(
    record: &CheckpointRecord,
    blocks: &[FetchedBlock],
    view: &View,
) -> Result<Option<bool>, StoreError> {
    let Some(before) = record.block_num.previous() else {
        return Ok(None);
    };
    let Some(chain) = checkpoint_chain_at(view, before)? else {
        return Ok(None);
    };
    // With a checkpoint missing in between the document cannot be made.
    let interval = view.position()?.map(|position| position.schedule.delta_interval);
    let root = view.checkpoint_by_id(chain.root)?.map(|record| record.block_num);
    let links = root
        .into_iter()
        .chain(chain.deltas.iter().map(|delta| delta.hive_block));
    let links: Vec<BlockNumber> = links.collect();
    if !links
        .windows(2)
        .all(|pair| matches!(pair, [one, other] if Some(other.distance_from(*one)) == interval))
    {
        return Ok(None);
    }
    let mut delta = DeltaWriter::new(&chain);
    let mut next = chain.last_block.next();
    for fetched in blocks {
        let number = fetched.block.number();
        if number == next && number <= record.block_num {
            delta.push(&fetched.block.block().operations);
            next = number.next();
        }
    }
    let whole = record.kind == CheckpointKind::Delta && next == record.block_num.next();
    Ok(delta
        .content_id(record.block_num)
        .filter(|_| whole)
        .map(|id| id == record.state_hash))
}

/// The hash that a run itself gives to its block `number`.
fn hash_before(blocks: &[FetchedBlock], number: BlockNumber) -> Option<ContentId> {
    blocks
        .iter()
        .map(|fetched| &fetched.block)
        .find(|block| block.number() == number)
        .map(HashedBlock::hash)
}
