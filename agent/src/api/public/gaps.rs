//! `GET /api/sync/gaps`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeygraph_chain::{BlockNumber, BlockRange};

use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::Parameters;
use crate::api::standing::wanted_range;
use crate::wire::shapes::{ErrorAnswer, Gaps};

/// Which blocks are missing.
///
/// Without `from` it starts at the first block the node wants, without `to` it ends at the highest block that
/// the node knows of.
#[utoipa::path(get, path = "/api/sync/gaps", tag = "sync",
    params(("from" = Option<u64>, Query, description = "First block"), ("to" = Option<u64>, Query, description = "Last block")),
    responses(
        (status = 200, description = "The gaps, lowest first", body = Gaps),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer)
    )
)]
pub(super) async fn gaps(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
) -> Result<Json<Gaps>, ApiError> {
    let status = node.status();
    let wanted = wanted_range(&status, &node.sync_view());
    let nothing = BlockRange::single(BlockNumber::default());
    let range = parameters.range_within(wanted.unwrap_or(nothing))?;
    // Where nothing is wanted yet nothing is missing, unless somebody asks of a range.
    let is_asked = ["from", "to"]
        .iter()
        .any(|bound| parameters.text(bound).is_some());
    let missing = || {
        let missing = status.have.missing_in(range);
        missing.filter(|_| wanted.is_some() || is_asked)
    };
    Ok(Json(Gaps {
        from_block: range.start(),
        to_block: range.end(),
        gaps: missing().map(Into::into).collect(),
        total_missing: missing().map(BlockRange::len).sum(),
    }))
}
