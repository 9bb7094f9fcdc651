//! What the rest of the node holds of the sync engine.

use std::sync::Arc;
use std::time::Duration;

use honeygraph_chain::peer::{CircuitState, PeerId, Standing};
use honeygraph_chain::planner::PlannerStatus;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use moka::future::Cache;
use tokio::sync::{mpsc, oneshot, watch};

use crate::peers::address_guard::AddressRefused;
use crate::peers::{PeerSource, PeerUrl};
use crate::replica::ReplicaStatus;
use crate::wire::shapes::{PeerEntry, SyncGapsAnswer, SyncMode};

/// One peer as the engine sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSummary {
    /// Its name; what it calls itself once it has answered.
    pub id: PeerId,
    /// Its base URL.
    pub url: PeerUrl,
    /// How this node came to know it.
    pub source: PeerSource,
    /// Whether it has answered its last call.
    pub is_alive: bool,
    /// Score in [-100, 100].
    pub score: f64,
    /// Reliability in [0, 1].
    pub reliability: f64,
    /// Good, on probation or banned.
    pub standing: Standing,
    /// Its circuit breaker.
    pub circuit: CircuitState,
    /// When it last answered, milliseconds since the Unix epoch.
    pub last_seen_ms: Option<u64>,
    /// The blocks it says it has.
    pub available: Option<BlockRange>,
    /// Requests in flight to it.
    pub in_flight: u32,
}

/// What the engine is doing, after each change.
#[derive(Debug, Clone, Default)]
pub struct SyncView {
    /// Its state.
    pub mode: Option<SyncMode>,
    /// The highest head that honeycombs report, else the peers that configuration names; never one that the
    /// clock does not allow.
    pub network_head: Option<BlockNumber>,
    /// Whether missing blocks are being fetched.
    pub is_syncing: bool,
    /// The peers it knows.
    pub peers: Vec<PeerSummary>,
    /// What the planner holds.
    pub planner: PlannerStatus,
    /// Gaps that were noticed since the start.
    pub gaps_detected: u64,
    /// Bytes of the blocks that peers sent, needed or not, also to requests that were given up.
    pub fetched_bytes: u64,
    /// Bytes received for them, compressed.
    pub received_bytes: u64,
    /// Bytes of the blocks that were needed and came from peers.
    pub needed_bytes: u64,
}

impl SyncView {
    /// The highest head that is known of, from honeycombs or configured peers.
    pub fn network_head(&self, status: &ReplicaStatus) -> Option<BlockNumber> {
        status.network_head.max(self.network_head)
    }
}

/// A peer that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Its address would never be dialled.
    #[error(transparent)]
    Refused(AddressRefused),
    /// The list of peers is full.
    #[error("the list of peers is full at {0}, and all of them answer or did lately; set PEERS_MAX higher")]
    Full(usize),
    /// It is ourselves.
    #[error("that is this node itself")]
    Itself,
    /// The engine is gone.
    #[error("the sync engine has stopped")]
    Gone,
}

/// What the voters say about a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsensusFound {
    /// The hash they agree on.
    pub block_hash: ContentId,
    /// Those who say so.
    pub voters: Vec<String>,
    /// Their weight as a part of the configured weight.
    pub confidence: f64,
}

/// Why nothing can be said of a block by the voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConsensus {
    /// They contradict each other, so that no hash can have a majority.
    Conflict,
    /// Too few of them have answered.
    Undecided,
}

/// Why voters were not asked about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Too many questions are under way, or were asked within the last second.
    #[error("the voters are asked about too many blocks at once; try again in a second")]
    Busy,
    /// The engine is gone.
    #[error(transparent)]
    Gone(#[from] SyncGone),
}

/// What the engine can be asked to do.
#[derive(Debug)]
pub(super) enum SyncCommand {
    Register {
        id: Option<PeerId>,
        url: PeerUrl,
        reply: oneshot::Sender<Result<(), RegisterError>>,
    },
    Discover {
        nodes: Vec<PeerEntry>,
        reply: oneshot::Sender<usize>,
    },
    SyncGaps {
        only: Option<Vec<BlockRange>>,
        reply: oneshot::Sender<SyncGapsAnswer>,
    },
    Consensus {
        block: BlockNumber,
        reply: oneshot::Sender<Result<Result<ConsensusFound, NoConsensus>, NotAsked>>,
    },
}

/// The sync engine is gone: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sync engine has stopped")]
pub struct SyncGone;

/// What the rest of the node holds of the sync engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    commands: mpsc::Sender<SyncCommand>,
    view: watch::Receiver<Arc<SyncView>>,
    /// What voters said lately, agreement or none: strangers may ask about one block as often as they like.
    consensus: Cache<BlockNumber, Result<ConsensusFound, NoConsensus>>,
}

/// Blocks whose consensus is remembered.
const CONSENSUS_BLOCKS: u64 = 1_024;
/// How long it is remembered: a block.
const CONSENSUS_TIME: Duration = Duration::from_secs(BlockNumber::SECONDS_PER_BLOCK);

impl SyncHandle {
    pub(super) fn new(commands: mpsc::Sender<SyncCommand>, view: watch::Receiver<Arc<SyncView>>) -> Self {
        let consensus = Cache::builder()
            .max_capacity(CONSENSUS_BLOCKS)
            .time_to_live(CONSENSUS_TIME)
            .build();
        Self {
            commands,
            view,
            consensus,
        }
    }

    /// What the engine is doing, after each change.
    pub fn view(&self) -> watch::Receiver<Arc<SyncView>> {
        self.view.clone()
    }

    /// Takes a peer, whose registration was authorized.
    pub async fn register(&self, id: Option<PeerId>, url: PeerUrl) -> Result<(), RegisterError> {
        self.ask(|reply| SyncCommand::Register { id, url, reply })
            .await
            .unwrap_or(Err(RegisterError::Gone))
    }

    /// Looks for peers now: at these honeycomb nodes and the configured ones, and in the peers' own lists.
    /// Gives the number of peers that are known once all of their lists have come, or not in time.
    pub async fn discover(&self, nodes: Vec<PeerEntry>) -> Result<usize, SyncGone> {
        self.ask(|reply| SyncCommand::Discover { nodes, reply }).await
    }

    /// Fills gaps now (all of them, or those within the given ranges) and waits for the outcome; answers at
    /// once where such a run is on already.
    pub async fn sync_gaps(&self, only: Option<Vec<BlockRange>>) -> Result<SyncGapsAnswer, SyncGone> {
        self.ask(|reply| SyncCommand::SyncGaps { only, reply }).await
    }

    /// Asks the configured voters about a block; nothing is found without a majority of them, nor beyond what the
    /// clock allows. Of many that ask about one block at a time, one asks the voters.
    pub async fn consensus(
        &self,
        block: BlockNumber,
    ) -> Result<Result<ConsensusFound, NoConsensus>, NotAsked> {
        self.consensus
            .try_get_with(block, self.ask_voters(block))
            .await
            .map_err(|not_asked| *not_asked)
    }

    async fn ask_voters(&self, block: BlockNumber) -> Result<Result<ConsensusFound, NoConsensus>, NotAsked> {
        self.ask(|reply| SyncCommand::Consensus { block, reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> SyncCommand) -> Result<T, SyncGone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| SyncGone)?;
        answer.await.map_err(|_| SyncGone)
    }
}
