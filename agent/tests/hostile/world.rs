//! A honeycomb, an honest node that it feeds, and nodes that have to tell honest from hostile.

use std::path::PathBuf;
use std::sync::Arc;

use honeygraph_chain::BlockNumber;
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_honeycomb::reference_chain::ChainBlock;

use super::gate::Gate;
use super::peer::ScriptedPeer;
use crate::common::{Network, TestNode};

/// Blocks of the honeycomb; the published ones and some more.
const BLOCKS: u64 = 521;

/// A honeycomb and an honest node that has all of its chain.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) honest: TestNode,
    /// The blocks that the honest node has.
    pub(crate) chain: Vec<Arc<ChainBlock>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let network = Network::start();
        let honest = network
            .fed_node("honest", &["--limit-rate-per-address", "100000"])
            .await;
        network.produce(BLOCKS);
        network.wait_complete(&honest).await;
        let mut chain: Vec<_> = network.honeycomb.read(|chain| chain.kept().cloned().collect());
        chain.pop();
        Self {
            network,
            honest,
            chain,
        }
    }

    pub(crate) fn start_block(&self) -> BlockNumber {
        self.chain.first().unwrap().block.number()
    }

    pub(crate) fn head(&self) -> BlockNumber {
        self.chain.last().unwrap().block.number()
    }

    /// The block in a place of the chain, counted from 0.
    pub(crate) fn at(&self, place: u64) -> BlockNumber {
        self.start_block().saturating_add(place)
    }

    /// The chain up to a place, and another one from there on that is right in itself.
    pub(crate) fn other_chain(&self, place: u64) -> Vec<Arc<ChainBlock>> {
        let fork_at = self.at(place).previous().unwrap();
        let mut other = self
            .network
            .honeycomb
            .read(|chain| chain.fork(fork_at, 99))
            .unwrap();
        while other.head().number < self.head() {
            other.next_block().unwrap();
        }
        other.kept().cloned().collect()
    }

    /// The newest checkpoint of the honest chain.
    pub(crate) fn last_anchor(&self) -> Anchor {
        let mut blocks = self.chain.iter().rev();
        let newest = blocks.find_map(|block| block.checkpoint.as_ref());
        newest.unwrap().anchor
    }

    pub(crate) async fn gate(&self) -> Gate {
        Gate::start(self.honest.running.addresses.public).await
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.network.directory(name)
    }

    /// A node that starts at the genesis, with these peers and voters.
    pub(crate) async fn node(
        &self,
        name: &str,
        peers: &[String],
        voters: &[String],
        flags: &[&str],
    ) -> TestNode {
        let (peers, voters) = (peers.join(","), voters.join(","));
        let mut all = vec!["--sync-interval", "500"];
        all.extend(["--peers", peers.as_str(), "--voters", voters.as_str()]);
        // Blocks that nobody could give are soon asked for again.
        all.extend(["--sync-backoff-ms", "100", "--sync-backoff-max-ms", "1000"]);
        all.extend(flags);
        self.network.node(name, &all).await
    }

    /// A peer that votes for the honest chain and has no blocks for anybody.
    pub(crate) async fn voter(&self) -> ScriptedPeer {
        ScriptedPeer::start(self.chain.clone(), super::fault::Fault::NoBlocks, None).await
    }
}
