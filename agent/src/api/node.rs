//! What every handler is given.

use std::sync::Arc;

use honeygraph_chain::peer::PeerId;
use ipnet::IpNet;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::control::SyncControl;
use super::error::ApiError;
use super::limits::{AddressRates, PeerRates};
use super::public::caches::Caches;
use super::work::{Weight, Work};
use crate::config::{DgraphMode, LimitConfig, Secret};
use crate::dgraph::job::Jobs;
use crate::dgraph::pass_through::PassThrough;
use crate::dgraph::status::ProjectionStatus;
use crate::metrics::Metrics;
use crate::peers::PeerUrl;
use crate::replica::{ReplicaHandle, ReplicaStatus};
use crate::store::{Store, View};
use crate::sync::SyncView;
use crate::wire::NetworkName;
use crate::wire::shapes::VerificationPolicy;

/// What the API is told by configuration.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The network.
    pub network: NetworkName,
    /// What the node calls itself.
    pub peer_id: PeerId,
    /// Where peers reach it, if it says so.
    pub advertise_url: Option<PeerUrl>,
    /// What it takes to accept a block.
    pub verification: VerificationPolicy,
    /// Keys for calls that change something; empty: such calls answer only to direct loopback.
    pub api_keys: Vec<Secret>,
    /// Token of the admin API; none: it answers only to direct loopback.
    pub admin_token: Option<Secret>,
    /// Proxies whose `X-Forwarded-For` says for whom a request is counted.
    pub trusted_proxies: Vec<IpNet>,
    /// What callers may ask for.
    pub limits: LimitConfig,
    /// Bytes of encoded ranges and documents that are kept in memory.
    pub cache_bytes: u64,
}

/// The Dgraph that the node keeps in step.
#[derive(Debug, Clone)]
pub struct DgraphView {
    /// Who writes it.
    pub mode: DgraphMode,
    /// Where its projection stands.
    pub status: watch::Receiver<ProjectionStatus>,
    /// Compares and fills it by command.
    pub jobs: Jobs,
    /// Hands on what people ask it; none: nothing is handed on.
    pub pass_through: Option<PassThrough>,
}

/// Everything that the routers read and ask.
pub struct Node {
    pub(crate) store: Store,
    pub(crate) replica: ReplicaHandle,
    pub(crate) sync: Arc<dyn SyncControl>,
    pub(crate) metrics: Metrics,
    pub(crate) settings: ApiSettings,
    pub(crate) session_id: Uuid,
    pub(crate) caches: Caches,
    pub(crate) work: Work,
    pub(crate) rates: AddressRates,
    pub(crate) peer_rates: PeerRates,
    pub(crate) dgraph: Option<DgraphView>,
    /// Places of questions that are handed on to Dgraph.
    pub(crate) dql_places: Arc<Semaphore>,
    status: watch::Receiver<Arc<ReplicaStatus>>,
    sync_view: watch::Receiver<Arc<SyncView>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Node")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// The node of a process that has just started: its session id is a new one.
    pub fn new(
        settings: ApiSettings,
        store: Store,
        replica: ReplicaHandle,
        sync: Arc<dyn SyncControl>,
        metrics: Metrics,
        dgraph: Option<DgraphView>,
    ) -> Arc<Self> {
        let limits = dgraph
            .as_ref()
            .and_then(|dgraph| dgraph.pass_through.as_ref())
            .map(PassThrough::limits);
        let dql_places = limits.map_or(0, |limits| limits.concurrent.min(Semaphore::MAX_PERMITS));
        Arc::new(Self {
            status: replica.status(),
            sync_view: sync.view(),
            caches: Caches::new(settings.cache_bytes),
            work: Work::new(),
            rates: AddressRates::new(settings.limits.rate_per_address),
            peer_rates: PeerRates::of_peers(settings.limits.rate_per_peer),
            session_id: Uuid::new_v4(),
            store,
            replica,
            sync,
            metrics,
            dql_places: Arc::new(Semaphore::new(dql_places)),
            dgraph,
            settings,
        })
    }

    /// Names this run of the process: another one after each start.
    #[cfg(test)]
    pub(crate) const fn session_id(&self) -> Uuid {
        self.session_id
    }

    /// Where the replica stands.
    pub(crate) fn status(&self) -> Arc<ReplicaStatus> {
        Arc::clone(&self.status.borrow())
    }

    /// What the sync engine is doing.
    pub(crate) fn sync_view(&self) -> Arc<SyncView> {
        Arc::clone(&self.sync_view.borrow())
    }

    /// Whether the replica's thread is alive.
    pub(crate) fn replica_is_alive(&self) -> bool {
        self.status.has_changed().is_ok()
    }

    /// Reads some rows of the store, beside the threads that serve.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.read_with(Weight::Short, read).await
    }

    /// Reads the store, beside the threads that serve.
    pub(crate) async fn read_with<T: Send + 'static>(
        &self,
        weight: Weight,
        read: impl FnOnce(&View) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.store.clone();
        self.work.run(weight, move || read(&store.view())).await?
    }
}

/// Does something that takes the processor or the disk, beside the threads that serve. For what no caller of the public
/// API can ask for in numbers.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ApiError::Internal(error.to_string())))
}
