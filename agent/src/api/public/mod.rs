//! The public API (port 3030): every call of `docs/protocol.md`, sections 6 and 9 to 13.

mod anchors;
mod as_of;
mod blocks;
pub(crate) mod caches;
mod capabilities;
mod checkpoints;
mod consensus;
mod documents;
mod dql;
mod full_block;
mod gaps;
mod head;
mod health;
mod nested;
mod openapi;
mod peers;
mod state;
mod status;
mod sync_gaps;

pub use openapi::openapi;
pub(crate) use peers::take as register_peer;
pub(crate) use status::of as status_of;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{unknown_route, wrong_method};
use super::{Node, limits};
use crate::dgraph::pass_through::PassThrough;

/// All calls; those that may take as long as a run of the sync engine are apart, and those whose bodies have a limit
/// of their own.
struct Calls {
    quick: OpenApiRouter<Arc<Node>>,
    dql: OpenApiRouter<Arc<Node>>,
    long: OpenApiRouter<Arc<Node>>,
}

fn calls() -> Calls {
    let quick = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::health))
        .routes(routes!(status::status))
        .routes(routes!(gaps::gaps))
        .routes(routes!(peers::list, peers::register))
        .routes(routes!(peers::discover))
        .routes(routes!(peers::honeygraph_peers))
        .routes(routes!(consensus::consensus))
        .routes(routes!(blocks::blocks))
        .routes(routes!(capabilities::capabilities))
        .routes(routes!(anchors::anchors))
        .routes(routes!(anchors::hash))
        .routes(routes!(checkpoints::checkpoints))
        .routes(routes!(documents::document))
        .routes(routes!(state::state))
        .routes(routes!(full_block::full_block))
        .routes(routes!(head::head))
        .routes(routes!(openapi::document));
    let dql = OpenApiRouter::default().routes(routes!(dql::ask_by_address, dql::ask_by_body));
    let long = OpenApiRouter::default()
        .routes(routes!(sync_gaps::sync_gaps))
        .routes(routes!(sync_gaps::sync_from));
    Calls { quick, dql, long }
}

/// The public API of a node.
pub fn router(node: Arc<Node>) -> Router {
    let limit = node.settings.limits;
    let Calls { quick, dql, long } = calls();
    let (quick, _) = quick.split_for_parts();
    let (dql, _) = dql.split_for_parts();
    let dql_limits = node
        .dgraph
        .as_ref()
        .and_then(|dgraph| dgraph.pass_through.as_ref())
        .map(PassThrough::limits);
    let dql_body_bytes = dql_limits.map_or(0, |limits| limits.body_bytes);
    let (long, _) = long.split_for_parts();
    let places = Arc::new(Semaphore::new(
        limit.concurrent_requests.min(Semaphore::MAX_PERMITS),
    ));
    quick
        .merge(dql.layer(DefaultBodyLimit::max(dql_body_bytes)))
        .fallback(unknown_route)
        .layer(from_fn_with_state(limit.request_timeout, limits::limit_time))
        .merge(long)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit.body_bytes))
        .layer(from_fn_with_state(places, limits::limit_concurrency))
        .layer(from_fn_with_state(Arc::clone(&node), limits::limit_rate))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn_with_state(
            (Arc::clone(&node), limits::PUBLIC),
            limits::observe,
        ))
        .layer(map_response(async |mut response: axum::response::Response| {
            let nosniff = axum::http::HeaderValue::from_static("nosniff");
            response
                .headers_mut()
                .insert(axum::http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
            response
        }))
        .with_state(node)
}
