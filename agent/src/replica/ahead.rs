//! Blocks above a gap: stored before what stands below them is there, and applied from the store once the
//! state has come up to them. Until then their place is fixed by what sources and voters report.

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::{CheckpointChain, DeltaDocument, DeltaWriter};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::extend::Pushed;
use super::reorganize::Undone;
use super::tip::{Provenance, StageError};
use super::{FetchedBlock, Replica, StoreError};
use crate::ingest::SourceId;
use crate::store::{StoredBlock, View};

/// Stored blocks that are applied before others have their turn.
const APPLIED_AT_ONCE: u64 = 128;
/// Proven periods below the newest known checkpoint that are wanted before the gap below them.
const PERIODS: u64 = 2;
/// Periods that a gap has at least, for the head to be fetched before it.
const GAP_PERIODS: u64 = 2 * PERIODS;

/// What became of a peer's blocks above a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AheadOutcome {
    /// All of them are stored, to be applied later.
    Stored,
    /// Nothing that is known fixes their place, or a period that a known checkpoint can prove is not whole.
    Waits,
    /// A block is wrong; none is stored.
    Rejected {
        /// The first wrong block, or the checkpoint that disproves its period.
        at: BlockNumber,
        /// What is wrong.
        fault: PeerFault,
    },
}

/// What to do with the oldest waiting block of a source above a gap.
enum Ahead {
    /// What it links to is not known.
    Wait,
    /// Another block stands in its place.
    Strays,
    /// It is stored already.
    Known(BlockReference),
    /// It is to be stored.
    Store(HashedBlock),
}

impl Replica {
    /// The chain of checkpoints at the end of the last period that a trusted delta document covers but one, for
    /// proving periods above the state height.
    pub(super) fn learn_chain(&mut self, document: &DeltaDocument) {
        let Some(before) = self
            .writer
            .position()
            .and_then(|position| position.schedule.period_of(document.covered).start().previous())
        else {
            return;
        };
        let joins = document.chain.last().is_none_or(|last| last.hive_block == before);
        self.named_chain = joins.then(|| CheckpointChain {
            last_block: before,
            root: document.root,
            prev_root: document.prev_root,
            deltas: document.chain.clone(),
        });
    }

    /// First block near the head that can be stored before the gap below it is filled, where that gap is long.
    pub(super) fn ahead_from(
        &self,
        newest_reported: Option<(BlockNumber, ContentId)>,
    ) -> Option<BlockNumber> {
        let (newest, _) = newest_reported?;
        let (running, position) = (self.running.as_ref()?, self.writer.position()?);
        let schedule = position.schedule;
        let gap = newest.distance_from(running.stage.tip.number);
        let far = gap > GAP_PERIODS.saturating_mul(schedule.delta_interval);
        if !far || position.halted.is_some() || schedule.kind_at(newest).is_none() {
            return None;
        }
        let mut from = newest.next();
        for _ in 0..PERIODS {
            let Some(checkpoint) = from.previous() else { break };
            if schedule.kind_at(checkpoint) != Some(CheckpointKind::Delta)
                || self.reported_checkpoint(checkpoint).is_none()
                || self.chain_before(checkpoint).is_none()
            {
                break;
            }
            from = schedule.period_of(checkpoint).start();
        }
        Some(from)
    }

    /// The chain of checkpoints right before a checkpoint above the state height, as far as it is known from
    /// somebody trusted.
    fn chain_before(&self, checkpoint: BlockNumber) -> Option<CheckpointChain> {
        let position = self.writer.position()?;
        let schedule = position.schedule;
        let start = schedule.period_of(checkpoint).start().previous()?;
        let named = self.named_chain.as_ref();
        let mut chain = named
            .and_then(|chain| cut_back(chain, start, |delta| schedule.period_of(delta).start()))
            .or_else(|| (position.checkpoints.last_block <= start).then(|| position.checkpoints.clone()))?;
        // Far from what is known there is nothing to go by.
        let most = GAP_PERIODS
            .saturating_mul(2)
            .saturating_mul(schedule.delta_interval);
        if start.distance_from(chain.last_block) > most {
            return None;
        }
        while chain.last_block < start {
            let next = schedule.next_at_or_after(chain.last_block.next());
            let kind = schedule.kind_at(next).filter(|_| next <= start)?;
            chain = chain.after(kind, next, self.reported_checkpoint(next)?);
        }
        (chain.last_block == start).then_some(chain)
    }

    /// Takes a run of a peer's blocks, without holes, above a gap. They have to link to a reported checkpoint or
    /// to what is stored, and a period whose checkpoint is known has to be whole: it is proven before it is
    /// stored. Nothing of it is applied.
    pub fn store_ahead(&mut self, blocks: &[FetchedBlock]) -> Result<AheadOutcome, StoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(AheadOutcome::Stored);
        };
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return Ok(AheadOutcome::Waits);
        };
        let schedule = position.schedule;
        let (start, end) = (first.block.number(), last.block.number());
        if start <= running.stage.tip.number.next() {
            return Ok(AheadOutcome::Waits);
        }
        let view = self.writer.store().view();
        let Some(mut link) = self.link_ahead(&view, start, None)? else {
            return Ok(AheadOutcome::Waits);
        };
        let mut delta = self.delta_ahead(&view, start)?;
        for fetched in blocks {
            let block = &fetched.block;
            let number = block.number();
            if block.previous_hash() != link {
                let fault = PeerFault::BrokenLink;
                return Ok(AheadOutcome::Rejected { at: number, fault });
            }
            if let Some(fault) = self.contradicts_agreed_hash(block) {
                return Ok(AheadOutcome::Rejected { at: number, fault });
            }
            if let Some(delta) = &mut delta {
                delta.push(&block.block().operations);
            }
            link = block.hash();
            let Some(kind) = schedule.kind_at(number) else {
                continue;
            };
            let Some(reported) = self.reported_checkpoint(number) else {
                // Unproven, like everything near the head.
                if number < end {
                    return Ok(AheadOutcome::Waits);
                }
                continue;
            };
            match (kind, delta.take()) {
                (CheckpointKind::Delta, Some(delta)) => match delta.content_id(number) {
                    Some(id) if id == reported => {}
                    Some(_) => {
                        let fault = PeerFault::CheckpointMismatch;
                        return Ok(AheadOutcome::Rejected { at: number, fault });
                    }
                    None => return Ok(AheadOutcome::Waits),
                },
                _ => return Ok(AheadOutcome::Waits),
            }
            link = reported;
            delta = self
                .chain_before(schedule.period_of(number.next()).end())
                .as_ref()
                .map(DeltaWriter::new);
        }
        let period_end = schedule.next_at_or_after(end);
        if period_end != end && self.reported_checkpoint(period_end).is_some() {
            return Ok(AheadOutcome::Waits);
        }
        let missing: Vec<&FetchedBlock> = blocks
            .iter()
            .filter(|fetched| !self.writer.have().contains(fetched.block.number()))
            .collect();
        self.counters.ahead_blocks += missing.len() as u64;
        let mut transaction = self.writer.begin();
        for fetched in missing {
            let stored = StoredBlock::new(&fetched.block, fetched.timestamp_ms);
            transaction.put_block(fetched.block.number(), &stored);
        }
        transaction.commit()?;
        Ok(AheadOutcome::Stored)
    }

    /// The log of a block's period up to that block, from what is stored above the gap; none where a block of it
    /// is missing or the checkpoints before it are not known.
    fn delta_ahead(&self, view: &View, number: BlockNumber) -> Result<Option<DeltaWriter>, StoreError> {
        let Some(position) = self.writer.position() else {
            return Ok(None);
        };
        let period = position.schedule.period_of(number);
        let Some(chain) = self.chain_before(period.end()) else {
            return Ok(None);
        };
        let mut delta = DeltaWriter::new(&chain);
        let Some(Ok(before)) = number.previous().map(|end| BlockRange::new(period.start(), end)) else {
            return Ok(Some(delta));
        };
        if !self.writer.have().contains_range(before) {
            return Ok(None);
        }
        for row in view.blocks(before) {
            let (number, block) = row?;
            delta.push(&block.decode(number)?.block().operations);
        }
        Ok(Some(delta))
    }

    /// What a block above the gap links to, where that is known: what a source itself reports for the checkpoint
    /// before it, else what somebody trusted does, or the block that is stored before it.
    fn link_ahead(
        &self,
        view: &View,
        number: BlockNumber,
        source: Option<&SourceId>,
    ) -> Result<Option<ContentId>, StoreError> {
        let (Some(before), Some(position)) = (number.previous(), self.writer.position()) else {
            return Ok(None);
        };
        if position.schedule.kind_at(before).is_some() {
            let own = source.and_then(|source| self.reports.get(&before)?.get(source).copied());
            return Ok(own.or_else(|| self.reported_checkpoint(before)));
        }
        if before <= position.state_height || !self.writer.have().contains(before) {
            return Ok(None);
        }
        Ok(view.block(before)?.map(|stored| stored.hash))
    }

    /// Stores the waiting blocks of a source whose place above the gap is known, all in one transaction.
    pub(super) fn store_pending_ahead(&mut self, source: &SourceId) -> Result<(), StoreError> {
        self.skip_to_checkpoint(source);
        let mut placed: Vec<(BlockReference, StoredBlock)> = Vec::new();
        loop {
            let next = self.next_ahead(source, placed.last().map(|(reference, _)| *reference))?;
            let schedule = self.writer.position().map(|position| position.schedule);
            let Some(view) = self.sources.get_mut(source) else {
                break;
            };
            match next {
                Ahead::Wait => break,
                Ahead::Strays => {
                    view.ahead = None;
                    if let (Some(block), Some(schedule)) = (view.pending.pop_front(), schedule) {
                        view.strays_to = Some(schedule.next_at_or_after(block.number));
                    }
                }
                Ahead::Known(reference) => {
                    view.ahead = Some(reference);
                    view.pending.pop_front();
                }
                Ahead::Store(block) => {
                    let Some(pending) = view.pending.pop_front() else {
                        break;
                    };
                    let reference = BlockReference {
                        number: block.number(),
                        hash: block.hash(),
                    };
                    view.ahead = Some(reference);
                    let is_checkpoint =
                        schedule.is_some_and(|schedule| schedule.kind_at(pending.number).is_some());
                    view.note_cursor(pending.cursor, is_checkpoint);
                    placed.push((reference, StoredBlock::new(&block, pending.timestamp_ms)));
                }
            }
        }
        if placed.is_empty() {
            return Ok(());
        }
        self.counters.ahead_blocks += placed.len() as u64;
        let mut transaction = self.writer.begin();
        for (reference, stored) in &placed {
            transaction.put_block(reference.number, stored);
        }
        transaction.commit_in_background(|_| ())
    }

    /// Where nothing is known of what a source's waiting blocks link to, goes on from the first checkpoint among
    /// them that it reports. What stands before it comes from peers with the rest of the gap.
    fn skip_to_checkpoint(&mut self, source: &SourceId) {
        let (Some(view), Some(position)) = (self.sources.get(source), self.writer.position()) else {
            return;
        };
        let Some(first) = view.pending.front().map(|block| block.number) else {
            return;
        };
        let Some(before) = first.previous() else { return };
        let schedule = position.schedule;
        let is_known = if schedule.kind_at(before).is_some() {
            let own = self.reports.get(&before);
            own.is_some_and(|by_source| by_source.contains_key(source))
                || self.reported_checkpoint(before).is_some()
        } else {
            self.writer.have().contains(before)
        };
        if is_known {
            return;
        }
        let checkpoint = schedule.next_at_or_after(first);
        let reports = |number: BlockNumber| {
            self.reports
                .get(&number)
                .is_some_and(|by_source| by_source.contains_key(source))
        };
        if !reports(checkpoint) || !self.is_far_ahead(first) {
            return;
        }
        if let Some(view) = self.sources.get_mut(source) {
            view.pending.drop_through(checkpoint);
        }
    }

    /// Whether a block stands more than a period above what is applied.
    fn is_far_ahead(&self, number: BlockNumber) -> bool {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return false;
        };
        number.distance_from(running.stage.tip.number) > position.schedule.delta_interval
    }

    fn next_ahead(&self, source: &SourceId, placed: Option<BlockReference>) -> Result<Ahead, StoreError> {
        let (Some(view), Some(running)) = (self.sources.get(source), &self.running) else {
            return Ok(Ahead::Wait);
        };
        let Some(block) = view.pending.front() else {
            return Ok(Ahead::Wait);
        };
        let number = block.number;
        let strays = view.strays_to.is_some_and(|end| number <= end);
        if strays || number <= running.stage.tip.number.next() || self.halted().is_some() {
            return Ok(Ahead::Wait);
        }
        let store = self.writer.store().view();
        if self.writer.have().contains(number)
            && let Some(stored) = store.block(number)?
        {
            let own = HashedBlock::from(Block {
                number,
                previous_hash: stored.previous_hash(number)?,
                operations: block.operations.clone(),
            });
            return Ok(if own.hash() == stored.hash {
                Ahead::Known(BlockReference {
                    number,
                    hash: stored.hash,
                })
            } else {
                Ahead::Strays
            });
        }
        let link = match placed {
            Some(before) if before.number.next() == number && !self.is_checkpoint(before.number) => {
                Some(before.hash)
            }
            _ => self.link_ahead(&store, number, Some(source))?,
        };
        Ok(link.map_or(Ahead::Wait, |previous_hash| {
            Ahead::Store(HashedBlock::from(Block {
                number,
                previous_hash,
                operations: block.operations.clone(),
            }))
        }))
    }

    fn is_checkpoint(&self, number: BlockNumber) -> bool {
        self.writer
            .position()
            .is_some_and(|position| position.schedule.kind_at(number).is_some())
    }

    /// Whether the next block to apply is stored already.
    pub fn can_apply_stored(&self) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        let next = running.stage.tip.number.next();
        running.stage.tip.is_whole
            && self.writer.have().contains(next)
            && !self.is_beyond_stop(next)
            && !self.waits_for_report(next)
            && self.halted().is_none()
    }

    /// Applies some of the blocks that are stored right above what is applied, each checked like one that comes
    /// now. Those that do not fit are removed, and are missing again.
    pub fn apply_stored(&mut self) -> Result<(), StoreError> {
        if !self.can_apply_stored() {
            return Ok(());
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let next = running.stage.tip.number.next();
        let Some(run) = self.writer.have().run_from(next) else {
            return Ok(());
        };
        let range = run
            .intersection(BlockRange::starting_at(next, APPLIED_AT_ONCE))
            .unwrap_or(BlockRange::single(next));
        let rows = self.writer.store().view().blocks(range);
        for row in rows {
            let (number, stored) = row?;
            if self.is_beyond_stop(number) {
                break;
            }
            let block = stored.decode(number)?;
            if !self.apply_one(&block, &stored)? {
                break;
            }
        }
        self.commit_if_due()?;
        self.place_sources()?;
        self.after_advance()
    }

    /// Applies a stored block. False where it could not be.
    fn apply_one(&mut self, block: &HashedBlock, stored: &StoredBlock) -> Result<bool, StoreError> {
        let number = block.number();
        if self.contradicts_agreed_hash(block).is_some() {
            return self.discard_ahead(number, false).map(|()| false);
        }
        let (timestamp_ms, verification) = (stored.timestamp_ms, stored.verification);
        match self.push_next(block, timestamp_ms, Provenance::Local, verification)? {
            Pushed::Staged => Ok(true),
            // The next turn goes on, or the report that it waits for.
            Pushed::Relinked | Pushed::NotStarted | Pushed::Refused(StageError::NotComputable { .. }) => {
                Ok(false)
            }
            Pushed::Refused(error) => {
                tracing::warn!(block = %number, %error, "stored block does not fit what stands below it");
                let whole = matches!(
                    error,
                    StageError::CheckpointMismatch { .. } | StageError::BreaksState { .. }
                );
                self.discard_ahead(number, whole).map(|()| false)
            }
        }
    }

    /// Removes stored blocks that were not applied, from one up to the end of its period; with the `whole` period
    /// in doubt also what is applied of it, since either may be the wrong part.
    fn discard_ahead(&mut self, number: BlockNumber, whole: bool) -> Result<(), StoreError> {
        let Some(position) = self.writer.position() else {
            return Ok(());
        };
        let period = position.schedule.period_of(number);
        let before = period.start().saturating_sub(1);
        if whole {
            self.keep_proven_stage()?;
            self.roll_back(before, Undone::Discard)?;
        }
        let height = self
            .writer
            .position()
            .map_or(before, |position| position.state_height);
        let from = if whole { height.next() } else { number };
        let Ok(range) = BlockRange::new(from, period.end().max(number)) else {
            return Ok(());
        };
        self.counters.ahead_discarded += self
            .writer
            .have()
            .present_in(range)
            .map(BlockRange::len)
            .sum::<u64>();
        let mut transaction = self.writer.begin();
        transaction.remove_blocks(range);
        transaction.commit()?;
        for (source, view) in &mut self.sources {
            if view
                .ahead
                .take_if(|ahead| ahead.number >= range.start())
                .is_some()
                && view.connected
            {
                let resend = view.resend_since(before);
                self.outbox
                    .extend(resend.map(|command| (source.clone(), command)));
            }
        }
        Ok(())
    }

    /// Puts sources in their place whose stored blocks are applied now.
    fn place_sources(&mut self) -> Result<(), StoreError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let tip = running.tip.reference();
        let mut placed = Vec::new();
        for (source, view) in &mut self.sources {
            let Some(ahead) = view.ahead.take_if(|ahead| ahead.number <= tip.number) else {
                continue;
            };
            if running.tree.is_on_chain_of(ahead.hash, tip.hash) {
                view.tip = Some(ahead);
                placed.push(source.clone());
            }
        }
        placed.iter().try_for_each(|source| self.judge_reports(source))
    }

    /// The highest block that a connected source has sent and that is stored above a gap.
    pub(super) fn newest_ahead(&self) -> Option<BlockNumber> {
        self.sources
            .values()
            .filter(|view| view.connected)
            .filter_map(|view| view.ahead)
            .map(|block| block.number)
            .max()
    }
}

/// A chain of checkpoints as it stood at a block; none where it has no checkpoint there.
fn cut_back(
    chain: &CheckpointChain,
    at: BlockNumber,
    period_start: impl Fn(BlockNumber) -> BlockNumber,
) -> Option<CheckpointChain> {
    if chain.last_block <= at {
        return Some(chain.clone());
    }
    let kept = chain
        .deltas
        .iter()
        .take_while(|delta| delta.hive_block <= at)
        .count();
    let last = match kept.checked_sub(1) {
        Some(last) => chain.deltas.get(last)?.hive_block,
        // Right before the first delta's period stands the full state.
        None => period_start(chain.deltas.first()?.hive_block).previous()?,
    };
    (last == at).then(|| CheckpointChain {
        last_block: at,
        deltas: chain.deltas.iter().take(kept).copied().collect(),
        ..chain.clone()
    })
}
