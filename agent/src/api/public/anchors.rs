//! Anchors and hashes: what proves a range without fetching it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeygraph_chain::{BlockNumber, BlockRange};

use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::{Parameters, PathBlock};
use crate::api::standing::agreement;
use crate::wire::shapes::{
    AnchorAnswer, Anchors, BlockErrorAnswer, ErrorAnswer, HashAnswer, MAX_LISTED_ANCHORS,
};

/// The range that lists are taken from where a call does not say.
pub(super) fn everything() -> BlockRange {
    BlockRange::new(BlockNumber::default(), BlockNumber::MAX).unwrap_or(BlockRange::single(BlockNumber::MAX))
}

/// The anchors of the checkpoints in a range, lowest first, at most 1,000.
#[utoipa::path(get, path = "/api/sync/anchors", tag = "sync",
    params(("from" = Option<u64>, Query, description = "First block"), ("to" = Option<u64>, Query, description = "Last block")),
    responses(
        (status = 200, description = "The anchors", body = Anchors),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer)
    )
)]
pub(super) async fn anchors(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
) -> Result<Json<Anchors>, ApiError> {
    let range = parameters.range_within(everything())?;
    let anchors = node
        .read(move |view| {
            let mut anchors = Vec::new();
            for record in view.checkpoints(range) {
                if anchors.len() == MAX_LISTED_ANCHORS {
                    break;
                }
                anchors.extend(record?.anchor());
            }
            Ok(anchors)
        })
        .await?;
    let status = node.status();
    let answers = anchors
        .into_iter()
        .map(|anchor| AnchorAnswer::new(anchor, agreement(&status, anchor.block_num)));
    Ok(Json(Anchors {
        anchors: answers.collect(),
    }))
}

/// The hash of a canonical block whose state is applied.
#[utoipa::path(get, path = "/api/sync/hash/{block}", tag = "sync",
    params(("block" = u64, Path, description = "The block")),
    responses(
        (status = 200, description = "Its hash", body = HashAnswer),
        (status = 400, description = "Not a block number", body = ErrorAnswer),
        (status = 404, description = "Not here", body = BlockErrorAnswer)
    )
)]
pub(super) async fn hash(
    State(node): State<Arc<Node>>,
    PathBlock(block): PathBlock,
) -> Result<Json<HashAnswer>, ApiError> {
    let answer = node.read(move |view| {
        let stored = view
            .block(block)?
            .ok_or_else(|| ApiError::block_not_found(block))?;
        let position = view.position()?;
        // What stands above a gap is not applied: this node does not stand on it yet.
        if position
            .as_ref()
            .is_some_and(|position| block > position.state_height)
        {
            return Err(ApiError::block_not_found(block));
        }
        let irreversible = position.and_then(|position| position.irreversible_block());
        Ok(HashAnswer {
            block_num: block,
            block_hash: stored.hash,
            previous_hash: stored.previous_hash(block)?,
            is_finalized: irreversible.is_some_and(|highest| block <= highest),
        })
    });
    answer.await.map(Json)
}
