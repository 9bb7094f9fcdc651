//! Several writers of one cluster, with faults at random: each step has to be written once (I17).
//!
//! Runs against the model here, and against a real Dgraph in `agent/tests/dgraph`, which includes this file.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::ExponentialBuilder;
use futures_util::future::join_all;
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{ContentId, PathKey};
use proptest::prelude::*;
use tokio::sync::Notify;

use super::cluster::{Attempt, Cluster, Expected, NetworkNode};
use super::region::Region;
use super::schema::predicate as p;
use super::{ClaimOutcome, Cursor, ErrorPolicy, ProjectionStore, StateCursor, StepOutcome, WriterName};
use super::{DgraphError, Mutation, Uid};

/// Steps until the end of the log.
const STEPS: u64 = 14;

/// What happens to one request that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It does not arrive.
    RequestLost,
    /// It arrives; its answer does not.
    AnswerLost,
    /// It arrives some time after the writer gave up waiting.
    Late,
    /// The writer ends after it was sent, and starts anew.
    Crash,
}

/// One writer.
#[derive(Debug, Clone)]
pub(crate) struct WriterPlan {
    /// Steps that it writes at once.
    stride: u64,
    /// Whether it claims steps before it writes them.
    claims: bool,
    /// What happens to its first requests.
    faults: Vec<Fault>,
}

/// Writers that run at once.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    writers: Vec<WriterPlan>,
}

impl Default for Schedule {
    /// Two writers without faults.
    fn default() -> Self {
        let writer = WriterPlan {
            stride: 1,
            claims: false,
            faults: Vec::new(),
        };
        Self {
            writers: vec![writer.clone(), writer],
        }
    }
}

impl Schedule {
    /// One writer, who has to be told that its steps are its own, whatever gets lost.
    pub(crate) fn alone() -> Self {
        use Fault::{AnswerLost, Late, None, RequestLost};
        Self {
            writers: vec![WriterPlan {
                stride: 1,
                claims: false,
                // The first request is the one that opens.
                faults: vec![
                    None,
                    AnswerLost,
                    Late,
                    RequestLost,
                    AnswerLost,
                    Late,
                    None,
                    AnswerLost,
                ],
            }],
        }
    }

    /// Whether no one can take a step from its writer, not even the writer before it crashed.
    fn is_alone(&self) -> bool {
        matches!(self.writers.as_slice(), [only] if only.faults.len() < 10 && !only.faults.contains(&Fault::Crash))
    }
}

/// Schedules of up to three writers.
pub(crate) fn schedules() -> impl Strategy<Value = Schedule> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::RequestLost),
        1 => Just(Fault::AnswerLost),
        1 => Just(Fault::Late),
        1 => Just(Fault::Crash),
    ];
    let faults = proptest::collection::vec(fault, 0..20);
    let writer = (1..4_u64, any::<bool>(), faults).prop_map(|(stride, claims, faults)| WriterPlan {
        stride,
        claims,
        faults,
    });
    proptest::collection::vec(writer, 1..4).prop_map(|writers| Schedule { writers })
}

/// Looks at a cluster as of one moment.
pub(crate) trait Witness: Cluster {
    /// The network node, and the values of a list of texts of each node.
    fn witness(
        &self,
        nodes: &[Uid],
        predicate: &str,
    ) -> impl Future<Output = (NetworkNode, Vec<Vec<String>>)> + Send;
}

/// Where the cursor stands after so many steps. Some change the block, all the state.
fn cursor_after(steps: u64) -> Cursor {
    let number = |number: u64| number.try_into().unwrap();
    let applied = (steps > 1).then(|| BlockReference {
        number: number(steps / 2),
        hash: ContentId::of(&(steps / 2).to_be_bytes()),
    });
    let state = match steps % 4 {
        _ if steps == 0 => StateCursor::Nothing,
        0 | 1 => StateCursor::At(number(steps)),
        2 => StateCursor::Replacing {
            to: number(steps),
            after: None,
        },
        _ => StateCursor::Replacing {
            to: number(steps),
            after: Some(PathKey::root().child("a\"b").child("\u{1f41d} [x]")),
        },
    };
    let from = applied.filter(|_| steps.is_multiple_of(3)).map(|_| number(0));
    Cursor { applied, from, state }
}

fn steps_at(cursor: &Cursor) -> u64 {
    (0..=STEPS)
        .find(|steps| cursor_after(*steps) == *cursor)
        .expect("a cursor of the log")
}

/// The node that a step writes.
fn node_of(region: &Region, step: u64) -> Uid {
    region.block(step.try_into().unwrap())
}

/// Which try wrote a step, as a writer was told.
type Won = Arc<Mutex<BTreeMap<u64, String>>>;

/// Runs a schedule to the end of the log, on an empty cluster. Fails where a step is skipped or doubled, or
/// where a writer was told what is not so.
pub(crate) async fn run<C: Witness>(cluster: &C, schedule: &Schedule) {
    let won = Won::default();
    let writers = schedule.writers.iter().enumerate().map(|(place, plan)| {
        let writer = Writer {
            name: format!("writer {place}"),
            plan: plan.clone(),
            cluster: Faulty {
                inner: cluster.clone(),
                faults: Arc::new(Mutex::new(plan.faults.iter().copied().collect())),
                crash: Arc::default(),
            },
            won: Arc::clone(&won),
            alone: schedule.is_alone(),
            tries: 0,
        };
        writer.run()
    });
    join_all(writers).await;
    let network = NETWORK.parse().unwrap();
    let store = ProjectionStore::open(cluster.clone(), &network, &"end".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(store.cursor().await.unwrap(), cursor_after(STEPS));
    check(&store, &won).await;
}

const NETWORK: &str = "spkcc";

/// Compares what stands there with the cursor, as of one moment.
async fn check<C: Witness>(store: &ProjectionStore<C>, won: &Won) {
    let told = won.lock().unwrap().clone();
    let nodes: Vec<Uid> = (0..STEPS).map(|step| node_of(store.region(), step)).collect();
    let (node, written) = store.cluster().witness(&nodes, p::OP_ACCOUNT).await;
    let done = steps_at(&Cursor::read(&node).unwrap());
    for (step, by) in (0..).zip(&written) {
        let times = usize::from(step < done);
        assert_eq!(by.len(), times, "step {step} of {done} was written by {by:?}");
        if let Some(told) = told.get(&step) {
            assert_eq!(by, std::slice::from_ref(told), "step {step}");
        }
    }
}

/// Last block that both forks of the log that turns have.
const ANCESTOR: u64 = 2;
/// Last block of the fork that the log leaves, and of the one that it follows then.
const ENDS: [u64; 2] = [5, 6];

/// Runs a schedule on a log that leaves a fork behind: a request that was sent before may come after Dgraph went
/// back to where it was when it was sent.
pub(crate) async fn run_on_a_log_that_turns<C: Witness>(cluster: &C, schedule: &Schedule) {
    let turned = Arc::new(AtomicBool::new(false));
    let writers = schedule.writers.iter().enumerate().map(|(place, plan)| {
        let cluster = Faulty {
            inner: cluster.clone(),
            faults: Arc::new(Mutex::new(plan.faults.iter().copied().collect())),
            crash: Arc::default(),
        };
        let turned = Arc::clone(&turned);
        let name = format!("writer {place}").parse().unwrap();
        async move {
            let crash = Arc::clone(&cluster.crash);
            loop {
                tokio::select! {
                    () = follow_the_turn(&cluster, &name, plan.stride, &turned) => return,
                    () = crash.notified() => {}
                }
            }
        }
    });
    join_all(writers).await;
}

/// What stands on the node of a block of a fork, and names it.
fn of_fork(fork: usize, block: u64) -> String {
    match (block <= ANCESTOR, fork) {
        (true, _) => format!("both {block}"),
        (false, 0) => format!("left {block}"),
        (false, _) => format!("followed {block}"),
    }
}

fn at_block(fork: usize, block: u64) -> Cursor {
    Cursor {
        applied: (block > 0).then(|| BlockReference {
            number: block.try_into().unwrap(),
            hash: ContentId::of(of_fork(fork, block).as_bytes()),
        }),
        ..Cursor::NOTHING
    }
}

/// Fork and block of a cursor.
fn fork_of(cursor: &Cursor) -> (usize, u64) {
    let block = cursor.applied.map_or(0, |applied| applied.number.get());
    let fork = usize::from(at_block(0, block) != *cursor);
    assert_eq!(at_block(fork, block), *cursor);
    (fork, block)
}

async fn follow_the_turn<C: Witness>(
    cluster: &Faulty<C>,
    name: &WriterName,
    stride: u64,
    turned: &AtomicBool,
) {
    let network = NETWORK.parse().unwrap();
    loop {
        let Ok(store) = ProjectionStore::open(cluster.clone(), &network, name).await else {
            continue;
        };
        let Ok(before) = store.cursor().await else {
            continue;
        };
        check_turn(&store).await;
        let (fork, block) = fork_of(&before);
        if fork == 0 && block == ENDS[0] {
            turned.store(true, Ordering::SeqCst);
        }
        let follows = usize::from(turned.load(Ordering::SeqCst));
        let mut facts = Mutation::new();
        let after = if follows == 1 && fork == 0 && block > ANCESTOR {
            for gone in ANCESTOR + 1..=block {
                facts.clear(node_of(store.region(), gone), p::OP_ACCOUNT);
            }
            at_block(0, ANCESTOR)
        } else {
            let end = (block + stride).min(ENDS[follows]);
            if block >= end {
                return;
            }
            for next in block + 1..=end {
                let node = node_of(store.region(), next);
                facts.set(node, p::OP_ACCOUNT, of_fork(follows, next));
            }
            at_block(follows, end)
        };
        if let Err(error) = store.write(&before, &after, facts).await {
            assert_eq!(error.policy(), ErrorPolicy::RetryLater, "{error}");
        }
    }
}

/// Whatever came late: what stands there is the fork that the cursor names, all of it and nothing else.
async fn check_turn<C: Witness>(store: &ProjectionStore<C>) {
    let blocks = 1..=ENDS[0].max(ENDS[1]);
    let nodes: Vec<Uid> = blocks
        .clone()
        .map(|block| node_of(store.region(), block))
        .collect();
    let (node, stood) = store.cluster().witness(&nodes, p::OP_ACCOUNT).await;
    let (fork, last) = fork_of(&Cursor::read(&node).unwrap());
    for (block, stood) in blocks.zip(stood) {
        let expected: Vec<String> = (block <= last)
            .then(|| of_fork(fork, block))
            .into_iter()
            .collect();
        assert_eq!(stood, expected, "block {block}, cursor at {last} of fork {fork}");
    }
}

struct Writer<C> {
    name: String,
    plan: WriterPlan,
    cluster: Faulty<C>,
    won: Won,
    alone: bool,
    tries: u32,
}

impl<C: Witness> Writer<C> {
    /// Writes until the log ends; starts anew after each crash.
    async fn run(mut self) {
        let crash = Arc::clone(&self.cluster.crash);
        loop {
            tokio::select! {
                () = self.live() => return,
                () = crash.notified() => {}
            }
        }
    }

    async fn live(&mut self) {
        let network = NETWORK.parse().unwrap();
        let name = self.name.parse().unwrap();
        let store = loop {
            match ProjectionStore::open(self.cluster.clone(), &network, &name).await {
                Ok(store) => break store,
                Err(error) => assert_eq!(error.policy(), ErrorPolicy::RetryLater, "{error}"),
            }
        };
        let mut at = None;
        loop {
            let before = match at.take() {
                Some(cursor) => cursor,
                None => match store.cursor().await {
                    Ok(cursor) => cursor,
                    Err(error) => {
                        assert_eq!(error.policy(), ErrorPolicy::RetryLater, "{error}");
                        continue;
                    }
                },
            };
            let step = steps_at(&before);
            if step == STEPS {
                return;
            }
            if self.plan.claims && !claimed(&store, &before).await {
                continue;
            }
            at = self.step(&store, step).await;
            check(&store, &self.won).await;
        }
    }

    /// One try of the next steps; tells where the cursor stands, where that is known.
    async fn step(&mut self, store: &ProjectionStore<Faulty<C>>, first: u64) -> Option<Cursor> {
        self.tries += 1;
        let this = format!("{}, try {}", self.name, self.tries);
        let end = (first + self.plan.stride).min(STEPS);
        let mut facts = Mutation::new();
        for step in first..end {
            facts.set(node_of(store.region(), step), p::OP_ACCOUNT, this.as_str());
        }
        match store.write(&cursor_after(first), &cursor_after(end), facts).await {
            Ok(StepOutcome::Won) => {
                let mut won = self.won.lock().unwrap();
                for step in first..end {
                    let other = won.insert(step, this.clone());
                    assert_eq!(other, None, "step {step} was won twice");
                }
                Some(cursor_after(end))
            }
            Ok(StepOutcome::Lost(cursor)) => {
                assert!(steps_at(&cursor) > first);
                assert!(!self.alone, "step {first} was lost to no one");
                Some(cursor)
            }
            Err(error) => {
                assert_eq!(error.policy(), ErrorPolicy::RetryLater, "{error}");
                None
            }
        }
    }
}

async fn claimed<C: Cluster>(store: &ProjectionStore<C>, before: &Cursor) -> bool {
    let longest = Duration::from_millis(5);
    match store.claim(before, 2, longest).await {
        Ok(ClaimOutcome::Granted) => true,
        Ok(ClaimOutcome::Moved(_)) => false,
        Ok(ClaimOutcome::Held { wait, .. }) => {
            tokio::time::sleep(wait).await;
            false
        }
        Err(error) => {
            assert_eq!(error.policy(), ErrorPolicy::RetryLater, "{error}");
            false
        }
    }
}

/// A cluster behind a network that loses things, for one writer.
#[derive(Clone)]
struct Faulty<C> {
    inner: C,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    crash: Arc<Notify>,
}

impl<C> Faulty<C> {
    fn next(&self) -> Fault {
        self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None)
    }
}

fn timed_out() -> DgraphError {
    DgraphError::TimedOut {
        endpoint: "http://lost:9080".parse().unwrap(),
        after: Duration::ZERO,
    }
}

impl<C: Cluster> Cluster for Faulty<C> {
    async fn network_node(&self) -> Result<NetworkNode, DgraphError> {
        self.inner.network_node().await
    }

    async fn write_where(&self, expected: &Expected, mutation: Mutation) -> Result<Attempt, DgraphError> {
        let fault = self.next();
        match fault {
            Fault::None => return self.inner.write_where(expected, mutation).await,
            Fault::RequestLost => return Err(timed_out()),
            Fault::AnswerLost => {
                // Done or not: the writer hears nothing of it.
                let _ = self.inner.write_where(expected, mutation).await;
                return Err(timed_out());
            }
            Fault::Late | Fault::Crash => {}
        }
        let (inner, expected) = (self.inner.clone(), expected.clone());
        tokio::spawn(async move { inner.write_where(&expected, mutation).await });
        if fault == Fault::Crash {
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        Err(timed_out())
    }

    async fn alter(&self, schema: &str) -> Result<(), DgraphError> {
        self.inner.alter(schema).await
    }

    async fn drop_predicate(&self, predicate: &str) -> Result<(), DgraphError> {
        self.inner.drop_predicate(predicate).await
    }

    async fn allocate_uids(&self, count: u64) -> Result<std::ops::RangeInclusive<Uid>, DgraphError> {
        self.inner.allocate_uids(count).await
    }

    fn backoff(&self) -> ExponentialBuilder {
        self.inner.backoff()
    }
}

impl<C: Witness> Witness for Faulty<C> {
    async fn witness(&self, nodes: &[Uid], predicate: &str) -> (NetworkNode, Vec<Vec<String>>) {
        self.inner.witness(nodes, predicate).await
    }
}
