//! The strict configuration: what the rest of the agent is given.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use honeygraph_chain::ContentId;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::{BanSettings, CircuitSettings, PeerId, TimeoutSettings};
use ipnet::IpNet;

use super::secret::Secret;
use super::values::{DgraphMode, LogFilter, LogFormat, Source, TrustedCheckpoint, Verification, Voter};
use crate::dgraph::client::DgraphSettings;
use crate::dgraph::pass_through::PassThroughLimits;
use crate::ingest::{IngestTls, SourceId};
use crate::peers::PeerUrl;
use crate::wire::NetworkName;

/// Everything a node is told at its start, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which network, and what is believed about it.
    pub network: NetworkConfig,
    /// Who the node is and where it keeps what it holds.
    pub node: NodeConfig,
    /// Where blocks come from.
    pub sources: SourceConfig,
    /// Where it listens.
    pub listeners: ListenerConfig,
    /// Who may do what.
    pub access: AccessConfig,
    /// How it fetches what is missing.
    pub sync: SyncConfig,
    /// How it writes.
    pub store: StoreConfig,
    /// Which Dgraph it keeps in step; `None`: it is embedded, and its own store is all there is.
    pub dgraph: Option<DgraphConfig>,
    /// What callers may ask of it.
    pub limits: LimitConfig,
    /// How it logs.
    pub logging: LoggingConfig,
    /// Time to finish the running commit and answers when it is told to stop.
    pub shutdown_timeout: Duration,
}

/// Which network, and what is believed about it.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Its prefix.
    pub name: NetworkName,
    /// Which blocks are checkpoints.
    pub schedule: CheckpointSchedule,
    /// File of its genesis document.
    pub genesis_file: Option<PathBuf>,
    /// Content id that the genesis document must have.
    pub genesis_id: Option<ContentId>,
    /// What an empty store begins with.
    pub start: Start,
    /// How blocks of older peers are treated.
    pub verification: Verification,
    /// Who votes on anchors; at least one.
    pub voters: Vec<Voter>,
    /// Deepest reorganization that is done by undo, in blocks, at least 1.
    pub max_reorg_depth: u64,
}

/// What a node with an empty store begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It joins the chain that its voters agree on.
    Join,
    /// It joins at a checkpoint that the person who runs it vouches for.
    TrustedCheckpoint(TrustedCheckpoint),
    /// It starts the chain of a new network from the genesis document in this file.
    NewChain {
        /// The genesis document.
        genesis_file: PathBuf,
    },
}

/// Who the node is and where it keeps what it holds.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name; `None`: the one in the data folder, made at the first start.
    pub peer_id: Option<PeerId>,
    /// Where peers reach it.
    pub advertise_url: Option<PeerUrl>,
    /// Folder of the store.
    pub data_dir: PathBuf,
    /// How much history it keeps.
    pub history: History,
    /// Irreversible full state documents that it keeps.
    pub state_documents: NonZeroUsize,
}

/// How much history a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All that it can get.
    All,
    /// This many newest blocks.
    Newest(NonZeroU64),
}

/// Where blocks come from.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Honeycombs that may push blocks, names distinct.
    pub honeycombs: Vec<Source>,
    /// Honeycombs that may push blocks with a client certificate, names distinct; some may be among those above.
    pub certified: Vec<SourceId>,
    /// Honeycomb nodes that are asked for lists of peers.
    pub honeycomb_nodes: Vec<PeerUrl>,
    /// Peers that are always known.
    pub peers: Vec<PeerUrl>,
    /// Gateways that documents are fetched from by content id.
    pub ipfs_gateways: Vec<PeerUrl>,
    /// Most peer addresses held.
    pub peers_max: usize,
    /// Time between two rounds of discovery.
    pub discovery_interval: Duration,
    /// Largest checkpoint document fetched, in bytes.
    pub document_bytes_max: u64,
}

/// Where the node listens; no two overlap (port 0 is any free one).
#[derive(Debug, Clone, Copy)]
pub struct ListenerConfig {
    /// Public API.
    pub public: SocketAddr,
    /// WebSocket of honeycombs.
    pub ingest: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
    /// Probes and metrics.
    pub metrics: SocketAddr,
}

/// Who may do what.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// Keys for mutating calls; empty: they answer only to direct loopback.
    pub api_keys: Vec<Secret>,
    /// Proxies whose `X-Forwarded-For` says for whom a request is counted.
    pub trusted_proxies: Vec<IpNet>,
    /// Token of the admin API; `None` only where it listens on loopback.
    pub admin_token: Option<Secret>,
    /// TLS of the ingest listener; without it connections are not encrypted.
    pub ingest_tls: Option<IngestTls>,
}

/// How the node fetches what is missing.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// Whether it does.
    pub enabled: bool,
    /// Time between two looks for gaps.
    pub interval: Duration,
    /// Blocks of one request at first; `range_blocks_min..=range_blocks_max`.
    pub range_blocks: u64,
    /// Fewest blocks of one request, at least 1.
    pub range_blocks_min: u64,
    /// Most blocks of one request.
    pub range_blocks_max: u64,
    /// Bytes that one request is cut to; well below `buffer_bytes`.
    pub range_bytes: u64,
    /// Requests under way to one peer at first.
    pub in_flight_per_peer: usize,
    /// Most requests under way to one peer.
    pub in_flight_per_peer_max: usize,
    /// Most requests under way in all.
    pub in_flight_max: usize,
    /// Most bytes held between fetching and committing.
    pub buffer_bytes: u64,
    /// How far past the commit front blocks are fetched; at least `range_blocks_max`.
    pub buffer_blocks: u64,
    /// Age at which the front range is hedged, at the earliest.
    pub hedge_after: Duration,
    /// Most bytes fetched twice by hedging, in percent; 0: no hedging.
    pub hedge_percent: u8,
    /// First wait after a failed range.
    pub backoff: Duration,
    /// Longest wait after a failed range.
    pub backoff_max: Duration,
    /// Distinct peers that must fail a range before it is set aside.
    pub quarantine_peers: usize,
    /// How long it is set aside.
    pub quarantine: Duration,
    /// How long an answer is waited for.
    pub timeout: TimeoutSettings,
    /// When a peer that cannot be reached is left alone.
    pub circuit: CircuitSettings,
    /// How long a peer is banned.
    pub ban: BanSettings,
}

/// How the node writes.
#[derive(Debug, Clone, Copy)]
pub struct StoreConfig {
    /// Most blocks of one commit, at least 1.
    pub commit_blocks: usize,
    /// Longest time a verified block waits.
    pub commit_interval: Duration,
    /// Memory for caches, in bytes.
    pub cache_bytes: u64,
}

/// Which Dgraph the node keeps in step with its log.
#[derive(Debug, Clone)]
pub struct DgraphConfig {
    /// Who writes it; never `Embedded`.
    pub mode: DgraphMode,
    /// Where it is and how it is talked to.
    pub client: DgraphSettings,
    /// Most blocks that one transaction writes.
    pub step_blocks: NonZeroU64,
    /// What people may ask it through this node; `None`: nothing.
    pub query: Option<PassThroughLimits>,
}

/// What callers may ask of the node.
#[derive(Debug, Clone, Copy)]
pub struct LimitConfig {
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// Requests a second from one address.
    pub rate_per_address: NonZeroU32,
    /// Requests a second from one known peer.
    pub rate_per_peer: NonZeroU32,
    /// Requests answered at once.
    pub concurrent_requests: usize,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Honeycombs connected at once.
    pub ingest_connections: usize,
    /// Largest message of a honeycomb, in bytes.
    pub ingest_message_bytes: usize,
}

/// How the node logs.
#[derive(Debug, Clone)]
pub struct LoggingConfig {
    /// Which lines.
    pub filter: LogFilter,
    /// How they are written.
    pub format: LogFormat,
}
