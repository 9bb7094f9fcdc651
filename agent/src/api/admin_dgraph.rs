//! Comparing and filling the node's Dgraph by command, without stopping the node.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Node;
use super::authorize::Admin;
use super::error::ApiError;
use super::extract::JsonBody;
use crate::dgraph::job::{Job, Jobs, Order};

pub(super) fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/dgraph/verify", post(verify))
        .route("/dgraph/rebuild", post(rebuild))
        .route("/dgraph/job", get(job).delete(cancel))
}

/// Body of `POST /dgraph/verify`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    /// Whether what differs is written as the log has it.
    #[serde(default)]
    repair: bool,
}

/// Body of `POST /dgraph/rebuild`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RebuildRequest {
    /// Whether everything in the namespace is taken away first.
    #[serde(default)]
    drop: bool,
}

/// A job, as it stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JobAnswer {
    job: Option<Job>,
    session_id: Uuid,
}

async fn verify(
    _: Admin,
    State(node): State<Arc<Node>>,
    JsonBody(request): JsonBody<VerifyRequest>,
) -> Result<(StatusCode, Json<JobAnswer>), ApiError> {
    let repair = request.repair;
    ask(&node, Order::Verify { repair })
}

async fn rebuild(
    _: Admin,
    State(node): State<Arc<Node>>,
    JsonBody(request): JsonBody<RebuildRequest>,
) -> Result<(StatusCode, Json<JobAnswer>), ApiError> {
    let drop = request.drop;
    ask(&node, Order::Rebuild { drop })
}

async fn job(_: Admin, State(node): State<Arc<Node>>) -> Result<Json<JobAnswer>, ApiError> {
    Ok(Json(JobAnswer {
        job: jobs(&node)?.last(),
        session_id: node.session_id,
    }))
}

async fn cancel(_: Admin, State(node): State<Arc<Node>>) -> Result<Json<JobAnswer>, ApiError> {
    let cancelled = jobs(&node)?.cancel();
    let job = cancelled.ok_or_else(|| ApiError::Conflict("no job is under way".to_owned()))?;
    Ok(Json(JobAnswer {
        job: Some(job),
        session_id: node.session_id,
    }))
}

fn ask(node: &Node, order: Order) -> Result<(StatusCode, Json<JobAnswer>), ApiError> {
    let asked = jobs(node)?.ask(order);
    let job = asked.map_err(|under_way| ApiError::Conflict(under_way.to_string()))?;
    let answer = JobAnswer {
        job: Some(job),
        session_id: node.session_id,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn jobs(node: &Node) -> Result<&Jobs, ApiError> {
    let dgraph = node.dgraph.as_ref().ok_or(ApiError::NoDgraph)?;
    Ok(&dgraph.jobs)
}
