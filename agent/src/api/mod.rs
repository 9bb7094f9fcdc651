//! To come.
use std::sync::Arc;

use honeygraph_chain::peer::PeerId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// To come.
pub struct ApiListeners {
    /// x
    pub public: TcpListener,
    /// x
    pub admin: TcpListener,
    /// x
    pub metrics: TcpListener,
}
/// To come.
pub struct ApiParts {
    /// x
    pub config: Arc<crate::config::Config>,
    /// x
    pub peer_id: PeerId,
    /// x
    pub store: crate::store::Store,
    /// x
    pub replica: crate::replica::ReplicaHandle,
    /// x
    pub sync: crate::sync::SyncHandle,
}
/// To come.
pub fn spawn(_: ApiListeners, _: ApiParts, shutdown: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { shutdown.cancelled().await })
}
