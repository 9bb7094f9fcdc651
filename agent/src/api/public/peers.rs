//! Peers: lists, registration, discovery.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeygraph_chain::peer::PeerId;

use crate::api::Node;
use crate::api::authorize::Authorized;
use crate::api::error::ApiError;
use crate::api::extract::JsonBody;
use crate::api::standing::alive_peers;
use crate::peers::PeerUrl;
use crate::peers::url::PeerUrlError;
use crate::sync::RegisterError;
use crate::wire::shapes::{
    Discover, DiscoverAnswer, ErrorAnswer, PeerEntries, PeerEntry, RegisterPeer, RegisterPeerAnswer,
};

/// The peers that are alive.
#[utoipa::path(get, path = "/api/sync/peers", tag = "peers", responses(
    (status = 200, description = "Those alive", body = Vec<PeerEntry>)
))]
pub(super) async fn list(State(node): State<Arc<Node>>) -> Json<PeerEntries> {
    Json(alive_peers(&node.sync_view()).collect())
}

/// The honeygraph nodes of this network that the node knows: itself, if it has an address, and its peers.
#[utoipa::path(get, path = "/api/honeygraph-peers", tag = "peers", responses(
    (status = 200, description = "The nodes", body = Vec<PeerEntry>)
))]
pub(super) async fn honeygraph_peers(State(node): State<Arc<Node>>) -> Json<PeerEntries> {
    let itself = node.settings.advertise_url.as_ref().map(|url| PeerEntry {
        id: node.settings.peer_id.to_string(),
        url: url.to_string(),
    });
    Json(itself.into_iter().chain(alive_peers(&node.sync_view())).collect())
}

/// Tells the node of a peer. Needs a key, or direct loopback while no key is configured.
#[utoipa::path(post, path = "/api/sync/peers", tag = "peers", request_body = RegisterPeer,
    security((), ("api_key" = [])),
    responses(
        (status = 200, description = "Taken", body = RegisterPeerAnswer),
        (status = 400, description = "Not a peer", body = ErrorAnswer),
        (status = 401, description = "No key, or a wrong one", body = ErrorAnswer),
        (status = 403, description = "No key is configured, and this is not direct loopback", body = ErrorAnswer),
        (status = 409, description = "The list of peers is full", body = ErrorAnswer)
    )
)]
pub(super) async fn register(
    _: Authorized,
    State(node): State<Arc<Node>>,
    JsonBody(peer): JsonBody<RegisterPeer>,
) -> Result<Json<RegisterPeerAnswer>, ApiError> {
    take(&node, peer).await.map(Json)
}

/// Which addresses a peer can have that is registered.
const DIALLED: &str = "an address in the global network, or what PEERS of this node names by exact host and port; \
    others are never dialled";

/// Registers a peer whose caller may do so.
pub(crate) async fn take(node: &Node, peer: RegisterPeer) -> Result<RegisterPeerAnswer, ApiError> {
    let id = PeerId::try_from(peer.peer_id.clone())
        .map_err(|error| ApiError::parameter("peerId", peer.peer_id.clone(), error.to_string()))?;
    let url: PeerUrl = peer.url.parse().map_err(|error: PeerUrlError| {
        ApiError::parameter("url", peer.url.clone(), format!("{}: {error}", PeerUrl::ALLOWED))
    })?;
    node.sync.register(id, url).await.map_err(|error| match error {
        RegisterError::Refused(_) => ApiError::parameter("url", peer.url.clone(), DIALLED),
        RegisterError::Full(_) | RegisterError::Itself => ApiError::Conflict(error.to_string()),
        RegisterError::Gone => ApiError::Stopped(error.to_string()),
    })?;
    Ok(RegisterPeerAnswer {
        success: true,
        peer_id: peer.peer_id,
    })
}

/// Looks for peers now, and answers once the lists have come, or not in time. Needs a key, or direct loopback while no key is configured.
#[utoipa::path(post, path = "/api/sync/discover", tag = "peers", request_body = Discover,
    security((), ("api_key" = [])),
    responses(
        (status = 200, description = "How many are known now", body = DiscoverAnswer),
        (status = 400, description = "Not a list of nodes", body = ErrorAnswer),
        (status = 401, description = "No key, or a wrong one", body = ErrorAnswer),
        (status = 403, description = "No key is configured, and this is not direct loopback", body = ErrorAnswer)
    )
)]
pub(super) async fn discover(
    _: Authorized,
    State(node): State<Arc<Node>>,
    JsonBody(discover): JsonBody<Discover>,
) -> Result<Json<DiscoverAnswer>, ApiError> {
    let found = node.sync.discover(discover.nodes.into_vec()).await;
    let total_peers = found.map_err(|error| ApiError::Stopped(error.to_string()))? as u64;
    Ok(Json(DiscoverAnswer {
        success: true,
        total_peers,
    }))
}
