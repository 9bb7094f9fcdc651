//! The settings of `run`: every one is a flag and an environment variable of the same name.
//!
//! This is the one source of names, defaults, units and help; `docs/configuration.md` is made from it. An
//! argument that hides its environment value is a secret and is never shown anywhere.

#![allow(
    clippy::doc_markdown,
    reason = "these comments are the text of --help, read in a terminal"
)]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use honeygraph_chain::ContentId;
use honeygraph_chain::peer::{BanSettings, PeerId};
use ipnet::IpNet;

use super::secret::Secret;
use super::values::network_name;
use super::values::{
    DgraphMode, DqlAccess, List, LogFilter, LogFormat, Maybe, Source, TrustedCheckpoint, Verification, Voter,
    certified, content_id, dgraph_alpha, dgraph_user, document_bytes_max, list, listener, maybe,
    milliseconds, path, peer_id, peer_url, proxy, rate, secret, switch, trusted_checkpoint, whole,
};
use crate::dgraph::client::EndpointUrl;
use crate::ingest::SourceId;
use crate::peers::PeerUrl;
use crate::wire::NetworkName;

/// Most blocks that one request can ask for (`docs/protocol.md`, section 9).
const MAX_BATCH_BLOCKS: u64 = 512;

const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;
const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const MAX_BAN_MS: u64 = BanSettings::LIMIT.as_secs() * SECOND_MS;

/// All settings, each checked for itself; `validate` checks them against each other.
#[derive(Debug, Clone, Args)]
pub struct RawConfig {
    /// Which network, and what is believed about it.
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Who the node is and where it keeps what it holds.
    #[command(flatten)]
    pub node: NodeArguments,
    /// Where blocks come from.
    #[command(flatten)]
    pub sources: SourceArguments,
    /// Where it listens and who may do what.
    #[command(flatten)]
    pub access: AccessArguments,
    /// How it fetches what is missing.
    #[command(flatten)]
    pub sync: SyncArguments,
    /// How it writes.
    #[command(flatten)]
    pub store: StoreArguments,
    /// Which Dgraph it keeps in step.
    #[command(flatten)]
    pub dgraph: DgraphArguments,
    /// What callers may ask of it.
    #[command(flatten)]
    pub limits: LimitArguments,
    /// How it logs and stops.
    #[command(flatten)]
    pub process: ProcessArguments,
}

/// Which network, and what is believed about it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArguments {
    /// Prefix of the honeycomb network; nodes of different networks never exchange blocks
    #[arg(long, env, value_name = "NAME", default_value = "spkcc", value_parser = network_name)]
    pub network: NetworkName,

    /// Genesis document of the network (JSON); its content id is the previous hash of the first block
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub genesis_file: Maybe<PathBuf>,

    /// Content id that the genesis document must have
    #[arg(long, env, value_name = "CONTENT_ID", default_value = "", hide_default_value = true, value_parser = maybe(content_id))]
    pub genesis_id: Maybe<ContentId>,

    /// Start the chain of a new network from GENESIS_FILE; without it a node only ever joins a chain
    #[arg(long, env, value_name = "SWITCH", default_value = "false", default_missing_value = "true", num_args = 0..=1, action = ArgAction::Set, value_parser = switch)]
    pub init_chain: bool,

    /// Checkpoint that is believed without asking voters: a new node starts from it
    #[arg(long, env, value_name = "BLOCK:CONTENT_ID", default_value = "", hide_default_value = true, value_parser = trusted_checkpoint)]
    pub trusted_checkpoint: Maybe<TrustedCheckpoint>,

    /// Blocks of older peers, whose hashes cannot be recomputed: `strict` takes them only where a verified
    /// checkpoint covers them, `quorum` takes them on a quorum and marks them unverified
    #[arg(long, env, value_name = "MODE", default_value = "strict")]
    pub verification: Verification,

    /// Who votes on anchors, `name-or-url[=weight]`; empty: every source of HONEYCOMB_SOURCES and every peer of
    /// PEERS with weight 1, or with neither the honeycombs on this machine
    #[arg(long, env, value_name = "VOTER,...", default_value = "", hide_default_value = true, value_parser = list(str::parse::<Voter>))]
    pub voters: List<Voter>,

    /// Deepest reorganization that is done by undo, in blocks
    #[arg(long, env, value_name = "BLOCKS", default_value = "1000", value_parser = whole::<u64>("blocks", 1..=100_000))]
    pub max_reorg_depth: u64,

    /// Blocks from one checkpoint to the next
    #[arg(long, env, value_name = "BLOCKS", default_value = "100", value_parser = whole::<u64>("blocks", 1..=1_000_000))]
    pub checkpoint_delta_interval: u64,

    /// Remainder of a checkpoint's block number by CHECKPOINT_DELTA_INTERVAL
    #[arg(long, env, value_name = "BLOCKS", default_value = "1", value_parser = whole::<u64>("blocks", 0..=999_999))]
    pub checkpoint_delta_offset: u64,

    /// Blocks from one full state document to the next
    #[arg(long, env, value_name = "BLOCKS", default_value = "28800", value_parser = whole::<u64>("blocks", 1..=100_000_000))]
    pub checkpoint_state_interval: u64,

    /// Remainder of a full state's block number by CHECKPOINT_STATE_INTERVAL
    #[arg(long, env, value_name = "BLOCKS", default_value = "18601", value_parser = whole::<u64>("blocks", 0..=99_999_999))]
    pub checkpoint_state_offset: u64,
}

/// Who the node is and where it keeps what it holds.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArguments {
    /// Name of this node among its peers; empty: made at the first start and kept in the data folder
    #[arg(long, env, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = maybe(peer_id))]
    pub peer_id: Maybe<PeerId>,

    /// Address under which peers reach the public listener; empty: the node is not advertised
    #[arg(long, env, value_name = "URL", default_value = "", hide_default_value = true, value_parser = maybe(peer_url))]
    pub advertise_url: Maybe<PeerUrl>,

    /// Folder of the store
    #[arg(long, env, value_name = "PATH", default_value = "./data", value_parser = path)]
    pub data_dir: PathBuf,

    /// Newest blocks whose history is kept; 0 keeps all
    #[arg(long, env, value_name = "BLOCKS", default_value = "0", value_parser = whole::<u64>("blocks", 0..=1_000_000_000_000))]
    pub history_blocks: u64,

    /// Newest irreversible full state documents that are kept, so that peers can start from them
    #[arg(long, env, value_name = "COUNT", default_value = "7", value_parser = whole::<usize>("documents", 1..=100_000))]
    pub state_documents: usize,
}

/// Where blocks come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sources and peers")]
pub struct SourceArguments {
    /// Honeycombs on other machines that may push blocks; one on this machine needs no token and is called
    /// `loopback`. Prefer HONEYCOMB_SOURCES_FILE: other processes can see flags
    #[arg(long, env, value_name = "NAME=TOKEN,...", default_value = "", hide_default_value = true, hide_env_values = true, value_parser = list(str::parse::<Source>))]
    pub honeycomb_sources: List<Source>,

    /// File with further honeycombs, one `name=token` a line, `#` starts a comment
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub honeycomb_sources_file: Maybe<PathBuf>,

    /// Honeycombs on other machines that may push blocks with a client certificate: of INGEST_TLS_CLIENT_CA_FILE, with
    /// one of these names as a DNS name (subject alternative name). One may also have a token
    #[arg(long, env, value_name = "NAME,...", default_value = "", hide_default_value = true, value_parser = list(certified))]
    pub honeycomb_certificates: List<SourceId>,

    /// Honeycomb nodes that are asked for their lists of honeygraph peers
    #[arg(long, env, value_name = "URL,...", default_value = "", hide_default_value = true, value_parser = list(peer_url))]
    pub honeycomb_nodes: List<PeerUrl>,

    /// Peers that are always known; trusted by exact host and port, also in private networks
    #[arg(long, env, value_name = "URL,...", default_value = "", hide_default_value = true, value_parser = list(peer_url))]
    pub peers: List<PeerUrl>,

    /// Gateways that documents are fetched from by content id
    #[arg(long, env, value_name = "URL,...", default_value = "", hide_default_value = true, value_parser = list(peer_url))]
    pub ipfs_gateways: List<PeerUrl>,

    /// Most peer addresses held beside those that are configured
    #[arg(long, env, value_name = "ADDRESSES", default_value = "1000", value_parser = whole::<usize>("addresses", 1..=100_000))]
    pub peers_max: usize,

    /// Time between two rounds of asking honeycombs and peers for further peers
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "300000", value_parser = milliseconds(SECOND_MS..=DAY_MS))]
    pub discovery_interval_ms: Duration,

    /// Largest checkpoint document fetched
    #[arg(long, env, value_name = "BYTES", default_value = "1073741824", value_parser = document_bytes_max)]
    pub document_bytes_max: u64,
}

/// Where the node listens and who may do what.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners and access")]
pub struct AccessArguments {
    /// Listener of the public API, for people and peers
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0:3030", value_parser = listener)]
    pub public_listen: SocketAddr,

    /// Listener that honeycombs push to (WebSocket)
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0:4000", value_parser = listener)]
    pub ingest_listen: SocketAddr,

    /// Listener of the admin API; anything but loopback needs an admin token
    #[arg(long, env, value_name = "ADDRESS", default_value = "127.0.0.1:3031", value_parser = listener)]
    pub admin_listen: SocketAddr,

    /// Listener of probes and metrics
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0:9100", value_parser = listener)]
    pub metrics_listen: SocketAddr,

    /// File with the certificate of the ingest listener and those between it and its authority (PEM); honeycombs
    /// then connect with wss://, also those on this machine
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub ingest_tls_certificate_file: Maybe<PathBuf>,

    /// File with its private key (PEM)
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub ingest_tls_key_file: Maybe<PathBuf>,

    /// File with the authorities that sign client certificates of HONEYCOMB_CERTIFICATES (PEM)
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub ingest_tls_client_ca_file: Maybe<PathBuf>,

    /// Key for mutating calls of the public API; with no key they answer only to direct loopback. Prefer
    /// API_KEYS_FILE
    #[arg(long, env, value_name = "SECRET", default_value = "", hide_default_value = true, hide_env_values = true, value_parser = maybe(secret))]
    pub api_key: Maybe<Secret>,

    /// File with further keys, one a line, `#` starts a comment
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub api_keys_file: Maybe<PathBuf>,

    /// Token of the admin API. Prefer ADMIN_TOKEN_FILE
    #[arg(long, env, value_name = "SECRET", default_value = "", hide_default_value = true, hide_env_values = true, value_parser = maybe(secret))]
    pub admin_token: Maybe<Secret>,

    /// File with the token of the admin API
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub admin_token_file: Maybe<PathBuf>,

    /// Proxies in front of the public API: for whom a request is counted is then said by their X-Forwarded-For
    #[arg(long, env, value_name = "NETWORK,...", default_value = "", hide_default_value = true, value_parser = list(proxy))]
    pub trusted_proxies: List<IpNet>,
}

/// How the node fetches what is missing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sync")]
pub struct SyncArguments {
    /// Fetch missing blocks from peers
    #[arg(long, env, value_name = "SWITCH", default_value = "true", default_missing_value = "true", num_args = 0..=1, action = ArgAction::Set, value_parser = switch)]
    pub sync_enabled: bool,

    /// Time between two looks for gaps, in milliseconds; a jump of a source is looked at once
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "30000", value_parser = milliseconds(100..=DAY_MS))]
    pub sync_interval: Duration,

    /// Blocks of one request at first; halved on a timeout, doubled after successes
    #[arg(long, env, value_name = "BLOCKS", default_value = "256", value_parser = whole::<u64>("blocks", 1..=MAX_BATCH_BLOCKS))]
    pub sync_range_blocks: u64,

    /// Fewest blocks of one request, where so many are missing
    #[arg(long, env, value_name = "BLOCKS", default_value = "32", value_parser = whole::<u64>("blocks", 1..=MAX_BATCH_BLOCKS))]
    pub sync_range_blocks_min: u64,

    /// Most blocks of one request
    #[arg(long, env, value_name = "BLOCKS", default_value = "512", value_parser = whole::<u64>("blocks", 1..=MAX_BATCH_BLOCKS))]
    pub sync_range_blocks_max: u64,

    /// Bytes that one request is cut to, by the size of recent blocks
    #[arg(long, env, value_name = "BYTES", default_value = "4194304", value_parser = whole::<u64>("bytes", 65_536..=4 * MEBIBYTE))]
    pub sync_range_bytes: u64,

    /// Requests under way to one peer at first
    #[arg(long, env, value_name = "REQUESTS", default_value = "2", value_parser = whole::<usize>("requests", 1..=64))]
    pub sync_in_flight_per_peer: usize,

    /// Most requests under way to one peer
    #[arg(long, env, value_name = "REQUESTS", default_value = "8", value_parser = whole::<usize>("requests", 1..=64))]
    pub sync_in_flight_per_peer_max: usize,

    /// Most requests under way in all
    #[arg(long, env, value_name = "REQUESTS", default_value = "32", value_parser = whole::<usize>("requests", 1..=1_024))]
    pub sync_in_flight_max: usize,

    /// Most bytes held between fetching and committing
    #[arg(long, env, value_name = "BYTES", default_value = "67108864", value_parser = whole::<u64>("bytes", 16 * MEBIBYTE..=64 * GIBIBYTE))]
    pub sync_buffer_bytes: u64,

    /// How far past the commit front blocks are fetched
    #[arg(long, env, value_name = "BLOCKS", default_value = "4096", value_parser = whole::<u64>("blocks", 1..=1_000_000))]
    pub sync_buffer_blocks: u64,

    /// Age at which the range at the commit front is asked of a second peer, at the earliest
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "1000", value_parser = milliseconds(10..=HOUR_MS))]
    pub sync_hedge_after_ms: Duration,

    /// Most bytes fetched twice that way, of all bytes fetched; 0 switches it off
    #[arg(long, env, value_name = "PERCENT", default_value = "5", value_parser = whole::<u8>("percent", 0..=100))]
    pub sync_hedge_percent: u8,

    /// First wait after a failed range; doubled each time, with full jitter
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "500", value_parser = milliseconds(1..=HOUR_MS))]
    pub sync_backoff_ms: Duration,

    /// Longest wait after a failed range
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "60000", value_parser = milliseconds(1..=DAY_MS))]
    pub sync_backoff_max_ms: Duration,

    /// Distinct peers that must fail a range before it is set aside
    #[arg(long, env, value_name = "PEERS", default_value = "5", value_parser = whole::<usize>("peers", 1..=1_000))]
    pub sync_quarantine_peers: usize,

    /// How long it is set aside before it is asked for again
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "600000", value_parser = milliseconds(SECOND_MS..=DAY_MS))]
    pub sync_quarantine_ms: Duration,

    /// Shortest wait for an answer of a peer; in between it follows the peer's round trip
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "2000", value_parser = milliseconds(100..=HOUR_MS))]
    pub sync_timeout_min_ms: Duration,

    /// Longest wait for an answer of a peer
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "20000", value_parser = milliseconds(100..=HOUR_MS))]
    pub sync_timeout_max_ms: Duration,

    /// Slowest transfer that is waited for, within SYNC_TIMEOUT_MAX_MS; lower it on a slow line
    #[arg(long, env, value_name = "BYTES_PER_SECOND", default_value = "131072", value_parser = whole::<u64>("bytes a second", 1_024..=GIBIBYTE))]
    pub sync_timeout_bytes_per_second: u64,

    /// Times in a row that a peer is unreachable, late or failing before nothing is sent to it for a while
    #[arg(long, env, value_name = "FAULTS", default_value = "5", value_parser = whole::<u32>("faults", 1..=1_000))]
    pub sync_circuit_faults: u32,

    /// How long nothing is sent to it before one request tries again
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "30000", value_parser = milliseconds(100..=DAY_MS))]
    pub sync_circuit_open_ms: Duration,

    /// First ban of a peer that lied or keeps answering badly; doubled each time
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "3600000", value_parser = milliseconds(SECOND_MS..=MAX_BAN_MS))]
    pub sync_ban_ms: Duration,

    /// Longest ban
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "43200000", value_parser = milliseconds(SECOND_MS..=MAX_BAN_MS))]
    pub sync_ban_max_ms: Duration,
}

/// How the node writes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArguments {
    /// Most blocks of one durable commit
    #[arg(long, env, value_name = "BLOCKS", default_value = "1000", value_parser = whole::<usize>("blocks", 1..=1_000))]
    pub commit_blocks: usize,

    /// Longest time a verified block waits for its commit
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "200", value_parser = milliseconds(1..=10 * SECOND_MS))]
    pub commit_interval_ms: Duration,

    /// Memory for cached parts of the store
    #[arg(long, env, value_name = "BYTES", default_value = "33554432", value_parser = whole::<u64>("bytes", MEBIBYTE..=64 * GIBIBYTE))]
    pub store_cache_bytes: u64,
}

/// Which Dgraph the node keeps in step with its log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Dgraph")]
pub struct DgraphArguments {
    /// Who writes the Dgraph cluster: `embedded` is no Dgraph at all (the default where DGRAPH_ALPHA is not set),
    /// `independent` this node alone (the default where it is set), `shared` any number of nodes, `hybrid` the nodes
    /// of this region, each region with a cluster of its own
    #[arg(long, env, value_name = "MODE", default_value = "", hide_default_value = true, value_parser = maybe(str::parse::<DgraphMode>))]
    pub dgraph_mode: Maybe<DgraphMode>,

    /// Alphas of one cluster, by their gRPC port (9080 unless one is named); host:port is without TLS
    #[arg(long, env, value_name = "ADDRESS,...", default_value = "", hide_default_value = true, hide_env_values = true, value_parser = list(dgraph_alpha))]
    pub dgraph_alpha: List<EndpointUrl>,

    /// User, where the cluster has access control (ACL)
    #[arg(long, env, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = maybe(dgraph_user))]
    pub dgraph_user: Maybe<String>,

    /// File with the user's password
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub dgraph_password_file: Maybe<PathBuf>,

    /// Namespace that the user logs in to; 0 unless set, which is the root one
    #[arg(long, env, value_name = "NUMBER", default_value = "", hide_default_value = true, value_parser = maybe(whole::<u64>("(a whole number)", 0..=u64::MAX)))]
    pub dgraph_namespace: Maybe<u64>,

    /// File with the token of the alphas' flag `--security token=...`, where they have one
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub dgraph_auth_token_file: Maybe<PathBuf>,

    /// File with the authorities of the alphas' certificates (PEM); those of the machine unless set
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub dgraph_ca_file: Maybe<PathBuf>,

    /// File with the certificate that is shown to alphas which ask for one (PEM)
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub dgraph_certificate_file: Maybe<PathBuf>,

    /// File with its private key (PEM)
    #[arg(long, env, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = maybe(path))]
    pub dgraph_key_file: Maybe<PathBuf>,

    /// Most blocks that one transaction writes
    #[arg(long, env, value_name = "BLOCKS", default_value = "500", value_parser = whole::<u64>("blocks", 1..=10_000))]
    pub dgraph_step_blocks: u64,

    /// Whether holders of an API key may ask Dgraph in DQL through this node: `off` or `read-only`
    #[arg(long, env, value_name = "ACCESS", default_value = "off")]
    pub dgraph_query: DqlAccess,

    /// Longest such question, with its variables
    #[arg(long, env, value_name = "BYTES", default_value = "65536", value_parser = whole::<usize>("bytes", 1_024..=16 * MEBIBYTE))]
    pub dgraph_query_body_bytes: usize,

    /// Largest answer; a larger one is an error
    #[arg(long, env, value_name = "BYTES", default_value = "8388608", value_parser = whole::<usize>("bytes", 1_024..=GIBIBYTE))]
    pub dgraph_query_answer_bytes: usize,

    /// Time for one question
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "5000", value_parser = milliseconds(100..=HOUR_MS))]
    pub dgraph_query_timeout_ms: Duration,

    /// Questions under way at once; more get 503
    #[arg(long, env, value_name = "REQUESTS", default_value = "4", value_parser = whole::<usize>("requests", 1..=1_024))]
    pub dgraph_query_concurrent: usize,
}

/// What callers may ask of the node. Probes and metrics are not limited.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArguments {
    /// Largest body of a request
    #[arg(long, env, value_name = "BYTES", default_value = "1048576", value_parser = whole::<usize>("bytes", 1_024..=GIBIBYTE))]
    pub limit_body_bytes: usize,

    /// Requests a second from one address
    #[arg(long, env, value_name = "REQUESTS_PER_SECOND", default_value = "200", value_parser = rate)]
    pub limit_rate_per_address: NonZeroU32,

    /// Requests a second from one peer, by what it calls itself at its address
    #[arg(long, env, value_name = "REQUESTS_PER_SECOND", default_value = "100", value_parser = rate)]
    pub limit_rate_per_peer: NonZeroU32,

    /// Requests answered at once; more get 503
    #[arg(long, env, value_name = "REQUESTS", default_value = "256", value_parser = whole::<usize>("requests", 1..=65_536))]
    pub limit_concurrent_requests: usize,

    /// Time for one request; an export under way may go on while it makes progress
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "30000", value_parser = milliseconds(100..=HOUR_MS))]
    pub limit_request_timeout_ms: Duration,

    /// Honeycombs connected at once
    #[arg(long, env, value_name = "CONNECTIONS", default_value = "64", value_parser = whole::<usize>("connections", 1..=65_536))]
    pub limit_ingest_connections: usize,

    /// Largest message of a honeycomb
    #[arg(long, env, value_name = "BYTES", default_value = "4194304", value_parser = whole::<usize>("bytes", 1_024..=GIBIBYTE))]
    pub limit_ingest_message_bytes: usize,
}

/// How the node logs and stops.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessArguments {
    /// Which log lines are written: a level, or a filter a module
    #[arg(long, env, value_name = "FILTER", default_value = "info,fjall=warn,lsm_tree=error", value_parser = str::parse::<LogFilter>)]
    pub log: LogFilter,

    /// How log lines are written
    #[arg(long, env, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Time to finish the running commit and answers after SIGTERM or SIGINT
    #[arg(long, env, value_name = "MILLISECONDS", default_value = "30000", value_parser = milliseconds(100..=HOUR_MS))]
    pub shutdown_timeout_ms: Duration,
}
