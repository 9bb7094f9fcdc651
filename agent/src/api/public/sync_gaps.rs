//! Calls that fill gaps.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeygraph_chain::BlockRange;
use honeygraph_chain::interval::IntervalSet;

use crate::api::Node;
use crate::api::authorize::Authorized;
use crate::api::error::ApiError;
use crate::api::extract::{JsonBody, PathBlock};
use crate::api::standing::wanted_range;
use crate::wire::shapes::{
    ErrorAnswer, MAIN_FORK, MAX_LISTED_GAPS, SyncGapsAnswer, SyncGapsRequest, SyncResults,
};

/// Fills gaps now, and answers when that is done.
///
/// While a run is on, it answers `{success: false, reason: "sync_in_progress"}` at once. Needs a key, or direct
/// loopback while no key is configured.
#[utoipa::path(post, path = "/api/sync/sync-gaps", tag = "sync", request_body = SyncGapsRequest,
    security((), ("api_key" = [])),
    responses(
        (status = 200, description = "Done, or a run is on", body = SyncGapsAnswer),
        (status = 400, description = "Not a list of gaps", body = ErrorAnswer),
        (status = 401, description = "No key, or a wrong one", body = ErrorAnswer),
        (status = 403, description = "No key is configured, and this is not direct loopback", body = ErrorAnswer)
    )
)]
pub(super) async fn sync_gaps(
    _: Authorized,
    State(node): State<Arc<Node>>,
    JsonBody(request): JsonBody<SyncGapsRequest>,
) -> Result<Json<SyncGapsAnswer>, ApiError> {
    if let Some(fork) = request.target_fork.filter(|fork| fork != MAIN_FORK) {
        return Err(ApiError::parameter(
            "targetFork",
            fork,
            "`main`: forks are followed by weight, not filled",
        ));
    }
    if request.gaps.is_cut() {
        let sent = request.gaps.sent();
        let most = format!("at most {MAX_LISTED_GAPS} of them");
        return Err(ApiError::parameter("gaps", format!("{sent} gaps"), most));
    }
    let mut asked = IntervalSet::new();
    for gap in request.gaps.into_vec() {
        let range = BlockRange::try_from(gap).map_err(|error| {
            ApiError::parameter("gaps", error.to_string(), "gaps whose `end` is at least `start`")
        })?;
        asked.insert(range);
    }
    if asked.is_empty() {
        return Ok(Json(SyncGapsAnswer::done(SyncResults::default())));
    }
    run(&node, asked.iter().collect()).await
}

/// Fills every gap from a block on.
///
/// Needs a key, or direct loopback while no key is configured.
#[utoipa::path(post, path = "/api/sync/sync-from/{block}", tag = "sync",
    params(("block" = u64, Path, description = "First block")),
    security((), ("api_key" = [])),
    responses(
        (status = 200, description = "Done, nothing to do, or a run is on", body = SyncGapsAnswer),
        (status = 400, description = "Not a block number", body = ErrorAnswer),
        (status = 401, description = "No key, or a wrong one", body = ErrorAnswer),
        (status = 403, description = "No key is configured, and this is not direct loopback", body = ErrorAnswer)
    )
)]
pub(super) async fn sync_from(
    _: Authorized,
    State(node): State<Arc<Node>>,
    PathBlock(block): PathBlock,
) -> Result<Json<SyncGapsAnswer>, ApiError> {
    let gaps: Vec<BlockRange> = {
        let status = node.status();
        let wanted = wanted_range(&status, &node.sync_view());
        let range = wanted.and_then(|wanted| BlockRange::new(block.max(wanted.start()), wanted.end()).ok());
        range
            .into_iter()
            .flat_map(|range| status.have.missing_in(range))
            .collect()
    };
    if gaps.is_empty() {
        return Ok(Json(SyncGapsAnswer::no_gaps()));
    }
    let Json(answer) = run(&node, gaps).await?;
    // What a honeycomb is about to send is missing, and no gap.
    let had_none = answer
        .results
        .as_ref()
        .is_some_and(|results| results.total_gaps == 0);
    Ok(Json(if had_none {
        SyncGapsAnswer::no_gaps()
    } else {
        answer
    }))
}

async fn run(node: &Node, gaps: Vec<BlockRange>) -> Result<Json<SyncGapsAnswer>, ApiError> {
    let answer = node.sync.sync_gaps(Some(gaps)).await;
    answer
        .map(Json)
        .map_err(|error| ApiError::Stopped(error.to_string()))
}
