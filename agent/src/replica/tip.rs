//! Where application stands, and blocks applied on top that are not committed yet.

use std::sync::Arc;
use std::time::Instant;

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{Anchor, CheckpointChain, DeltaWriter};
use honeygraph_chain::content_id::ContentHasher;
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::state::{BlockEffect, StateError, StateOverlay};
use honeygraph_chain::state_document::StateDocumentWriter;
use honeygraph_chain::{BlockNumber, ContentId, PathKey};

use super::below::{Below, CommittedState, overlaid};
use crate::store::{CheckpointRecord, Position, Store, StoreError, StoredBlock, Transaction};

/// Who handed over a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// A honeycomb source.
    Source(crate::ingest::SourceId),
    /// A peer.
    Peer(PeerId),
    /// It was stored here already.
    Local,
}

/// Where application stands: what the next block links to and what the next delta document says so far.
#[derive(Debug, Clone)]
pub(super) struct Tip {
    pub(super) number: BlockNumber,
    /// Hash of that block; none right after the replica was started from a document.
    pub(super) block_hash: Option<ContentId>,
    pub(super) checkpoints: CheckpointChain,
    delta: DeltaWriter,
    /// Whether every block since the last checkpoint is stored. Without one of them the next delta document
    /// cannot be made, and nothing goes on before it is fetched again.
    pub(super) is_whole: bool,
}

impl Tip {
    /// The tip at a committed position; reads the blocks since the last checkpoint.
    pub(super) fn at(position: &Position, store: &Store) -> Result<Self, StoreError> {
        let mut delta = DeltaWriter::new(&position.checkpoints);
        let first = position.checkpoints.last_block.next();
        let mut found = 0;
        if let Ok(range) = honeygraph_chain::BlockRange::new(first, position.state_height) {
            for row in store.view().blocks(range) {
                let (number, block) = row?;
                delta.push(&block.decode(number)?.block().operations);
                found += 1;
            }
        }
        Ok(Self {
            is_whole: found == position.state_height.next().distance_from(first),
            number: position.state_height,
            block_hash: position.state_block_hash,
            checkpoints: position.checkpoints.clone(),
            delta,
        })
    }

    /// What the next block links to.
    pub(super) fn link(&self) -> ContentId {
        self.checkpoints.link_after(self.number, self.block_hash)
    }

    /// The tip as a place in the tree of forks. A document that a replica starts from stands there by its
    /// content id, since the hash of its block is unknown.
    pub(super) fn reference(&self) -> BlockReference {
        BlockReference {
            number: self.number,
            hash: self.block_hash.unwrap_or_else(|| self.checkpoints.link()),
        }
    }
}

/// One block applied in an overlay.
#[derive(Debug)]
pub(super) struct StagedBlock {
    pub(super) number: BlockNumber,
    pub(super) stored: StoredBlock,
    pub(super) effect: BlockEffect,
    pub(super) checkpoint: Option<CheckpointRecord>,
    /// A full state document that cannot be computed from the blocks later.
    pub(super) document: Option<Vec<u8>>,
    pub(super) provenance: Provenance,
}

impl StagedBlock {
    /// Writes the checkpoint that the block is, if it is one.
    pub(super) fn write_checkpoint(&self, transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
        if let Some(checkpoint) = &self.checkpoint {
            transaction.put_checkpoint(checkpoint)?;
            if let Some(document) = &self.document {
                transaction.put_document(checkpoint.state_hash, document);
            }
        }
        Ok(())
    }
}

/// A block that does not follow the tip.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error("block {got} does not follow block {tip}")]
    NotNext { tip: BlockNumber, got: BlockNumber },
    #[error("block {number} links to {got}, not to {expected}")]
    BrokenLink {
        number: BlockNumber,
        expected: ContentId,
        got: ContentId,
    },
    #[error("blocks since checkpoint {checkpoint} are missing; they come first")]
    PeriodNotWhole { checkpoint: BlockNumber },
    #[error(
        "the delta document of checkpoint {number} cannot be computed: the full state before the one that this \
         replica started from is not known"
    )]
    NotComputable { number: BlockNumber },
    #[error("block {number} cannot be applied: {reason}")]
    BreaksState { number: BlockNumber, reason: String },
    #[error("checkpoint {number} computes to {computed}, reported is {reported}")]
    CheckpointMismatch {
        number: BlockNumber,
        computed: ContentId,
        reported: ContentId,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckpointFinding {
    /// The kind that the schedule says.
    AsScheduled,
    /// The reported id is of the other kind: the schedule is wrong.
    OtherKind(CheckpointKind),
}

/// Blocks applied on top of the committed state, or of the one that is being committed.
pub(super) struct Stage {
    pub(super) overlay: StateOverlay<Below>,
    pub(super) committed: CommittedState,
    pub(super) tip: Tip,
    pub(super) blocks: Vec<StagedBlock>,
    /// When the first of them came.
    pub(super) since: Option<Instant>,
    /// Blocks up to the last checkpoint in the stage, and the tip there.
    last_checkpoint: Option<(usize, Tip)>,
}

impl Stage {
    pub(super) fn new(committed: CommittedState, tip: Tip, position: &Position) -> Self {
        let overlay = StateOverlay::new(Below::Committed(committed.clone()), position.state_digest);
        Self {
            overlay,
            committed,
            tip,
            blocks: Vec::new(),
            since: None,
            last_checkpoint: None,
        }
    }

    /// Goes on from what is being committed: the stage as it stands. Gives its blocks and its changes.
    pub(super) fn go_on(
        &mut self,
        position: &Position,
    ) -> (Vec<StagedBlock>, Arc<StateOverlay<CommittedState>>) {
        self.committed.on_committed(&self.overlay);
        let below = Below::Committed(self.committed.clone());
        let empty = StateOverlay::new(below, position.state_digest);
        let applied = std::mem::replace(&mut self.overlay, empty);
        let committing = Arc::new(applied.over(self.committed.clone()));
        *self.overlay.below_mut() = Below::Committing(Arc::clone(&committing));
        let blocks = std::mem::take(&mut self.blocks);
        self.restart(self.tip.clone(), position);
        (blocks, committing)
    }

    /// Forgets what the commit that is durable now has changed: it stands in the store.
    pub(super) fn on_durable(&mut self) {
        *self.overlay.below_mut() = Below::Committed(self.committed.clone());
    }

    /// Takes back everything that is applied, to the tip below.
    pub(super) fn restart(&mut self, tip: Tip, position: &Position) {
        self.overlay = StateOverlay::new(self.overlay.below().clone(), position.state_digest);
        self.tip = tip;
        self.blocks.clear();
        self.since = None;
        self.last_checkpoint = None;
    }

    /// Checks and applies the next block, or nothing of it.
    ///
    /// `reported` is the content id that somebody trusted reports for the checkpoint at this block, if it is
    /// one and is known.
    pub(super) fn push(
        &mut self,
        block: &HashedBlock,
        timestamp_ms: u64,
        provenance: Provenance,
        schedule: &CheckpointSchedule,
        reported: Option<ContentId>,
    ) -> Result<CheckpointFinding, StageError> {
        let number = block.number();
        if number != self.tip.number.next() {
            return Err(StageError::NotNext {
                tip: self.tip.number,
                got: number,
            });
        }
        if !self.tip.is_whole {
            return Err(StageError::PeriodNotWhole {
                checkpoint: self.tip.checkpoints.last_block,
            });
        }
        let expected = self.tip.link();
        if block.previous_hash() != expected {
            return Err(StageError::BrokenLink {
                number,
                expected,
                got: block.previous_hash(),
            });
        }
        let operations = &block.block().operations;
        let effect = self.overlay.apply(operations).map_err(|error| match error {
            StateError::Read(error) => StageError::Store(error),
            other => StageError::BreaksState {
                number,
                reason: other.to_string(),
            },
        })?;
        let mark = self.tip.delta.mark();
        self.tip.delta.push(operations);
        let mut finding = CheckpointFinding::AsScheduled;
        let mut made = None;
        if let Some(scheduled) = schedule.kind_at(number) {
            match self.checkpoint(number, scheduled, reported) {
                Ok((id, kind, document)) => {
                    let state_digest = self.overlay.digest();
                    let anchor = Anchor {
                        block_num: number,
                        block_hash: block.hash(),
                        state_hash: id,
                        state_digest,
                    };
                    let record = CheckpointRecord::of(&self.tip.checkpoints, kind, &anchor);
                    self.tip.checkpoints = self.tip.checkpoints.after(kind, number, id);
                    match (kind, self.tip.checkpoints.deltas.last()) {
                        (CheckpointKind::Delta, Some(delta)) => self.tip.delta.start_after(delta),
                        _ => self.tip.delta = DeltaWriter::new(&self.tip.checkpoints),
                    }
                    if kind != scheduled {
                        finding = CheckpointFinding::OtherKind(kind);
                    }
                    made = Some((record, document));
                }
                Err(error) => {
                    self.tip.delta.rewind(mark);
                    self.overlay.undo(
                        effect
                            .changes
                            .into_iter()
                            .map(|change| (change.key, change.before)),
                    )?;
                    return Err(error);
                }
            }
        }
        self.tip.number = number;
        self.tip.block_hash = Some(block.hash());
        let mut stored = StoredBlock::new(block, timestamp_ms);
        stored.digest = Some(self.overlay.digest());
        self.since.get_or_insert_with(Instant::now);
        let is_checkpoint = made.is_some();
        let (checkpoint, document) = made.unzip();
        let document = document.flatten();
        self.blocks.push(StagedBlock {
            number,
            stored,
            effect,
            checkpoint,
            document,
            provenance,
        });
        if is_checkpoint {
            self.last_checkpoint = Some((self.blocks.len(), self.tip.clone()));
        }
        Ok(finding)
    }

    /// Takes back every block after the last checkpoint in the stage. False where there is none in it.
    pub(super) fn rewind_to_checkpoint(&mut self) -> Result<bool, StoreError> {
        let Some((length, tip)) = self.last_checkpoint.clone() else {
            return Ok(false);
        };
        while self.blocks.len() > length {
            if let Some(block) = self.blocks.pop() {
                self.overlay.undo(
                    block
                        .effect
                        .changes
                        .into_iter()
                        .map(|change| (change.key, change.before)),
                )?;
            }
        }
        self.tip = tip;
        Ok(true)
    }

    /// The content id of the checkpoint at the tip, its kind, and the document if it is a full state.
    fn checkpoint(
        &self,
        number: BlockNumber,
        scheduled: CheckpointKind,
        reported: Option<ContentId>,
    ) -> Result<(ContentId, CheckpointKind, Option<Vec<u8>>), StageError> {
        let delta = self.tip.delta.content_id(number);
        if scheduled == CheckpointKind::Delta {
            match (delta, reported) {
                (None, None) => return Err(StageError::NotComputable { number }),
                // Taken as it is reported, unproven: a later document tells what is needed to compute it.
                (None, Some(reported)) => return Ok((reported, CheckpointKind::Delta, None)),
                (Some(delta), None) => return Ok((delta, CheckpointKind::Delta, None)),
                (Some(_), Some(_)) => {}
            }
        }
        if let Some(delta) = delta.filter(|_| delta == reported) {
            return Ok((delta, CheckpointKind::Delta, None));
        }
        let (state, document) = self.state_document(number)?;
        match reported {
            Some(reported) if reported != state => {
                let computed = delta
                    .filter(|_| scheduled == CheckpointKind::Delta)
                    .unwrap_or(state);
                Err(StageError::CheckpointMismatch {
                    number,
                    computed,
                    reported,
                })
            }
            _ => Ok((state, CheckpointKind::State, Some(document))),
        }
    }

    /// The full state document at the stage's state, with its content id.
    pub(super) fn state_document(&self, number: BlockNumber) -> Result<(ContentId, Vec<u8>), StoreError> {
        let mut writer = StateDocumentWriter::new(number);
        let mut hasher = ContentHasher::new();
        let mut document = Vec::new();
        for row in overlaid(
            self.overlay.changed(),
            self.overlay.below().rows(&PathKey::root()),
        ) {
            let (key, leaf) = row?;
            writer
                .push(&key, &leaf)
                .map_err(|error| StoreError::damaged("state", error))?;
            let text = writer.take_text();
            hasher.update(&text);
            document.extend_from_slice(&text);
        }
        let end = writer.finish();
        hasher.update(&end);
        document.extend_from_slice(&end);
        Ok((hasher.finish(), document))
    }
}

impl Stage {
    /// Writes the blocks, what undoes those above `irreversible`, the checkpoints, the leaves and the position.
    /// Gives the position.
    pub(super) fn write(
        &self,
        transaction: &mut Transaction<'_>,
        position: &Position,
    ) -> Result<Position, StoreError> {
        let irreversible = position.irreversible_block();
        for block in &self.blocks {
            transaction.put_block(block.number, &block.stored);
            if irreversible.is_none_or(|lib| block.number > lib) {
                transaction.put_undo(block.number, &block.effect.changes)?;
            }
            block.write_checkpoint(transaction)?;
        }
        for (key, leaf) in self.overlay.changed() {
            transaction.set_leaf(key, leaf);
        }
        let after = self.position_after(position);
        transaction.set_position(after.clone());
        Ok(after)
    }

    /// The position once the stage is committed.
    pub(super) fn position_after(&self, position: &Position) -> Position {
        Position {
            state_height: self.tip.number,
            state_block_hash: self.tip.block_hash,
            state_digest: self.overlay.digest(),
            checkpoints: self.tip.checkpoints.clone(),
            ..position.clone()
        }
    }
}
