//! What the sync engine is told by configuration.

use std::path::PathBuf;
use std::time::Duration;

use honeygraph_chain::ContentId;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::planner::PlannerSettings;
use honeygraph_chain::quorum::{VoterId, Voters};

use crate::config::{History, Start, Verification};
use crate::peers::PeerUrl;
use crate::wire::NetworkName;

/// What the sync engine is told by configuration.
#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// Whether missing blocks are fetched without being asked to.
    pub enabled: bool,
    /// Our network.
    pub network: NetworkName,
    /// Which blocks are checkpoints, until the network proves otherwise.
    pub schedule: CheckpointSchedule,
    /// Our own name.
    pub own_id: PeerId,
    /// Where peers reach us.
    pub own_url: Option<PeerUrl>,
    /// Time between two looks for gaps and at the peers while nothing is missing.
    pub interval: Duration,
    /// Time between two rounds of discovery.
    pub discovery_interval: Duration,
    /// Limits of the planner.
    pub planner: PlannerSettings,
    /// Seed of the planner's jitter.
    pub seed: u64,
    /// Peers that are always known.
    pub peers: Vec<PeerUrl>,
    /// Most peers that are known.
    pub peers_max: usize,
    /// Who votes.
    pub voters: Voters,
    /// Which of the configured peers vote, and under which name.
    pub peer_voters: Vec<(PeerUrl, VoterId)>,
    /// How blocks of older peers are treated.
    pub verification: Verification,
    /// Honeycomb nodes that are asked for lists of peers.
    pub honeycomb_nodes: Vec<PeerUrl>,
    /// Gateways that documents are fetched from by content id.
    pub ipfs_gateways: Vec<PeerUrl>,
    /// Largest document that is fetched, in bytes.
    pub document_bytes_max: u64,
    /// Where documents are put while they arrive.
    pub documents_directory: PathBuf,
    /// The network's genesis document, and the content id it must have.
    pub genesis: Option<(PathBuf, Option<ContentId>)>,
    /// What an empty store begins with.
    pub start: Start,
    /// How much history is kept.
    pub history: History,
}
