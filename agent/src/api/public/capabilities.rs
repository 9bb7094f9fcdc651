//! `GET /api/sync/capabilities`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeygraph_chain::{BlockNumber, BlockRange};

use crate::api::Node;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::shapes::{BatchLimits, Capabilities};

/// What this version can do beyond the calls of the JavaScript honeygraph.
const FEATURES: [&str; 5] = ["batch", "anchors", "checkpoints", "documents", "state"];

/// What the node can serve.
#[utoipa::path(get, path = "/api/sync/capabilities", tag = "sync", responses(
    (status = 200, description = "What it can do", body = Capabilities)
))]
pub(super) async fn capabilities(State(node): State<Arc<Node>>) -> Json<Capabilities> {
    let status = node.status();
    let position = status.position.as_ref();
    // What stands above a gap is not applied: nobody is to count on it.
    let applied = BlockRange::new(
        BlockNumber::default(),
        position.map_or(BlockNumber::MAX, |position| position.state_height),
    );
    let served = || {
        applied
            .ok()
            .into_iter()
            .flat_map(|applied| status.have.present_in(applied))
    };
    Json(Capabilities {
        protocol: PROTOCOL_VERSION,
        network: node.settings.network.clone(),
        peer_id: node.settings.peer_id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        base: served().next().map(BlockRange::start),
        head: served().last().map(BlockRange::end),
        lib: position.and_then(crate::store::Position::irreversible_block),
        batch: BatchLimits::default(),
        features: FEATURES.into_iter().map(str::to_owned).collect(),
    })
}
