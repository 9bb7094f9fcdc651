//! The log that is projected.

use std::path::Path;

use honeygraph_agent::dgraph::projection::CHANGED_BLOCKS_MAX;
use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings, View};
use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::{BlockNumber, BlockRange};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

/// The network of the log.
pub(crate) const NETWORK: &str = "dlux";

/// Blocks of one commit.
const COMMIT_BLOCKS: usize = 500;

/// A store with a chain in it, in `<home>/data`, and its genesis document beside it.
pub(crate) struct Log {
    replica: Replica,
    first: BlockNumber,
    operations: usize,
}

impl Log {
    /// Makes the first blocks of the benchmark's chain.
    pub(crate) fn make(home: &Path, blocks: usize) -> Self {
        let settings = ChainSettings {
            generator: GeneratorSettings::benchmark(),
            kept_blocks: 1,
            ..ChainSettings::default()
        };
        let mut chain = ReferenceChain::from_vectors(settings).unwrap();
        std::fs::create_dir_all(home).unwrap();
        let genesis = home.join("genesis.json");
        std::fs::write(&genesis, chain.genesis_document()).unwrap();
        let (_, writer, _) = Store::open(&home.join("data"), &StoreSettings::default()).unwrap();
        let settings = ReplicaSettings {
            kept_changes: CHANGED_BLOCKS_MAX,
            ..ReplicaSettings::new(NETWORK)
        };
        let mut replica = Replica::new(writer, settings).unwrap();
        let documents = StartDocuments {
            state: genesis,
            state_id: chain.genesis_id(),
            prev_root: honeygraph_chain::checkpoint::PreviousRoot::None,
            deltas: Vec::new(),
            anchor: None,
        };
        replica.start_from(&documents).unwrap();
        let first = chain.genesis_block().next();
        let peer = "bench".parse().unwrap();
        let mut operations = 0;
        let mut left = blocks;
        while left > 0 {
            let count = left.min(COMMIT_BLOCKS);
            let blocks: Vec<FetchedBlock> = chain
                .by_ref()
                .take(count)
                .map(|block| FetchedBlock {
                    block: HashedBlock::from_canonical(block.block.bytes().to_vec()).unwrap(),
                    timestamp_ms: u64::try_from(block.unix_millis).unwrap(),
                })
                .collect();
            operations += blocks
                .iter()
                .map(|fetched| fetched.block.block().operations.as_slice().len())
                .sum::<usize>();
            replica.extend(&peer, &blocks).unwrap();
            left -= count;
        }
        replica.settle().unwrap();
        Self {
            replica,
            first,
            operations,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.replica.store()
    }

    pub(crate) fn view(&self) -> View {
        self.store().view()
    }

    /// Its blocks.
    pub(crate) fn range(&self) -> BlockRange {
        BlockRange::new(self.first, self.replica.position().unwrap().state_height).unwrap()
    }

    /// Operations of all blocks.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    /// Writes what is in memory, and closes the store.
    pub(crate) fn finish(mut self) {
        self.replica.finish().unwrap();
    }
}
