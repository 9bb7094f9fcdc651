//! How fast Dgraph takes blocks in different layouts, and how fast it answers from them, side by side in one
//! run: `DGRAPH_BIN=... cargo bench -p honeygraph-agent --bench dgraph_layout`.
//!
//! Every batch of blocks is one transaction that reads and writes a cursor, as the projection does it. The
//! rates are Dgraph's: mutations are made before the clock starts. Each layout is measured in every round,
//! its median counts. `BLOCKS`, `BATCH` and `ROUNDS` set how much; `ONLY` names layouts by a part of their
//! name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

#[path = "dgraph_layout/beside.rs"]
mod beside;
#[path = "../tests/dgraph/cluster.rs"]
mod cluster;
#[path = "dgraph_layout/javascript.rs"]
mod javascript;
#[path = "dgraph_layout/layout.rs"]
mod layout;
#[path = "fill/machine.rs"]
mod machine;
#[path = "dgraph_layout/questions.rs"]
mod questions;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use beside::Courtesy;
use cluster::{Cluster, NO_DGRAPH, Source, eventually, ready};
use honeygraph_agent::dgraph::client::{DgraphClient, DgraphSettings, Mutation, Query, Uid};
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainBlock, ChainSettings, ReferenceChain};
use layout::{Layout, Layouts, Regions};

/// Blocks made before the first that is written, so that orders and contracts come and go as they do later.
const WARM_UP: usize = 2_000;

fn main() {
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
    let cluster = Cluster::start(&program, home.path(), &["--security", "whitelist=127.0.0.1"]);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(&cluster, home.path()));
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

async fn measure(cluster: &Cluster, home: &Path) {
    let (count, batch, rounds) = (number("BLOCKS", 3_000), number("BATCH", 100), number("ROUNDS", 3));
    let blocks = make_blocks(count);
    let client = client(cluster);
    ready(&client).await;
    let version = client.health().await.remove(0).outcome.unwrap();
    // Once for all layouts: leases of uids are not given back.
    let regions = Regions::lease(&client).await;
    let operations: usize = blocks
        .iter()
        .map(|block| block.block.block().operations.as_slice().len())
        .sum();
    let changes: usize = blocks.iter().map(|block| block.effect.changes.len()).sum();
    println!(
        "dgraph {version}; {count} blocks of {:.1} operations and {:.1} changed leaves, {batch} a transaction, {rounds} rounds\n",
        operations as f64 / count as f64,
        changes as f64 / count as f64,
    );

    let only = std::env::var("ONLY").unwrap_or_default();
    let layouts: Vec<Layout> = Layouts::all()
        .into_iter()
        .filter(|layout| layout.name.contains(&only))
        .collect();
    let mut rates = vec![Vec::new(); layouts.len()];
    let mut facts = vec![0; layouts.len()];
    for _ in 0..rounds {
        for (place, layout) in layouts.iter().enumerate() {
            let written = write(&client, layout, &regions, &blocks, batch).await;
            rates[place].push(written.rate);
            facts[place] = written.facts;
        }
    }
    println!("| layout | facts a block | blocks/s | spread |\n|---|---|---|---|");
    for ((layout, rates), facts) in layouts.iter().zip(&mut rates).zip(facts) {
        rates.sort_by(f64::total_cmp);
        println!(
            "| {} | {:.1} | {:.0} | {:.0}..{:.0} |",
            layout.name,
            facts as f64 / count as f64,
            rates[rates.len() / 2],
            rates[0],
            rates[rates.len() - 1],
        );
    }
    if let Some(layout) = layouts.iter().find(|layout| layout.is_chosen()) {
        let mut beside: Vec<(&str, Vec<f64>)> = Vec::new();
        for _ in 0..rounds {
            let mut note = |name, rate| match beside.iter_mut().find(|(known, _)| *known == name) {
                Some((_, rates)) => rates.push(rate),
                None => beside.push((name, vec![rate])),
            };
            for (name, courtesies) in [
                ("one writer", &[Courtesy::None][..]),
                ("two writers that race", &[Courtesy::None; 2]),
                ("one writer with claims", &[Courtesy::Claims]),
                ("two writers with claims", &[Courtesy::Claims; 2]),
            ] {
                note(
                    name,
                    beside::writers(&client, layout, &regions, &blocks, batch, courtesies).await,
                );
            }
            note(
                "one writer, 1,000 a transaction",
                beside::writers(&client, layout, &regions, &blocks, 1_000, &[Courtesy::None]).await,
            );
            note(
                "dgraph live, JavaScript schema",
                beside::live(cluster, &client, home, &blocks).await,
            );
        }
        println!(
            "\n| `{}` beside | blocks/s | spread |\n|---|---|---|",
            layout.name
        );
        for (name, rates) in &mut beside {
            rates.sort_by(f64::total_cmp);
            println!(
                "| {name} | {:.0} | {:.0}..{:.0} |",
                rates[rates.len() / 2],
                rates[0],
                rates[rates.len() - 1]
            );
        }
    }
    for layout in layouts.iter().filter(|layout| layout.is_asked()) {
        write(&client, layout, &regions, &blocks, batch).await;
        questions::ask(&client, layout, &blocks).await;
    }
}

fn client(cluster: &Cluster) -> DgraphClient {
    DgraphClient::new(DgraphSettings::new(vec![cluster.endpoint()])).unwrap()
}

fn make_blocks(count: usize) -> Vec<Arc<ChainBlock>> {
    let settings = ChainSettings {
        generator: GeneratorSettings::benchmark(),
        kept_blocks: 1,
        ..ChainSettings::default()
    };
    ReferenceChain::from_vectors(settings)
        .unwrap()
        .skip(WARM_UP)
        .take(count)
        .collect()
}

struct Written {
    /// Blocks a second.
    rate: f64,
    facts: usize,
}

/// Empties the cluster and writes all blocks in a layout.
async fn write(
    client: &DgraphClient,
    layout: &Layout,
    regions: &Regions,
    blocks: &[Arc<ChainBlock>],
    batch: usize,
) -> Written {
    prepare(client, layout, regions).await;
    let batches = layout.batches(regions, blocks, batch);
    let facts = batches.iter().map(|batch| batch.mutation.len()).sum();
    let mut known = layout::KnownPaths::default();

    let began = Instant::now();
    for (place, batch) in batches.into_iter().enumerate() {
        let place = i64::try_from(place).unwrap();
        if batch.asks_first.is_empty() {
            step(client, regions.cursor(), place, batch.mutation).await;
        } else {
            layout::ask_and_write(client, regions.cursor(), place, batch, &mut known).await;
        }
    }
    Written {
        rate: blocks.len() as f64 / began.elapsed().as_secs_f64(),
        facts,
    }
}

/// An empty cluster with a layout's schema, and the cursor at 0.
async fn prepare(client: &DgraphClient, layout: &Layout, regions: &Regions) {
    eventually(|| client.drop_all()).await;
    eventually(|| client.alter(&layout.schema)).await;
    let mut cursor = Mutation::new();
    cursor.set(regions.cursor(), "appliedBlock", 0);
    client.write(None, vec![cursor]).await.unwrap();
}

/// One step of the cursor in one request.
async fn step(client: &DgraphClient, cursor: Uid, place: i64, mut mutation: Mutation) {
    let query = Query::new(format!(
        "{{ c as found(func: uid({cursor})) @filter(eq(appliedBlock, {place})) {{ uid }} }}"
    ));
    mutation.set(cursor, "appliedBlock", place + 1);
    let committed = client
        .write(Some(&query), vec![mutation.only_if_found("c", 1)])
        .await
        .unwrap();
    let answer: serde_json::Value = committed.answer.read().unwrap();
    assert_eq!(
        answer["found"].as_array().map(Vec::len),
        Some(1),
        "the cursor moved"
    );
}
