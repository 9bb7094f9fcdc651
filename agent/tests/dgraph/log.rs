//! A log without a node around it.

use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::{BlockNumber, ContentId, Operation, Operations};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

/// A log that grows block by block.
pub(crate) struct Log {
    _home: tempfile::TempDir,
    pub(crate) replica: Replica,
    pub(crate) chain: ReferenceChain,
    /// How much later than others it hears of blocks, in milliseconds.
    pub(crate) delay_ms: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = ChainSettings {
            generator: GeneratorSettings::benchmark(),
            kept_blocks: 1,
            ..ChainSettings::default()
        };
        let chain = ReferenceChain::from_vectors(settings).unwrap();
        let genesis = home.path().join("genesis.json");
        std::fs::write(&genesis, chain.genesis_document()).unwrap();
        let (_, writer, _) = Store::open(&home.path().join("data"), &StoreSettings::default()).unwrap();
        let settings = ReplicaSettings::new("dlux");
        let mut replica = Replica::new(writer, settings).unwrap();
        let documents = StartDocuments {
            state: genesis,
            state_id: chain.genesis_id(),
            prev_root: honeygraph_chain::checkpoint::PreviousRoot::None,
            deltas: Vec::new(),
            anchor: None,
        };
        replica.start_from(&documents).unwrap();
        Self {
            _home: home,
            replica,
            chain,
            delay_ms: 0,
        }
    }

    /// The chain's next blocks.
    pub(crate) fn grow(&mut self, blocks: usize) {
        let blocks: Vec<FetchedBlock> = self
            .chain
            .by_ref()
            .take(blocks)
            .map(|block| FetchedBlock {
                block: HashedBlock::from_canonical(block.block.bytes().to_vec()).unwrap(),
                timestamp_ms: u64::try_from(block.unix_millis).unwrap() + self.delay_ms,
            })
            .collect();
        self.replica.extend(&"peer".parse().unwrap(), &blocks).unwrap();
        self.replica.settle().unwrap();
    }
    /// A block that the chain does not have. Gives its hash.
    pub(crate) fn append(
        &mut self,
        number: BlockNumber,
        previous_hash: ContentId,
        operations: Vec<Operation>,
    ) -> ContentId {
        let block = HashedBlock::from(Block {
            number,
            previous_hash,
            operations: Operations::new(operations).unwrap(),
        });
        let hash = block.hash();
        let blocks = [FetchedBlock {
            block,
            timestamp_ms: 1,
        }];
        self.replica.extend(&"peer".parse().unwrap(), &blocks).unwrap();
        self.replica.settle().unwrap();
        hash
    }
}
