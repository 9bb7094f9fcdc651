//! The replica: the only writer of the store. It links, checks, applies and commits blocks, chooses between
//! forks, and keeps what is irreversible irreversible.
//!
//! A [`Replica`] is synchronous and owns its store; [`ReplicaHandle`] runs one on a thread of its own and is
//! what the rest of the node holds.

mod ahead;
mod below;
mod documents;
mod extend;
mod finality;
mod forks;
mod history;
mod history_proof;
mod pending;
mod previous_root;
mod recent_leaves;
mod reorganize;
mod sources;
mod start;
mod status;
mod thread;
mod tip;

pub use ahead::AheadOutcome;
pub use extend::{ExtendOutcome, FetchedBlock, Vouched};
pub use history::HistoryOutcome;
pub use history_proof::ToldBlocks;
pub(crate) use reorganize::checkpoint_chain_at;
pub use start::{DELTA_BYTES_MAX, StartDocuments, StartError};
pub use status::{ReplicaStatus, SourceStatus};
pub use thread::{HoldAnswer, HoldError, ReplicaGone, ReplicaHandle};
pub use tip::Provenance;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use honeygraph_chain::checkpoint::{Anchor, CheckpointChain};
use honeygraph_chain::fork::{BlockReference, ForkLimits, ForkTree};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::quorum::{VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use crate::ingest::{SourceCommand, SourceCursor, SourceId};
use crate::metrics::Metrics;
use crate::store::{Position, Store, StoreError, Writer};
use below::CommittedState;
use sources::SourceView;
use tip::{Stage, Tip};

/// What a replica is told by configuration.
#[derive(Debug, Clone)]
pub struct ReplicaSettings {
    /// The network's prefix.
    pub network: String,
    /// Which blocks are checkpoints, until the network proves otherwise.
    pub schedule: CheckpointSchedule,
    /// Who votes.
    pub voters: Voters,
    /// Blocks that a reorganization undoes at most (`MAX_REORG_DEPTH`).
    pub max_reorg_depth: u64,
    /// Blocks from peers that are gathered for one transaction.
    pub commit_blocks: usize,
    /// Longest time that a block from a peer waits for others to be committed with.
    pub commit_interval: Duration,
    /// Blocks that a losing fork is kept for before it ages out.
    pub orphan_blocks: u64,
    /// Blocks of one source that wait in memory while it is not known what they link to.
    pub pending_blocks: usize,
    /// Bytes that they take at most, beside the newest one.
    pub pending_bytes: usize,
    /// A checkpoint that the operator vouches for: above every report and vote.
    pub trusted_checkpoint: Option<(BlockNumber, ContentId)>,
    /// Irreversible full state documents that are kept.
    pub state_documents: NonZeroUsize,
    /// Irreversible blocks whose changes of the state are still kept, for a projection that is behind.
    pub kept_changes: u64,
    /// Where commits are counted.
    pub metrics: Metrics,
}

impl ReplicaSettings {
    /// A losing fork is kept for a day.
    pub const ORPHAN_BLOCKS: u64 = 28_800;
    /// Blocks of a source that wait: some periods.
    pub const PENDING_BLOCKS: usize = 512;
    /// As large as the largest block that a honeycomb can send (32 MiB).
    pub const PENDING_BYTES: usize = 32 << 20;

    /// Those of a replica of `network` that knows no voter, keeps every state document and commits what it is
    /// given at once; checkpoints and depths are those of real networks.
    pub fn new(network: impl Into<String>) -> Self {
        Self {
            network: network.into(),
            schedule: CheckpointSchedule::default(),
            voters: Voters::default(),
            max_reorg_depth: 1_000,
            commit_blocks: 1_000,
            commit_interval: Duration::ZERO,
            orphan_blocks: Self::ORPHAN_BLOCKS,
            pending_blocks: Self::PENDING_BLOCKS,
            pending_bytes: Self::PENDING_BYTES,
            trusted_checkpoint: None,
            state_documents: NonZeroUsize::MAX,
            kept_changes: 0,
            metrics: Metrics::new(),
        }
    }
}

/// Siblings of one block that are held.
const MAX_SIBLINGS: usize = 16;
/// Blocks that the tree of forks holds beyond the depth of a reorganization.
const TREE_SLACK: u64 = 8_192;
/// Checkpoint numbers for which reports and votes are held.
const MAX_OPEN_CHECKPOINTS: usize = 4_096;

/// A replica of one network.
pub struct Replica {
    writer: Writer,
    settings: ReplicaSettings,
    running: Option<Running>,
    sources: BTreeMap<SourceId, SourceView>,
    /// Content ids that sources report for checkpoints above the last irreversible block.
    reports: BTreeMap<BlockNumber, BTreeMap<SourceId, ContentId>>,
    votes: BTreeMap<BlockNumber, BTreeMap<VoterId, Anchor>>,
    /// Where the voters that are peers stand.
    voter_tips: BTreeMap<VoterId, BlockReference>,
    /// Content ids that a checkpoint document of somebody trusted names for the checkpoints before it.
    named: BTreeMap<BlockNumber, ContentId>,
    /// The chain of checkpoints that it names.
    named_chain: Option<CheckpointChain>,
    /// Who handed over the blocks that no checkpoint proves yet.
    provenance: BTreeMap<BlockNumber, Provenance>,
    /// How far each source's log was taken, to be stored with the next commit.
    cursors: BTreeMap<SourceId, SourceCursor>,
    /// What sources are to be told.
    outbox: Vec<(SourceId, SourceCommand)>,
    /// Nothing above this block is taken while commits are to be held there.
    stop: Option<BlockNumber>,
    counters: status::Counters,
}

/// What exists once the replica has a state to stand on.
struct Running {
    /// Where the committed blocks end.
    tip: Tip,
    /// Blocks applied on top that are not committed yet.
    stage: Stage,
    tree: ForkTree,
}

impl Replica {
    /// The replica on top of an open store.
    pub fn new(writer: Writer, settings: ReplicaSettings) -> Result<Self, StoreError> {
        let mut replica = Self {
            writer,
            settings,
            running: None,
            sources: BTreeMap::new(),
            reports: BTreeMap::new(),
            votes: BTreeMap::new(),
            voter_tips: BTreeMap::new(),
            named: BTreeMap::new(),
            named_chain: None,
            provenance: BTreeMap::new(),
            cursors: BTreeMap::new(),
            outbox: Vec::new(),
            stop: None,
            counters: status::Counters::default(),
        };
        if let Some(position) = replica.writer.position().cloned() {
            if position.network != replica.settings.network {
                return Err(StoreError::OtherNetwork {
                    found: position.network,
                    wanted: replica.settings.network.clone(),
                });
            }
            replica.run_from(&position)?;
            replica.age_out_documents()?;
        }
        Ok(replica)
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        self.writer.store()
    }

    /// Where the replica stands once the commit under way is durable; none before it was started from a document.
    pub const fn position(&self) -> Option<&Position> {
        self.writer.position()
    }

    /// The writer, for what belongs to others (peers, retry queue).
    pub const fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Takes nothing above a block, or everything again.
    pub fn stop_at(&mut self, block: Option<BlockNumber>) {
        self.stop = block;
    }

    fn is_beyond_stop(&self, number: BlockNumber) -> bool {
        self.stop.is_some_and(|stop| number > stop)
    }

    /// What sources are to be told since the last call.
    pub fn take_outbox(&mut self) -> Vec<(SourceId, SourceCommand)> {
        std::mem::take(&mut self.outbox)
    }

    /// Builds what is held in memory from what is stored.
    fn run_from(&mut self, position: &Position) -> Result<(), StoreError> {
        let store = self.writer.store();
        let tip = Tip::at(position, store)?;
        let stage = Stage::new(CommittedState::of(store)?, tip.clone(), position);
        let tree = self.stored_tree(position)?;
        self.running = Some(Running { tip, stage, tree });
        self.attach_stored_forks()
    }

    /// The tree of the canonical blocks that may still be reorganized.
    fn stored_tree(&self, position: &Position) -> Result<ForkTree, StoreError> {
        let view = self.writer.store().view();
        let depth = self.settings.max_reorg_depth;
        let lowest = position.state_height.saturating_sub(depth);
        let irreversible = position.irreversible_block().unwrap_or_default();
        let mut root = None;
        let mut canonical = Vec::new();
        if let Ok(range) = BlockRange::new(lowest.max(irreversible), position.state_height) {
            for row in view.blocks(range).rev() {
                let (number, block) = row?;
                if canonical
                    .last()
                    .is_some_and(|above: &BlockReference| number.next() != above.number)
                {
                    break;
                }
                canonical.push(BlockReference {
                    number,
                    hash: block.hash,
                });
            }
        }
        if let Some(lowest) = canonical.pop() {
            root = Some(lowest);
        }
        let start = BlockReference {
            number: position.state_height,
            hash: position.state_block_hash.unwrap_or_else(|| position.link()),
        };
        let mut tree = ForkTree::new(root.unwrap_or(start), self.fork_limits());
        let mut parent = tree.root().hash;
        for block in canonical.into_iter().rev() {
            if let Err(error) = tree.insert(block, parent) {
                tracing::warn!(%error, "canonical block left out of the tree of forks");
                break;
            }
            parent = block.hash;
        }
        Ok(tree)
    }

    fn fork_limits(&self) -> ForkLimits {
        let blocks = self
            .settings
            .max_reorg_depth
            .saturating_mul(2)
            .saturating_add(TREE_SLACK);
        ForkLimits {
            blocks: usize::try_from(blocks).unwrap_or(usize::MAX),
            siblings: MAX_SIBLINGS,
        }
    }

    /// Waits until the commit under way is durable.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        self.writer.settle()?;
        if let Some(running) = &mut self.running {
            running.stage.on_durable();
        }
        Ok(())
    }

    /// Like [`Replica::settle`] where the commit under way has ended; otherwise nothing happens.
    pub fn try_settle(&mut self) -> Result<(), StoreError> {
        if self.writer.try_settle()?
            && let Some(running) = &mut self.running
        {
            running.stage.on_durable();
        }
        Ok(())
    }

    /// Commits what is staged, in one transaction. It is durable once it is settled; the next blocks are
    /// applied meanwhile.
    fn commit_stage(&mut self) -> Result<(), StoreError> {
        let (Some(running), Some(position)) = (&mut self.running, self.writer.position().cloned()) else {
            return Ok(());
        };
        if running.stage.blocks.is_empty() {
            return Ok(());
        }
        let mut transaction = self.writer.begin();
        for (source, cursor) in std::mem::take(&mut self.cursors) {
            transaction.put_source_cursor(source.as_str(), &cursor)?;
        }
        let irreversible = position.irreversible_block();
        let position = running.stage.position_after(&position);
        let (blocks, changes) = running.stage.go_on(&position);
        let mut stored = Vec::with_capacity(blocks.len());
        let mut undo = Vec::with_capacity(blocks.len());
        let mut parent = running.tip.reference().hash;
        for block in blocks {
            block.write_checkpoint(&mut transaction)?;
            let reference = BlockReference {
                number: block.number,
                hash: block.stored.hash,
            };
            if let Err(error) = running.tree.insert(reference, parent) {
                tracing::error!(%error, "committed block left out of the tree of forks");
            }
            parent = reference.hash;
            self.provenance.insert(block.number, block.provenance);
            stored.push((block.number, block.stored));
            undo.push((block.number, block.effect));
        }
        self.counters.committed_blocks += stored.len() as u64;
        running.tip = running.stage.tip.clone();
        transaction.set_position(position);
        transaction.put_blocks_encoded(stored, move |rows| {
            for (number, effect) in &undo {
                if irreversible.is_none_or(|lib| *number > lib) {
                    rows.put_undo(*number, &effect.changes)?;
                }
            }
            for (key, leaf) in changes.changed() {
                rows.set_leaf(key, leaf);
            }
            Ok(())
        });
        let metrics = self.settings.metrics.clone();
        transaction.commit_in_background(move |took| metrics.observe_commit(took))?;
        self.advance_tree();
        Ok(())
    }

    /// Drops what is applied but not committed.
    fn drop_stage(&mut self) {
        if let (Some(running), Some(position)) = (&mut self.running, self.writer.position())
            && !running.stage.blocks.is_empty()
        {
            running.stage.restart(running.tip.clone(), position);
        }
    }

    /// Keeps the tree of forks at the depth of a reorganization.
    fn advance_tree(&mut self) {
        let (Some(running), Some(position)) = (&mut self.running, self.writer.position()) else {
            return;
        };
        let tip = running.tip.reference();
        let lowest = tip.number.saturating_sub(self.settings.max_reorg_depth);
        let root = lowest.max(position.irreversible_block().unwrap_or_default());
        if root > running.tree.root().number
            && let Some(block) = running.tree.at_height(tip.hash, root)
        {
            running.tree.advance_root(block.hash);
        }
        self.provenance = self.provenance.split_off(&root);
    }

    /// Why commits are stopped, if they are.
    fn halted(&self) -> Option<&str> {
        self.writer
            .position()
            .and_then(|position| position.halted.as_deref())
    }

    /// Stops commits: what arrived contradicts what is final, or cannot be applied. Reads go on.
    fn halt(&mut self, reason: String) -> Result<(), StoreError> {
        tracing::error!(reason, "commits are stopped; reads go on");
        self.drop_stage();
        if let Some(position) = self.writer.position().cloned() {
            let mut transaction = self.writer.begin();
            transaction.set_position(Position {
                halted: Some(reason),
                ..position
            });
            transaction.commit()?;
        }
        Ok(())
    }

    /// Goes on after a halt, on an operator's word.
    pub fn clear_halt(&mut self) -> Result<(), StoreError> {
        if let Some(position) = self.writer.position().cloned() {
            let mut transaction = self.writer.begin();
            transaction.set_position(Position {
                halted: None,
                ..position
            });
            transaction.commit()?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Replica")
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
