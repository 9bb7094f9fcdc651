//! What only our own nodes have: capabilities, anchors, hashes, checkpoints, state by path.

use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::state_digest::StateDigest;
use honeygraph_chain::{BlockNumber, ContentId, JsonValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Agreement, main_fork, null_as_default};
use crate::wire::NetworkName;
use crate::wire::batch::{BATCH_CUT_BYTES, MAX_BATCH_BLOCKS};
use crate::wire::capped::Capped;

/// Most anchors of one answer.
pub const MAX_LISTED_ANCHORS: usize = 1_000;

/// Most checkpoints of one answer.
pub const MAX_LISTED_CHECKPOINTS: usize = 1_000;

/// Most features that a node is heard on.
const MAX_LISTED_FEATURES: usize = 64;

/// Names of what a node can do beyond the calls of the JavaScript honeygraph.
pub type Features = Capped<String, MAX_LISTED_FEATURES>;

/// Answer of `GET /api/sync/capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Version of the protocol between our nodes.
    pub protocol: u16,
    /// Its network.
    #[schema(value_type = String)]
    pub network: NetworkName,
    /// What it calls itself.
    pub peer_id: String,
    /// Version of the software.
    #[serde(default)]
    pub version: String,
    /// First block it can serve, none while it has none.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub base: Option<BlockNumber>,
    /// Highest stored canonical block.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub head: Option<BlockNumber>,
    /// Last irreversible block.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub lib: Option<BlockNumber>,
    /// Bounds of a batch answer.
    #[serde(default)]
    pub batch: BatchLimits,
    /// What else it can do; unknown names are ignored.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Vec<String>)]
    pub features: Features,
}

/// Bounds of a batch answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchLimits {
    /// Most blocks that may be asked for at once.
    pub max_blocks: u64,
    /// Canonical bytes at which an answer ends.
    pub cut_bytes: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_blocks: MAX_BATCH_BLOCKS,
            cut_bytes: BATCH_CUT_BYTES as u64,
        }
    }
}

/// Answer of `GET /api/sync/anchors?from&to`: the anchors of the checkpoints in that range, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Anchors {
    /// The anchors.
    #[schema(value_type = Vec<AnchorAnswer>)]
    pub anchors: Capped<AnchorAnswer, MAX_LISTED_ANCHORS>,
}

/// An anchor, and what the voters of the node that answers say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnchorAnswer {
    /// The checkpoint's block.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// Hash of that block.
    #[schema(value_type = String)]
    pub block_hash: ContentId,
    /// Content id of the checkpoint's document.
    #[schema(value_type = String)]
    pub state_hash: ContentId,
    /// Digest of the state after the block, 64 hexadecimal digits.
    #[schema(value_type = String)]
    pub state_digest: StateDigest,
    /// What its voters say.
    #[serde(default)]
    pub agreement: Agreement,
}

impl AnchorAnswer {
    /// An anchor with what the voters say about it.
    pub const fn new(anchor: Anchor, agreement: Agreement) -> Self {
        Self {
            block_num: anchor.block_num,
            block_hash: anchor.block_hash,
            state_hash: anchor.state_hash,
            state_digest: anchor.state_digest,
            agreement,
        }
    }
}

impl From<AnchorAnswer> for Anchor {
    fn from(answer: AnchorAnswer) -> Self {
        Self {
            block_num: answer.block_num,
            block_hash: answer.block_hash,
            state_hash: answer.state_hash,
            state_digest: answer.state_digest,
        }
    }
}

/// Answer of `GET /api/sync/hash/:block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashAnswer {
    /// The block.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// Its hash on the canonical fork.
    #[schema(value_type = String)]
    pub block_hash: ContentId,
    /// What it links to.
    #[schema(value_type = String)]
    pub previous_hash: ContentId,
    /// Whether it is at or below the last irreversible block.
    #[serde(default)]
    pub is_finalized: bool,
}

/// Answer of `GET /api/checkpoints?from&to`, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoints {
    /// The checkpoints.
    #[schema(value_type = Vec<CheckpointEntry>)]
    pub checkpoints: Capped<CheckpointEntry, MAX_LISTED_CHECKPOINTS>,
}

/// A checkpoint and where its document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointEntry {
    /// Its block.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// `delta` or `state`.
    #[schema(value_type = String)]
    pub kind: CheckpointKind,
    /// Content id of its document: `GET /api/checkpoints/:contentId`.
    #[schema(value_type = String)]
    pub state_hash: ContentId,
    /// Hash of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub block_hash: Option<ContentId>,
    /// Digest of the state after the block, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub state_digest: Option<StateDigest>,
    /// Content id of the last full state before it; its own where there is none. Absent, with `prevRoot`, where the
    /// node started from a full state and does not know the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub root: Option<ContentId>,
    /// Content id of the full state before that. A delta that has `root` and not this has none before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub prev_root: Option<ContentId>,
    /// Size of the document in bytes, none where this node does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_bytes: Option<u64>,
}

/// Answer of `GET /api/query/state/*path`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateAnswer {
    /// The path, segments joined by `/`.
    pub path: String,
    /// The fork.
    #[serde(default = "main_fork")]
    pub fork: String,
    /// The block after which the state is meant.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// Hash of that block; none right after the node was started from a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub block_hash: Option<ContentId>,
    /// Whether leaves were left out: there are more than were asked for, or more than one answer carries.
    #[serde(default)]
    pub truncated: bool,
    /// The leaf, or the nested object of all leaves below the path.
    #[schema(value_type = serde_json::Value)]
    pub data: JsonValue,
}
