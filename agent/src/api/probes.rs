//! Probes and metrics (port 9100). No limits here: whoever reaches this port is trusted with the load.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::Node;
use super::error::{ApiError, unknown_route, wrong_method};
use super::standing;
use crate::metrics::METRICS_CONTENT_TYPE;
use crate::wire::shapes::SyncMode;

/// Probes and metrics of a node.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(node)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alive {
    alive: bool,
}

/// 503 once the replica's thread has ended: only a new start helps.
async fn livez(State(node): State<Arc<Node>>) -> Response {
    let alive = node.replica_is_alive();
    (status(alive), Json(Alive { alive })).into_response()
}

/// The listener starts after the store was opened and recovered, so that is all there is to wait for.
async fn startupz(node: State<Arc<Node>>) -> Response {
    livez(node).await
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready: bool,
    mode: Option<SyncMode>,
    state_height: Option<u64>,
    lag: Option<u64>,
    /// Age of the block at the state height, as it was made or heard of.
    age_seconds: Option<u64>,
    halted: Option<String>,
}

/// Ready when what it serves is proven, however old: the body says how old.
async fn readyz(State(node): State<Arc<Node>>) -> Result<Response, ApiError> {
    let replica = node.status().clone();
    let mode = standing::mode(&replica, &node.sync_view());
    let network_head = node.sync_view().network_head(&replica);
    let position = &replica.position;
    let height = position.as_ref().map(|position| position.state_height);
    let timestamp_ms = node.read(move |view| {
        let block = height.map(|height| view.block(height)).transpose()?;
        Ok(block.flatten().map(|block| block.timestamp_ms))
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let age = timestamp_ms
        .await?
        .filter(|made| *made > 0)
        .map(|made| now.saturating_sub(made / 1_000));
    let ready = position.is_some() && node.replica_is_alive();
    let body = Readiness {
        ready,
        mode,
        state_height: height.map(u64::from),
        lag: network_head
            .zip(height)
            .map(|(head, height)| head.distance_from(height)),
        age_seconds: age,
        halted: position.as_ref().and_then(|position| position.halted.clone()),
    };
    Ok((status(ready), Json(body)).into_response())
}

async fn metrics(State(node): State<Arc<Node>>) -> Result<Response, ApiError> {
    let metrics = node.metrics.clone();
    let text = super::node::compute(move || {
        metrics
            .encode()
            .map_err(|error| ApiError::Internal(error.to_string()))
    });
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text.await?).into_response())
}

const fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
