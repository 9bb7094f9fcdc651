//! Where a node stands.

use honeygraph_chain::state_digest::StateDigest;
use honeygraph_chain::{BlockNumber, ContentId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Gap, MAX_LISTED_PEERS, main_fork, null_as_default};
use crate::peers::PeerSource;
use crate::wire::capped::Capped;
use crate::wire::{UnixMillis, unix_millis};

/// Answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`.
    #[serde(default)]
    pub status: String,
}

/// Answer of `GET /api/sync/status`. What older nodes do not know is absent when read from them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Whether missing blocks are being fetched.
    #[serde(default)]
    pub is_syncing: bool,
    /// Highest block that the last run reached.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = u64)]
    pub last_sync_block: BlockNumber,
    /// The peers it knows.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Vec<PeerStatus>)]
    pub peers: Capped<PeerStatus, MAX_LISTED_PEERS>,
    /// Highest stored canonical block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub head: Option<BlockNumber>,
    /// Highest block whose state is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub state_height: Option<BlockNumber>,
    /// Last irreversible block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub lib: Option<BlockNumber>,
    /// Highest head that trusted sources report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub network_head: Option<BlockNumber>,
    /// Network head minus state height, in blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<GapStatus>,
    /// Forks above the last irreversible block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forks: Option<ForkStatus>,
    /// The newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// How far the replica is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// What the sync engine is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SyncMode>,
    /// How far its Dgraph is; absent where the node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dgraph: Option<DgraphStatus>,
}

/// A peer as the status lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// What it calls itself.
    #[serde(default, deserialize_with = "null_as_default")]
    pub id: String,
    /// Its base URL.
    #[serde(default, deserialize_with = "null_as_default")]
    pub url: String,
    /// How the node came to know it; older nodes do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PeerSource>,
    /// Whether it answers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub is_alive: bool,
    /// Share of good answers of late, 0 to 1.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reliability: f64,
    /// Its last answer, in Unix milliseconds.
    #[serde(default, deserialize_with = "unix_millis::lenient")]
    #[schema(value_type = Option<u64>)]
    pub last_seen: Option<UnixMillis>,
}

/// What is missing inside the wanted range.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GapStatus {
    /// Number of gaps.
    #[serde(default)]
    pub count: u64,
    /// Blocks missing in all of them.
    #[serde(default)]
    pub total_missing: u64,
    /// Blocks of the largest gap; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<u64>,
    /// The lowest gap; `GET /api/sync/gaps` lists all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Gap>,
}

/// Most fork tips that a status lists.
const MAX_LISTED_TIPS: usize = 64;

/// Forks above the last irreversible block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForkStatus {
    /// Name of the canonical fork.
    #[serde(default = "main_fork")]
    pub canonical: String,
    /// The heads of the others.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Vec<ForkTip>)]
    pub others: Capped<ForkTip, MAX_LISTED_TIPS>,
    /// Reorganizations since the start of the process.
    #[serde(default)]
    pub reorganizations: u64,
}

/// Head of a fork that is not canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForkTip {
    /// Its name.
    pub fork_id: String,
    /// Its highest block.
    #[schema(value_type = u64)]
    pub head: BlockNumber,
    /// Hash of that block.
    #[schema(value_type = String)]
    pub head_hash: ContentId,
    /// The last block it shares with the canonical fork.
    #[schema(value_type = u64)]
    pub common_ancestor: BlockNumber,
}

/// The newest checkpoint that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its block.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// Hash of that block.
    #[schema(value_type = String)]
    pub block_hash: ContentId,
    /// Content id of its document.
    #[schema(value_type = String)]
    pub state_hash: ContentId,
    /// Digest of the state after the block, 64 hexadecimal digits.
    #[schema(value_type = String)]
    pub state_digest: StateDigest,
    /// What the voters say.
    #[serde(default)]
    pub agreement: Agreement,
}

/// What the voters say about an anchor (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Agreement {
    /// More than half of the configured weight stands behind it.
    Agreed,
    /// The only configured voter stands behind it.
    Unanchored,
    /// Voters contradict it.
    Conflict,
    /// Not enough votes.
    #[default]
    #[serde(other)]
    Undecided,
}

/// How far a replica is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// What it takes to accept a block.
    #[serde(default)]
    pub policy: VerificationPolicy,
    /// Highest block covered by a checkpoint whose document was recomputed.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub verified_height: Option<BlockNumber>,
    /// Blocks that were accepted on a quorum alone.
    #[serde(default)]
    pub unverified_blocks: u64,
    /// What the voters say about the newest anchor.
    #[serde(default)]
    pub agreement: Agreement,
}

/// What it takes to accept a block (section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum VerificationPolicy {
    /// Blocks of older peers only where a verified checkpoint covers them.
    #[default]
    Strict,
    /// Also on a quorum, marked as unverified.
    Quorum,
    /// A policy that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What the sync engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SyncMode {
    /// Starting.
    Boot,
    /// Checking what is stored.
    Recover,
    /// Looking for sources.
    Discover,
    /// Asking the voters where the chain stands.
    Anchor,
    /// Fetching what is missing.
    Fill,
    /// At the head.
    Follow,
    /// No source has what is missing.
    Starved,
    /// Cut off from a majority of the voters.
    Partitioned,
    /// Commits stopped: something contradicts what is final. Reads go on.
    Halted,
    /// Replacing damaged blocks.
    Repair,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How far a node's Dgraph is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DgraphStatus {
    /// Who writes the cluster.
    pub mode: DgraphWriters,
    /// Whether Dgraph answered the last call of the projection.
    #[serde(default)]
    pub connected: bool,
    /// The lowest block from which Dgraph has every block up to `appliedBlock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub from_block: Option<BlockNumber>,
    /// The block up to which Dgraph has blocks and operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub applied_block: Option<BlockNumber>,
    /// Hash of that block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub applied_hash: Option<ContentId>,
    /// The block after which Dgraph's state is true, behind `appliedBlock` while the node catches up; absent while it
    /// is replaced by a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub state_block: Option<BlockNumber>,
    /// State height of the node minus `appliedBlock`, in blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_blocks: Option<u64>,
    /// Where Dgraph contradicts the node's log, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<DgraphMismatch>,
    /// What went wrong last, since Dgraph was last written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Who writes a Dgraph cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DgraphWriters {
    /// One node.
    Independent,
    /// Any number of nodes.
    Shared,
    /// The nodes of one region.
    Hybrid,
    /// A mode that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A block of which Dgraph holds another one than the node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DgraphMismatch {
    /// The block.
    #[schema(value_type = u64)]
    pub block: BlockNumber,
    /// Its hash in the node's log; absent where that has no such block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub log_hash: Option<ContentId>,
    /// Its hash in Dgraph; absent where that has no such block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dgraph_hash: Option<ContentId>,
}
