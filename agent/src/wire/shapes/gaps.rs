//! Gaps, and the calls that fill them.

use std::collections::BTreeMap;

use honeygraph_chain::block_number::BlockRangeError;
use honeygraph_chain::{BlockNumber, BlockRange};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::null_as_default;
use crate::wire::capped::Capped;

/// Most gaps of one list that are read or written.
pub const MAX_LISTED_GAPS: usize = 10_000;

/// A maximal run of missing blocks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// First missing block.
    #[schema(value_type = u64)]
    pub start: BlockNumber,
    /// Last missing block.
    #[schema(value_type = u64)]
    pub end: BlockNumber,
    /// Number of missing blocks. Written for people; when read, `start` and `end` count.
    #[serde(default)]
    pub size: u64,
}

impl From<BlockRange> for Gap {
    fn from(range: BlockRange) -> Self {
        Self {
            start: range.start(),
            end: range.end(),
            size: range.len(),
        }
    }
}

impl TryFrom<Gap> for BlockRange {
    type Error = BlockRangeError;

    fn try_from(gap: Gap) -> Result<Self, Self::Error> {
        Self::new(gap.start, gap.end)
    }
}

/// Answer of `GET /api/sync/gaps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gaps {
    /// First block looked at.
    #[schema(value_type = u64)]
    pub from_block: BlockNumber,
    /// Last block looked at.
    #[schema(value_type = u64)]
    pub to_block: BlockNumber,
    /// The gaps, lowest first.
    #[schema(value_type = Vec<Gap>)]
    pub gaps: Capped<Gap, MAX_LISTED_GAPS>,
    /// Blocks missing in all gaps, those included that the list has no room for.
    pub total_missing: u64,
}

/// Body of `POST /api/sync/sync-gaps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncGapsRequest {
    /// What to fill. Gaps may overlap.
    #[schema(value_type = Vec<Gap>)]
    pub gaps: Capped<Gap, MAX_LISTED_GAPS>,
    /// Fork to fill them on; the canonical one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_fork: Option<String>,
}

/// Answer of `POST /api/sync/sync-gaps` and `POST /api/sync/sync-from/:block`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncGapsAnswer {
    /// False while another run is on.
    pub success: bool,
    /// What the run did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<SyncResults>,
    /// Why there was none: `sync_in_progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `No gaps detected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl SyncGapsAnswer {
    /// A run that is over.
    pub const fn done(results: SyncResults) -> Self {
        Self {
            success: true,
            results: Some(results),
            reason: None,
            message: None,
        }
    }

    /// Another run is on.
    pub fn in_progress() -> Self {
        Self {
            success: false,
            results: None,
            reason: Some("sync_in_progress".to_owned()),
            message: None,
        }
    }

    /// Nothing to fill.
    pub fn no_gaps() -> Self {
        Self {
            success: true,
            results: None,
            reason: None,
            message: Some("No gaps detected".to_owned()),
        }
    }
}

/// What one run of filling gaps did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncResults {
    /// Gaps that were asked for.
    #[serde(default)]
    pub total_gaps: u64,
    /// Blocks that are there now.
    #[serde(default)]
    pub synced_blocks: u64,
    /// Blocks that are not.
    #[serde(default)]
    pub failed_blocks: u64,
    /// Blocks by the id of the peer they came from.
    #[serde(default, deserialize_with = "null_as_default")]
    pub peers: BTreeMap<String, u64>,
}
