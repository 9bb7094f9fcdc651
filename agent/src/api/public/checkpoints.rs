//! `GET /api/checkpoints`: which checkpoints there are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use honeygraph_chain::ContentId;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::network::CheckpointKind;

use super::anchors::everything;
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::Parameters;
use crate::store::CheckpointRecord;
use crate::wire::shapes::{CheckpointEntry, Checkpoints, ErrorAnswer, MAX_LISTED_CHECKPOINTS};

/// The checkpoints in a range, lowest first, at most 1,000.
///
/// Documents of full states are stored and have a size here; those of deltas are computed when asked for.
#[utoipa::path(get, path = "/api/checkpoints", tag = "checkpoints",
    params(("from" = Option<u64>, Query, description = "First block"), ("to" = Option<u64>, Query, description = "Last block")),
    responses(
        (status = 200, description = "The checkpoints", body = Checkpoints),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer)
    )
)]
pub(super) async fn checkpoints(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
) -> Result<Json<Checkpoints>, ApiError> {
    let range = parameters.range_within(everything())?;
    let entries = node.read(move |view| {
        let mut entries = Vec::new();
        for record in view.checkpoints(range).take(MAX_LISTED_CHECKPOINTS) {
            let record = record?;
            entries.push(CheckpointEntry {
                block_num: record.block_num,
                kind: record.kind,
                state_hash: record.state_hash,
                block_hash: record.block_hash,
                state_digest: record.state_digest,
                root: root(&record),
                prev_root: match record.prev_root {
                    PreviousRoot::Known(id) => Some(id),
                    PreviousRoot::None | PreviousRoot::Unknown => None,
                },
                document_bytes: view.document_bytes(record.state_hash)?,
            });
        }
        Ok(entries)
    });
    Ok(Json(Checkpoints {
        checkpoints: entries.await?.into_iter().collect(),
    }))
}

/// The last full state before a checkpoint. None where it, or for a delta the one before that, is not known here: a
/// `prevRoot` that is absent beside it means that there is none.
fn root(record: &CheckpointRecord) -> Option<ContentId> {
    let known = match record.kind {
        CheckpointKind::State => record.previous_root(),
        CheckpointKind::Delta => record.prev_root,
    };
    (known != PreviousRoot::Unknown).then_some(record.root)
}
