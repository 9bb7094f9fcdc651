//! Follows a stream of blocks and checkpoints upwards and proves what can be proven of it: links, and every
//! delta document whose period is whole. Used on what is stored and on what a file holds.

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{CheckpointChain, DeltaWriter};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::{BlockNumber, ContentId};

use super::CheckpointRecord;

/// What was found about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckpointFinding {
    /// Its content id was computed again from the blocks.
    Proven,
    /// What it would take is not there: a block of its period, a checkpoint before it, or the state.
    NotComputable,
    /// The blocks of its period have another content id.
    Mismatch {
        /// First block of the period.
        from: BlockNumber,
        /// What they compute to.
        computed: ContentId,
    },
    /// It names another block hash than the block has.
    OtherBlock {
        /// Hash of the block.
        hash: ContentId,
    },
    /// It names other full states than the checkpoints before it.
    OtherRoot,
}

/// A block that does not link to what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it links to {got}, not to {expected}")]
pub(super) struct BrokenLink {
    /// The block before, or the checkpoint.
    pub(super) expected: ContentId,
    /// What the block says.
    pub(super) got: ContentId,
}

/// Where the walk stands. Holds the log of one period.
pub(super) struct ChainWalk {
    schedule: CheckpointSchedule,
    /// Above this block the checkpoints are not known yet: nothing of it is applied.
    applied: Option<BlockNumber>,
    /// The last block, while it is sound.
    block: Option<(BlockNumber, ContentId)>,
    /// Number and content id of the last checkpoint.
    checkpoint: Option<(BlockNumber, ContentId)>,
    /// The checkpoints since the last full state, as long as none is missing.
    chain: Option<CheckpointChain>,
    /// The log of the period, as long as no block is missing in it.
    delta: Option<DeltaWriter>,
}

impl ChainWalk {
    pub(super) const fn new(schedule: CheckpointSchedule) -> Self {
        Self {
            schedule,
            applied: None,
            block: None,
            checkpoint: None,
            chain: None,
            delta: None,
        }
    }

    /// The walk over a store where no block above `height` is applied.
    pub(super) fn applied_to(mut self, height: BlockNumber) -> Self {
        self.applied = Some(height);
        self
    }

    /// The chain of checkpoints as far as the walk has come, where it is known.
    pub(super) const fn chain(&self) -> Option<&CheckpointChain> {
        self.chain.as_ref()
    }

    /// Goes on to the next block, which need not follow the one before at once.
    pub(super) fn block(&mut self, block: &HashedBlock) -> Result<(), BrokenLink> {
        let number = block.number();
        let before = number.previous();
        let expected = match (self.checkpoint, self.block) {
            (Some((at, id)), _) if Some(at) == before => Some(id),
            (_, Some((at, _))) if Some(at) == before && self.names_unknown(at) => None,
            (_, Some((at, hash))) if Some(at) == before => Some(hash),
            _ => None,
        };
        let starts_period = self.checkpoint.is_some_and(|(at, _)| Some(at) == before);
        let goes_on = self.block.is_some_and(|(at, _)| Some(at) == before);
        if starts_period {
            self.delta = self.chain.as_ref().map(DeltaWriter::new);
        } else if !goes_on {
            self.delta = None;
        }
        self.block = Some((number, block.hash()));
        if let Some(delta) = &mut self.delta {
            delta.push(&block.block().operations);
        }
        match expected {
            Some(expected) if expected != block.previous_hash() => Err(BrokenLink {
                expected,
                got: block.previous_hash(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether the block after this one names a checkpoint that is not known yet.
    fn names_unknown(&self, number: BlockNumber) -> bool {
        self.applied.is_some_and(|height| number > height) && self.schedule.kind_at(number).is_some()
    }

    /// Goes past a block that is damaged: what hangs on it cannot be proven.
    pub(super) fn skip_block(&mut self) {
        self.block = None;
        self.delta = None;
    }

    /// Goes past a checkpoint, after its block.
    pub(super) fn checkpoint(&mut self, record: &CheckpointRecord) -> CheckpointFinding {
        let number = record.block_num;
        let hash = self.block.filter(|(at, _)| *at == number).map(|(_, hash)| hash);
        let delta = self.delta.take().filter(|_| hash.is_some());
        let before = self.chain.take().filter(|chain| {
            // Past a checkpoint that is not known the chain is not known either.
            self.schedule.next_at_or_after(chain.last_block.next()) >= number
        });
        self.checkpoint = Some((number, record.state_hash));
        let same_root = before.as_ref().is_none_or(|chain| {
            chain.root == record.root
                && (record.kind == CheckpointKind::State || chain.prev_root == record.prev_root)
        });
        let from = before.as_ref().map(|chain| chain.last_block.next());
        self.chain = match (record.kind, &before) {
            (_, Some(chain)) if same_root => Some(chain.after(record.kind, number, record.state_hash)),
            (CheckpointKind::State, _) => Some(CheckpointChain {
                last_block: number,
                root: record.state_hash,
                prev_root: record.previous_root(),
                deltas: Vec::new(),
            }),
            (CheckpointKind::Delta, _) => None,
        };
        if !same_root {
            return CheckpointFinding::OtherRoot;
        }
        if let (Some(hash), Some(named)) = (hash, record.block_hash)
            && hash != named
        {
            return CheckpointFinding::OtherBlock { hash };
        }
        match (record.kind, delta, from) {
            (CheckpointKind::Delta, Some(delta), Some(from)) => {
                let Some(computed) = delta.content_id(number) else {
                    return CheckpointFinding::NotComputable;
                };
                if computed == record.state_hash {
                    CheckpointFinding::Proven
                } else {
                    CheckpointFinding::Mismatch { from, computed }
                }
            }
            _ => CheckpointFinding::NotComputable,
        }
    }
}
