//! Forks that others stand on: held beside the chain that is followed, so that the tree of forks can weigh them, and
//! where a source stands that was heard in the middle of one.

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::{CheckpointChain, DeltaWriter};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, ContentId, Operations};

use super::pending::PendingBlock;
use super::reorganize::checkpoint_chain_at;
use super::{FetchedBlock, Replica, StoreError};
use crate::ingest::SourceId;
use crate::store::StoredBlock;

impl Replica {
    /// Takes a run of blocks of another fork, lowest first, whose first links to a block of the tree of forks. They
    /// are held, not applied: the fork choice decides. Gives the last that is held; none where the first one links to
    /// nothing that is there, or the tree is full.
    pub fn hold_fork(&mut self, blocks: &[FetchedBlock]) -> Result<Option<BlockReference>, StoreError> {
        let mut held: Option<BlockReference> = None;
        let mut added = 0_u64;
        for fetched in blocks {
            let block = &fetched.block;
            let reference = BlockReference {
                number: block.number(),
                hash: block.hash(),
            };
            let parent = match held {
                Some(before) => Some(before).filter(|before| before.number.next() == reference.number),
                None => self.linked_parent(reference.number, block.previous_hash())?,
            };
            let Some(parent) = parent else { break };
            if self.link_after(parent)? != Some(block.previous_hash()) || self.halted().is_some() {
                break;
            }
            let Some(running) = &mut self.running else { break };
            if !running.tree.contains(reference.hash) {
                // What follows the chain that is followed is no fork: it is taken at the front.
                if parent.hash == running.tip.reference().hash {
                    break;
                }
                if let Err(error) = running.tree.insert(reference, parent.hash) {
                    tracing::warn!(block = %reference.number, %error, "block of a fork refused");
                    break;
                }
                added += 1;
                let mut transaction = self.writer.begin();
                let stored = StoredBlock::new(block, fetched.timestamp_ms);
                transaction.put_fork_block(reference.number, &stored);
                transaction.commit_in_background(|_| ())?;
            }
            held = Some(reference);
        }
        if let (Some(tip), true) = (held, added > 0) {
            self.settle()?;
            self.counters.fork_blocks += added;
            tracing::warn!(blocks = added, head = %tip.number, hash = %tip.hash, "another fork is held");
            let sources: Vec<_> = self.sources.keys().cloned().collect();
            sources.iter().try_for_each(|source| self.place_again(source))?;
            self.after_advance()?;
            self.follow_best_fork()?;
        }
        Ok(held)
    }

    /// Notes where a voter that is a peer stands; none where it does not answer. It weighs in the choice between
    /// forks where no honeycomb stands on either, or as much on one as on the other.
    pub fn voter_stands(&mut self, voter: VoterId, tip: Option<BlockReference>) -> Result<(), StoreError> {
        let before = match tip {
            Some(tip) => self.voter_tips.insert(voter, tip),
            None => self.voter_tips.remove(&voter),
        };
        if before == tip {
            return Ok(());
        }
        self.follow_best_fork()
    }

    /// Puts the stored blocks of forks into the tree that stand on a block of it. The others are old orphans: kept
    /// in the store, not in the tree.
    pub(super) fn attach_stored_forks(&mut self) -> Result<(), StoreError> {
        for row in self.writer.store().view().fork_blocks() {
            let (number, stored) = row?;
            let parent = self.linked_parent(number, stored.previous_hash(number)?)?;
            if let (Some(parent), Some(running)) = (parent, &mut self.running) {
                let hash = stored.hash;
                let _ = running.tree.insert(BlockReference { number, hash }, parent.hash);
            }
        }
        Ok(())
    }

    /// The block of the tree that a block links to: by its hash, or by the document of the checkpoint that it is.
    fn linked_parent(
        &self,
        number: BlockNumber,
        previous_hash: ContentId,
    ) -> Result<Option<BlockReference>, StoreError> {
        let (Some(running), Some(position), Some(before)) =
            (&self.running, self.writer.position(), number.previous())
        else {
            return Ok(None);
        };
        if running.tree.number(previous_hash) == Some(before) {
            let hash = previous_hash;
            return Ok(Some(BlockReference { number: before, hash }));
        }
        if position.schedule.kind_at(before).is_none() && before != running.tree.root().number {
            return Ok(None);
        }
        for parent in self.tree_at(Some(before)) {
            if self.link_after(parent)? == Some(previous_hash) {
                return Ok(Some(parent));
            }
        }
        Ok(None)
    }

    /// The blocks of the tree with a number, the canonical one first.
    fn tree_at(&self, number: Option<BlockNumber>) -> Vec<BlockReference> {
        let (Some(running), Some(number)) = (&self.running, number) else {
            return Vec::new();
        };
        let canonical = running.tree.at_height(running.tip.reference().hash, number);
        let others = running
            .tree
            .at_number(number)
            .filter(|block| Some(*block) != canonical);
        canonical.into_iter().chain(others).collect()
    }

    /// The block of the tree after which these operations are a block of the tree as well, and that block, which is
    /// not `but_not`: where a source stands that was not heard from its beginning. A block without operations says
    /// nothing of that.
    pub(super) fn found_in_tree(
        &self,
        number: BlockNumber,
        operations: &Operations,
        but_not: Option<ContentId>,
    ) -> Result<Option<(BlockReference, BlockReference)>, StoreError> {
        if operations.as_slice().is_empty() {
            return Ok(None);
        }
        for parent in self.tree_at(number.previous()) {
            let Some(previous_hash) = self.link_after(parent)? else {
                continue;
            };
            let block = HashedBlock::from(Block {
                number,
                previous_hash,
                operations: operations.clone(),
            });
            let hash = block.hash();
            let is_here = self
                .running
                .as_ref()
                .is_some_and(|running| running.tree.contains(hash));
            if is_here && but_not != Some(hash) {
                return Ok(Some((parent, BlockReference { number, hash })));
            }
        }
        Ok(None)
    }

    /// Puts a source on the fork where its blocks are found, that was taken for one that left the chain followed
    /// here with the first block heard of it.
    pub(super) fn place_again(&mut self, source: &SourceId) -> Result<(), StoreError> {
        let (Some(view), Some(running)) = (self.sources.get(source), &self.running) else {
            return Ok(());
        };
        let (Some(assumed), Some(tip)) = (view.assumed, view.tip) else {
            return Ok(());
        };
        let store = self.writer.store().view();
        let mut heard = Vec::new();
        let mut found = None;
        for at in running
            .tree
            .chain_from(tip.hash)
            .take_while(|at| at.number >= assumed.number)
        {
            let Some(stored) = (match store.fork_block(at)? {
                Some(stored) => Some(stored),
                None => store.block(at.number)?.filter(|stored| stored.hash == at.hash),
            }) else {
                return Ok(());
            };
            let operations = stored.decode(at.number)?.block().operations.clone();
            if let Some((_, block)) = self.found_in_tree(at.number, &operations, Some(at.hash))? {
                found = Some(block);
                break;
            }
            heard.push((at.number, operations, stored.timestamp_ms));
        }
        let Some(found) = found else { return Ok(()) };
        tracing::info!(%source, block = %found.number, hash = %found.hash, "source found on another fork");
        if let Some(view) = self.sources.get_mut(source) {
            view.tip = Some(found);
            view.assumed = None;
            let cursor = view.last_cursor();
            for (number, operations, timestamp_ms) in heard {
                let Some(cursor) = cursor else { break };
                view.pending.push_front(PendingBlock {
                    number,
                    operations,
                    timestamp_ms,
                    cursor,
                });
            }
        }
        let stands = |tip: BlockReference| {
            self.running
                .as_ref()
                .is_some_and(|running| running.tree.is_on_chain_of(assumed.hash, tip.hash))
        };
        let followed = self
            .running
            .as_ref()
            .is_some_and(|running| stands(running.tip.reference()));
        let others = self.sources.values().filter_map(|view| view.tip);
        let is_needed = followed || others.chain(self.voter_tips.values().copied()).any(stands);
        if is_needed {
            Ok(())
        } else {
            self.drop_fork(assumed)
        }
    }

    /// The content id of the delta at a checkpoint of a fork; none where it cannot be computed: its period does not
    /// start on what is known, or it would be a full state, which only the followed fork has.
    pub(super) fn fork_checkpoint_id(
        &self,
        checkpoint: BlockReference,
    ) -> Result<Option<ContentId>, StoreError> {
        Ok(self.fork_checkpoints(checkpoint)?.map(|chain| chain.link()))
    }

    /// The chain of checkpoints right after one of a fork, its own computed.
    fn fork_checkpoints(&self, checkpoint: BlockReference) -> Result<Option<CheckpointChain>, StoreError> {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return Ok(None);
        };
        // The checkpoints of the fork, newest first, down to the followed chain.
        let tip = running.tip.reference();
        let mut own = vec![checkpoint];
        let mut chain = loop {
            let Some(lowest) = own.last().copied() else {
                return Ok(None);
            };
            if position.schedule.kind_at(lowest.number) != Some(CheckpointKind::Delta) {
                return Ok(None);
            }
            let period = position.schedule.period_of(lowest.number);
            let Some(before) = period.start().previous() else {
                return Ok(None);
            };
            match running.tree.at_height(lowest.hash, before) {
                Some(start) if !running.tree.is_on_chain_of(start.hash, tip.hash) => own.push(start),
                _ => break checkpoint_chain_at(&self.writer.store().view(), before)?,
            }
        };
        let view = self.writer.store().view();
        for checkpoint in own.into_iter().rev() {
            let Some(before) = chain else { return Ok(None) };
            let mut delta = DeltaWriter::new(&before);
            let mut period: Vec<_> = running
                .tree
                .chain_from(checkpoint.hash)
                .take_while(|at| at.number > before.last_block)
                .collect();
            period.reverse();
            // Below the tree there is only the followed chain.
            let first = period.first().map_or(checkpoint.number, |block| block.number);
            let below = honeygraph_chain::BlockRange::new(before.last_block.next(), first.saturating_sub(1));
            let mut found = 0;
            if let Ok(below) = below {
                for row in view.blocks(below) {
                    let (number, block) = row?;
                    delta.push(&block.decode(number)?.block().operations);
                    found += 1;
                }
            }
            for at in &period {
                let stored = match view.fork_block(*at)? {
                    Some(stored) => Some(stored),
                    None => view.block(at.number)?.filter(|stored| stored.hash == at.hash),
                };
                let Some(stored) = stored else { return Ok(None) };
                delta.push(&stored.decode(at.number)?.block().operations);
                found += 1;
            }
            let whole = found == checkpoint.number.distance_from(before.last_block);
            let id = delta.content_id(checkpoint.number).filter(|_| whole);
            chain = id.map(|id| before.after(CheckpointKind::Delta, checkpoint.number, id));
        }
        Ok(chain)
    }
}
