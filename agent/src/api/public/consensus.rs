//! `GET /api/sync/consensus/{block}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::PathBlock;
use crate::sync::NotAsked;
use crate::wire::shapes::{BlockErrorAnswer, Consensus, ConsensusAnswer, ErrorAnswer};

/// What a majority of the configured voters says about a block: about the irreversible anchor that covers it, or
/// above that about its hash.
#[utoipa::path(get, path = "/api/sync/consensus/{block}", tag = "sync",
    params(("block" = u64, Path, description = "The block")),
    responses(
        (status = 200, description = "What they agree on", body = ConsensusAnswer),
        (status = 400, description = "Not a block number", body = ErrorAnswer),
        (status = 404, description = "No majority; `agreement` says whether they contradict each other", body = BlockErrorAnswer),
        (status = 503, description = "The voters are asked about too many blocks at once", body = ErrorAnswer)
    )
)]
pub(super) async fn consensus(
    State(node): State<Arc<Node>>,
    PathBlock(block): PathBlock,
) -> Result<Json<ConsensusAnswer>, ApiError> {
    let found = node.sync.consensus(block).await.map_err(|error| match error {
        NotAsked::Busy => ApiError::Busy,
        NotAsked::Gone(_) => ApiError::Stopped(error.to_string()),
    })?;
    let found = found.map_err(|why| ApiError::NoConsensus { block, why })?;
    Ok(Json(ConsensusAnswer {
        block_num: block,
        consensus: Consensus {
            block_hash: found.block_hash.to_string(),
            peers: found.voters.into_iter().collect(),
            confidence: found.confidence,
        },
    }))
}
