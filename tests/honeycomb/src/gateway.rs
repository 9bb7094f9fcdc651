//! An IPFS gateway for the documents of a honeycomb's chain: `GET /ipfs/{content id}`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use honeygraph_chain::ContentId;
use tokio::net::TcpListener;

use crate::honeycomb_node::HoneycombNode;

/// Serves the documents that a node keeps, until the server fails.
pub async fn serve(address: SocketAddr, node: Arc<HoneycombNode>) -> std::io::Result<()> {
    let app = Router::new().route("/ipfs/{id}", get(document)).with_state(node);
    axum::serve(TcpListener::bind(address).await?, app).await
}

async fn document(
    State(node): State<Arc<HoneycombNode>>,
    Path(id): Path<String>,
) -> Result<Vec<u8>, StatusCode> {
    let id: ContentId = id.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    node.read(|chain| chain.document(id).map(<[u8]>::to_vec))
        .ok_or(StatusCode::NOT_FOUND)
}
