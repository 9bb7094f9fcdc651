//! Nodes in this process, on free ports of loopback.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use honeygraph_agent::config::{self, RawConfig};
use honeygraph_agent::node::RunningNode;
use honeygraph_agent::replica::ReplicaStatus;
use honeygraph_agent::store::Position;
use honeygraph_chain::{BlockNumber, BlockRange};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::honeycomb_node::HoneycombNode;
use honeygraph_honeycomb::receiver::ReceiverSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: RawConfig,
}

/// A node of a test.
pub(crate) struct TestNode {
    pub(crate) running: RunningNode,
    pub(crate) shutdown: CancellationToken,
}

impl TestNode {
    /// Starts a node in a directory, with further flags.
    pub(crate) async fn start(directory: &Path, flags: &[&str]) -> Self {
        let data_dir = directory.join("data");
        let data_dir = data_dir.to_str().unwrap();
        let mut arguments = vec!["agent", "--data-dir", data_dir, "--network", "dlux"];
        for listener in [
            "--public-listen",
            "--ingest-listen",
            "--admin-listen",
            "--metrics-listen",
        ] {
            arguments.extend([listener, "127.0.0.1:0"]);
        }
        if !flags.contains(&"--sync-interval") {
            arguments.extend(["--sync-interval", "1000"]);
        }
        arguments.extend(flags);
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let raw = Arguments::try_parse_from(arguments).unwrap().config;
        let config = config::validate(raw, &config::read_small_file).unwrap();
        let shutdown = CancellationToken::new();
        let running = RunningNode::start(config, shutdown.clone()).await.unwrap();
        Self { running, shutdown }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.running.addresses.public)
    }

    pub(crate) fn ingest_url(&self) -> String {
        format!("ws://{}", self.running.addresses.ingest)
    }

    /// Waits until the replica is as it should be.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        mut is: impl FnMut(&ReplicaStatus) -> bool,
    ) -> ReplicaStatus {
        let mut status = self.running.status();
        match tokio::time::timeout(PATIENCE, status.wait_for(|status| is(status))).await {
            Ok(Ok(status)) => ReplicaStatus::clone(&status),
            Ok(Err(_)) => panic!("the node stopped while waiting for {what}"),
            Err(elapsed) => panic!(
                "{elapsed}: waited too long for {what}: {:#?}",
                self.running.status().borrow().clone()
            ),
        }
    }

    /// Waits until a block's state is applied and nothing up to it is missing from `start` on.
    pub(crate) async fn wait_complete(&self, start: BlockNumber, head: BlockNumber) -> ReplicaStatus {
        self.wait_for(&format!("{start}..={head}"), |status| {
            status
                .position
                .as_ref()
                .is_some_and(|position| position.state_height >= head)
                && status
                    .have
                    .missing_in(BlockRange::new(start, head).unwrap())
                    .next()
                    .is_none()
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.ended().await.unwrap();
    }
}

/// A honeycomb that replays the published chain, and nodes that keep what they have in one folder.
pub(crate) struct Network {
    pub(crate) honeycomb: HoneycombNode,
    genesis: String,
    home: TempDir,
}

impl Network {
    /// A network whose honeycomb has made no block yet.
    pub(crate) fn start() -> Self {
        let settings = ChainSettings {
            generator: GeneratorSettings::default(),
            ..ChainSettings::default()
        };
        let honeycomb = HoneycombNode::start(ReferenceChain::from_vectors(settings).unwrap());
        let home = tempfile::tempdir().unwrap();
        let genesis = home.path().join("genesis.json");
        std::fs::write(
            &genesis,
            honeycomb.read(|chain| chain.genesis_document().to_vec()),
        )
        .unwrap();
        Self {
            honeycomb,
            genesis: genesis.to_str().unwrap().to_owned(),
            home,
        }
    }

    /// The folder of a node.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Starts a node that knows the genesis document.
    pub(crate) async fn node(&self, name: &str, flags: &[&str]) -> TestNode {
        let flags = [&["--genesis-file", &self.genesis], flags].concat();
        TestNode::start(&self.directory(name), &flags).await
    }

    /// Starts a node that knows no genesis document.
    pub(crate) async fn empty_node(&self, name: &str, flags: &[&str]) -> TestNode {
        TestNode::start(&self.directory(name), flags).await
    }

    /// Starts a node that the honeycomb feeds.
    pub(crate) async fn fed_node(&self, name: &str, flags: &[&str]) -> TestNode {
        let node = self.node(name, flags).await;
        feed(&self.honeycomb, &node);
        node
    }

    /// Has the honeycomb make blocks.
    pub(crate) fn produce(&self, blocks: u64) {
        self.honeycomb.produce(blocks).unwrap();
    }

    /// A second honeycomb that goes its own way after a block.
    pub(crate) fn fork(&self, at: BlockNumber) -> HoneycombNode {
        HoneycombNode::start(self.honeycomb.read(|chain| chain.fork(at, 2)).unwrap())
    }

    /// First block of the chain.
    pub(crate) fn first_block(&self) -> BlockNumber {
        self.honeycomb.read(ReferenceChain::genesis_block).next()
    }

    /// Last block that nodes can have: one is complete once something of the next one has come.
    pub(crate) fn head(&self) -> BlockNumber {
        self.honeycomb.head().number.previous().unwrap()
    }

    /// Waits until a node has the whole chain, and sees that it is this one.
    pub(crate) async fn wait_complete(&self, node: &TestNode) -> Position {
        let status = node.wait_complete(self.first_block(), self.head()).await;
        let position = status.position.unwrap();
        let reference = self
            .honeycomb
            .read(|chain| chain.block(position.state_height).unwrap().block.hash());
        assert_eq!(position.state_block_hash, Some(reference));
        position
    }
}

/// Has a honeycomb feed a node.
pub(crate) fn feed(honeycomb: &HoneycombNode, node: &TestNode) {
    honeycomb.add_receiver(&node.url(), ReceiverSettings::new(node.ingest_url()));
}
