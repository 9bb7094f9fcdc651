//! Checkpoints that sources report, votes on anchors, and the last irreversible block.

use std::collections::BTreeSet;

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{Anchor, DeltaDocument, DeltaWriter, PreviousRoot};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::quorum::{Agreement, VoterId};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::reorganize::{Undone, checkpoint_chain_at};
use super::sources::SetAside;
use super::tip::Provenance;
use super::{MAX_OPEN_CHECKPOINTS, Replica, StoreError};
use crate::ingest::{SourceCommand, SourceId};
use crate::store::{CheckpointRecord, Position};

/// Checkpoints of a source in a row that may fail before its blocks are no longer taken back and asked for
/// again.
const MISMATCHES_BEFORE_GIVING_UP: u32 = 3;
/// How a reported checkpoint is to be read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    kind: CheckpointKind,
    /// The checkpoint before it.
    after: BlockNumber,
}

/// Undo rows removed in one transaction.
const UNDO_ROWS_A_TRANSACTION: usize = 4_096;

impl Replica {
    /// The content id that somebody trusted reports for a checkpoint of the chain that is followed: the operator,
    /// then the voters, then the sources that do not stand on another fork (where they contradict each other, the
    /// ones with more weight).
    pub(super) fn reported_checkpoint(&self, number: BlockNumber) -> Option<ContentId> {
        if let Some((trusted, id)) = self.settings.trusted_checkpoint
            && trusted == number
        {
            return Some(id);
        }
        if let Some(anchor) = self.agreed_anchor(number) {
            return Some(anchor.state_hash);
        }
        if let Some(id) = self.named.get(&number) {
            return Some(*id);
        }
        let here = self.running.as_ref().map(|running| running.tip.reference().hash);
        self.checkpoint_of_sources(number, here, |source| self.weight_of(source))
    }

    /// The same for a block of a fork: what is reported on the chain that ends there.
    pub(super) fn reported_on_fork(&self, block: BlockReference) -> Option<ContentId> {
        let number = block.number;
        let trusted = self.settings.trusted_checkpoint.filter(|(at, _)| *at == number);
        let agreed = || self.agreed_anchor(number).map(|anchor| anchor.state_hash);
        let named = || self.named.get(&number).copied();
        let of_sources = || {
            let weigh = |source: &SourceId| self.weight_of(source);
            self.checkpoint_of_sources(number, Some(block.hash), weigh)
        };
        trusted
            .map(|(_, id)| id)
            .or_else(agreed)
            .or_else(named)
            .or_else(of_sources)
    }

    /// The content id that the sources on a chain report for a checkpoint; none where they contradict each other
    /// with equal weight.
    fn checkpoint_of_sources(
        &self,
        number: BlockNumber,
        chain: Option<ContentId>,
        weigh: impl Fn(&SourceId) -> u64,
    ) -> Option<ContentId> {
        let mut weights: Vec<(ContentId, u64)> = Vec::new();
        for (source, id) in self.reports.get(&number)? {
            let weight = weigh(source);
            if weight == 0 || chain.is_some_and(|chain| self.stands_elsewhere(source, number, chain)) {
                continue;
            }
            match weights.iter_mut().find(|(known, _)| known == id) {
                Some((_, sum)) => *sum += weight,
                None => weights.push((*id, weight)),
            }
        }
        let (best, weight) = weights.iter().copied().max_by_key(|(_, weight)| *weight)?;
        let contested = weights.iter().any(|(id, other)| *id != best && *other == weight);
        (!contested).then_some(best)
    }

    /// What a source's word weighs: nothing where it is no voter. Where nobody votes at all, any word counts.
    pub(super) fn weight_of(&self, source: &SourceId) -> u64 {
        let voters = &self.settings.voters;
        if voters.total() == 0 {
            return 1;
        }
        voters.weight(&VoterId(source.to_string()))
    }

    /// Whether a source stands on a fork that has another block with this number than the chain that ends at a block
    /// of the tree.
    fn stands_elsewhere(&self, source: &SourceId, number: BlockNumber, chain: ContentId) -> bool {
        let (Some(running), Some(view)) = (&self.running, self.sources.get(source)) else {
            return false;
        };
        let tree = &running.tree;
        let Some(tip) = view.tip.filter(|tip| tree.contains(tip.hash)) else {
            return false;
        };
        let shares = |block: BlockReference| tree.is_on_chain_of(block.hash, chain);
        !shares(tip) && !tree.at_height(tip.hash, number).is_some_and(shares)
    }

    /// The newest checkpoint above the state height that somebody trusted reports.
    pub fn newest_reported(&self) -> Option<(BlockNumber, ContentId)> {
        let height = self
            .writer
            .position()
            .map_or(BlockNumber::default(), |position| position.state_height);
        let trusted = self.settings.trusted_checkpoint.map(|(number, _)| number);
        let mut numbers: Vec<_> = self
            .reports
            .keys()
            .chain(self.votes.keys())
            .copied()
            .chain(trusted)
            .filter(|number| *number > height)
            .collect();
        numbers.sort_unstable();
        numbers
            .into_iter()
            .rev()
            .find_map(|number| Some((number, self.reported_checkpoint(number)?)))
    }

    /// The newest checkpoint above the state height that is trusted enough to start from: the operator named
    /// it, or more than half of the configured weight stands behind its content id. Where at most one voter is
    /// configured, its report will do, and before the start any report.
    pub fn newest_supported(&self) -> Option<(BlockNumber, ContentId)> {
        let height = self.writer.position().map(|position| position.state_height);
        let is_ahead = |number: BlockNumber| height.is_none_or(|height| number > height);
        let trusted = self
            .settings
            .trusted_checkpoint
            .filter(|(number, _)| is_ahead(*number));
        let numbers: BTreeSet<_> = self.reports.keys().chain(self.votes.keys()).copied().collect();
        let supported = numbers
            .into_iter()
            .rev()
            .filter(|number| is_ahead(*number))
            .find_map(|number| Some((number, self.supported_checkpoint(number)?)));
        // What the operator named goes before what others say of the same checkpoint.
        let newest = trusted
            .into_iter()
            .chain(supported)
            .rev()
            .max_by_key(|(number, _)| *number);
        if newest.is_some() || !self.settings.voters.is_single() {
            return newest;
        }
        // A start may be made from any report, and is unanchored until the voter speaks. Nothing is measured by it.
        let of_anyone = || {
            let numbers = self.reports.keys().rev();
            let mut told = numbers.filter_map(|number| {
                let id = self.checkpoint_of_sources(*number, None, |_| 1)?;
                Some((*number, id))
            });
            told.next().filter(|_| height.is_none())
        };
        self.newest_reported().or_else(of_anyone)
    }

    /// The content id that more than half of the configured weight gives a checkpoint, in reports and votes
    /// together. A voter that does both is heard once, with its vote.
    pub(super) fn supported_checkpoint(&self, number: BlockNumber) -> Option<ContentId> {
        let reports = self.reports.get(&number).into_iter().flatten();
        let reports = reports.map(|(source, id)| (VoterId(source.to_string()), *id));
        let votes = self.votes.get(&number).into_iter().flatten();
        let votes = votes.map(|(voter, anchor)| (voter.clone(), anchor.state_hash));
        match self.settings.voters.decide(reports.chain(votes)) {
            Agreement::Agreed { value, .. } => Some(value),
            Agreement::Conflict | Agreement::Undecided => None,
        }
    }

    /// Learns the checkpoints that a trusted delta document names: its content id was checked.
    pub fn learn_named(&mut self, document: &DeltaDocument) -> Result<(), StoreError> {
        let height = self
            .writer
            .position()
            .map_or(BlockNumber::default(), |position| position.state_height);
        self.named = self.named.split_off(&height.next());
        self.learn_chain(document);
        let ahead = document.chain.iter().filter(|delta| delta.hive_block > height);
        self.named.extend(
            ahead
                .map(|delta| (delta.hive_block, delta.hash))
                .take(MAX_OPEN_CHECKPOINTS),
        );
        self.learn_previous_root(document)
    }

    /// What the voters agree on at a checkpoint, if they do.
    pub(super) fn agreed_anchor(&self, number: BlockNumber) -> Option<Anchor> {
        let votes = self
            .votes
            .get(&number)?
            .iter()
            .map(|(voter, anchor)| (voter.clone(), *anchor));
        match self.settings.voters.decide(votes) {
            Agreement::Agreed { value, .. } => Some(value),
            Agreement::Conflict | Agreement::Undecided => None,
        }
    }

    /// The checkpoints from the last irreversible one up that voters contradict: with their anchors, or, where
    /// they are sources, with the fork that they stand on.
    pub(super) fn conflicts(&self) -> BTreeSet<BlockNumber> {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return BTreeSet::new();
        };
        let (voters, here) = (&self.settings.voters, running.tip.reference().hash);
        let lowest = position.irreversible_block().unwrap_or_default();
        let mut numbers: BTreeSet<BlockNumber> = self
            .votes
            .range(lowest..=position.state_height.max(lowest))
            .filter(|(_, votes)| {
                // Most have too few votes to contradict anything.
                let weight = votes.keys().map(|voter| voters.weight(voter)).sum();
                !voters.is_majority(voters.total().saturating_sub(weight))
            })
            .map(|(number, _)| *number)
            .collect();
        let tips: Vec<_> = self
            .sources
            .iter()
            .filter_map(|(source, view)| Some((VoterId(source.to_string()), view.tip?)))
            .filter(|(_, tip)| {
                running.tree.contains(tip.hash) && !running.tree.is_on_chain_of(tip.hash, here)
            })
            .collect();
        if !tips.is_empty() {
            numbers.insert(position.checkpoints.last_block);
        }
        if numbers.is_empty() {
            return numbers;
        }
        let view = self.writer.store().view();
        let ours = |number: BlockNumber| match position.irreversible {
            Some(irreversible) if irreversible.block_num == number => Some(irreversible),
            _ => view.checkpoint(number).ok().flatten()?.anchor(),
        };
        numbers.retain(|number| {
            let Some(ours) = ours(*number) else { return false };
            let mut cast = self.votes.get(number).cloned().unwrap_or_default();
            for (voter, tip) in &tips {
                if let Some(at) = running.tree.at_height(tip.hash, *number) {
                    let block_hash = at.hash;
                    cast.insert(voter.clone(), Anchor { block_hash, ..ours });
                }
            }
            voters.contradict(&ours, &cast)
        });
        numbers
    }

    /// The fault of a block that has another hash than the voters agree on.
    pub(super) fn contradicts_agreed_hash(&self, block: &HashedBlock) -> Option<PeerFault> {
        let agreed = self.agreed_anchor(block.number())?;
        (agreed.block_hash != block.hash()).then_some(PeerFault::CheckpointMismatch)
    }

    /// Takes a checkpoint that a source reports.
    pub(super) fn on_report(
        &mut self,
        source: &SourceId,
        number: BlockNumber,
        id: ContentId,
    ) -> Result<(), StoreError> {
        let irreversible = self.writer.position().and_then(Position::irreversible_block);
        if irreversible.is_some_and(|lib| number < lib) {
            return Ok(());
        }
        self.reports.entry(number).or_default().insert(source.clone(), id);
        while self.reports.len() > MAX_OPEN_CHECKPOINTS {
            self.reports.pop_last();
        }
        self.judge_reports(source)?;
        // Blocks may have waited for it, at the front or above a gap.
        self.take_pending(source)
    }

    /// Compares what a source reported with what its own stream computes to.
    pub(super) fn judge_reports(&mut self, source: &SourceId) -> Result<(), StoreError> {
        let open: Vec<_> = self
            .reports
            .iter()
            .filter_map(|(number, by_source)| Some((*number, *by_source.get(source)?)))
            .collect();
        for (number, id) in open {
            self.judge_report(source, number, id)?;
        }
        Ok(())
    }

    fn judge_report(
        &mut self,
        source: &SourceId,
        number: BlockNumber,
        id: ContentId,
    ) -> Result<(), StoreError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let Some(tip) = self.sources.get(source).and_then(|view| view.tip) else {
            return Ok(());
        };
        let Some(block) = running.tree.at_height(tip.hash, number) else {
            return Ok(());
        };
        let canonical = running
            .tree
            .is_on_chain_of(block.hash, running.tip.reference().hash);
        if !canonical {
            // A fork's checkpoint is proven once the fork is followed.
            return Ok(());
        }
        let record = self.writer.store().view().checkpoint(number)?;
        match record {
            // Taken as it was reported: what the source's stream computes to is not known yet.
            Some(record)
                if record.kind == CheckpointKind::Delta && record.prev_root == PreviousRoot::Unknown =>
            {
                Ok(())
            }
            Some(record) if record.state_hash == id => self.source_votes(source, &record),
            _ if self.is_settled(number) => self.on_mismatch(source, number, id),
            record => {
                if let Some(reading) = self.other_reading(number, record.as_ref(), id)? {
                    self.relink(number, reading, id)?;
                    return self.judge_report(source, number, id);
                }
                self.on_mismatch(source, number, id)
            }
        }
    }

    fn source_votes(&mut self, source: &SourceId, record: &CheckpointRecord) -> Result<(), StoreError> {
        if let Some(by_source) = self.reports.get_mut(&record.block_num) {
            by_source.remove(source);
        }
        if let Some(view) = self.sources.get_mut(source) {
            view.mismatches = 0;
            view.unanchored = false;
            view.assumed = None;
        }
        self.provenance = self.provenance.split_off(&record.block_num.next());
        match record.anchor() {
            Some(anchor) => self.on_vote(VoterId(source.to_string()), anchor),
            None => Ok(()),
        }
    }

    /// How else a checkpoint can be what is reported: of the other kind, or at a block where none was
    /// expected. Then the schedule is wrong.
    fn other_reading(
        &self,
        number: BlockNumber,
        record: Option<&CheckpointRecord>,
        id: ContentId,
    ) -> Result<Option<Reading>, StoreError> {
        let (Some(position), Some(before)) = (self.writer.position(), number.previous()) else {
            return Ok(None);
        };
        let view = self.writer.store().view();
        // Checkpoints above what is final may themselves stand where none is.
        let settled = position
            .irreversible_block()
            .unwrap_or(position.history_start.saturating_sub(1));
        let mut after = None;
        for start in [before, settled.min(before)] {
            let Some(chain) = checkpoint_chain_at(&view, start)? else {
                continue;
            };
            let Ok(range) = BlockRange::new(chain.last_block.next(), number) else {
                continue;
            };
            let mut delta = DeltaWriter::new(&chain);
            for row in view.blocks(range) {
                let (number, block) = row?;
                delta.push(&block.decode(number)?.block().operations);
            }
            if delta.content_id(number) == Some(id) {
                return Ok(Some(Reading {
                    kind: CheckpointKind::Delta,
                    after: chain.last_block,
                }));
            }
            after = Some(chain.last_block);
        }
        if let Some(after) = after
            && record.is_none_or(|record| record.kind == CheckpointKind::Delta)
            && self.stage_at(&view, position, number)?.state_document(number)?.0 == id
        {
            return Ok(Some(Reading {
                kind: CheckpointKind::State,
                after,
            }));
        }
        Ok(None)
    }

    /// A source's checkpoint is the id of nothing that its stream computes to.
    fn on_mismatch(
        &mut self,
        source: &SourceId,
        number: BlockNumber,
        id: ContentId,
    ) -> Result<(), StoreError> {
        self.counters.state_hash_mismatches += 1;
        if let Some(by_source) = self.reports.get_mut(&number) {
            by_source.remove(source);
        }
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let start = position.schedule.period_of(number).start();
        let before = start.saturating_sub(1);
        tracing::error!(%source, checkpoint = %number, reported = %id, "state hash mismatch");
        let Some(view) = self.sources.get_mut(source) else {
            return Ok(());
        };
        view.mismatches += 1;
        let resend = view.resend_since(before);
        let give_up = view.mismatches > MISMATCHES_BEFORE_GIVING_UP;
        self.outbox.push((source.clone(), SourceCommand::Refuse(format!(
            "checkpoint {id} of block {number} is not what your operations since block {before} compute to"
        ))));
        let supported = self.votes.get(&number).is_some_and(|votes| !votes.is_empty());
        self.forget_view(source);
        if supported || give_up {
            return Ok(());
        }
        // The period came from this source or from peers, and one of them is wrong: take it again.
        let unproven = self
            .provenance
            .range(start..=number)
            .any(|(_, by)| *by != Provenance::Local);
        if unproven {
            // The sources are asked for the period again.
            return self.roll_back(before, Undone::Discard);
        }
        self.outbox
            .extend(resend.map(|command| (source.clone(), command)));
        Ok(())
    }

    /// Takes a voter's anchors, and decides the newest that can be decided first: it settles those below.
    pub fn on_votes(&mut self, voter: &VoterId, anchors: &[Anchor]) -> Result<(), StoreError> {
        for anchor in anchors {
            self.take_vote(voter.clone(), *anchor);
        }
        let mut numbers: Vec<_> = anchors.iter().map(|anchor| anchor.block_num).collect();
        numbers.sort_unstable();
        numbers
            .into_iter()
            .rev()
            .try_for_each(|number| self.decide(number))?;
        let waited = self
            .running
            .as_ref()
            .map(|running| running.stage.tip.number.next());
        match waited {
            // Sources' blocks may have waited for it.
            Some(next) if anchors.iter().any(|anchor| anchor.block_num == next) => self.after_advance(),
            _ => Ok(()),
        }
    }

    /// Takes a voter's anchor.
    pub fn on_vote(&mut self, voter: VoterId, anchor: Anchor) -> Result<(), StoreError> {
        self.take_vote(voter, anchor);
        self.decide(anchor.block_num)
    }

    fn take_vote(&mut self, voter: VoterId, anchor: Anchor) {
        let number = anchor.block_num;
        if self.settings.voters.weight(&voter) == 0 {
            return;
        }
        if let Some(irreversible) = self.writer.position().and_then(|position| position.irreversible) {
            if number < irreversible.block_num {
                return;
            }
            if number == irreversible.block_num && anchor == irreversible {
                // It may have said something else before.
                if let Some(votes) = self.votes.get_mut(&number) {
                    votes.remove(&voter);
                }
                return;
            }
        }
        let is_checkpoint = |position: &Position| position.schedule.kind_at(number).is_some();
        if !self.writer.position().is_none_or(is_checkpoint) {
            return;
        }
        self.votes.entry(number).or_default().insert(voter, anchor);
        while self.votes.len() > MAX_OPEN_CHECKPOINTS {
            // The lowest are decided first.
            self.votes.pop_last();
        }
    }

    pub(super) fn decide(&mut self, number: BlockNumber) -> Result<(), StoreError> {
        let Some(agreed) = self.agreed_anchor(number) else {
            return Ok(());
        };
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        if let Some(irreversible) = position.irreversible
            && irreversible.block_num == number
            && irreversible != agreed
        {
            return self.halt(format!(
                "the voters agree on block {} at checkpoint {number}, which contradicts the irreversible {}",
                agreed.block_hash, irreversible.block_hash
            ));
        }
        if number > position.state_height {
            return Ok(());
        }
        let ours = self
            .writer
            .store()
            .view()
            .checkpoint(number)?
            .and_then(|record| record.anchor());
        if ours == Some(agreed) {
            return self.finalize(agreed);
        }
        let is_stored = self.writer.have().contains(number);
        let link = position.checkpoints.link();
        if !is_stored && number == position.checkpoints.last_block && agreed.state_hash != link {
            return self.halt_at_false_start(number, link, agreed.state_hash);
        }
        if ours.is_none() && !is_stored {
            // Behind the start of this replica: there is nothing of ours to compare with.
            return Ok(());
        }
        tracing::error!(checkpoint = %number, agreed = %agreed.block_hash, "the voters agree on another chain");
        self.counters.divergences += 1;
        let before = position.schedule.period_of(number).start().saturating_sub(1);
        // Sources that stand on it are against the voters: they are not followed back there.
        if let Some(running) = &self.running
            && let Some(false_block) = running.tree.at_height(running.tip.reference().hash, number)
        {
            let stands = |tip: BlockReference| running.tree.is_on_chain_of(false_block.hash, tip.hash);
            let against = self
                .sources
                .iter()
                .filter(|(_, view)| view.tip.is_some_and(stands));
            let against: Vec<_> = against.map(|(source, _)| source.clone()).collect();
            for source in against {
                let reason =
                    format!("it stands on a chain that the voters contradict at checkpoint {number}");
                self.set_aside(&source, SetAside::Contradicts(reason));
            }
        }
        self.roll_back(before, Undone::Contradicted)
    }

    /// Stops where the document that this replica started from is not what the voters agree on: there is
    /// nothing below it to go back to, and no honest peer's block links to it.
    fn halt_at_false_start(
        &mut self,
        number: BlockNumber,
        started_from: ContentId,
        agreed: ContentId,
    ) -> Result<(), StoreError> {
        if self.halted().is_some() {
            return Ok(());
        }
        self.counters.divergences += 1;
        self.halt(format!(
            "this node started from document {started_from} of block {number}, but the voters agree on {agreed}; \
             stop it, empty its data directory and start it again, with TRUSTED_CHECKPOINT={number}:{agreed} if \
             you trust that one"
        ))
    }

    /// Makes an agreed anchor of the canonical chain the last irreversible block.
    fn finalize(&mut self, anchor: Anchor) -> Result<(), StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let before = position.irreversible_block();
        if before.is_some_and(|lib| lib >= anchor.block_num) {
            return Ok(());
        }
        let mut transaction = self.writer.begin();
        transaction.set_position(Position {
            irreversible: Some(anchor),
            ..position.clone()
        });
        transaction.commit()?;
        self.forget_undo(anchor.block_num)?;
        self.age_out_orphans(anchor.block_num)?;
        self.age_out_documents_since(before)?;
        self.votes = self.votes.split_off(&anchor.block_num.next());
        self.reports = self.reports.split_off(&anchor.block_num.next());
        self.advance_tree();
        tracing::debug!(block = %anchor.block_num, "irreversible");
        Ok(())
    }

    fn forget_undo(&mut self, irreversible: BlockNumber) -> Result<(), StoreError> {
        let through = irreversible.saturating_sub(self.settings.kept_changes);
        loop {
            let mut transaction = self.writer.begin();
            let removed = transaction.remove_undo_through(through, UNDO_ROWS_A_TRANSACTION)?;
            transaction.commit()?;
            if removed < UNDO_ROWS_A_TRANSACTION {
                return Ok(());
            }
        }
    }

    fn age_out_orphans(&mut self, irreversible: BlockNumber) -> Result<(), StoreError> {
        let oldest = irreversible.saturating_sub(self.settings.orphan_blocks);
        let mut aged = Vec::new();
        for row in self.writer.store().view().fork_blocks() {
            let (number, block) = row?;
            if number >= oldest {
                break;
            }
            aged.push(BlockReference {
                number,
                hash: block.hash,
            });
        }
        if aged.is_empty() {
            return Ok(());
        }
        let mut transaction = self.writer.begin();
        for block in aged {
            transaction.remove_fork_block(block);
        }
        transaction.commit()
    }

    /// The network showed that a checkpoint is of another kind than the schedule said.
    pub(super) fn correct_schedule(
        &mut self,
        number: BlockNumber,
        kind: CheckpointKind,
    ) -> Result<(), StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let schedule = position.schedule.corrected(number, kind);
        tracing::warn!(checkpoint = %number, ?kind, ?schedule, "checkpoint schedule corrected by the network");
        let mut transaction = self.writer.begin();
        transaction.set_position(Position { schedule, ..position });
        transaction.commit()
    }

    /// Where the block right after the newest checkpoint links to the other kind of document: links again.
    /// Both ids are computed here; only which of them the network uses is taken from the block.
    pub(super) fn relink_to(&mut self, link: ContentId) -> Result<bool, StoreError> {
        let Some(running) = &self.running else {
            return Ok(false);
        };
        let number = running.stage.tip.number;
        let at_checkpoint = running.stage.tip.checkpoints.last_block == number;
        // Where somebody trusted has said which document it is, a link says nothing.
        if !at_checkpoint || self.is_settled(number) || self.reported_checkpoint(number).is_some() {
            return Ok(false);
        }
        self.commit_stage()?;
        let record = self.writer.store().view().checkpoint(number)?;
        match record {
            Some(record) if record.block_hash.is_some() => {
                match self.other_reading(number, Some(&record), link)? {
                    Some(reading) => self.relink(number, reading, link).map(|()| true),
                    None => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }

    /// Whether a block is irreversible.
    fn is_settled(&self, number: BlockNumber) -> bool {
        let irreversible = self.writer.position().and_then(Position::irreversible_block);
        irreversible.is_some_and(|block| number <= block)
    }

    /// Takes back what is not proven since the checkpoint before a block: others stand on another chain.
    pub fn abandon_unproven(&mut self, from: BlockNumber) -> Result<(), StoreError> {
        let Some(position) = self.writer.position() else {
            return Ok(());
        };
        let before = position.schedule.period_of(from).start().saturating_sub(1);
        let settled = position.irreversible_block().unwrap_or_default();
        self.roll_back(before.max(settled), Undone::Orphan)
    }

    /// Links the blocks after a checkpoint again: it turned out to be of the other kind, or at a block where
    /// none was expected. The state stays as it is; only hashes change.
    fn relink(&mut self, number: BlockNumber, reading: Reading, id: ContentId) -> Result<(), StoreError> {
        self.drop_stage();
        self.correct_schedule(number, reading.kind)?;
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let Ok(range) = BlockRange::new(reading.after.next(), position.state_height) else {
            return Ok(());
        };
        let view = self.writer.store().view();
        let mut stage = self.stage_at(&view, &position, reading.after)?;
        let mut transaction_blocks = Vec::new();
        for row in view.blocks(range) {
            let (at, stored) = row?;
            let block = stored.decode(at)?.relinked(stage.tip.link());
            let reported = if at == number {
                Some(id)
            } else {
                self.reported_checkpoint(at)
            };
            let by = self.provenance.get(&at).cloned().unwrap_or(Provenance::Local);
            let pushed = stage.push(&block, stored.timestamp_ms, by, &position.schedule, reported);
            if let Err(error) = pushed {
                tracing::warn!(block = %at, %error, "block left out when linking again");
                break;
            }
            transaction_blocks.push((at, stored.hash, block.hash()));
        }
        let mut transaction = self.writer.begin();
        for record in view.checkpoints(range) {
            transaction.remove_checkpoint(&record?);
        }
        transaction.remove_blocks(range);
        let after = stage.write(&mut transaction, &position)?;
        transaction.commit()?;
        self.run_from(&after)?;
        for view in self.sources.values_mut() {
            view.tip = view.tip.and_then(|tip| {
                if tip.number <= reading.after {
                    return Some(tip);
                }
                let moved = transaction_blocks.iter().find(|(_, old, _)| *old == tip.hash)?;
                Some(BlockReference {
                    number: moved.0,
                    hash: moved.2,
                })
            });
        }
        tracing::warn!(checkpoint = %number, blocks = transaction_blocks.len(), "linked again");
        Ok(())
    }
}
