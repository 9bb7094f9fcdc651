//! Two honeycombs with the same chain, and when they make its blocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::{BlockNumber, ContentId};
use honeygraph_honeycomb::honeycomb_node::HoneycombNode;
use honeygraph_honeycomb::messages::Identity;
use honeygraph_honeycomb::peer_list::{ListedPeer, PeerList};
use honeygraph_honeycomb::receiver::{Progress, ReceiverSettings};
use honeygraph_honeycomb::reference_chain::{ChainError, ChainSettings, ReferenceChain};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::ports::Ports;

/// Names of the honeycombs.
pub(crate) const NAMES: [&str; 2] = ["honeycomb-1", "honeycomb-2"];

/// The network that the honeycombs say they belong to.
pub(crate) const NETWORK: &str = "dlux";

/// Blocks that a honeycomb keeps to send again.
const KEPT_BLOCKS: usize = 8_192;

/// Blocks that a fed node may be behind before no more are made.
const LEAD_BLOCKS: u64 = 1_000;

/// How far the chain is to go, and how fast.
#[derive(Debug, Clone, Copy)]
struct Goal {
    until: BlockNumber,
    interval: Duration,
}

struct Honeycomb {
    node: HoneycombNode,
    list: PeerList,
    token: String,
    fed: Mutex<Vec<watch::Receiver<Progress>>>,
}

/// The two honeycombs.
pub(crate) struct Honeycombs {
    both: Arc<[Honeycomb; 2]>,
    goal: watch::Sender<Goal>,
    producer: JoinHandle<Result<(), ChainError>>,
}

impl Honeycombs {
    /// Starts both at the genesis; no block is made yet.
    pub(crate) async fn start(seed: u64, ports: Ports) -> anyhow::Result<Self> {
        let settings = ChainSettings {
            seed,
            kept_blocks: KEPT_BLOCKS,
            ..ChainSettings::default()
        };
        let first = Honeycomb::start(settings, ports, 0).await?;
        let second = Honeycomb::start(settings, ports, 1).await?;
        let both = Arc::new([first, second]);
        let (goal, goals) = watch::channel(Goal {
            until: both[0].node.head().number,
            interval: Duration::from_secs(1),
        });
        let producer = tokio::spawn(make_blocks(both.clone(), goals));
        Ok(Self { both, goal, producer })
    }

    /// The genesis document.
    pub(crate) fn genesis(&self) -> Vec<u8> {
        self.first().read(|chain| chain.genesis_document().to_vec())
    }

    /// Content id of the genesis document.
    pub(crate) fn genesis_id(&self) -> ContentId {
        self.first().read(ReferenceChain::genesis_id)
    }

    /// The first block.
    pub(crate) fn first_block(&self) -> BlockNumber {
        self.first().read(ReferenceChain::genesis_block).next()
    }

    /// The last block.
    pub(crate) fn head(&self) -> BlockNumber {
        self.first().head().number
    }

    /// The anchor of a block that is a checkpoint and kept.
    pub(crate) fn anchor(&self, number: BlockNumber) -> Option<Anchor> {
        self.first()
            .read(|chain| Some(chain.block(number)?.checkpoint.as_ref()?.anchor))
    }

    /// The addresses of their lists of honeygraph nodes.
    pub(crate) fn list_urls(&self) -> Vec<String> {
        self.both.iter().map(|honeycomb| honeycomb.list.url()).collect()
    }

    /// Changes their lists of honeygraph nodes.
    pub(crate) fn list(&self, peers: &[ListedPeer]) {
        for honeycomb in self.both.iter() {
            honeycomb.list.set(peers.to_vec());
        }
    }

    /// What a node is to know the honeycombs by: a line `name=token` for each.
    pub(crate) fn sources_file(&self) -> String {
        let lines: Vec<_> = NAMES
            .iter()
            .zip(self.both.iter())
            .map(|(name, honeycomb)| format!("{name}={}", honeycomb.token))
            .collect();
        lines.join("\n")
    }

    /// Starts to push to a node.
    pub(crate) fn feed(&self, node: &str, ingest: std::net::SocketAddr) {
        for (name, honeycomb) in NAMES.iter().zip(self.both.iter()) {
            let settings = ReceiverSettings {
                identity: Identity {
                    source: (*name).to_owned(),
                    token: NETWORK.to_uppercase(),
                },
                bearer_token: Some(honeycomb.token.clone()),
                ..ReceiverSettings::new(format!("ws://{ingest}/"))
            };
            honeycomb.fed().push(honeycomb.node.add_receiver(node, settings));
        }
    }

    /// Why a node is not fed by all, if it is not.
    pub(crate) fn trouble(&self, node: &str) -> Option<String> {
        NAMES.iter().zip(self.both.iter()).find_map(|(name, honeycomb)| {
            let progress = honeycomb.node.progress(node)?;
            (!progress.connected).then(|| {
                let reason = progress
                    .last_error
                    .unwrap_or_else(|| "not connected yet".to_owned());
                format!("{name} does not feed it: {reason}")
            })
        })
    }

    /// Makes blocks up to this one.
    pub(crate) fn grow_until(&self, until: BlockNumber, interval: Duration) {
        self.goal.send_replace(Goal { until, interval });
    }

    /// An error when blocks are no longer made.
    pub(crate) async fn check(&mut self) -> anyhow::Result<()> {
        if self.producer.is_finished() {
            (&mut self.producer)
                .await?
                .context("the honeycombs make no more blocks")?;
        }
        Ok(())
    }

    fn first(&self) -> &HoneycombNode {
        &self.both[0].node
    }
}

impl Drop for Honeycombs {
    fn drop(&mut self) {
        self.producer.abort();
    }
}

impl Honeycomb {
    async fn start(settings: ChainSettings, ports: Ports, place: u16) -> anyhow::Result<Self> {
        let address = ports.honeycomb(place);
        Ok(Self {
            node: HoneycombNode::start(ReferenceChain::from_vectors(settings)?),
            list: PeerList::start(address, Vec::new())
                .await
                .with_context(|| format!("port {} cannot be used", address.port()))?,
            token: uuid::Uuid::new_v4().simple().to_string(),
            fed: Mutex::default(),
        })
    }

    fn fed(&self) -> MutexGuard<'_, Vec<watch::Receiver<Progress>>> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every node that it feeds is close enough for one more block.
    fn is_taken(&self) -> bool {
        let head = self.node.head().number;
        let near = |progress: &watch::Receiver<Progress>| {
            let progress = progress.borrow();
            // One that was never connected has taken nothing; there is nothing it could fall behind of.
            progress.sessions == 0 || head.distance_from(progress.next_block) < LEAD_BLOCKS
        };
        self.fed().iter().all(near)
    }
}

/// Makes blocks as the goal says, the same ones at both, until one cannot.
async fn make_blocks(
    honeycombs: Arc<[Honeycomb; 2]>,
    mut goals: watch::Receiver<Goal>,
) -> Result<(), ChainError> {
    loop {
        let goal = *goals.borrow_and_update();
        let mut ticks = tokio::time::interval(goal.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !goals.has_changed().unwrap_or(true) && honeycombs[0].node.head().number < goal.until {
            ticks.tick().await;
            if !honeycombs.iter().all(Honeycomb::is_taken) {
                continue;
            }
            for honeycomb in honeycombs.iter() {
                honeycomb.node.produce(1)?;
            }
        }
        if goals.changed().await.is_err() {
            return Ok(());
        }
    }
}
