//! The stages of a fill, each alone: parse, hash, apply, durable write, wire.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use honeygraph_agent::peers::PeerUrl;
use honeygraph_agent::peers::address_guard::AddressGuard;
use honeygraph_agent::peers::client::{BatchOutcome, BatchRequest, ClientTimeouts, PeerClient, Traffic};
use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings, StoredBlock};
use honeygraph_agent::wire::NetworkName;
use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::state::MemoryState;
use honeygraph_chain::{Block, BlockNumber, BlockRange, ContentId};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

/// Blocks that each stage is measured on at most.
const MEASURED: usize = 30_000;
/// Blocks of one commit, as a node commits them without being told otherwise.
const COMMIT_BLOCKS: usize = 1_000;

/// A stage and its rate.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// Blocks a second.
    pub(crate) rate: f64,
}

/// The chain that everything is measured on.
pub(crate) struct Chain {
    pub(crate) genesis: Vec<u8>,
    pub(crate) genesis_id: ContentId,
    pub(crate) first: BlockNumber,
    pub(crate) texts: Vec<Vec<u8>>,
    pub(crate) operations: usize,
    pub(crate) bytes: usize,
}

impl Chain {
    pub(crate) fn make(blocks: usize) -> Self {
        let settings = ChainSettings {
            generator: GeneratorSettings::benchmark(),
            kept_blocks: 1,
            ..ChainSettings::default()
        };
        let mut chain = ReferenceChain::from_vectors(settings).unwrap();
        let genesis = chain.genesis_document().to_vec();
        let genesis_id = chain.genesis_id();
        let first = chain.genesis_block().next();
        let mut operations = 0;
        let texts: Vec<Vec<u8>> = chain
            .by_ref()
            .take(blocks)
            .map(|block| {
                operations += block.block.block().operations.as_slice().len();
                block.block.bytes().to_vec()
            })
            .collect();
        let bytes = texts.iter().map(Vec::len).sum();
        Self {
            genesis,
            genesis_id,
            first,
            texts,
            operations,
            bytes,
        }
    }

    pub(crate) fn range(&self) -> BlockRange {
        BlockRange::starting_at(self.first, self.texts.len() as u64)
    }
}

fn stage(name: &'static str, blocks: usize, elapsed: Duration) -> Stage {
    Stage {
        name,
        rate: blocks as f64 / elapsed.as_secs_f64(),
    }
}

/// Measures every stage but the wire. Leaves a store with the whole chain at `template`.
pub(crate) fn measure(chain: &Chain, template: &Path) -> Vec<Stage> {
    let texts = &chain.texts[..chain.texts.len().min(MEASURED)];

    let started = Instant::now();
    for text in texts {
        black_box(ContentId::of(text));
    }
    let hash = stage("hash", texts.len(), started.elapsed());

    let started = Instant::now();
    let blocks: Vec<Block> = texts
        .iter()
        .map(|text| Block::from_canonical(text).unwrap())
        .collect();
    let parse = stage("parse", texts.len(), started.elapsed());

    let (_, mut state) = MemoryState::from_document(chain.genesis.as_slice()).unwrap();
    let mut effects = Vec::with_capacity(blocks.len());
    let started = Instant::now();
    for block in &blocks {
        effects.push(state.apply(&block.operations).unwrap());
    }
    let apply = stage("apply", texts.len(), started.elapsed());
    drop(blocks);

    let directory = template.with_extension("write");
    let (_, mut writer, _) = Store::open(&directory, &StoreSettings::default()).unwrap();
    let hashed: Vec<HashedBlock> = texts
        .iter()
        .map(|text| HashedBlock::from_canonical(text.clone()).unwrap())
        .collect();
    let started = Instant::now();
    for (blocks, effects) in hashed.chunks(COMMIT_BLOCKS).zip(effects.chunks(COMMIT_BLOCKS)) {
        let mut transaction = writer.begin();
        for (block, effect) in blocks.iter().zip(effects) {
            transaction.put_block(block.number(), &StoredBlock::new(block, 0));
            transaction.put_undo(block.number(), &effect.changes).unwrap();
            for change in &effect.changes {
                transaction.set_leaf(&change.key, change.after.as_ref());
            }
        }
        transaction.commit().unwrap();
    }
    let write = stage("durable write", texts.len(), started.elapsed());
    drop((writer, hashed, effects));
    fill_template(chain, template);
    vec![hash, parse, apply, write]
}

/// A store with the whole chain, for the peers to serve.
fn fill_template(chain: &Chain, template: &Path) {
    std::fs::create_dir_all(template).unwrap();
    let genesis = template.join("genesis.json");
    std::fs::write(&genesis, &chain.genesis).unwrap();
    let (_, writer, _) = Store::open(&template.join("data"), &StoreSettings::default()).unwrap();
    let settings = ReplicaSettings::new(nodes_network().to_string());
    let mut replica = Replica::new(writer, settings).unwrap();
    let documents = StartDocuments {
        state: genesis,
        state_id: chain.genesis_id,
        prev_root: honeygraph_chain::checkpoint::PreviousRoot::None,
        deltas: Vec::new(),
        anchor: None,
    };
    replica.start_from(&documents).unwrap();
    let peer = "bench".parse().unwrap();
    for texts in chain.texts.chunks(COMMIT_BLOCKS) {
        let blocks: Vec<FetchedBlock> = texts
            .iter()
            .map(|text| FetchedBlock {
                block: HashedBlock::from_canonical(text.clone()).unwrap(),
                timestamp_ms: 0,
            })
            .collect();
        replica.extend(&peer, &blocks).unwrap();
    }
    replica.finish().unwrap();
    assert_eq!(replica.position().unwrap().state_height, chain.range().end());
}

pub(crate) fn nodes_network() -> NetworkName {
    "dlux".parse().unwrap()
}

/// Reading ranges from one peer over loopback: served, compressed, sent, decompressed, cut into blocks.
pub(crate) async fn wire(chain: &Chain, peer: &str) -> Stage {
    let url: PeerUrl = peer.parse().unwrap();
    let guard = AddressGuard::new([&url]);
    let client = PeerClient::new(&"bench".parse().unwrap(), guard, ClientTimeouts::default()).unwrap();
    let network = nodes_network();
    let blocks = chain.texts.len().min(MEASURED) as u64;
    let ranges: Vec<BlockRange> = (0..blocks / 250)
        .map(|at| BlockRange::starting_at(chain.first.saturating_add(at * 250), 250))
        .collect();
    let started = Instant::now();
    let received: usize = futures_util::stream::iter(ranges)
        .map(|range| {
            let (client, url, network) = (&client, &url, &network);
            async move {
                let request = BatchRequest {
                    network,
                    range,
                    timeout: Duration::from_mins(1),
                    byte_limit: u64::MAX,
                    traffic: &Traffic::default(),
                };
                let batch = client.blocks(url, request).await;
                assert!(
                    matches!(batch.outcome, BatchOutcome::Whole(_)),
                    "{:?}",
                    batch.outcome
                );
                batch.blocks.len()
            }
        })
        .buffer_unordered(4)
        .fold(0, |sum, count| async move { sum + count })
        .await;
    stage("wire", received, started.elapsed())
}
