//! How fast the projection fills a Dgraph, beside what it could be at most and what Dgraph's own loader does,
//! and what a burst of blocks costs the log: `DGRAPH_BIN=... cargo bench -p honeygraph-agent --bench
//! dgraph_projection`.
//!
//! Everything is measured in one run on one machine, which Dgraph, its clients and this program share, so that
//! the ratios mean something where the rates do not. Each is measured in every round, the median counts.
//! `BLOCKS`, `BURST` and `ROUNDS` set how much.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

#[path = "dgraph_projection/burst.rs"]
mod burst;
#[path = "../tests/dgraph/cluster.rs"]
mod cluster;
#[path = "dgraph_layout/javascript.rs"]
mod javascript;
#[path = "dgraph_projection/log.rs"]
mod log;
#[path = "fill/machine.rs"]
mod machine;
#[path = "dgraph_projection/rates.rs"]
mod rates;
#[path = "dgraph_projection/usage.rs"]
mod usage;

use std::path::Path;

use burst::Burst;
use cluster::{Cluster, NO_DGRAPH, Source, eventually, ready};
use honeygraph_agent::dgraph::projection::Writers;
use log::Log;
use rates::{Bench, Measured, STEP_BLOCKS};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if burst::is_node() {
        burst::run_node();
        return;
    }
    // `cargo test --benches` runs this too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(source) = Source::from_environment() else {
        println!("skipped: {NO_DGRAPH}");
        return;
    };
    let Source::Binary(program) = source else {
        println!(
            "skipped: it empties its dgraph, so it starts one of its own: name its program in DGRAPH_BIN"
        );
        return;
    };
    machine::print_machine();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("dgraph");
    std::fs::create_dir(&folder).unwrap();
    let cluster = Cluster::start(&program, &folder, &["--security", "whitelist=127.0.0.1"]);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let client = cluster.client();
            ready(&client).await;
            eventually(|| client.drop_all()).await;
            let version = client.health().await.remove(0).outcome.unwrap();
            println!("dgraph {version}");
            rates(&cluster, home.path()).await;
            bursts(&cluster, home.path()).await;
        });
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// A rate of each round, and the processor time that a block took.
#[derive(Default)]
struct Rounds(Vec<Measured>);

impl Rounds {
    fn median(&self) -> Measured {
        let mut sorted = self.0.clone();
        sorted.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        sorted[sorted.len() / 2]
    }

    fn rate(&self) -> f64 {
        self.median().rate
    }

    /// The limit: as fast as it could be if Dgraph had all processors for what it did.
    fn print(&self, name: &str, blocks: f64) {
        let median = self.median();
        let rates = || self.0.iter().map(|measured| measured.rate);
        println!(
            "| {name} | {:.0} | {:.0}..{:.0} | {:.0} + {:.0} | {:.0} |",
            median.rate,
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(0.0, f64::max),
            median.dgraph_seconds / blocks * 1e6,
            median.own_seconds / blocks * 1e6,
            cores() * blocks / median.dgraph_seconds,
        );
    }
}

async fn rates(cluster: &Cluster, home: &Path) {
    let (blocks, rounds) = (number("BLOCKS", 6_000), number("ROUNDS", 3));
    let log = Log::make(&home.join("log"), blocks);
    let bench = Bench {
        cluster,
        client: cluster.client(),
        home,
        log: &log,
    };
    let count = log.range().len() as f64;
    let [mut projection, mut by_hand, mut live, mut one, mut two] = [(); 5].map(|()| Rounds::default());
    let mut sizes = Vec::new();
    for _ in 0..rounds {
        projection.0.push(bench.projection(1, Writers::One).await);
        let facts = bench.javascript_facts().await;
        if live.0.is_empty() {
            println!(
                "\n{blocks} blocks of {:.1} operations, and a state of {} nodes; {STEP_BLOCKS} blocks a step; \
                 {rounds} rounds",
                log.operations() as f64 / count,
                bench.state_nodes().await
            );
        }
        live.0.push(bench.live(&facts).await);
        drop(facts);
        let (measured, size) = bench.by_hand().await;
        by_hand.0.push(measured);
        sizes.push(size.to_string());
        one.0.push(bench.projection(1, Writers::Several).await);
        two.0.push(bench.projection(2, Writers::Several).await);
    }
    println!(
        "\n| | blocks/s | spread | processor time a block, dgraph + this program, us | limit: all processors Dgraph's, blocks/s |\n|---|---|---|---|---|"
    );
    projection.print("projection", count);
    by_hand.print(
        &format!(
            "the same facts made beforehand, best of 5 sizes of steps ({} blocks)",
            sizes.join(", ")
        ),
        count,
    );
    one.print("one writer in `shared`", count);
    two.print("two writers in `shared`", count);
    live.print("`dgraph live`, the same facts in the JavaScript schema", count);
    println!("\n| ratio | measured | aim |\n|---|---|---|");
    for (name, ratio, aim) in [
        ("projection / `dgraph live`", projection.rate() / live.rate(), 3.0),
        ("projection / by hand", projection.rate() / by_hand.rate(), 0.8),
        ("two writers / one", two.rate() / one.rate(), 0.9),
    ] {
        println!("| {name} | {ratio:.2} | {aim} |");
    }
    let durable = usage::durable_write(home, 64 << 10, 50);
    println!(
        "\n64 KiB made durable on this disk: {:.1} ms",
        durable.as_secs_f64() * 1e3
    );
}

async fn bursts(cluster: &Cluster, home: &Path) {
    let (blocks, rounds) = (number("BURST", 10_000), number("ROUNDS", 3));
    let world = burst::World::start(home, blocks).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        without.push(world.burst(&format!("without-{round}"), None).await);
        with.push(world.burst(&format!("with-{round}"), Some(cluster)).await);
    }
    world.stop().await;
    let median = |bursts: &[Burst]| {
        let mut sorted = bursts.to_vec();
        sorted.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        sorted[sorted.len() / 2]
    };
    let spread = |bursts: &[Burst]| {
        let rates = || bursts.iter().map(|burst| burst.rate);
        format!(
            "{:.0}..{:.0}",
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(0.0, f64::max)
        )
    };
    println!("\n| a node in step gets {blocks} blocks at once | without Dgraph | with |\n|---|---|---|");
    let (alone, beside) = (median(&without), median(&with));
    println!(
        "| the log commits, blocks/s | {:.0} ({}) | {:.0} ({}) |",
        alone.rate,
        spread(&without),
        beside.rate,
        spread(&with)
    );
    println!(
        "| processor time that the node had meanwhile, s | {:.2} | {:.2} |",
        alone.node_seconds, beside.node_seconds
    );
    println!(
        "| blocks/s / processor time it had | {:.0} | {:.0} |",
        alone.rate_by_time(),
        beside.rate_by_time()
    );
    println!(
        "| highest lag, blocks | | {} |\n| until the lag is 0, s | | {:.1} |\n| ... and the state is that of the head, s | | {:.1} |",
        beside.highest_lag, beside.until_no_lag, beside.until_in_step
    );
    println!(
        "| highest resident memory of the node, MiB | {} | {} |",
        alone.peak_mebibytes, beside.peak_mebibytes
    );
    println!("\nlog with Dgraph / without: {:.2}", beside.rate / alone.rate);
}
