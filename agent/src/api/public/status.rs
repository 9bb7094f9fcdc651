//! `GET /api/sync/status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::standing::{dgraph_status, sync_status};
use crate::wire::shapes::SyncStatus;

/// Where the node stands.
#[utoipa::path(get, path = "/api/sync/status", tag = "sync", responses(
    (status = 200, description = "Where the node stands", body = SyncStatus)
))]
pub(super) async fn status(State(node): State<Arc<Node>>) -> Result<Json<SyncStatus>, ApiError> {
    of(&node).await.map(Json)
}

/// The same for others who show it.
pub(crate) async fn of(node: &Node) -> Result<SyncStatus, ApiError> {
    let replica = node.status().clone();
    let sync = node.sync_view().clone();
    let policy = node.settings.verification;
    let dgraph = node.dgraph.as_ref().map(|dgraph| dgraph_status(dgraph, &replica));
    node.read(move |view| {
        Ok(SyncStatus {
            dgraph,
            ..sync_status(&replica, &sync, view, policy)?
        })
    })
    .await
}
