//! A node that is in step, and then gets many blocks at once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use honeygraph_agent::config::{self, RawConfig};
use honeygraph_agent::node::RunningNode;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, eventually};
use crate::log::{Log, NETWORK};
use crate::usage::{mebibytes, seconds};

/// Says that this process is the node.
const NODE_VARIABLE: &str = "HONEYGRAPH_BENCH_NODE";

/// Blocks that the node has before the burst.
const BEFORE: usize = 500;

/// Time between two looks at the node.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: RawConfig,
}

/// Whether this process is the node.
pub(crate) fn is_node() -> bool {
    std::env::var_os(NODE_VARIABLE).is_some()
}

/// Runs the node.
pub(crate) fn run_node() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let raw = Arguments::parse_from(arguments).config;
    let config = config::validate(raw, &config::read_small_file).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(honeygraph_agent::node::run(config)).unwrap();
}

/// What a burst showed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Burst {
    /// Blocks a second that the log committed, from the first of the burst to the last.
    pub(crate) rate: f64,
    /// Wall time of that, in seconds.
    took: f64,
    /// Processor time that the node had in that time, in seconds.
    pub(crate) node_seconds: f64,
    /// Most blocks that Dgraph was behind.
    pub(crate) highest_lag: u64,
    /// From the last committed block until Dgraph has all, in seconds.
    pub(crate) until_no_lag: f64,
    /// ... and its state.
    pub(crate) until_in_step: f64,
    pub(crate) peak_mebibytes: u64,
}

impl Burst {
    /// Blocks that the log committed by second of processor time that the node got.
    pub(crate) fn rate_by_time(&self) -> f64 {
        self.rate * self.took / self.node_seconds
    }
}

/// A peer that has little and one that has all.
pub(crate) struct World {
    home: PathBuf,
    before: RunningNode,
    all: RunningNode,
    head: u64,
    shutdown: CancellationToken,
}

impl World {
    pub(crate) async fn start(home: &Path, blocks: usize) -> Self {
        let shutdown = CancellationToken::new();
        let make = |name: &str, blocks| {
            let folder = home.join(name);
            let log = Log::make(&folder, blocks);
            let head = log.range().end().get();
            log.finish();
            (folder, head)
        };
        let (few, _) = make("peer-before", BEFORE);
        let (all, head) = make("peer-all", BEFORE + blocks);
        Self {
            home: home.to_owned(),
            before: peer(&few, &shutdown).await,
            all: peer(&all, &shutdown).await,
            head,
            shutdown,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.before.ended().await.unwrap();
        self.all.ended().await.unwrap();
    }

    /// Brings a node in step, and lets the burst come.
    pub(crate) async fn burst(&self, name: &str, cluster: Option<&Cluster>) -> Burst {
        if let Some(cluster) = cluster {
            let client = cluster.client();
            eventually(|| client.drop_all()).await;
        }
        let directory = self.home.join(name);
        std::fs::create_dir(&directory).unwrap();
        let node = Node::start(&self.home, &directory, &self.before, cluster);
        let first = Self::head_of(&self.before);
        while node
            .look()
            .await
            .is_none_or(|seen| seen.height < first || !seen.is_in_step())
        {
            tokio::time::sleep(LOOK).await;
        }
        node.stop();
        // The same store; the peer that it knows now has more.
        let node = Node::start(&self.home, &directory, &self.all, cluster);
        let mut burst = Burst::default();
        let mut began: Option<(Instant, u64, f64)> = None;
        let mut committed: Option<Instant> = None;
        let mut no_lag: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(seen) = node.look().await else {
                continue;
            };
            let now = Instant::now();
            if seen.height <= first {
                continue;
            }
            let used = seconds(&node.id().to_string());
            let (since, low, used_before) = *began.get_or_insert((now, seen.height, used));
            burst.highest_lag = burst.highest_lag.max(seen.lag.unwrap_or_default());
            if seen.height < self.head {
                continue;
            }
            if committed.is_none() {
                burst.took = (now - since).as_secs_f64();
                burst.rate = (seen.height - low) as f64 / burst.took;
                burst.node_seconds = used - used_before;
            }
            let committed = *committed.get_or_insert(now);
            if seen.lag.is_none_or(|lag| lag == 0) {
                let no_lag = *no_lag.get_or_insert(now);
                burst.until_no_lag = (no_lag - committed).as_secs_f64();
            }
            if seen.is_in_step() {
                burst.until_in_step = (now - committed).as_secs_f64();
                break;
            }
        }
        burst.peak_mebibytes = mebibytes(node.id(), "VmHWM:");
        node.stop();
        burst
    }

    fn head_of(peer: &RunningNode) -> u64 {
        let status = peer.status();
        let status = status.borrow();
        status.position.as_ref().unwrap().state_height.get()
    }
}

async fn peer(folder: &Path, shutdown: &CancellationToken) -> RunningNode {
    let data = folder.join("data");
    let flags = [
        "bench",
        "--data-dir",
        data.to_str().unwrap(),
        "--network",
        NETWORK,
        "--public-listen",
        "127.0.0.1:0",
        "--ingest-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--limit-rate-per-peer",
        "100000",
        "--limit-rate-per-address",
        "100000",
    ];
    let raw = Arguments::parse_from(flags).config;
    let config = config::validate(raw, &config::read_small_file).unwrap();
    RunningNode::start(config, shutdown.clone()).await.unwrap()
}

/// What a node says.
#[derive(Debug, Clone, Copy)]
struct Seen {
    height: u64,
    /// None without a Dgraph, and before its cursor is known.
    lag: Option<u64>,
    has_dgraph: bool,
    state: Option<u64>,
}

impl Seen {
    fn is_in_step(&self) -> bool {
        !self.has_dgraph || (self.lag == Some(0) && self.state == Some(self.height))
    }
}

/// The node, a process of its own, that is ended when it is dropped.
struct Node {
    child: Child,
    status_url: String,
    http: reqwest::Client,
}

impl Node {
    fn start(home: &Path, directory: &Path, peer: &RunningNode, cluster: Option<&Cluster>) -> Self {
        let public = free_port();
        let genesis = home.join("peer-all/genesis.json");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--data-dir", directory.join("data").to_str().unwrap()])
            .args(["--network", NETWORK])
            .args(["--public-listen", &format!("127.0.0.1:{public}")])
            .args(["--metrics-listen", "127.0.0.1:0"])
            .args(["--ingest-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args([
                "--init-chain",
                "true",
                "--genesis-file",
                genesis.to_str().unwrap(),
            ])
            .args(["--peers", &format!("http://{}", peer.addresses.public)])
            .args(["--voters", "loopback"])
            .env(NODE_VARIABLE, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(cluster) = cluster {
            command.args(["--dgraph-alpha", cluster.endpoint().as_str()]);
        }
        Self {
            child: command.spawn().unwrap(),
            status_url: format!("http://127.0.0.1:{public}/api/sync/status"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    async fn look(&self) -> Option<Seen> {
        let answer = self.http.get(&self.status_url).send().await.ok()?;
        let status: honeygraph_agent::wire::shapes::SyncStatus = answer.json().await.ok()?;
        let dgraph = status.dgraph.as_ref();
        Some(Seen {
            height: status.state_height?.get(),
            has_dgraph: dgraph.is_some(),
            lag: dgraph.and_then(|dgraph| dgraph.lag_blocks),
            state: dgraph
                .and_then(|dgraph| dgraph.state_block)
                .map(honeygraph_chain::BlockNumber::get),
        })
    }

    /// Asks it to stop, and waits until it has.
    fn stop(mut self) {
        let asked = Command::new("kill").arg(self.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
