//! What the API asks of the sync engine.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::{BlockNumber, BlockRange};
use std::sync::Arc;
use tokio::sync::watch;

use crate::peers::PeerUrl;
use crate::sync::{ConsensusFound, NoConsensus, NotAsked, RegisterError, SyncGone, SyncHandle, SyncView};
use crate::wire::shapes::{PeerEntry, SyncGapsAnswer};

/// The sync engine as the API sees it: [`SyncHandle`], or in a test something that answers in its place.
pub trait SyncControl: Send + Sync {
    /// What the engine is doing.
    fn view(&self) -> watch::Receiver<Arc<SyncView>>;
    /// Takes a peer. See [`SyncHandle::register`].
    fn register(&self, id: PeerId, url: PeerUrl) -> BoxFuture<'_, Result<(), RegisterError>>;
    /// Looks for peers. See [`SyncHandle::discover`].
    fn discover(&self, nodes: Vec<PeerEntry>) -> BoxFuture<'_, Result<usize, SyncGone>>;
    /// Fills gaps. See [`SyncHandle::sync_gaps`].
    fn sync_gaps(&self, only: Option<Vec<BlockRange>>) -> BoxFuture<'_, Result<SyncGapsAnswer, SyncGone>>;
    /// Asks the voters. See [`SyncHandle::consensus`].
    fn consensus(
        &self,
        block: BlockNumber,
    ) -> BoxFuture<'_, Result<Result<ConsensusFound, NoConsensus>, NotAsked>>;
}

impl SyncControl for SyncHandle {
    fn view(&self) -> watch::Receiver<Arc<SyncView>> {
        Self::view(self)
    }

    fn register(&self, id: PeerId, url: PeerUrl) -> BoxFuture<'_, Result<(), RegisterError>> {
        Self::register(self, Some(id), url).boxed()
    }

    fn discover(&self, nodes: Vec<PeerEntry>) -> BoxFuture<'_, Result<usize, SyncGone>> {
        Self::discover(self, nodes).boxed()
    }

    fn sync_gaps(&self, only: Option<Vec<BlockRange>>) -> BoxFuture<'_, Result<SyncGapsAnswer, SyncGone>> {
        Self::sync_gaps(self, only).boxed()
    }

    fn consensus(
        &self,
        block: BlockNumber,
    ) -> BoxFuture<'_, Result<Result<ConsensusFound, NoConsensus>, NotAsked>> {
        Self::consensus(self, block).boxed()
    }
}
