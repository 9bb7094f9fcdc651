//! temporary
use std::time::Instant;

use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::quorum::Voters;
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count: usize = std::env::var("BLOCKS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(30_000);
    let settings = ChainSettings {
        generator: GeneratorSettings::benchmark(),
        kept_blocks: 1,
        ..ChainSettings::default()
    };
    let mut chain = ReferenceChain::from_vectors(settings).unwrap();
    let home = tempfile::tempdir().unwrap();
    let genesis = home.path().join("genesis.json");
    std::fs::write(&genesis, chain.genesis_document()).unwrap();
    let genesis_id = chain.genesis_id();
    let blocks: Vec<FetchedBlock> = chain
        .by_ref()
        .take(count)
        .map(|block| FetchedBlock {
            block: block.block.clone(),
            timestamp_ms: 0,
        })
        .collect();
    println!("{} blocks made", blocks.len());
    let (_, writer, _) = Store::open(&home.path().join("data"), &StoreSettings::default()).unwrap();
    let mut replica = Replica::new(
        writer,
        ReplicaSettings {
            network: "spkcc".into(),
            schedule: CheckpointSchedule::default(),
            voters: Voters::default(),
            max_reorg_depth: 1000,
            commit_blocks: 1000,
            orphan_blocks: 28_800,
            pending_blocks: 100,
            trusted_checkpoint: None,
            metrics: honeygraph_agent::metrics::Metrics::new(),
        },
    )
    .unwrap();
    replica
        .start_from(&StartDocuments {
            state: genesis,
            state_id: genesis_id,
            prev_root: None,
            deltas: vec![],
            anchor: None,
        })
        .unwrap();
    let started = Instant::now();
    let peer = "a".parse().unwrap();
    for run in blocks.chunks(300) {
        replica.extend(&peer, run).unwrap();
    }
    println!(
        "extend: {:.0} blocks/s",
        blocks.len() as f64 / started.elapsed().as_secs_f64()
    );
}
