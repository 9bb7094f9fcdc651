//! Peers: lists, registration, discovery, consensus.

use honeygraph_chain::BlockNumber;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::null_as_default;
use crate::wire::capped::Capped;

/// Most entries of a peer list that are read or written.
pub const MAX_LISTED_PEERS: usize = 1_000;

/// A peer as lists name it: nothing in it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerEntry {
    /// What it calls itself.
    #[serde(default, deserialize_with = "null_as_default")]
    pub id: String,
    /// Its base URL.
    #[serde(default, deserialize_with = "null_as_default")]
    pub url: String,
}

/// A peer list, cut at [`MAX_LISTED_PEERS`]: answer of `GET /api/sync/peers` and
/// `GET /api/honeygraph-peers`.
pub type PeerEntries = Capped<PeerEntry, MAX_LISTED_PEERS>;

/// Body of `POST /api/sync/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterPeer {
    /// What the peer calls itself.
    pub peer_id: String,
    /// Its base URL.
    pub url: String,
}

/// Answer of `POST /api/sync/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterPeerAnswer {
    /// Whether it was taken.
    #[serde(default)]
    pub success: bool,
    /// The peer.
    #[serde(default)]
    pub peer_id: String,
}

/// Body of `POST /api/sync/discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Discover {
    /// Honeycomb nodes to ask for their peer lists.
    #[schema(value_type = Vec<PeerEntry>)]
    pub nodes: PeerEntries,
}

/// Answer of `POST /api/sync/discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverAnswer {
    /// Whether the nodes were asked.
    pub success: bool,
    /// Peers known now.
    pub total_peers: u64,
}

/// Answer of `GET /api/sync/consensus/:block`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsensusAnswer {
    /// The block.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// What the voters agree on.
    pub consensus: Consensus,
}

/// What a majority of the voters says about a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consensus {
    /// Its hash; older nodes have hashes that no one can recompute.
    pub block_hash: String,
    /// Who says so.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Vec<String>)]
    pub peers: Capped<String, MAX_LISTED_PEERS>,
    /// Their share of the configured weight, 0 to 1.
    #[serde(default)]
    pub confidence: f64,
}
