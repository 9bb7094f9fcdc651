//! What proves blocks of the past: hashes and content ids that are known, followed from the top down.

use std::collections::BTreeMap;

use honeygraph_chain::checkpoint::DeltaWriter;
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::reorganize::checkpoint_chain_at;
use super::{FetchedBlock, HistoryOutcome, StoreError};
use crate::store::{CheckpointRecord, Position, View};

/// Hashes of the blocks of full states, as most of those that were asked tell them where nobody votes: the state's
/// document says nothing of them.
pub type ToldBlocks = BTreeMap<BlockNumber, ContentId>;

/// What is known about the past.
pub(super) struct HistoryProof<'known> {
    pub(super) view: &'known View,
    pub(super) position: &'known Position,
    pub(super) told: &'known ToldBlocks,
}

/// What was found of blocks of one period.
pub(super) enum Finding {
    /// They are what was there. This checkpoint before them, which no block here stands on, is another one.
    Proven {
        /// What is stored of it.
        disproved: Option<CheckpointRecord>,
    },
    /// They are not, or it cannot be told.
    Stopped(HistoryOutcome),
}

/// What the operations of a period say of its checkpoint.
enum PeriodProof {
    Proven,
    Disproved,
    /// The checkpoints that its document names are not known.
    UnknownChain,
    /// Blocks of the period are missing, or it is a full state, which takes more than them.
    NotComputable,
}

impl HistoryProof<'_> {
    const fn schedule(&self) -> &CheckpointSchedule {
        &self.position.schedule
    }

    /// Judges blocks in a row, of one period, by the hash that the last of them must have. `link` is what the block
    /// after them links to, where that one is proven and not stored yet.
    pub(super) fn judge(
        &self,
        blocks: &[FetchedBlock],
        link: Option<ContentId>,
    ) -> Result<Finding, StoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(Finding::Proven { disproved: None });
        };
        let (start, end) = (first.block.number(), last.block.number());
        let link = match link {
            Some(link) => Some(link),
            // What stands above the state is not proven itself.
            None if end >= self.position.state_height => None,
            None => self
                .view
                .block(end.next())?
                .map(|block| block.previous_hash(end.next()))
                .transpose()?,
        };
        let known = match self.schedule().kind_at(end) {
            Some(kind) => match self.hash_at_checkpoint(kind, blocks, last, link)? {
                Ok(hash) => Some(hash),
                Err(outcome) => return Ok(Finding::Stopped(outcome)),
            },
            None if end == self.position.state_height => self.position.state_block_hash,
            None => link,
        };
        let Some(mut expected) = known else {
            let range = BlockRange::new(start, end).unwrap_or(BlockRange::single(end));
            return Ok(Finding::Stopped(HistoryOutcome::NeedsCheckpoints { range }));
        };
        for fetched in blocks.iter().rev() {
            if fetched.block.hash() != expected {
                return self.rejected(fetched.block.number(), PeerFault::WrongHash);
            }
            expected = fetched.block.previous_hash();
        }
        let Some(before) = start.previous() else {
            return Ok(Finding::Proven { disproved: None });
        };
        let stored = self.view.block(before)?;
        if self.schedule().kind_at(before).is_none() {
            return match stored {
                Some(stored) if stored.hash != expected => self.rejected(start, PeerFault::BrokenLink),
                _ => Ok(Finding::Proven { disproved: None }),
            };
        }
        let disproved = self
            .view
            .checkpoint(before)?
            .filter(|record| record.state_hash != expected);
        // What hangs from the top is proven; a checkpoint that only somebody told is not.
        if disproved.is_some() && (stored.is_some() || !self.is_certain(start)?) {
            return self.rejected(start, PeerFault::BrokenLink);
        }
        Ok(Finding::Proven { disproved })
    }

    /// The hash that the last of these blocks, a checkpoint, must have.
    fn hash_at_checkpoint(
        &self,
        kind: CheckpointKind,
        blocks: &[FetchedBlock],
        last: &FetchedBlock,
        link: Option<ContentId>,
    ) -> Result<Result<ContentId, HistoryOutcome>, StoreError> {
        let end = last.block.number();
        let start = blocks.first().map_or(end, |first| first.block.number());
        let range = BlockRange::new(start, end).unwrap_or(BlockRange::single(end));
        let needs_checkpoints = HistoryOutcome::NeedsCheckpoints { range };
        let needs_document = |id| HistoryOutcome::NeedsDocument { range, id };
        // The block after it names the checkpoint, whatever else was learned of it.
        let record = self
            .view
            .checkpoint(end)?
            .filter(|record| link.is_none_or(|link| link == record.state_hash));
        let Some(record) = record else {
            return Ok(Err(match (kind, link) {
                (CheckpointKind::Delta, Some(id)) => needs_document(id),
                _ => self
                    .document_above(end)?
                    .map_or(needs_checkpoints, needs_document),
            }));
        };
        let told = self
            .told
            .get(&end)
            .filter(|_| record.kind == CheckpointKind::State);
        let proof = self.period(&record, blocks)?;
        if matches!(proof, PeriodProof::Disproved) {
            let is_certain = self.is_certain(end)?;
            let fault = PeerFault::CheckpointMismatch;
            return Ok(Err(HistoryOutcome::Rejected {
                at: end,
                fault,
                is_certain,
            }));
        }
        Ok(match (record.block_hash.or(told.copied()), proof) {
            (Some(hash), _) => Ok(hash),
            // A content id proves the operations of a whole period, whoever named the block's hash.
            (None, PeriodProof::Proven) => Ok(last.block.hash()),
            (None, PeriodProof::UnknownChain) => Err(needs_document(record.state_hash)),
            (None, _) => Err(needs_checkpoints),
        })
    }

    /// The lowest delta above a block that is known and names the checkpoints down to the full state below: its
    /// document tells what the block is, if no full state stands in between.
    fn document_above(&self, number: BlockNumber) -> Result<Option<ContentId>, StoreError> {
        let interval = self.schedule().state_interval;
        let above = BlockRange::starting_at(number.next(), interval);
        let Some(above) = above.intersection(
            BlockRange::new(number, self.position.state_height).unwrap_or(BlockRange::single(number)),
        ) else {
            return Ok(None);
        };
        let known = self.view.checkpoints(above).next().transpose()?;
        if let Some(delta) = known.filter(|record| record.kind == CheckpointKind::Delta) {
            return Ok(Some(delta.state_hash));
        }
        // Nothing is known of the checkpoint below the lowest stored block but what that links to.
        let Some(stored) = self.view.have()?.present_in(above).next() else {
            return Ok(None);
        };
        let Some(checkpoint) = stored.start().previous().filter(|at| *at > number) else {
            return Ok(None);
        };
        let mut between = number;
        while between < checkpoint {
            between = self.schedule().next_at_or_after(between.next());
            if self.schedule().kind_at(between) == Some(CheckpointKind::State) {
                return Ok(None);
            }
        }
        if between != checkpoint {
            return Ok(None);
        }
        let link = self.view.block(stored.start())?;
        link.map(|block| block.previous_hash(stored.start())).transpose()
    }

    /// Whether the operations of the period that ends at a checkpoint have its content id.
    fn period(&self, record: &CheckpointRecord, blocks: &[FetchedBlock]) -> Result<PeriodProof, StoreError> {
        if record.kind == CheckpointKind::State {
            return Ok(PeriodProof::NotComputable);
        }
        let Some(before) = record.block_num.previous() else {
            return Ok(PeriodProof::NotComputable);
        };
        let Some(chain) = checkpoint_chain_at(self.view, before)? else {
            return Ok(PeriodProof::UnknownChain);
        };
        // With a checkpoint missing in between the document cannot be made.
        let root = self.view.checkpoint_by_id(chain.root)?;
        let links: Vec<BlockNumber> = root
            .into_iter()
            .map(|root| root.block_num)
            .chain(chain.deltas.iter().map(|delta| delta.hive_block))
            .chain([record.block_num])
            .collect();
        let is_next = |pair: &[BlockNumber]| matches!(pair, [one, other] if self.schedule().next_at_or_after(one.next()) == *other);
        if chain.root != record.root || links.len() < 2 || !links.windows(2).all(is_next) {
            return Ok(PeriodProof::UnknownChain);
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
        if next != record.block_num.next() {
            return Ok(PeriodProof::NotComputable);
        }
        Ok(match delta.content_id(record.block_num) {
            None => PeriodProof::NotComputable,
            Some(id) if id == record.state_hash => PeriodProof::Proven,
            Some(_) => PeriodProof::Disproved,
        })
    }

    fn rejected(&self, at: BlockNumber, fault: PeerFault) -> Result<Finding, StoreError> {
        let is_certain = self.is_certain(at)?;
        Ok(Finding::Stopped(HistoryOutcome::Rejected {
            at,
            fault,
            is_certain,
        }))
    }

    /// Whether what is known about a block rests on nothing that only strangers told: the block of a full state, which
    /// no document proves, and whose hash is kept only where voters agree on it or it was applied here.
    fn is_certain(&self, at: BlockNumber) -> Result<bool, StoreError> {
        let Ok(above) = BlockRange::new(at, self.position.state_height) else {
            return Ok(true);
        };
        for record in self.view.checkpoints(above) {
            let record = record?;
            if record.kind == CheckpointKind::State && record.block_hash.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
