//! `GET /health`.

use axum::Json;

use crate::wire::shapes::Health;

/// Whether the node is alive.
#[utoipa::path(get, path = "/health", tag = "node", responses((status = 200, description = "Alive", body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
    })
}
