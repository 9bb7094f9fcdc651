//! Forks: undoing and redoing blocks above the last irreversible one, in one transaction.

use honeygraph_chain::checkpoint::{CheckpointChain, DeltaReference};
use honeygraph_chain::fork::{BlockReference, Reorganization};
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::below::CommittedState;
use super::tip::{Provenance, Stage, StageError, Tip};
use super::{Replica, StoreError};
use crate::ingest::SourceId;
use crate::store::{Position, View};

/// What becomes of blocks that are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// They lost: kept as orphans, shown as reverted.
    Orphan,
    /// The voters stand against them: kept as orphans, and never followed again.
    Contradicted,
    /// They were false: forgotten.
    Discard,
}

/// What became of a way in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It was gone as far as it leads for now.
    Gone,
    /// A block on it cannot be applied: it is not in the tree any more.
    Dropped,
}

impl Replica {
    /// Follows the winning fork, if it is not the one that is followed already. A fork that breaks the rules of the
    /// state is dropped, and the others are weighed again.
    pub(super) fn follow_best_fork(&mut self) -> Result<(), StoreError> {
        loop {
            if self.try_best_fork()? == Way::Gone || self.halted().is_some() {
                return Ok(());
            }
        }
    }

    fn try_best_fork(&mut self) -> Result<Way, StoreError> {
        let Some(running) = &self.running else {
            return Ok(Way::Gone);
        };
        let here = running.tip.reference();
        let views = self.weighted_views();
        let best = running.tree.best(&views);
        if best.hash == here.hash || running.tree.is_on_chain_of(best.hash, here.hash) {
            return Ok(Way::Gone);
        }
        let Some(mut way) = running.tree.reorganization(here.hash, best.hash) else {
            return Ok(Way::Gone);
        };
        // The rest of it follows once commits are not held there any more.
        way.redo.retain(|block| !self.is_beyond_stop(block.number));
        if way.redo.is_empty() {
            return Ok(Way::Gone);
        }
        let depth = way.undo.len() as u64;
        if depth > self.settings.max_reorg_depth {
            tracing::warn!(depth, "a fork deeper than MAX_REORG_DEPTH is not followed");
            return Ok(Way::Gone);
        }
        let position = self.writer.position();
        if position
            .and_then(Position::irreversible_block)
            .is_some_and(|lib| way.ancestor.number < lib)
        {
            self.halt(format!(
                "fork at block {} contradicts an irreversible block",
                way.ancestor.number
            ))?;
            return Ok(Way::Gone);
        }
        self.drop_stage();
        let outcome = self.reorganize(&way, Undone::Orphan)?;
        if depth > 0 && outcome == Way::Gone {
            tracing::warn!(depth, ancestor = %way.ancestor.number, to = %best.number, "reorganized");
            self.counters.reorganizations += 1;
            self.counters.last_reorganization_depth = depth;
        }
        Ok(outcome)
    }

    /// Undoes every block above `to`, which is not below the last irreversible block.
    pub(super) fn roll_back(&mut self, to: BlockNumber, undone: Undone) -> Result<(), StoreError> {
        self.drop_stage();
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return Ok(());
        };
        if position.irreversible_block().is_some_and(|lib| to < lib) || to >= position.state_height {
            return Ok(());
        }
        let lowest = running.tree.root().number;
        if to < lowest {
            return self.roll_back_deep(to);
        }
        let here = running.tip.reference();
        let Some(ancestor) = running.tree.at_height(here.hash, to) else {
            return Ok(());
        };
        let Some(way) = running.tree.reorganization(here.hash, ancestor.hash) else {
            return Ok(());
        };
        tracing::warn!(from = %here.number, to = %to, "rolled back");
        self.reorganize(&way, undone)?;
        self.ask_sources_again(to);
        Ok(())
    }

    /// Has the sources send again what they sent since a checkpoint, and lets a new session of theirs go on
    /// from there.
    fn ask_sources_again(&mut self, checkpoint: BlockNumber) {
        self.reconsider_set_aside(checkpoint);
        for (source, view) in self.sources.iter().filter(|(_, view)| view.set_aside.is_none()) {
            if let Some(cursor) = view.cursor_at(checkpoint) {
                self.cursors.insert(source.clone(), cursor);
            }
            let resend = view.resend_since(checkpoint).filter(|_| view.connected);
            self.outbox
                .extend(resend.map(|command| (source.clone(), command)));
        }
    }

    /// Undoes blocks below the tree of forks: what a checkpoint or the voters disprove goes however long it
    /// is, down to the last irreversible block. It is too long to be kept as an orphan.
    fn roll_back_deep(&mut self, to: BlockNumber) -> Result<(), StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let Ok(range) = BlockRange::new(to.next(), position.state_height) else {
            return Ok(());
        };
        let view = self.writer.store().view();
        let stage = self.stage_at(&view, &position, to)?;
        let mut transaction = self.writer.begin();
        for record in view.checkpoints(range) {
            transaction.remove_checkpoint(&record?);
        }
        transaction.remove_blocks(range);
        for number in range.iter() {
            transaction.remove_undo(number);
        }
        let after = stage.write(&mut transaction, &position)?;
        transaction.commit()?;
        tracing::warn!(blocks = range.len(), to = %to, "rolled back beyond the tree of forks");
        self.provenance.clear();
        self.reconsider_set_aside(to);
        for view in self.sources.values_mut() {
            view.tip = None;
        }
        self.run_from(&after)
    }

    /// Goes one way in the tree, all of it or nothing.
    fn reorganize(&mut self, way: &Reorganization, undone: Undone) -> Result<Way, StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(Way::Gone);
        };
        let view = self.writer.store().view();
        let mut stage = self.stage_at(&view, &position, way.ancestor.number)?;
        let mut outcome = Way::Gone;
        for block in &way.redo {
            let fetched = view
                .fork_block(*block)?
                .ok_or_else(|| StoreError::damaged_block(block.number, "a block of a fork is gone"))?;
            let hashed = fetched.decode(block.number)?;
            let reported = self.reported_on_fork(*block);
            let pushed = stage.push(
                &hashed,
                fetched.timestamp_ms,
                Provenance::Local,
                &position.schedule,
                reported,
            );
            if let Err(StageError::Store(error)) = pushed {
                // The disk's fault, not the fork's: it stays.
                return Err(error);
            }
            if let Err(error) = pushed {
                tracing::warn!(block = %block.number, %error, "a fork cannot be followed further");
                if matches!(error, StageError::BreaksState { .. }) {
                    self.refuse_chain(&self.sources_on(*block), *block, &error)?;
                }
                self.drop_fork(*block)?;
                outcome = Way::Dropped;
                if way.undo.is_empty() && !stage.blocks.is_empty() && self.halted().is_none() {
                    break;
                }
                // All of it or nothing: the chain that is followed stays.
                return Ok(outcome);
            }
        }
        let gained = stage.tip.number;
        let mut transaction = self.writer.begin();
        for block in &way.undo {
            if let Some(stored) = view.block(block.number)?
                && undone != Undone::Discard
            {
                transaction.put_fork_block(block.number, &stored);
            }
            if let Some(checkpoint) = view.checkpoint(block.number)? {
                transaction.remove_checkpoint(&checkpoint);
            }
            transaction.remove_undo(block.number);
        }
        if let (Some(lowest), Some(highest)) = (way.undo.last(), way.undo.first())
            && let Ok(range) = BlockRange::new(lowest.number, highest.number)
        {
            transaction.remove_blocks(range);
        }
        for block in &stage.blocks {
            transaction.remove_fork_block(BlockReference {
                number: block.number,
                hash: block.stored.hash,
            });
        }
        let position = stage.write(&mut transaction, &position)?;
        transaction.commit()?;
        self.provenance.retain(|number, _| *number <= way.ancestor.number);
        stage.committed.on_committed(&stage.overlay);
        let committed = stage.committed.clone();
        if let Some(running) = &mut self.running {
            running.tip = stage.tip;
            running.stage = Stage::new(committed, running.tip.clone(), &position);
            if undone != Undone::Orphan
                && let Some(first) = way.undo.last()
            {
                running.tree.remove_subtree(first.hash);
            }
        }
        tracing::info!(ancestor = %way.ancestor.number, height = %gained, "fork followed");
        Ok(outcome)
    }

    /// The sources whose chain has a block of the tree.
    fn sources_on(&self, block: BlockReference) -> Vec<SourceId> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let stands = |tip: BlockReference| running.tree.is_on_chain_of(block.hash, tip.hash);
        let standing = self
            .sources
            .iter()
            .filter(|(_, view)| view.tip.is_some_and(stands));
        standing.map(|(source, _)| source.clone()).collect()
    }

    /// The state as it was after a block that is still above what is final.
    pub(super) fn stage_at(
        &self,
        view: &View,
        position: &Position,
        block: BlockNumber,
    ) -> Result<Stage, StoreError> {
        let committed = match &self.running {
            Some(running) => running.stage.committed.clone(),
            None => CommittedState::of(self.writer.store())?,
        };
        let tip = tip_at(view, self.writer.store(), position, block)?;
        let mut stage = Stage::new(committed, tip, position);
        let mut number = position.state_height;
        while number > block {
            let undo = view
                .undo(number)?
                .ok_or_else(|| StoreError::damaged(format_args!("undo of block {number}"), "it is gone"))?;
            stage.overlay.undo(undo)?;
            number = number.saturating_sub(1);
        }
        Ok(stage)
    }

    /// Forgets a fork from a block on.
    pub(super) fn drop_fork(&mut self, from: BlockReference) -> Result<(), StoreError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let dropped = running.tree.remove_subtree(from.hash);
        let mut transaction = self.writer.begin();
        for block in dropped {
            transaction.remove_fork_block(block);
        }
        transaction.commit()
    }
}

/// The tip as it was at a canonical block.
fn tip_at(
    view: &View,
    store: &crate::store::Store,
    position: &Position,
    number: BlockNumber,
) -> Result<Tip, StoreError> {
    let checkpoints = checkpoint_chain_at(view, number)?.ok_or_else(|| {
        StoreError::damaged(format_args!("checkpoint before block {number}"), "there is none")
    })?;
    let state_block_hash = view.block(number)?.map(|block| block.hash);
    Tip::at(
        &Position {
            state_height: number,
            state_block_hash,
            checkpoints,
            ..position.clone()
        },
        store,
    )
}

/// The chain of checkpoints as it stood after a canonical block, from the stored checkpoints; none where the
/// last full state before it is not among them.
pub(crate) fn checkpoint_chain_at(
    view: &View,
    number: BlockNumber,
) -> Result<Option<CheckpointChain>, StoreError> {
    let range = BlockRange::new(BlockNumber::default(), number).unwrap_or(BlockRange::single(number));
    let mut chain: Option<CheckpointChain> = None;
    for record in view.checkpoints(range).rev() {
        let record = record?;
        let own = || CheckpointChain {
            last_block: record.block_num,
            root: record.root,
            prev_root: record.prev_root,
            deltas: Vec::new(),
        };
        match (&mut chain, record.kind) {
            (None, CheckpointKind::State) => {
                let prev_root = record.previous_root();
                return Ok(Some(CheckpointChain {
                    root: record.state_hash,
                    prev_root,
                    ..own()
                }));
            }
            (Some(chain), CheckpointKind::State) => {
                chain.deltas.reverse();
                let complete = chain.root == record.state_hash;
                return Ok(complete.then(|| chain.clone()));
            }
            (chain, CheckpointKind::Delta) => {
                let chain = chain.get_or_insert_with(own);
                chain.deltas.push(DeltaReference {
                    hash: record.state_hash,
                    hive_block: record.block_num,
                });
            }
        }
    }
    Ok(None)
}
