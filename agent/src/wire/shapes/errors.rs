//! Errors.

use honeygraph_chain::BlockNumber;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Agreement;

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorAnswer {
    /// What is wrong and what to do.
    pub error: String,
}

/// An error about one block: `Block not found`, `No consensus found`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockErrorAnswer {
    /// What is wrong.
    pub error: String,
    /// The block asked for.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// The fork asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
    /// Of `No consensus found`: whether the voters contradict each other, or too few have answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}
