//! The peer list of a honeycomb: `GET /api/honeygraph-peers`.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A honeygraph node as a honeycomb lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPeer {
    /// Its name.
    pub id: String,
    /// Where its API is, `http://host:3030`.
    pub url: String,
}

type Shared = Arc<RwLock<Vec<ListedPeer>>>;

/// A running server of the list. Dropping it stops the server.
pub struct PeerList {
    peers: Shared,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl PeerList {
    /// Serves the list; port 0 takes a free one.
    pub async fn start(address: SocketAddr, peers: Vec<ListedPeer>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let peers: Shared = Arc::new(RwLock::new(peers));
        let app = router(peers.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the peer list is no longer served");
            }
        });
        Ok(Self { peers, address, task })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without the path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the list.
    pub fn set(&self, peers: Vec<ListedPeer>) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }
}

impl Drop for PeerList {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(peers: Shared) -> Router {
    Router::new()
        .route("/api/honeygraph-peers", get(list))
        .with_state(peers)
}

async fn list(State(peers): State<Shared>) -> Json<Vec<ListedPeer>> {
    Json(peers.read().unwrap_or_else(PoisonError::into_inner).clone())
}
