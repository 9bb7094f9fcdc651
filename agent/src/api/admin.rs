//! The admin API (port 3031): everything about the node, and what stops and starts its commits.
//!
//! Every call needs the admin token; a node without one, which then listens on loopback, answers only to
//! direct loopback.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use honeygraph_chain::BlockNumber;
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::peer::{CircuitState, Standing};
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use super::authorize::Admin;
use super::error::{ApiError, unknown_route, wrong_method};
use super::extract::JsonBody;
use super::{Node, limits};
use crate::peers::PeerSource;
use crate::replica::{HoldError, SourceStatus};
use crate::store::Position;
use crate::sync::PeerSummary;
use crate::wire::shapes::{RegisterPeer, RegisterPeerAnswer, SyncStatus};

/// How long a hold lasts where the caller does not say.
const DEFAULT_HOLD_MS: u64 = 60_000;
/// Longest hold (an hour): a caller that is gone does not stop the node for ever.
const MAX_HOLD_MS: u64 = 3_600_000;

/// The admin API of a node.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/hold", post(hold))
        .route("/resume", post(resume))
        .route("/clear-halt", post(clear_halt))
        .route("/peers", get(peers).post(register))
        .merge(super::admin_dgraph::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(node.settings.limits.body_bytes))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn_with_state(
            (Arc::clone(&node), limits::ADMIN),
            limits::observe,
        ))
        .with_state(node)
}

/// Everything about the node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AdminStatus {
    session_id: Uuid,
    version: &'static str,
    network: String,
    peer_id: String,
    alive: bool,
    sync: SyncStatus,
    position: Option<Position>,
    applied: Option<BlockNumber>,
    sources: Vec<SourceStatus>,
    peers: Vec<AdminPeer>,
    planner: AdminPlanner,
    counters: AdminCounters,
    store_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AdminPeer {
    id: String,
    url: String,
    source: PeerSource,
    is_alive: bool,
    score: f64,
    reliability: f64,
    standing: &'static str,
    banned_until_ms: Option<u64>,
    circuit: &'static str,
    last_seen_ms: Option<u64>,
    available: Option<honeygraph_chain::BlockRange>,
    in_flight: u32,
}

impl From<&PeerSummary> for AdminPeer {
    fn from(peer: &PeerSummary) -> Self {
        let (standing, banned_until_ms) = match peer.standing {
            Standing::Good => ("good", None),
            Standing::Probation => ("probation", None),
            Standing::Banned { until } => ("banned", u64::try_from(until.as_millis()).ok()),
        };
        Self {
            id: peer.id.to_string(),
            url: peer.url.to_string(),
            source: peer.source,
            is_alive: peer.is_alive,
            score: peer.score,
            reliability: peer.reliability,
            standing,
            banned_until_ms,
            circuit: match peer.circuit {
                CircuitState::Closed => "closed",
                CircuitState::Open => "open",
                CircuitState::HalfOpen => "halfOpen",
            },
            last_seen_ms: peer.last_seen_ms,
            available: peer.available,
            in_flight: peer.in_flight,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AdminPlanner {
    missing_blocks: u64,
    in_flight_blocks: u64,
    buffered_blocks: u64,
    verified_blocks: u64,
    quarantined_blocks: u64,
    held_bytes: u64,
    requests_in_flight: usize,
    tracked_ranges: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AdminCounters {
    committed_blocks: u64,
    fork_blocks: u64,
    reorganizations: u64,
    last_reorganization_depth: u64,
    state_hash_mismatches: u64,
    divergences: u64,
    sources_set_aside: u64,
    gaps_detected: u64,
    fetched_bytes: u64,
    needed_bytes: u64,
}

async fn status(_: Admin, State(node): State<Arc<Node>>) -> Result<Json<AdminStatus>, ApiError> {
    let sync = super::public::status_of(&node).await?;
    let store = node.store.clone();
    let store_bytes = super::node::compute(move || Ok(store.disk_bytes()?)).await?;
    let replica = node.status().clone();
    let view = node.sync_view().clone();
    let counters = replica.counters;
    Ok(Json(AdminStatus {
        session_id: node.session_id,
        version: env!("CARGO_PKG_VERSION"),
        network: node.settings.network.to_string(),
        peer_id: node.settings.peer_id.to_string(),
        alive: node.replica_is_alive(),
        sync,
        position: replica.position.clone(),
        applied: replica.applied,
        sources: replica.sources.clone(),
        peers: view.peers.iter().map(AdminPeer::from).collect(),
        planner: AdminPlanner {
            missing_blocks: view.planner.missing_blocks,
            in_flight_blocks: view.planner.in_flight_blocks,
            buffered_blocks: view.planner.buffered_blocks,
            verified_blocks: view.planner.verified_blocks,
            quarantined_blocks: view.planner.quarantined_blocks,
            held_bytes: view.planner.held_bytes,
            requests_in_flight: view.planner.requests_in_flight,
            tracked_ranges: view.planner.tracked_ranges,
        },
        counters: AdminCounters {
            committed_blocks: counters.committed_blocks,
            fork_blocks: counters.fork_blocks,
            reorganizations: counters.reorganizations,
            last_reorganization_depth: counters.last_reorganization_depth,
            state_hash_mismatches: counters.state_hash_mismatches,
            divergences: counters.divergences,
            sources_set_aside: counters.sources_set_aside,
            gaps_detected: view.gaps_detected,
            fetched_bytes: view.fetched_bytes,
            needed_bytes: view.needed_bytes,
        },
        store_bytes,
    }))
}

/// Body of `POST /hold`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldRequest {
    /// The checkpoint to hold at; the next one by default.
    block: Option<BlockNumber>,
    /// How long, if nobody resumes before.
    milliseconds: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldReply {
    block: BlockNumber,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Anchor>,
    session_id: Uuid,
}

async fn hold(
    _: Admin,
    State(node): State<Arc<Node>>,
    JsonBody(request): JsonBody<HoldRequest>,
) -> Result<Json<HoldReply>, ApiError> {
    let milliseconds = request.milliseconds.unwrap_or(DEFAULT_HOLD_MS);
    if !(1..=MAX_HOLD_MS).contains(&milliseconds) {
        let allowed = format!("1 to {MAX_HOLD_MS}");
        return Err(ApiError::parameter(
            "milliseconds",
            milliseconds.to_string(),
            allowed,
        ));
    }
    let held = node
        .replica
        .hold(request.block, Duration::from_millis(milliseconds))
        .await;
    let held = held.map_err(|error| match error {
        HoldError::Gone(gone) => ApiError::Stopped(gone.to_string()),
        refused => ApiError::Conflict(refused.to_string()),
    })?;
    Ok(Json(HoldReply {
        block: held.block,
        anchor: held.anchor,
        session_id: node.session_id,
    }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resumed {
    /// Whether there was a hold.
    resumed: bool,
    session_id: Uuid,
}

async fn resume(_: Admin, State(node): State<Arc<Node>>) -> Result<Json<Resumed>, ApiError> {
    let resumed = node
        .replica
        .resume()
        .await
        .map_err(|gone| ApiError::Stopped(gone.to_string()))?;
    Ok(Json(Resumed {
        resumed,
        session_id: node.session_id,
    }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cleared {
    success: bool,
    session_id: Uuid,
}

async fn clear_halt(_: Admin, State(node): State<Arc<Node>>) -> Result<Json<Cleared>, ApiError> {
    node.replica
        .clear_halt()
        .await
        .map_err(|gone| ApiError::Stopped(gone.to_string()))?;
    Ok(Json(Cleared {
        success: true,
        session_id: node.session_id,
    }))
}

async fn peers(_: Admin, State(node): State<Arc<Node>>) -> Json<Vec<AdminPeer>> {
    Json(node.sync_view().peers.iter().map(AdminPeer::from).collect())
}

async fn register(
    _: Admin,
    State(node): State<Arc<Node>>,
    JsonBody(peer): JsonBody<RegisterPeer>,
) -> Result<Json<RegisterPeerAnswer>, ApiError> {
    super::public::register_peer(&node, peer).await.map(Json)
}
