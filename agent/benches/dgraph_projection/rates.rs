//! The projection beside what it is compared with: the same facts written by hand, two writers, Dgraph's loader.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};
use honeygraph_agent::dgraph::job::Jobs;
use honeygraph_agent::dgraph::projection::region::NETWORK_NODE;
use honeygraph_agent::dgraph::projection::target::Target;
use honeygraph_agent::dgraph::projection::{
    AdvanceError, BlockNode, ClaimOutcome, Cursor, Mark, Progress, Projection, ProjectionError,
    ProjectionSettings, ProjectionStore, Region, StateCursor, StepOutcome, StoodBlock, StoodCheckpoint,
    StoredPath, StoredState, WriterName, Writers,
};
use honeygraph_agent::replica::ReplicaStatus;
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, eventually};
use crate::javascript::{self, Facts};
use crate::log::{Log, NETWORK};
use crate::usage::Usage;

/// Blocks of a step, unless configured otherwise.
pub(crate) const STEP_BLOCKS: u64 = 500;

/// Blocks of a step that are tried by hand.
const TRIED: [u64; 5] = [100, 250, 500, 1_000, 2_000];

/// What one measurement showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Blocks a second.
    pub(crate) rate: f64,
    /// Seconds of processor time that Dgraph took.
    pub(crate) dgraph_seconds: f64,
    /// ... and this program.
    pub(crate) own_seconds: f64,
}

/// What everything is measured on.
pub(crate) struct Bench<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) client: DgraphClient,
    pub(crate) home: &'a Path,
    pub(crate) log: &'a Log,
}

impl Bench<'_> {
    async fn open(&self, writer: &str) -> Arc<ProjectionStore> {
        let store = ProjectionStore::open(
            self.client.clone(),
            &NETWORK.parse().unwrap(),
            &writer.parse().unwrap(),
        )
        .await;
        Arc::new(store.unwrap())
    }

    /// An empty cluster, opened by so many writers.
    async fn opened(&self, writers: usize) -> Vec<Arc<ProjectionStore>> {
        eventually(|| self.client.drop_all()).await;
        let mut opened = Vec::new();
        for writer in 0..writers {
            opened.push(self.open(&format!("writer-{writer}")).await);
        }
        opened
    }

    fn measured(&self, began: Instant, before: Usage) -> Measured {
        let took = began.elapsed().as_secs_f64();
        let used = Usage::now(self.cluster).since(before);
        Measured {
            rate: self.log.range().len() as f64 / took,
            dgraph_seconds: used.dgraph,
            own_seconds: used.own,
        }
    }

    /// Writers follow the log until all of it, and its state, is in Dgraph.
    pub(crate) async fn projection(&self, writers: usize, mode: Writers) -> Measured {
        let stores = self.opened(writers).await;
        // As before what is written by hand: Dgraph has time to end what it does after it was emptied.
        if let Some(store) = stores.first() {
            self.steps(Arc::clone(store), STEP_BLOCKS).await;
        }
        let end = self.log.range().end();
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let (_sender, changes) = watch::channel(Arc::new(ReplicaStatus::default()));
        let before = Usage::now(self.cluster);
        let began = Instant::now();
        let running: Vec<_> = stores
            .into_iter()
            .map(|store| {
                let settings = ProjectionSettings {
                    step_blocks: STEP_BLOCKS,
                    writers: mode,
                };
                let projection = Projection::new(store, self.log.store().clone(), settings);
                let (changes, stop, done) = (changes.clone(), stop.clone(), done.clone());
                tokio::spawn(async move {
                    let report = |projection: &Projection<_>, attempt: &Result<_, AdvanceError>, _| {
                        if let Err(error) = attempt {
                            panic!("{error}");
                        }
                        if projection.cursor().is_some_and(|cursor| is_at(cursor, end)) {
                            done.cancel();
                        }
                    };
                    projection.follow(changes, &Jobs::default(), stop, report).await;
                })
            })
            .collect();
        done.cancelled().await;
        let measured = self.measured(began, before);
        stop.cancel();
        for writer in running {
            writer.await.unwrap();
        }
        measured
    }

    /// The same facts, made before the clock starts, each step one request with a cursor; the best of some sizes
    /// of steps, and that size.
    pub(crate) async fn by_hand(&self) -> (Measured, u64) {
        let mut best: Option<(Measured, u64)> = None;
        for step_blocks in TRIED {
            let store = self.opened(1).await.remove(0);
            let steps = self.steps(store, step_blocks).await;
            let mut cursor = Mutation::new();
            cursor.set(NETWORK_NODE, "appliedBlock", 0);
            self.client.write(None, vec![cursor]).await.unwrap();
            let before = Usage::now(self.cluster);
            let began = Instant::now();
            for (place, facts) in steps.into_iter().enumerate() {
                step(&self.client, i64::try_from(place).unwrap(), facts).await;
            }
            let measured = self.measured(began, before);
            if best.is_none_or(|(best, _)| best.rate < measured.rate) {
                best = Some((measured, step_blocks));
            }
        }
        best.unwrap()
    }

    /// What the projection writes, step by step.
    async fn steps(&self, store: Arc<ProjectionStore>, step_blocks: u64) -> Vec<Mutation> {
        let recorder = Arc::new(Recorder {
            store,
            written: Mutex::new((Cursor::NOTHING, Vec::new())),
        });
        let settings = ProjectionSettings {
            step_blocks,
            writers: Writers::One,
        };
        let mut projection = Projection::new(Arc::clone(&recorder), self.log.store().clone(), settings);
        while projection.advance().await.unwrap() != Progress::Idle {}
        drop(projection);
        let (cursor, steps) = Arc::into_inner(recorder).unwrap().written.into_inner().unwrap();
        assert!(is_at(&cursor, self.log.range().end()));
        steps
    }

    /// What Dgraph holds now, as the JavaScript honeygraph would keep it. The log has been projected.
    pub(crate) async fn javascript_facts(&self) -> Facts {
        let mut facts = Facts::default();
        for row in self.log.view().blocks(self.log.range()) {
            let (number, stored) = row.unwrap();
            let unix_millis = i64::try_from(stored.timestamp_ms).unwrap();
            facts.block(&stored.decode(number).unwrap(), unix_millis);
        }
        let number = self.log.range().end().get();
        let store = self.open("reader").await;
        let mut after = Uid(0);
        loop {
            let page = store.state_nodes(after).await.unwrap();
            let Some(last) = page.last() else {
                return facts;
            };
            after = last.uid;
            let uids: Vec<Uid> = page.iter().map(|node| node.uid).collect();
            for node in &store.state_of(&uids).await.unwrap() {
                facts.state(&node.path, node.value.as_ref().unwrap(), number);
            }
        }
    }

    /// `dgraph live`.
    pub(crate) async fn live(&self, facts: &Facts) -> Measured {
        let before = Usage::now(self.cluster);
        let took = javascript::live(self.cluster, &self.client, self.home, facts).await;
        let used = Usage::now(self.cluster).since(before);
        Measured {
            rate: self.log.range().len() as f64 / took.as_secs_f64(),
            dgraph_seconds: used.dgraph,
            own_seconds: used.own,
        }
    }

    /// Nodes of the state in Dgraph.
    pub(crate) async fn state_nodes(&self) -> u64 {
        let query = Query::new("{ q(func: has(state.path)) { count(uid) } }");
        let answer = self.client.query(&query, Reading::Strict).await.unwrap();
        let answer: serde_json::Value = answer.read().unwrap();
        answer["q"][0]["count"].as_u64().unwrap()
    }
}

fn is_at(cursor: &Cursor, end: BlockNumber) -> bool {
    cursor.applied.is_some_and(|block| block.number == end) && cursor.state == StateCursor::At(end)
}

/// One step in one request, if the cursor stands where it should.
async fn step(client: &DgraphClient, place: i64, mut facts: Mutation) {
    let query = Query::new(format!(
        "{{ c as found(func: uid({NETWORK_NODE})) @filter(eq(appliedBlock, {place})) {{ uid }} }}"
    ));
    facts.set(NETWORK_NODE, "appliedBlock", place + 1);
    let committed = client
        .write(Some(&query), vec![facts.only_if_found("c", 1)])
        .await
        .unwrap();
    let answer: serde_json::Value = committed.answer.read().unwrap();
    assert_eq!(
        answer["found"].as_array().map(Vec::len),
        Some(1),
        "the cursor moved"
    );
}

/// Takes down what would be written.
#[derive(Debug)]
struct Recorder {
    store: Arc<ProjectionStore>,
    written: Mutex<(Cursor, Vec<Mutation>)>,
}

impl Target for Recorder {
    fn region(&self) -> &Region {
        self.store.region()
    }

    async fn cursor(&self) -> Result<Cursor, ProjectionError> {
        Ok(self.written.lock().unwrap().0.clone())
    }

    async fn last_step(&self) -> Result<(Cursor, Option<Mark>), ProjectionError> {
        Ok((self.cursor().await?, None))
    }

    fn writer(&self) -> &WriterName {
        self.store.writer()
    }

    async fn write(
        &self,
        _before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> Result<StepOutcome, ProjectionError> {
        let mut written = self.written.lock().unwrap();
        written.0 = after.clone();
        if !facts.is_empty() {
            written.1.push(facts);
        }
        Ok(StepOutcome::Won)
    }

    async fn claim(
        &self,
        _before: &Cursor,
        _blocks: u64,
        _longest: Duration,
    ) -> Result<ClaimOutcome, ProjectionError> {
        Ok(ClaimOutcome::Granted)
    }

    async fn state_nodes(&self, _after: Uid) -> Result<Vec<StoredPath>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn state_of(&self, _nodes: &[Uid]) -> Result<Vec<StoredState>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn blocks(&self, _range: BlockRange) -> Result<Vec<StoodBlock>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn block_hashes(&self, _range: BlockRange) -> Result<Vec<BlockReference>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn checkpoints(&self, _range: BlockRange) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn block_nodes(&self, _after: Uid) -> Result<Vec<BlockNode>, ProjectionError> {
        Ok(Vec::new())
    }

    async fn checkpoint_nodes(&self, _after: Uid) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        Ok(Vec::new())
    }
}
