//! What a node says of itself over HTTP, and what it holds once it has stopped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use honeygraph_agent::store::check::check;
use honeygraph_agent::store::{Store, StoreError, StoreSettings};
use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::{BlockNumber, BlockRange};
use honeygraph_honeycomb::reference_chain::ChainBlock;
use serde_json::Value;

use crate::common::{PATIENCE, TestNode};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything that a node says.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) admin: Value,
    pub(crate) metrics: String,
}

impl Seen {
    /// What the node thinks of a peer; null before it has said so.
    pub(crate) fn peer(&self, url: &str) -> &Value {
        let peers = self.admin["peers"].as_array().unwrap();
        let found = peers.iter().find(|peer| peer["url"] == url);
        found.unwrap_or(&Value::Null)
    }

    pub(crate) fn score(&self, url: &str) -> f64 {
        self.peer(url)["score"].as_f64().unwrap_or_default()
    }

    /// Requests for blocks to a peer that ended like that.
    pub(crate) fn requests(&self, url: &str, outcome: &str) -> u64 {
        self.outcomes(url)
            .into_iter()
            .filter(|(name, _)| name == outcome)
            .map(|(_, count)| count)
            .sum()
    }

    /// How requests for blocks to a peer ended.
    pub(crate) fn outcomes(&self, url: &str) -> Vec<(String, u64)> {
        let peer = format!("peer=\"{url}\"");
        self.metrics
            .lines()
            .filter(|line| line.starts_with("honeygraph_peer_requests_total{") && line.contains(&peer))
            .map(|line| {
                let outcome = line
                    .split("outcome=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap();
                (
                    outcome.to_owned(),
                    line.rsplit(' ').next().unwrap().parse().unwrap(),
                )
            })
            .collect()
    }
}

/// Looks at a node.
pub(crate) async fn look(node: &TestNode) -> Seen {
    let addresses = &node.running.addresses;
    let health = reqwest::get(format!("http://{}/health", addresses.public))
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
    let admin = reqwest::get(format!("http://{}/status", addresses.admin))
        .await
        .unwrap();
    let metrics = reqwest::get(format!("http://{}/metrics", addresses.metrics))
        .await
        .unwrap();
    Seen {
        admin: admin.json().await.unwrap(),
        metrics: metrics.text().await.unwrap(),
    }
}

/// Looks at a node until it is as it should be.
pub(crate) async fn wait_to_see(node: &TestNode, what: &str, mut is: impl FnMut(&Seen) -> bool) -> Seen {
    let started = std::time::Instant::now();
    loop {
        let seen = look(node).await;
        if is(&seen) {
            return seen;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{what}: waited too long: {:#}\n{}",
            seen.admin,
            seen.metrics
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Opens a store; the last answers of the node that had it may hold it for a moment.
fn open(directory: &Path) -> Store {
    let started = std::time::Instant::now();
    loop {
        match Store::open(directory, &StoreSettings::default()) {
            Ok((store, _, _)) => return store,
            Err(StoreError::Locked { .. }) if started.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            Err(error) => panic!("{}: {error}", directory.display()),
        }
    }
}

/// Reads the whole store of a node that has stopped: nothing in it is damaged, every block that it says it has
/// is there and is that of the chain, and nothing else is. Gives the highest.
pub(crate) async fn check_store(directory: &Path, chain: &[Arc<ChainBlock>]) -> Option<BlockNumber> {
    let (directory, chain) = (directory.to_owned(), chain.to_vec());
    tokio::task::spawn_blocking(move || check_store_here(&directory, &chain))
        .await
        .unwrap()
}

fn check_store_here(directory: &Path, chain: &[Arc<ChainBlock>]) -> Option<BlockNumber> {
    let store = open(&directory.join("data"));
    let report = check(&store, &mut |_| {});
    assert_eq!(report.problem_count(), 0, "{:#?}", report.problems());
    let view = store.view();
    let position = view.position().unwrap()?;
    let have = view.have().unwrap();
    let everything = BlockRange::new(BlockNumber::default(), BlockNumber::MAX).unwrap();
    let mut stored = honeygraph_chain::interval::IntervalSet::new();
    let first = chain.first().unwrap().block.number();
    for row in view.blocks(everything) {
        let (number, block) = row.unwrap();
        stored.insert(BlockRange::single(number));
        let decoded = block.decode(number).unwrap();
        let hashed = HashedBlock::from(decoded.block().clone());
        assert_eq!(
            hashed.hash(),
            block.hash,
            "block {number} is not what its hash says"
        );
        let place = usize::try_from(number.get() - first.get()).unwrap();
        assert_eq!(
            hashed, chain[place].block,
            "block {number} is not that of the chain"
        );
    }
    assert_eq!(have, stored, "what is stored is not what the store says it has");
    let checkpoints = view.checkpoints(BlockRange::new(first, BlockNumber::MAX).unwrap());
    for record in checkpoints {
        let record = record.unwrap();
        let place = usize::try_from(record.block_num.get() - first.get()).unwrap();
        let expected = chain[place].checkpoint.as_ref().unwrap();
        assert_eq!(
            record.state_hash, expected.anchor.state_hash,
            "checkpoint {}",
            record.block_num
        );
    }
    if let Some(hash) = position.state_block_hash {
        let place = usize::try_from(position.state_height.get() - first.get()).unwrap();
        assert_eq!(hash, chain[place].block.hash());
        assert_eq!(
            position.state_digest, chain[place].state_digest,
            "state after {}",
            position.state_height
        );
    }
    have.last()
}
