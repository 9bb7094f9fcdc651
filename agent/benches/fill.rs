//! How fast a node fills a gap, beside the speed of its own stages: `cargo bench -p honeygraph-agent`.
//!
//! Everything is measured in one run on one machine, so that the ratios mean something where the rates do
//! not. The node that fills is a process of its own (this program, started again), whose memory is read at
//! the end; its three peers run in this one and share the processors with it. Nothing is judged by time.
//! `BLOCKS` sets the length of the gap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

#[path = "fill/machine.rs"]
mod machine;
#[path = "fill/nodes.rs"]
mod nodes;
#[path = "fill/processor.rs"]
mod processor;
#[path = "fill/stages.rs"]
mod stages;

use std::path::Path;
use std::time::{Duration, Instant};

use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};
use machine::print_machine;
use nodes::{Filled, Peers};
use processor::NODE_THREADS;
use stages::{Chain, Stage};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Blocks of the gap unless `BLOCKS` says otherwise.
const BLOCKS: usize = 100_000;

fn main() {
    if nodes::is_node() {
        nodes::run_node();
        return;
    }
    // `cargo test --benches` runs this too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let blocks = std::env::var("BLOCKS").map_or(BLOCKS, |text| text.parse().expect("BLOCKS is a number"));
    let home = tempfile::tempdir().unwrap();
    print_machine();
    let chain = Chain::make(blocks);
    println!(
        "\n{blocks} blocks of {} operations and {} bytes\n",
        chain.operations / blocks,
        chain.bytes / blocks
    );

    let template = home.path().join("template");
    let stages = stages::measure(&chain, &template);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let peers = runtime.block_on(Peers::start(home.path(), &template, 3));
    let wire = runtime.block_on(stages::wire(&chain, peers.urls().first().unwrap()));
    let stages: Vec<Stage> = stages.into_iter().chain([wire]).collect();
    println!("| stage alone | blocks/s |\n|---|---|");
    for stage in &stages {
        println!("| {} | {:.0} |", stage.name, stage.rate);
    }
    let slowest = stages
        .iter()
        .min_by(|one, other| one.rate.total_cmp(&other.rate))
        .unwrap();

    let filled = runtime.block_on(nodes::fill(home.path(), "fill", &chain, &peers.urls(), false));
    let stalled = runtime.block_on(nodes::fill(home.path(), "stalled", &chain, &peers.urls(), true));
    print_filled(&filled, &stalled, slowest);
    print_processor_time(&filled);
    print_opening(&home.path().join("fill/data"), blocks);
    print_gap_detection();
    runtime.block_on(peers.stop());
}

fn print_filled(filled: &Filled, stalled: &Filled, slowest: &Stage) {
    println!("\n| filling the gap | figure |\n|---|---|");
    println!("| from three peers | {:.0} blocks/s |", filled.rate);
    println!(
        "| ... / slowest stage alone ({}) | {:.2} |",
        slowest.name,
        filled.rate / slowest.rate
    );
    println!(
        "| bytes fetched / bytes needed | {:.3} |",
        filled.fetched_per_needed
    );
    println!("| one of three peers stalled | {:.0} blocks/s |", stalled.rate);
    println!("| ... / none stalled | {:.2} |", stalled.rate / filled.rate);
    println!(
        "| ... bytes fetched / bytes needed | {:.3} |",
        stalled.fetched_per_needed
    );
    println!(
        "| highest resident memory of the node | {} MiB |",
        filled.peak_resident_bytes >> 20
    );
    println!(
        "| resident memory at 1/4, 1/2, 3/4 and the end | {} MiB |",
        mebibytes(&filled.resident_bytes)
    );
}

/// Where the processor time goes: the peers share the processors with the node.
fn print_processor_time(filled: &Filled) {
    let per_block = |time: Duration| time.as_secs_f64() * 1e6 / filled.blocks as f64;
    let named: Duration = NODE_THREADS.map(|name| filled.node.thread(name)).iter().sum();
    println!("\n| processor time while filling | us a block |\n|---|---|");
    for name in NODE_THREADS {
        println!(
            "| node, thread `{name}` | {:.1} |",
            per_block(filled.node.thread(name))
        );
    }
    println!(
        "| node, the rest (fetching, parsing, hashing) | {:.1} |",
        per_block(filled.node.total.saturating_sub(named))
    );
    println!("| the three peers | {:.1} |", per_block(filled.peers.total));
    println!("| passed by the clock | {:.1} |", 1e6 / filled.rate);
}

fn mebibytes(bytes: &[u64]) -> String {
    bytes
        .iter()
        .map(|bytes| (bytes >> 20).to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Opening the filled store.
fn print_opening(directory: &Path, blocks: usize) {
    let started = Instant::now();
    let (store, writer, _) = Store::open(directory, &StoreSettings::default()).unwrap();
    let opened = started.elapsed();
    let height = store.view().position().unwrap().unwrap().state_height;
    println!(
        "\nopening the store of {blocks} blocks (state height {height}): {:.3} s",
        opened.as_secs_f64()
    );
    drop(writer);
}

/// Finding 10^4 gaps in 10^8 blocks.
fn print_gap_detection() {
    let number = |number: u64| BlockNumber::try_from(number).unwrap();
    let mut have = IntervalSet::default();
    for gap in 0..10_000_u64 {
        have.insert(BlockRange::new(number(gap * 10_000 + 1), number(gap * 10_000 + 9_990)).unwrap());
    }
    let wanted = BlockRange::new(number(1), number(100_000_000)).unwrap();
    let started = Instant::now();
    let (gaps, missing) = have
        .missing_in(wanted)
        .fold((0_u64, 0_u64), |(gaps, missing), gap| {
            (gaps + 1, missing + gap.len())
        });
    println!(
        "finding {gaps} gaps ({missing} blocks) in 10^8 blocks: {:.3} ms",
        started.elapsed().as_secs_f64() * 1_000.0
    );
}
