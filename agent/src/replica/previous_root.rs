//! Full states do not name the full state before them, but the deltas after them do. A replica that was started from
//! a full state alone, and was not told, takes the ids of those deltas as they are reported until the document of
//! one tells it.

use honeygraph_chain::checkpoint::{
    CheckpointChain, DeltaDocument, DeltaReference, DeltaWriter, PreviousRoot,
};
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::reorganize::Undone;
use super::tip::Tip;
use super::{Replica, StoreError};
use crate::store::{Position, View};

impl Replica {
    /// Whether a block above the tip is a checkpoint whose document cannot be computed here, and which nobody who
    /// is trusted reports yet.
    pub(super) fn waits_for_report(&self, number: BlockNumber) -> bool {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return false;
        };
        running.stage.tip.checkpoints.prev_root == PreviousRoot::Unknown
            && number > running.tip.number
            && position.schedule.kind_at(number) == Some(CheckpointKind::Delta)
            && self.reported_checkpoint(number).is_none()
    }

    /// A delta that is trusted enough to be asked which full state stands before the one that this replica started
    /// from; none where that is known, or no such delta is.
    pub(super) fn previous_root_named_in(&self) -> Option<ContentId> {
        let position = self.writer.position()?;
        if position.checkpoints.prev_root != PreviousRoot::Unknown {
            return None;
        }
        let is_trusted = |delta: &&DeltaReference| {
            position.irreversible_block() >= Some(delta.hive_block)
                || self.settings.voters.is_single()
                || self.settings.trusted_checkpoint == Some((delta.hive_block, delta.hash))
                || self.supported_checkpoint(delta.hive_block) == Some(delta.hash)
        };
        let taken = position.checkpoints.deltas.iter().rev().find(is_trusted);
        let ahead = || {
            let (number, id) = self.newest_supported()?;
            (position.schedule.kind_at(number) == Some(CheckpointKind::Delta)).then_some(id)
        };
        taken.map(|delta| delta.hash).or_else(ahead)
    }

    /// Learns from a trusted delta document which full state stands before the one that this replica started from.
    /// What was taken as reported since then is computed now: what is false goes.
    pub(super) fn learn_previous_root(&mut self, document: &DeltaDocument) -> Result<(), StoreError> {
        self.settle()?;
        let Some(mut position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let chain = &mut position.checkpoints;
        if chain.prev_root != PreviousRoot::Unknown || document.root != chain.root {
            return Ok(());
        }
        chain.prev_root = document.prev_root;
        tracing::info!(root = %chain.root, previous = ?chain.prev_root, "the full state before the start is known");
        let view = self.writer.store().view();
        let Some(root) = view.checkpoint_by_id(chain.root)? else {
            return Ok(());
        };
        let since =
            BlockRange::new(root.block_num, chain.last_block).unwrap_or(BlockRange::single(root.block_num));
        let mut transaction = self.writer.begin();
        for record in view.checkpoints(since) {
            transaction.put_checkpoint(&record?.with_previous_root(document.prev_root))?;
        }
        transaction.set_position(position.clone());
        transaction.commit()?;
        if let (Some(running), Some(position)) = (&mut self.running, self.writer.position()) {
            running.tip = Tip::at(position, self.writer.store())?;
            running.stage.restart(running.tip.clone(), position);
        }
        let proven = last_proven(&self.writer.store().view(), &position, root.block_num)?;
        if proven < position.checkpoints.last_block {
            self.counters.state_hash_mismatches += 1;
            tracing::error!(checkpoint = %proven, "what was taken after this checkpoint is not what was reported");
            self.roll_back(
                proven.max(position.irreversible_block().unwrap_or_default()),
                Undone::Discard,
            )?;
        }
        let sources: Vec<_> = self.sources.keys().cloned().collect();
        sources.iter().try_for_each(|source| self.judge_reports(source))?;
        self.after_advance()
    }
}

/// The last checkpoint since a full state up to which all deltas compute to their ids, as far as their blocks are
/// here.
fn last_proven(view: &View, position: &Position, root: BlockNumber) -> Result<BlockNumber, StoreError> {
    let mut chain = CheckpointChain {
        last_block: root,
        deltas: Vec::new(),
        ..position.checkpoints.clone()
    };
    for delta in &position.checkpoints.deltas {
        let Ok(period) = BlockRange::new(chain.last_block.next(), delta.hive_block) else {
            break;
        };
        let mut writer = DeltaWriter::new(&chain);
        let mut found = 0;
        for row in view.blocks(period) {
            let (number, block) = row?;
            writer.push(&block.decode(number)?.block().operations);
            found += 1;
        }
        if found == period.len() && writer.content_id(delta.hive_block) != Some(delta.hash) {
            break;
        }
        chain = chain.after(CheckpointKind::Delta, delta.hive_block, delta.hash);
    }
    Ok(chain.last_block)
}
