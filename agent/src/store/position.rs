//! Where a replica stands.

use honeygraph_chain::checkpoint::{Anchor, CheckpointChain};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::{BlockNumber, ContentId, StateDigest};
use serde::{Deserialize, Serialize};

/// Where a replica stands: changed with every commit, in the same transaction as the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The network's prefix.
    pub network: String,
    /// Which blocks are checkpoints.
    pub schedule: CheckpointSchedule,
    /// First block that this replica wants to hold.
    pub history_start: BlockNumber,
    /// Highest block whose state is applied.
    pub state_height: BlockNumber,
    /// Hash of that block; none right after the replica was started from a document.
    pub state_block_hash: Option<ContentId>,
    /// Digest of the state.
    pub state_digest: StateDigest,
    /// Where the chain of checkpoints stands at the state height.
    pub checkpoints: CheckpointChain,
    /// The newest agreed anchor.
    pub irreversible: Option<Anchor>,
    /// Why commits are stopped, if they are.
    pub halted: Option<String>,
    /// Number of commits so far.
    pub commits: u64,
}

impl Position {
    /// What the next block links to: the hash of the block at the state height, or the checkpoint's content
    /// id where that block is one.
    pub fn link(&self) -> ContentId {
        self.checkpoints
            .link_after(self.state_height, self.state_block_hash)
    }

    /// The last irreversible block: nothing at or below it is ever undone.
    pub fn irreversible_block(&self) -> Option<BlockNumber> {
        self.irreversible.map(|anchor| anchor.block_num)
    }
}
