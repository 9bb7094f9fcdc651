//! How fast a day of blocks is written, hashed, read and applied: `cargo bench -p honeygraph-chain`.
//!
//! Each stage is measured alone over the same 28,800 generated blocks, then all of them together as a node
//! that catches up runs them; the last column is the share of the whole. Nothing is judged by time.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{CheckpointChain, DeltaWriter};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::state::MemoryState;
use honeygraph_chain::state_document::state_content_id;
use honeygraph_chain::{Block, ContentId};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

/// Blocks a day, one every 3 s.
const BLOCKS: usize = 28_800;

/// Runs of a stage; the fastest counts.
const RUNS: usize = 3;

fn main() {
    // `cargo test --benches` runs this too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let settings = ChainSettings {
        generator: GeneratorSettings::benchmark(),
        kept_blocks: 1,
        ..ChainSettings::default()
    };
    let mut chain = ReferenceChain::from_vectors(settings).unwrap();
    let genesis = MemoryState::from_document(chain.genesis_document()).unwrap();
    let genesis_id = chain.genesis_id();
    let started = Instant::now();
    let texts: Vec<Vec<u8>> = chain
        .by_ref()
        .take(BLOCKS)
        .map(|block| block.block.bytes().to_vec())
        .collect();
    let making = started.elapsed();
    let bytes: usize = texts.iter().map(Vec::len).sum();
    let blocks: Vec<Block> = texts
        .iter()
        .map(|text| Block::from_canonical(text).unwrap())
        .collect();
    let operations: usize = blocks.iter().map(|block| block.operations.as_slice().len()).sum();
    println!(
        "{BLOCKS} blocks, {} operations and {} bytes each, {} leaves at the end; generated at {:.0} blocks/s",
        operations / BLOCKS,
        bytes / BLOCKS,
        chain.state().len(),
        BLOCKS as f64 / making.as_secs_f64(),
    );

    let whole = fastest(|| check_and_apply(&texts, genesis.clone(), genesis_id, &chain));
    println!(
        "{:<42} {:>10} {:>9} {:>9} {:>7}",
        "stage", "blocks/s", "us/block", "MB/s", "share"
    );
    let line = |name: &str, time: Duration| {
        println!(
            "{name:<42} {:>10.0} {:>9.2} {:>9.1} {:>7.2}",
            BLOCKS as f64 / time.as_secs_f64(),
            time.as_secs_f64() * 1e6 / BLOCKS as f64,
            bytes as f64 / time.as_secs_f64() / 1e6,
            time.as_secs_f64() / whole.as_secs_f64(),
        );
    };
    line(
        "canonical write",
        fastest(|| {
            for block in &blocks {
                black_box(block.to_canonical());
            }
        }),
    );
    line(
        "hash",
        fastest(|| {
            for text in &texts {
                black_box(ContentId::of(text));
            }
        }),
    );
    line(
        "parse (canonical form checked)",
        fastest(|| {
            for text in &texts {
                black_box(Block::from_canonical(text).unwrap());
            }
        }),
    );
    line(
        "apply (with undo and digest)",
        fastest(|| {
            let mut state = genesis.1.clone();
            for block in &blocks {
                black_box(state.apply(&block.operations).unwrap());
            }
        }),
    );
    line(
        "delta documents",
        fastest(|| {
            let mut delta = DeltaWriter::new(&CheckpointChain::from_state(genesis.0, genesis_id));
            for block in &blocks {
                delta.push(&block.operations);
                if block.number.get() % 100 == 1 {
                    let next = DeltaWriter::new(&CheckpointChain::from_state(genesis.0, genesis_id));
                    black_box(ContentId::of(
                        &std::mem::replace(&mut delta, next)
                            .document(block.number)
                            .unwrap(),
                    ));
                }
            }
        }),
    );
    line("all: hash, parse, link, apply, checkpoints", whole);
}

/// What a node that catches up does with every block, except for the wire and the disk.
fn check_and_apply(
    texts: &[Vec<u8>],
    (covered, mut state): (honeygraph_chain::BlockNumber, MemoryState),
    genesis_id: ContentId,
    reference: &ReferenceChain,
) {
    let schedule = CheckpointSchedule::default();
    let mut checkpoints = CheckpointChain::from_state(covered, genesis_id);
    let mut delta = DeltaWriter::new(&checkpoints);
    let mut link = genesis_id;
    for text in texts {
        let block = HashedBlock::from_canonical(text.clone()).unwrap();
        assert_eq!(block.previous_hash(), link);
        black_box(state.apply(&block.block().operations).unwrap());
        delta.push(&block.block().operations);
        link = block.hash();
        if let Some(kind) = schedule.kind_at(block.number()) {
            let id = match kind {
                CheckpointKind::Delta => delta.content_id(block.number()).unwrap(),
                CheckpointKind::State => state_content_id(block.number(), &state).unwrap(),
            };
            checkpoints = checkpoints.after(kind, block.number(), id);
            delta = DeltaWriter::new(&checkpoints);
            link = id;
        }
    }
    assert_eq!(state.digest(), reference.state().digest());
}

fn fastest(mut stage: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let started = Instant::now();
        stage();
        best = best.min(started.elapsed());
    }
    best
}
