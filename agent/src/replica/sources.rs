//! Blocks from honeycomb sources: each source has its own view of the chain.

use std::collections::BTreeMap;
use std::fmt;

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, ContentId, Operations};

use super::extend::Pushed;
use super::pending::{Pending, PendingBlock};
use super::tip::{Provenance, StageError};
use super::{Replica, StoreError};
use crate::ingest::{SourceCommand, SourceCursor, SourceEvent, SourceEventKind, SourceId};
use crate::store::{StoredBlock, Verification};

/// What one honeycomb source has shown.
#[derive(Debug, Default)]
pub(super) struct SourceView {
    /// Whether a session is open.
    pub(super) connected: bool,
    /// The head it reports.
    pub(super) head: Option<BlockNumber>,
    /// The last block of its chain that is in the tree.
    pub(super) tip: Option<BlockReference>,
    /// Nothing is known of its chain before the first block that was heard: that was taken to follow the chain that
    /// is followed here.
    pub(super) unanchored: bool,
    /// The first block with which it left that chain while it was unanchored: it may stand on a fork that left it
    /// earlier.
    pub(super) assumed: Option<BlockReference>,
    /// The last block of its chain that is stored above a gap, and not applied yet.
    pub(super) ahead: Option<BlockReference>,
    /// Up to here another chain than this source's is stored above the gap.
    pub(super) strays_to: Option<BlockNumber>,
    /// Blocks that wait for what they link to, oldest first, without a hole.
    pub(super) pending: Pending,
    /// Where its log stood after the last checkpoints, so that a period can be asked for again.
    checkpoint_cursors: BTreeMap<BlockNumber, SourceCursor>,
    /// Where its log stands.
    cursor: Option<SourceCursor>,
    /// Why nothing of it is taken until it starts anew.
    pub(super) set_aside: Option<SetAside>,
    /// Checkpoints of it in a row that could not be proven.
    pub(super) mismatches: u32,
}

/// Why nothing of a source is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetAside {
    /// Its chain differs from what is final here, from what the voters agree on, or from what left the tree.
    Contradicts(String),
    /// A block of it breaks the rules of the state on the chain that is followed here.
    BreaksState {
        /// The block.
        block: BlockReference,
        /// Which rule, and where.
        reason: String,
    },
}

impl fmt::Display for SetAside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradicts(reason) | Self::BreaksState { reason, .. } => formatter.write_str(reason),
        }
    }
}

/// What to do with a source's oldest waiting block.
enum Step {
    /// Its parent is not here yet.
    Wait,
    /// It is here already.
    Skip,
    /// It is not what is final here.
    Diverged(BlockNumber),
    /// It follows this block.
    Take(BlockReference),
    /// It is taken to follow this one: nothing is known of the source's chain before it.
    Assume(BlockReference),
}

/// Checkpoints of a source that are remembered by their place in its log.
const CHECKPOINT_CURSORS: usize = 16;

impl SourceView {
    /// Notes where the source's log stands after a block that was taken.
    pub(super) fn note_cursor(&mut self, cursor: SourceCursor, is_checkpoint: bool) {
        self.cursor = Some(cursor);
        if is_checkpoint {
            self.checkpoint_cursors.insert(cursor.block, cursor);
            while self.checkpoint_cursors.len() > CHECKPOINT_CURSORS {
                self.checkpoint_cursors.pop_first();
            }
        }
    }

    /// Where its log stands after the last block that was taken.
    pub(super) const fn last_cursor(&self) -> Option<SourceCursor> {
        self.cursor
    }

    /// Where its log stood at a checkpoint, where that is still known.
    pub(super) fn cursor_at(&self, checkpoint: BlockNumber) -> Option<SourceCursor> {
        self.checkpoint_cursors.get(&checkpoint).copied()
    }

    /// What asks the source for everything since a checkpoint again, where that is still known.
    pub(super) fn resend_since(&self, checkpoint: BlockNumber) -> Option<SourceCommand> {
        let from_index = self.checkpoint_cursors.get(&checkpoint)?.last_index.next();
        let to_index = self.cursor?.last_index.0?;
        (from_index <= to_index).then_some(SourceCommand::RequestMissing { from_index, to_index })
    }
}

impl Replica {
    /// Takes what happened at a source.
    pub fn on_source(&mut self, event: SourceEvent, now_unix_seconds: u64) -> Result<(), StoreError> {
        let SourceEvent { source, event } = event;
        let plausible = BlockNumber::highest_at(now_unix_seconds);
        let view = self.sources.entry(source.clone()).or_default();
        match event {
            SourceEventKind::Connected { .. } => view.connected = true,
            SourceEventKind::Disconnected => {
                view.connected = false;
                view.ahead = None;
                view.set_aside = None;
                view.pending.clear();
            }
            SourceEventKind::Restarted => {
                view.tip = None;
                view.assumed = None;
                view.ahead = None;
                view.strays_to = None;
                view.set_aside = None;
                view.pending.clear();
            }
            SourceEventKind::Head { number } => {
                if number <= plausible {
                    view.head = view.head.max(Some(number));
                }
            }
            SourceEventKind::Block {
                number,
                operations,
                timestamp_ms,
                cursor,
            } => {
                view.head = view.head.max(Some(number));
                self.on_block(
                    &source,
                    PendingBlock {
                        number,
                        operations,
                        timestamp_ms,
                        cursor,
                    },
                )?;
            }
            SourceEventKind::EmptyBlocks {
                range,
                timestamp_ms,
                cursor,
            } => {
                view.head = view.head.max(Some(range.end()));
                for number in range.iter() {
                    let cursor = SourceCursor {
                        block: number,
                        ..cursor
                    };
                    let operations = Operations::default();
                    self.on_block(
                        &source,
                        PendingBlock {
                            number,
                            operations,
                            timestamp_ms,
                            cursor,
                        },
                    )?;
                }
            }
            SourceEventKind::Checkpoint { covered, id, .. } => {
                // What a source that is set aside computes is not what is followed here.
                if covered <= plausible && view.set_aside.is_none() {
                    self.on_report(&source, covered, id)?;
                }
            }
            // What a source says beside its operations binds nothing: its own checkpoint message does.
            SourceEventKind::CheckpointReport { .. } => {}
        }
        Ok(())
    }

    /// The highest head that sources report, those set aside not counted.
    pub fn network_head(&self) -> Option<BlockNumber> {
        let followed = self.sources.values().filter(|view| view.set_aside.is_none());
        followed.filter_map(|view| view.head).max()
    }

    /// First block of what sources have sent but waits for a gap to be filled.
    pub fn first_pending(&self) -> Option<BlockNumber> {
        self.sources
            .values()
            .filter_map(|view| view.pending.front())
            .map(|block| block.number)
            .min()
    }

    fn on_block(&mut self, source: &SourceId, block: PendingBlock) -> Result<(), StoreError> {
        let view = self.sources.entry(source.clone()).or_default();
        if view.set_aside.is_some() {
            return Ok(());
        }
        if view
            .pending
            .back()
            .is_some_and(|last| last.number.next() != block.number)
        {
            view.pending.clear();
        }
        view.pending.push_back(block);
        self.take_pending(source)?;
        if let Some(view) = self.sources.get_mut(source) {
            // The oldest are fetched from peers, with the rest of the gap.
            let (blocks, bytes) = (self.settings.pending_blocks, self.settings.pending_bytes);
            view.pending.keep_newest(blocks, bytes);
        }
        Ok(())
    }

    /// Takes every waiting block of a source whose parent is here.
    pub(super) fn take_pending(&mut self, source: &SourceId) -> Result<(), StoreError> {
        loop {
            if let Some(number) = self.source_at_front(source) {
                self.settle_stage(number)?;
            }
            let step = self.next_step(source)?;
            let Some(view) = self.sources.get_mut(source) else {
                return Ok(());
            };
            match step {
                Step::Wait => return self.store_pending_ahead(source),
                Step::Skip => {
                    view.pending.pop_front();
                }
                Step::Diverged(number) => {
                    let reason = format!("its block {number} contradicts what is final");
                    self.counters.divergences += 1;
                    self.set_aside(source, SetAside::Contradicts(reason));
                }
                Step::Take(parent) => {
                    if let Some(block) = view.pending.pop_front() {
                        self.take_block(source, parent, block)?;
                    }
                }
                Step::Assume(parent) => {
                    view.unanchored = true;
                    if let Some(block) = view.pending.pop_front() {
                        self.take_block(source, parent, block)?;
                    }
                }
            }
        }
    }

    /// The oldest waiting block of a source, where peers or the store were ahead of it.
    fn source_at_front(&self, source: &SourceId) -> Option<BlockNumber> {
        let (view, running) = (self.sources.get(source)?, self.running.as_ref()?);
        let number = view.pending.front()?.number;
        let at_front = !running.stage.blocks.is_empty()
            && number > running.tip.number
            && number <= running.stage.tip.number.next();
        at_front.then_some(number)
    }

    /// What to do with the oldest waiting block of a source.
    fn next_step(&self, source: &SourceId) -> Result<Step, StoreError> {
        let (Some(view), Some(running)) = (self.sources.get(source), &self.running) else {
            return Ok(Step::Wait);
        };
        let Some(block) = view.pending.front() else {
            return Ok(Step::Wait);
        };
        let Some(before) = block.number.previous() else {
            return Ok(Step::Skip);
        };
        let waits = !running.stage.tip.is_whole
            || self.is_beyond_stop(block.number)
            || self.waits_for_report(block.number)
            || self.halted().is_some();
        if waits {
            return Ok(Step::Wait);
        }
        let tip = running.tip.reference();
        let known = view
            .tip
            .filter(|at| at.number == before && running.tree.contains(at.hash));
        if let Some(parent) = known {
            return Ok(Step::Take(parent));
        }
        let canonical = running.tree.at_height(tip.hash, before);
        // Of the blocks that wait the first with operations tells where the source stands.
        let telling = view
            .pending
            .iter()
            .find(|block| !block.operations.as_slice().is_empty());
        if let Some(telling) = telling.filter(|_| running.tree.has_forks())
            && let Some((below, _)) = self.found_in_tree(telling.number, &telling.operations, None)?
            && let Some(parent) = running.tree.at_height(below.hash, before)
        {
            return Ok(Step::Assume(parent));
        }
        match canonical {
            Some(parent) => Ok(Step::Assume(parent)),
            None if before > tip.number => Ok(Step::Wait),
            // At or below what is final: nothing there is taken twice, but it must be the same.
            None if self.is_stored(block)? => Ok(Step::Skip),
            None => Ok(Step::Diverged(block.number)),
        }
    }

    /// Whether a block has the operations of the canonical one with its number; true where that one is gone.
    fn is_stored(&self, block: &PendingBlock) -> Result<bool, StoreError> {
        let Some(stored) = self.writer.store().view().block(block.number)? else {
            return Ok(true);
        };
        let linked = Block {
            number: block.number,
            previous_hash: stored.previous_hash(block.number)?,
            operations: block.operations.clone(),
        };
        Ok(linked.hash() == stored.hash)
    }

    /// Links a source's block to its parent and takes it: as the next canonical block, as one that is here
    /// already, or as a sibling.
    fn take_block(
        &mut self,
        source: &SourceId,
        parent: BlockReference,
        block: PendingBlock,
    ) -> Result<(), StoreError> {
        let Some(link) = self.link_after(parent)? else {
            self.forget_view(source);
            return Ok(());
        };
        let number = block.number;
        let cursor_before = self.cursors.insert(source.clone(), block.cursor);
        let hashed = HashedBlock::from(Block {
            number,
            previous_hash: link,
            operations: block.operations,
        });
        let reference = BlockReference {
            number,
            hash: hashed.hash(),
        };
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let mut opened = false;
        if !running.tree.contains(reference.hash) {
            if parent.hash == running.tip.reference().hash {
                if !self.append(source, &hashed, block.timestamp_ms)? {
                    // A new session of the source starts with the block that was refused.
                    match cursor_before {
                        Some(cursor) => self.cursors.insert(source.clone(), cursor),
                        None => self.cursors.remove(source),
                    };
                    return Ok(());
                }
            } else {
                if let Err(error) = running.tree.insert(reference, parent.hash) {
                    tracing::warn!(%source, block = %number, %error, "block of a fork refused");
                    self.forget_view(source);
                    return Ok(());
                }
                self.counters.fork_blocks += 1;
                tracing::warn!(%source, block = %number, hash = %reference.hash, "source stands on another fork");
                let mut transaction = self.writer.begin();
                transaction.put_fork_block(number, &StoredBlock::new(&hashed, block.timestamp_ms));
                transaction.commit()?;
                opened = true;
                if let Some(view) = self.sources.get_mut(source)
                    && view.unanchored
                {
                    view.assumed.get_or_insert(reference);
                }
            }
        }
        let schedule = self.writer.position().map(|position| position.schedule);
        if let Some(view) = self.sources.get_mut(source) {
            view.tip = Some(reference);
            view.note_cursor(
                block.cursor,
                schedule.is_some_and(|schedule| schedule.kind_at(number).is_some()),
            );
        }
        self.place_again(source)?;
        self.follow_best_fork()?;
        self.judge_reports(source)?;
        if opened { self.find_waiting() } else { Ok(()) }
    }

    /// Looks again at the blocks of sources that wait until it is known where they stand: a fork has grown.
    fn find_waiting(&mut self) -> Result<(), StoreError> {
        let waits = |view: &SourceView| view.tip.is_none() && !view.pending.is_empty();
        let waiting = self.sources.iter().filter(|(_, view)| waits(view));
        let waiting: Vec<_> = waiting.map(|(source, _)| source.clone()).collect();
        waiting.iter().try_for_each(|source| self.take_pending(source))
    }

    /// Appends a source's block at the canonical tip. False if it was refused.
    fn append(
        &mut self,
        source: &SourceId,
        block: &HashedBlock,
        timestamp_ms: u64,
    ) -> Result<bool, StoreError> {
        if self.contradicts_agreed_hash(block).is_some() {
            let reason = format!(
                "its block {} contradicts what the voters agree on",
                block.number()
            );
            self.counters.divergences += 1;
            self.set_aside(source, SetAside::Contradicts(reason));
            return Ok(false);
        }
        let provenance = Provenance::Source(source.clone());
        match self.push_next(block, timestamp_ms, provenance.clone(), Verification::Verified)? {
            Pushed::Staged => self.commit_stage().map(|()| true),
            Pushed::Refused(StageError::CheckpointMismatch {
                number,
                computed,
                reported,
            }) => {
                // Taken unproven; the mismatch is judged with the report.
                tracing::warn!(%source, %number, %computed, %reported, "checkpoint mismatch");
                if let (Some(running), Some(position)) = (&mut self.running, self.writer.position()) {
                    running
                        .stage
                        .push(block, timestamp_ms, provenance, &position.schedule, None)
                        .map_err(|error| StoreError::damaged_block(block.number(), error))?;
                }
                self.commit_stage().map(|()| true)
            }
            Pushed::Refused(error @ StageError::BreaksState { .. }) => {
                let reference = BlockReference {
                    number: block.number(),
                    hash: block.hash(),
                };
                self.refuse_chain(std::slice::from_ref(source), reference, &error)
                    .map(|()| false)
            }
            Pushed::Refused(error) => {
                tracing::error!(%source, block = %block.number(), %error, "block refused");
                self.forget_view(source);
                Ok(false)
            }
            Pushed::Relinked | Pushed::NotStarted => {
                self.forget_view(source);
                Ok(false)
            }
        }
    }

    /// What the block after one of the tree links to; none where that is not known for its fork.
    pub(super) fn link_after(&self, parent: BlockReference) -> Result<Option<ContentId>, StoreError> {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return Ok(None);
        };
        if parent.hash == running.tip.reference().hash {
            return Ok(Some(running.tip.link()));
        }
        if position.schedule.kind_at(parent.number).is_none() {
            return Ok(Some(parent.hash));
        }
        let canonical = running
            .tree
            .is_on_chain_of(parent.hash, running.tip.reference().hash);
        if canonical {
            let checkpoint = self.writer.store().view().checkpoint(parent.number)?;
            return Ok(checkpoint.map(|checkpoint| checkpoint.state_hash));
        }
        self.fork_checkpoint_id(parent)
    }

    /// Forgets where a source stands; its next checkpoint or block on the canonical chain places it again.
    pub(super) fn forget_view(&mut self, source: &SourceId) {
        if let Some(view) = self.sources.get_mut(source) {
            view.tip = None;
            view.assumed = None;
            view.ahead = None;
            view.pending.clear();
        }
    }

    /// Takes nothing of a source any more until it starts anew, and says so. What it reported counts no
    /// longer: others would be measured by it.
    pub(super) fn set_aside(&mut self, source: &SourceId, why: SetAside) {
        tracing::error!(%source, reason = %why, "source set aside until it starts anew");
        self.counters.sources_set_aside += 1;
        for by_source in self.reports.values_mut() {
            by_source.remove(source);
        }
        self.outbox
            .push((source.clone(), SourceCommand::Refuse(why.to_string())));
        self.forget_view(source);
        if let Some(view) = self.sources.get_mut(source) {
            view.set_aside = Some(why);
        }
    }

    /// Sets sources aside whose chain has a block that breaks the rules of the state. Where that block is what
    /// the voters stand on, with an agreed anchor or with more than half of the configured weight, there is no
    /// other chain to go on with: commits stop.
    pub(super) fn refuse_chain(
        &mut self,
        sources: &[SourceId],
        block: BlockReference,
        error: &StageError,
    ) -> Result<(), StoreError> {
        for source in sources {
            let reason = error.to_string();
            self.set_aside(source, SetAside::BreaksState { block, reason });
        }
        let agreed = self.agreed_anchor(block.number);
        let standing = self.sources.iter().filter(|(_, view)| {
            matches!(&view.set_aside, Some(SetAside::BreaksState { block: on, .. }) if *on == block)
        });
        let weight = standing.map(|(source, _)| self.settings.voters.weight(&VoterId(source.to_string())));
        if agreed.is_some_and(|anchor| anchor.block_hash == block.hash)
            || self.settings.voters.is_majority(weight.sum())
        {
            return self.halt(format!(
                "the voters stand on a block that cannot be applied: {error}"
            ));
        }
        Ok(())
    }

    /// Takes sources again whose blocks broke the rules of the state on blocks above `kept`, which are gone.
    pub(super) fn reconsider_set_aside(&mut self, kept: BlockNumber) {
        for (source, view) in &mut self.sources {
            if matches!(&view.set_aside, Some(SetAside::BreaksState { block, .. }) if block.number > kept) {
                tracing::info!(%source, "source taken again: the chain that it did not fit is gone");
                view.set_aside = None;
            }
        }
    }

    /// Where each source and each voter that is a peer stands, with its weight. Peers only repeat what honeycombs
    /// said, and repeat each other: all of them together weigh less than any source.
    pub(super) fn weighted_views(&self) -> Vec<(ContentId, u64)> {
        let of_peers = self.voter_tips.keys();
        let of_peers: u64 = of_peers.map(|voter| self.settings.voters.weight(voter)).sum();
        let weigh = |source: &SourceId| self.weight_of(source).saturating_mul(of_peers.saturating_add(1));
        let sources = self.sources.iter();
        let sources = sources.filter_map(|(source, view)| Some((view.tip?.hash, weigh(source))));
        let peers = self.voter_tips.iter();
        let peers = peers.map(|(voter, tip)| (tip.hash, self.settings.voters.weight(voter)));
        sources.chain(peers).collect()
    }

    /// After the front has moved: blocks of sources that waited for it, and forks.
    pub(super) fn after_advance(&mut self) -> Result<(), StoreError> {
        let sources: Vec<_> = self.sources.keys().cloned().collect();
        for source in sources {
            self.take_pending(&source)?;
        }
        Ok(())
    }
}
