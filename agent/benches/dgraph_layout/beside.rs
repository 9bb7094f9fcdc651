//! What the rates are compared with: two writers at once, the state alone, and Dgraph's own loader.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};
use honeygraph_chain::Operation;
use honeygraph_honeycomb::reference_chain::ChainBlock;

use super::cluster::Cluster;
use super::javascript::{self, Facts};
use super::layout::{Batch, Layout, Regions};

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

/// Blocks a second of `dgraph live`, which loads the same blocks, operations and current state in the
/// JavaScript schema; the state once, at the end.
pub(crate) async fn live(
    cluster: &Cluster,
    client: &DgraphClient,
    home: &Path,
    blocks: &[Arc<ChainBlock>],
) -> f64 {
    let mut facts = Facts::default();
    let mut state: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for block in blocks {
        facts.block(&block.block, block.unix_millis);
        for operation in block.block.block().operations.as_slice() {
            match operation {
                Operation::Put { path, data } => {
                    let text = String::from_utf8(data.to_canonical()).unwrap();
                    state.insert(path.to_string(), (text, block.block.number().get()));
                }
                Operation::Del { path } => {
                    state.remove(&path.to_string());
                }
                Operation::WriteMarker => {}
            }
        }
    }
    for (path, (value, number)) in &state {
        facts.state(path, value, *number);
    }
    let took = javascript::live(cluster, client, home, &facts).await;
    blocks.len() as f64 / took.as_secs_f64()
}
