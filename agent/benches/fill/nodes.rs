//! The peers, and the node that fills.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use clap::Parser;
use honeygraph_agent::config::{self, RawConfig};
use honeygraph_agent::node::RunningNode;
use honeygraph_chain::BlockNumber;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::processor::ProcessorTime;
use crate::stages::{Chain, nodes_network};

/// Says that this process is the node that fills.
const NODE_VARIABLE: &str = "HONEYGRAPH_BENCH_NODE";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: RawConfig,
}

/// What filling showed.
pub(crate) struct Filled {
    /// Blocks a second, from the first committed block to the last.
    pub(crate) rate: f64,
    pub(crate) fetched_per_needed: f64,
    pub(crate) peak_resident_bytes: u64,
    /// At a quarter, half, three quarters and the end of the gap.
    pub(crate) resident_bytes: Vec<u64>,
    /// Blocks that the times below are of.
    pub(crate) blocks: u64,
    /// Processor time of the node meanwhile.
    pub(crate) node: ProcessorTime,
    /// Processor time of the peers meanwhile.
    pub(crate) peers: ProcessorTime,
}

/// Nodes that have the whole chain.
pub(crate) struct Peers {
    nodes: Vec<RunningNode>,
    shutdown: CancellationToken,
}

impl Peers {
    pub(crate) async fn start(home: &Path, template: &Path, count: usize) -> Self {
        let shutdown = CancellationToken::new();
        let mut nodes = Vec::new();
        for at in 0..count {
            let directory = home.join(format!("peer-{at}"));
            copy(&template.join("data"), &directory);
            let flags = [
                "bench",
                "--data-dir",
                directory.to_str().unwrap(),
                "--network",
                nodes_network_text(),
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
            nodes.push(RunningNode::start(config, shutdown.clone()).await.unwrap());
        }
        Self { nodes, shutdown }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("http://{}", node.addresses.public))
            .collect()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for node in self.nodes {
            node.ended().await.unwrap();
        }
    }
}

fn nodes_network_text() -> &'static str {
    "dlux"
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Whether this process is the node that fills.
pub(crate) fn is_node() -> bool {
    std::env::var_os(NODE_VARIABLE).is_some()
}

/// Runs the node that fills.
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

/// A peer that says it has everything and never hands over a block.
async fn stalled_peer(chain: &Chain) -> String {
    let answer = serde_json::json!({
        "protocol": 1,
        "network": nodes_network(),
        "peerId": "stalled",
        "base": chain.range().start(),
        "head": chain.range().end(),
    });
    let router = Router::new()
        .route(
            "/api/sync/capabilities",
            get(move || async move { axum::Json(answer) }),
        )
        .route("/api/sync/blocks", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A process that is ended with the run.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fills a gap as long as the chain from peers, the last of them replaced by one that stalls if asked for.
pub(crate) async fn fill(home: &Path, name: &str, chain: &Chain, peers: &[String], stalled: bool) -> Filled {
    let mut peers = peers.to_vec();
    if stalled {
        peers.pop();
        peers.push(stalled_peer(chain).await);
    }
    let directory = home.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let genesis = directory.join("genesis.json");
    std::fs::write(&genesis, &chain.genesis).unwrap();
    let (public, metrics) = (free_port().await, free_port().await);
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--data-dir",
            directory.join("data").to_str().unwrap(),
            "--network",
            nodes_network_text(),
        ])
        .args(["--public-listen", &format!("127.0.0.1:{public}")])
        .args(["--metrics-listen", &format!("127.0.0.1:{metrics}")])
        .args(["--ingest-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args([
            "--init-chain",
            "true",
            "--genesis-file",
            genesis.to_str().unwrap(),
        ])
        .args(["--peers", &peers.join(","), "--voters", "loopback"])
        .env(NODE_VARIABLE, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    let client = reqwest::Client::new();
    let read_metrics = || async {
        let text = client
            .get(format!("http://127.0.0.1:{metrics}/metrics"))
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        Some(text)
    };
    let (start, end) = (chain.range().start(), chain.range().end());
    let length = chain.range().len();
    let times = || {
        (
            ProcessorTime::of(process.0.id()),
            ProcessorTime::of(std::process::id()),
        )
    };
    let mut began = None;
    let mut resident_bytes = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Some(text) = read_metrics().await else {
            continue;
        };
        let height = counter(&text, "honeygraph_state_height_block").unwrap_or_default();
        let Ok(height) = BlockNumber::try_from(height) else {
            continue;
        };
        if height < start {
            continue;
        }
        let done = height.distance_from(start) + 1;
        let (first_seen, first_done, (node_before, peers_before)) =
            &*began.get_or_insert_with(|| (Instant::now(), done, times()));
        while resident_bytes.len() < 4 && done * 4 >= length * (resident_bytes.len() as u64 + 1) {
            resident_bytes.push(resident(&process.0, "VmRSS:"));
        }
        if height >= end {
            let elapsed = first_seen.elapsed().as_secs_f64();
            let (node, peers) = times();
            let blocks = length - first_done;
            let fetched = metric(&text, "honeygraph_sync_fetched_bytes_total").unwrap_or_default();
            let needed = metric(&text, "honeygraph_sync_needed_bytes_total").unwrap_or(1.0);
            return Filled {
                rate: blocks as f64 / elapsed,
                fetched_per_needed: fetched / needed,
                peak_resident_bytes: resident(&process.0, "VmHWM:"),
                resident_bytes,
                blocks,
                node: node.since(node_before),
                peers: peers.since(peers_before),
            };
        }
    }
}

fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn resident(child: &Child, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix(field)?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or_default() << 10
}
