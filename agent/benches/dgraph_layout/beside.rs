//! What the rates are compared with: two writers at once, the state alone, and Dgraph's own loader.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};
use honeygraph_chain::Operation;
use honeygraph_honeycomb::reference_chain::ChainBlock;

use super::cluster::{Cluster, eventually};
use super::layout::{Batch, Layout, Regions, path_of};

/// How writers of one cursor keep out of each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Courtesy {
    /// Each writes the next step; the cursor lets one through.
    None,
    /// Each asks for the next steps before it writes them; who does not get them waits.
    Claims,
}

/// Steps that a claim is for.
const CLAIMED: i64 = 10;

/// Blocks a second of several writers on one cluster.
pub(crate) async fn writers(
    client: &DgraphClient,
    layout: &Layout,
    regions: &Regions,
    blocks: &[Arc<ChainBlock>],
    batch: usize,
    courtesies: &[Courtesy],
) -> f64 {
    super::prepare(client, layout, regions).await;
    let batches: Arc<Vec<Batch>> = Arc::new(layout.batches(regions, blocks, batch));
    let began = Instant::now();
    let running: Vec<_> = courtesies
        .iter()
        .map(|&courtesy| {
            let writer = Writer {
                client: client.clone(),
                cursor: regions.cursor(),
                batches: Arc::clone(&batches),
            };
            tokio::spawn(writer.run(courtesy))
        })
        .collect();
    for writer in running {
        writer.await.unwrap();
    }
    blocks.len() as f64 / began.elapsed().as_secs_f64()
}

struct Writer {
    client: DgraphClient,
    cursor: Uid,
    batches: Arc<Vec<Batch>>,
}

impl Writer {
    async fn run(self, courtesy: Courtesy) {
        let mut place = 0;
        let mut mine = 0;
        while let Some(batch) = usize::try_from(place).ok().and_then(|at| self.batches.get(at)) {
            if courtesy == Courtesy::Claims && place >= mine {
                if !self.claim(place).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    place = self.stands().await;
                    continue;
                }
                mine = place + CLAIMED;
            }
            let mut mutation = batch.mutation.clone();
            mutation.set(self.cursor, "appliedBlock", place + 1);
            let condition = format!("eq(appliedBlock, {place})");
            if self.try_write(&condition, mutation).await {
                place += 1;
            } else {
                place = self.stands().await;
            }
        }
    }

    /// Claims the steps from one on.
    async fn claim(&self, place: i64) -> bool {
        let condition = format!("eq(appliedBlock, {place}) AND NOT gt(claimed, {place})");
        let mut mutation = Mutation::new();
        mutation.set(self.cursor, "claimed", place + CLAIMED);
        self.try_write(&condition, mutation).await
    }

    async fn try_write(&self, condition: &str, mutation: Mutation) -> bool {
        let query = Query::new(format!(
            "{{ c as found(func: uid({})) @filter({condition}) {{ uid }} }}",
            self.cursor
        ));
        match self
            .client
            .write(Some(&query), vec![mutation.only_if_found("c", 1)])
            .await
        {
            Ok(committed) => {
                let answer: serde_json::Value = committed.answer.read().unwrap();
                answer["found"].as_array().is_some_and(|found| found.len() == 1)
            }
            Err(error) if error.is_conflict() => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Where the cursor stands.
    async fn stands(&self) -> i64 {
        let query = Query::new(format!(
            "{{ q(func: uid({})) {{ at: appliedBlock }} }}",
            self.cursor
        ));
        let answer = self.client.query(&query, Reading::Strict).await.unwrap();
        let answer: serde_json::Value = answer.read().unwrap();
        answer["q"][0]["at"].as_i64().unwrap()
    }
}

/// The schema of the JavaScript honeygraph, as far as blocks, operations and state go.
const JAVASCRIPT_SCHEMA: &str = "
blockNum: int @index(int) .
blockHash: string @index(hash) .
previousHash: string @index(hash) .
timestamp: datetime @index(hour) .
forkId: string @index(hash, term) .
isFinalized: bool @index(bool) .
operations: [uid] @reverse .
op.id: string @index(exact) .
block: uid .
op.blockNum: int @index(int) .
op.index: int .
op.type: string @index(term) .
op.path: string @index(term, fulltext) .
op.data: string .
state.path: string @index(exact, term) .
state.value: string .
state.blockNum: int @index(int) .
state.forkId: string @index(term) .
";

/// Blocks a second of `dgraph live`, which loads the same blocks, operations and current state in the
/// JavaScript schema; the state once, at the end.
pub(crate) async fn live(
    cluster: &Cluster,
    client: &DgraphClient,
    home: &Path,
    blocks: &[Arc<ChainBlock>],
) -> f64 {
    eventually(|| client.drop_all()).await;
    let facts = home.join("blocks.rdf");
    let schema = home.join("javascript.schema");
    std::fs::write(&facts, javascript_facts(blocks)).unwrap();
    std::fs::write(&schema, JAVASCRIPT_SCHEMA).unwrap();
    let began = Instant::now();
    let ended = Command::new(cluster.program())
        .arg("live")
        .arg("--files")
        .arg(&facts)
        .arg("--schema")
        .arg(&schema)
        .args([
            "--alpha",
            &cluster.alpha_address(),
            "--zero",
            &cluster.zero_address(),
        ])
        .args(["--http", "127.0.0.1:0", "--bindall=false"])
        .arg("--tmp")
        .arg(home.join("live"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(ended.success(), "dgraph live: {ended}");
    blocks.len() as f64 / began.elapsed().as_secs_f64()
}

fn javascript_facts(blocks: &[Arc<ChainBlock>]) -> String {
    let mut out = String::new();
    let mut state: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    for block in blocks {
        let number = block.block.block().number.get();
        let time = jiff::Timestamp::from_millisecond(block.unix_millis).unwrap();
        let node = format!("_:b{number}");
        for (predicate, value) in [
            ("dgraph.type", "Block".to_owned()),
            ("blockNum", number.to_string()),
            ("blockHash", block.block.hash().to_string()),
            ("previousHash", block.block.block().previous_hash.to_string()),
            ("timestamp", time.to_string()),
            ("forkId", "main".to_owned()),
            ("isFinalized", "true".to_owned()),
        ] {
            writeln!(out, "{node} <{predicate}> {} .", quoted(&value)).unwrap();
        }
        for (index, operation) in block.block.block().operations.as_slice().iter().enumerate() {
            let Some(path) = path_of(operation) else {
                continue;
            };
            let path = path.to_string();
            let mut facts = vec![
                ("dgraph.type", "Operation".to_owned()),
                ("op.id", format!("{number}:{index}")),
                ("op.blockNum", number.to_string()),
                ("op.index", index.to_string()),
                ("op.path", path.clone()),
            ];
            if let Operation::Put { data, .. } = operation {
                let mut text = Vec::new();
                data.write_canonical(&mut text);
                let text = String::from_utf8(text).unwrap();
                facts.push(("op.type", "PUT".to_owned()));
                facts.push(("op.data", text.clone()));
                state.insert(path, (text, number));
            } else {
                facts.push(("op.type", "DEL".to_owned()));
                state.remove(&path);
            }
            for (predicate, value) in facts {
                writeln!(out, "_:o{number}x{index} <{predicate}> {} .", quoted(&value)).unwrap();
            }
            writeln!(out, "_:o{number}x{index} <block> {node} .").unwrap();
            writeln!(out, "{node} <operations> _:o{number}x{index} .").unwrap();
        }
    }
    for (place, (path, (value, number))) in state.iter().enumerate() {
        for (predicate, value) in [
            ("dgraph.type", "State"),
            ("state.path", path),
            ("state.value", value),
            ("state.blockNum", &number.to_string()),
            ("state.forkId", "main"),
        ] {
            writeln!(out, "_:s{place} <{predicate}> {} .", quoted(value)).unwrap();
        }
    }
    out
}
