//! A strict model of Dgraph's transactions, as far as a projection uses them: what is tested against it is
//! tested against the real one too (`agent/tests/dgraph`).
//!
//! A transaction sees what was committed when it began. At its commit it is aborted where another one has
//! since written a key of its own: a predicate of a node, or one value of it where the predicate is a list.
//! What it only read does not count. Uids have to be leased, predicates declared, values of their type.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::ExponentialBuilder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::cluster::{Attempt, Cluster, Expected, NetworkNode};
use super::region::NETWORK_NODE;
use crate::dgraph::client::{Change, DgraphError, Mutation, Uid, Value};

/// A cluster in memory. Clones are the same cluster.
#[derive(Debug, Clone)]
pub(crate) struct Model(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Values by node and predicate: one, or those of a list.
    facts: BTreeMap<(Uid, String), Vec<Value>>,
    /// What each predicate was declared as.
    schema: BTreeMap<String, String>,
    /// The commit that last wrote a key.
    written: BTreeMap<String, u64>,
    /// The last commit, and the last one that changed the schema.
    clock: u64,
    altered: u64,
    leased: u64,
    pauses: SmallRng,
    is_away: bool,
}

impl Model {
    /// An empty cluster. The seed decides how transactions overlap.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            facts: BTreeMap::new(),
            schema: BTreeMap::new(),
            written: BTreeMap::new(),
            clock: 0,
            altered: 0,
            leased: 10_000,
            pauses: SmallRng::seed_from_u64(seed),
            is_away: false,
        })))
    }

    /// What a predicate was declared as.
    #[cfg(test)]
    pub(crate) fn declared(&self, predicate: &str) -> Option<String> {
        self.lock().schema.get(predicate).cloned()
    }

    /// Everything that stands under a predicate of a node.
    pub(crate) fn values(&self, uid: Uid, predicate: &str) -> Vec<Value> {
        let key = (uid, predicate.to_owned());
        self.lock().facts.get(&key).cloned().unwrap_or_default()
    }

    /// Every fact: node, predicate, values.
    pub(crate) fn facts(&self) -> BTreeMap<(Uid, String), Vec<Value>> {
        self.lock().facts.clone()
    }

    /// What no writer does: someone's own change.
    pub(crate) fn tamper(&self, uid: Uid, predicate: &str, values: Vec<Value>) {
        let mut state = self.lock();
        state.clock += 1;
        let at = state.clock;
        state.written.insert(format!("{uid} {predicate}"), at);
        state.facts.insert((uid, predicate.to_owned()), values);
        state.facts.retain(|_, values| !values.is_empty());
    }

    /// Whether requests that write get lost.
    pub(crate) fn lose_writes(&self, are_lost: bool) {
        self.lock().is_away = are_lost;
    }

    /// Takes every fact and the schema away; leases stay.
    pub(crate) fn wipe(&self) {
        let mut state = self.lock();
        state.facts.clear();
        state.schema.clear();
        state.clock += 1;
        state.altered = state.clock;
    }

    /// The highest uid that may be used.
    pub(crate) fn leased(&self) -> Uid {
        Uid(self.lock().leased)
    }

    /// A zero that lost its memory.
    pub(crate) fn forget_leases(&self) {
        self.lock().leased = 10_000;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others go on meanwhile, or not.
    async fn pause(&self) {
        let times = self.lock().pauses.random_range(0..4);
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }
}

impl State {
    fn network_node(&self) -> NetworkNode {
        let members = self
            .facts
            .range((NETWORK_NODE, String::new())..)
            .take_while(|((uid, _), _)| *uid == NETWORK_NODE)
            .map(|((_, predicate), values)| (predicate.clone(), json(&values[0])))
            .collect();
        serde_json::from_value(serde_json::Value::Object(members)).unwrap()
    }

    fn holds(&self, expected: &Expected) -> Result<bool, DgraphError> {
        let mut holds = true;
        for (predicate, value) in expected.iter() {
            // Dgraph compares only what it knows.
            if value.is_some() && !self.schema.contains_key(predicate) {
                return Err(refused(&format!(
                    "Schema not defined for predicate: 0-{predicate}"
                )));
            }
            let stands = self.facts.get(&(NETWORK_NODE, predicate.to_owned()));
            holds &= stands.map(|values| &values[0]) == value;
        }
        Ok(holds)
    }

    /// Keys that a mutation writes, in Dgraph's sense of a conflict.
    fn keys(&self, mutation: &Mutation) -> Result<BTreeSet<String>, DgraphError> {
        mutation
            .changes()
            .map(|(node, predicate, change)| {
                let uid: Uid = node.parse()?;
                if uid.0 > self.leased {
                    return Err(refused(&format!(
                        "Uid: [{}] cannot be greater than lease: [{}]",
                        uid.0, self.leased
                    )));
                }
                let kind = self
                    .schema
                    .get(predicate)
                    .ok_or_else(|| refused(&format!("Schema not defined for predicate: {predicate}")))?;
                if let Change::Set(value) | Change::Delete(value) = &change {
                    check(predicate, kind, value)?;
                }
                Ok(match change {
                    Change::Set(value) | Change::Delete(value) if kind.starts_with('[') => {
                        format!("{uid} {predicate} {value:?}")
                    }
                    _ => format!("{uid} {predicate}"),
                })
            })
            .collect()
    }

    fn apply(&mut self, mutation: &Mutation) {
        for (node, predicate, change) in mutation.changes() {
            let is_list = self
                .schema
                .get(predicate)
                .is_some_and(|kind| kind.starts_with('['));
            let key = (node.parse().unwrap(), predicate.to_owned());
            let values = self.facts.entry(key).or_default();
            match change {
                Change::Clear => values.clear(),
                Change::Delete(value) => values.retain(|stands| *stands != value),
                Change::Unlink(to) => values.retain(|stands| *stands != Value::Text(to.clone())),
                Change::Set(value) => add(values, value, is_list),
                Change::Link(to) => add(values, Value::Text(to), is_list),
            }
        }
        self.facts.retain(|_, values| !values.is_empty());
    }

    fn commit(&mut self, began: u64, mutation: &Mutation) -> Result<(), DgraphError> {
        let keys = self.keys(mutation)?;
        let newer = |key| self.written.get(key).is_some_and(|at| *at > began);
        if self.altered > began || keys.iter().any(newer) {
            return Err(DgraphError::Aborted);
        }
        self.clock += 1;
        for key in keys {
            self.written.insert(key, self.clock);
        }
        self.apply(mutation);
        Ok(())
    }
}

fn add(values: &mut Vec<Value>, value: Value, is_list: bool) {
    if !is_list {
        values.clear();
    }
    if !values.contains(&value) {
        values.push(value);
    }
}

fn check(predicate: &str, kind: &str, value: &Value) -> Result<(), DgraphError> {
    let kind = kind.trim_start_matches('[').split([' ', ']']).next();
    let fits = match value {
        Value::Text(_) => kind == Some("string"),
        Value::Integer(_) => kind == Some("int"),
        Value::Float(_) => kind == Some("float"),
        Value::Boolean(_) => kind == Some("bool"),
        Value::Time(_) => kind == Some("datetime"),
    };
    fits.then_some(())
        .ok_or_else(|| refused(&format!("{predicate} is a {kind:?}: {value:?}")))
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(value) => (*value).into(),
        Value::Time(time) => time.to_string().into(),
    }
}

fn refused(message: &str) -> DgraphError {
    DgraphError::Refused {
        endpoint: "http://model:9080".parse().unwrap(),
        message: message.to_owned(),
    }
}

impl Cluster for Model {
    async fn network_node(&self) -> Result<NetworkNode, DgraphError> {
        self.pause().await;
        Ok(self.lock().network_node())
    }

    async fn write_where(&self, expected: &Expected, mutation: Mutation) -> Result<Attempt, DgraphError> {
        self.pause().await;
        let (began, attempt) = {
            let state = self.lock();
            if state.is_away {
                return Err(DgraphError::Unavailable {
                    endpoint: "http://model:9080".parse().unwrap(),
                    reason: "it is away".to_owned(),
                });
            }
            let applied = state.holds(expected)?;
            if applied {
                state.keys(&mutation)?;
            }
            let stood = state.network_node();
            (state.clock, Attempt { applied, stood })
        };
        self.pause().await;
        if attempt.applied {
            self.lock().commit(began, &mutation)?;
        }
        Ok(attempt)
    }

    async fn alter(&self, schema: &str) -> Result<(), DgraphError> {
        self.pause().await;
        let mut state = self.lock();
        for line in schema.lines() {
            let (name, kind) = line.split_once(": ").unwrap();
            state.schema.insert(name.to_owned(), kind.to_owned());
        }
        state.clock += 1;
        state.altered = state.clock;
        Ok(())
    }

    async fn drop_predicate(&self, predicate: &str) -> Result<(), DgraphError> {
        self.pause().await;
        let mut state = self.lock();
        state.facts.retain(|(_, name), _| name != predicate);
        state.schema.remove(predicate);
        state.clock += 1;
        state.altered = state.clock;
        Ok(())
    }

    async fn allocate_uids(&self, count: u64) -> Result<RangeInclusive<Uid>, DgraphError> {
        self.pause().await;
        let mut state = self.lock();
        let first = state.leased + 1;
        state.leased += count;
        Ok(Uid(first)..=Uid(state.leased))
    }

    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(Duration::from_micros(1))
            .with_max_times(20)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use honeygraph_chain::fork::BlockReference;
    use honeygraph_chain::{BlockNumber, ContentId};
    use proptest::prelude::*;

    use super::super::schedule::{Schedule, Witness, run, run_on_a_log_that_turns, schedules};
    use super::super::schema::{self, Migration, predicate as p};
    use super::super::{
        ClaimOutcome, Cursor, ErrorPolicy, ProjectionError, ProjectionStore, StateCursor, StepOutcome,
        WriterName,
    };
    use super::*;

    impl Witness for Model {
        async fn witness(&self, nodes: &[Uid], predicate: &str) -> (NetworkNode, Vec<Vec<String>>) {
            let state = self.lock();
            let lists = nodes.iter().map(|uid| {
                let values = state.facts.get(&(*uid, predicate.to_owned()));
                values
                    .into_iter()
                    .flatten()
                    .map(|value| match value {
                        Value::Text(text) => text.clone(),
                        other => panic!("{other:?}"),
                    })
                    .collect()
            });
            (state.network_node(), lists.collect())
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    async fn opened(model: &Model, writer: &str) -> Result<ProjectionStore<Model>, ProjectionError> {
        let network = "spkcc".parse().unwrap();
        ProjectionStore::open(model.clone(), &network, &writer.parse().unwrap()).await
    }

    async fn first_step(store: &ProjectionStore<Model>) -> Result<StepOutcome, ProjectionError> {
        store.write(&Cursor::NOTHING, &applied(1), Mutation::new()).await
    }

    fn applied(number: u64) -> Cursor {
        Cursor {
            applied: Some(BlockReference {
                number: number.try_into().unwrap(),
                hash: ContentId::of(&number.to_be_bytes()),
            }),
            from: None,
            state: StateCursor::Nothing,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn every_step_is_written_once_whatever_fails(schedule in schedules(), seed in any::<u64>()) {
            block_on(run(&Model::new(seed), &schedule));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn what_comes_after_a_reorganization_is_of_one_fork(schedule in schedules(), seed in any::<u64>()) {
            block_on(run_on_a_log_that_turns(&Model::new(seed), &schedule));
        }
    }

    #[test]
    fn a_schedule_without_faults_ends_too() {
        block_on(run(&Model::new(1), &Schedule::default()));
    }

    #[test]
    fn a_writer_finds_out_that_a_step_is_its_own() {
        for seed in 0..50 {
            block_on(run(&Model::new(seed), &Schedule::alone()));
        }
    }

    #[test]
    fn many_open_at_once_and_agree() {
        for seed in 0..50 {
            let model = Model::new(seed);
            let stores = block_on(join_all((0..4).map(async |_| opened(&model, "w").await.unwrap())));
            let keys: BTreeSet<_> = stores
                .iter()
                .map(|store| store.region().key().to_text())
                .collect();
            assert_eq!(keys.len(), 1);
            assert!(model.leased() >= NETWORK_NODE);
        }
    }

    #[test]
    fn of_two_networks_one_gets_the_namespace() {
        for seed in 0..50 {
            let model = Model::new(seed);
            let writer = "w".parse().unwrap();
            let networks = ["dlux".parse().unwrap(), "spkcc".parse().unwrap()];
            let opening = networks
                .iter()
                .map(|network| ProjectionStore::open(model.clone(), network, &writer));
            let outcomes = block_on(join_all(opening));
            let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
            assert_eq!(refused.len(), 1);
            assert!(matches!(refused[0], ProjectionError::OtherNetwork { .. }));
            assert_eq!(refused[0].policy(), ErrorPolicy::Refuse);
        }
    }

    #[test]
    fn a_newer_schema_is_refused_and_ends_older_writers() {
        block_on(async {
            let model = Model::new(0);
            let store = opened(&model, "w").await.unwrap();
            let newer = i64::from(schema::VERSION + 1).into();
            model.tamper(NETWORK_NODE, p::SCHEMA_VERSION, vec![newer]);
            let expected = ProjectionError::NewerSchema {
                found: schema::VERSION + 1,
                known: schema::VERSION,
            };
            assert_eq!(opened(&model, "w").await.unwrap_err(), expected);
            assert_eq!(first_step(&store).await.unwrap_err(), expected);
            assert_eq!(model.values(NETWORK_NODE, p::APPLIED_BLOCK), vec![]);
        });
    }

    /// Versions of a schema that may come.
    static COMING: [Migration; 2] = [
        schema::MIGRATIONS[0],
        Migration {
            to: 2,
            declares: &[("extra", "int"), (p::VERIFICATION, "string @index(hash)")],
        },
    ];

    #[test]
    fn of_many_writers_one_takes_a_dgraph_from_version_to_version() {
        for seed in 0..50 {
            block_on(async {
                let model = Model::new(seed);
                // Half of them find an older one, that others still write to; half of them nothing.
                let older = if seed % 2 == 0 {
                    Some(opened(&model, "old").await.unwrap())
                } else {
                    None
                };
                let network = "spkcc".parse().unwrap();
                let writers = ["one", "two", "three"].map(|name| name.parse::<WriterName>().unwrap());
                let opening = writers
                    .iter()
                    .map(|writer| ProjectionStore::open_with(model.clone(), &network, writer, &COMING));
                let step = async {
                    match &older {
                        Some(store) => Some(first_step(store).await),
                        None => None,
                    }
                };
                let (stores, step) = tokio::join!(join_all(opening), step);
                let stores: Vec<_> = stores.into_iter().map(Result::unwrap).collect();
                let keys: BTreeSet<_> = stores
                    .iter()
                    .map(|store| store.region().key().to_text())
                    .collect();
                assert_eq!(keys.len(), 1);
                assert_eq!(model.values(NETWORK_NODE, p::SCHEMA_VERSION), [2.into()]);
                assert_eq!(model.declared("extra").as_deref(), Some("int ."));
                // A step of the older one was written before, or not at all.
                let newer = ProjectionError::NewerSchema { found: 2, known: 1 };
                let cursor = stores[0].cursor().await.unwrap();
                match step {
                    Some(Ok(outcome)) => assert_eq!((outcome, &cursor), (StepOutcome::Won, &applied(1))),
                    Some(Err(error)) => assert_eq!((error, &cursor), (newer.clone(), &Cursor::NOTHING)),
                    None => assert_eq!(cursor, Cursor::NOTHING),
                }
                if let Some(store) = &older {
                    assert_eq!(first_step(store).await.unwrap_err(), newer);
                    assert_eq!(opened(&model, "old").await.unwrap_err(), newer);
                }
                let next = stores[1].write(&cursor, &applied(2), Mutation::new()).await;
                assert_eq!(next, Ok(StepOutcome::Won));
            });
        }
    }

    #[test]
    fn what_is_only_looked_at_is_neither_made_nor_migrated() {
        block_on(async {
            let model = Model::new(0);
            let look = async || {
                let network = "spkcc".parse().unwrap();
                ProjectionStore::open_existing(model.clone(), &network, &"w".parse().unwrap()).await
            };
            assert_eq!(look().await.unwrap_err(), ProjectionError::Nothing);
            assert_eq!(model.declared(p::NETWORK), None);
            let store = opened(&model, "w").await.unwrap();
            assert_eq!(look().await.unwrap().region(), store.region());
        });
    }

    #[test]
    fn what_was_wiped_is_not_written_to_before_it_is_opened_again() {
        block_on(async {
            let model = Model::new(0);
            let store = opened(&model, "w").await.unwrap();
            model.wipe();
            for _ in 0..2 {
                let error = first_step(&store).await.unwrap_err();
                assert!(matches!(error, ProjectionError::Gone(_)), "{error}");
                assert_eq!(error.policy(), ErrorPolicy::Reopen);
                // Made again by another: its cursor stands where ours began.
                opened(&model, "other").await.unwrap();
            }
            let store = opened(&model, "w").await.unwrap();
            assert_eq!(first_step(&store).await, Ok(StepOutcome::Won));
        });
    }

    #[test]
    fn uids_are_leased_once_and_again_where_zero_forgot_them() {
        block_on(async {
            let model = Model::new(0);
            let store = opened(&model, "w").await.unwrap();
            let leased = model.leased();
            assert!(leased >= NETWORK_NODE);
            opened(&model, "w").await.unwrap();
            assert_eq!(model.leased(), leased);
            model.forget_leases();
            assert_eq!(first_step(&store).await, Ok(StepOutcome::Won));
            assert!(model.leased() >= NETWORK_NODE);
        });
    }

    #[test]
    fn of_two_steps_that_write_different_things_one_is_written() {
        // They have no predicate in common but the mark.
        for seed in 0..200 {
            let model = Model::new(seed);
            block_on(async {
                let stores = [
                    opened(&model, "one").await.unwrap(),
                    opened(&model, "two").await.unwrap(),
                ];
                let state = Cursor {
                    state: StateCursor::At(BlockNumber::default()),
                    ..Cursor::NOTHING
                };
                let outcomes = tokio::join!(
                    first_step(&stores[0]),
                    stores[1].write(&Cursor::NOTHING, &state, Mutation::new()),
                );
                let stands = stores[0].cursor().await.unwrap();
                match (outcomes.0.unwrap(), outcomes.1.unwrap()) {
                    (StepOutcome::Won, StepOutcome::Lost(cursor)) => {
                        assert_eq!((&cursor, &stands), (&applied(1), &applied(1)));
                    }
                    (StepOutcome::Lost(cursor), StepOutcome::Won) => {
                        assert_eq!((&cursor, &stands), (&state, &state));
                    }
                    other => panic!("{other:?}"),
                }
            });
        }
    }

    #[test]
    fn a_claim_is_one_writers_until_it_is_used_up() {
        block_on(async {
            let model = Model::new(0);
            let one = opened(&model, "one").await.unwrap();
            let two = opened(&model, "two").await.unwrap();
            let long = Duration::from_hours(1);
            let claim =
                async |store: &ProjectionStore<Model>, at: &Cursor| store.claim(at, 2, long).await.unwrap();
            let start = Cursor::NOTHING;
            assert_eq!(claim(&one, &start).await, ClaimOutcome::Granted);
            assert_eq!(claim(&one, &start).await, ClaimOutcome::Granted);
            let held = claim(&two, &start).await;
            assert!(
                matches!(&held, ClaimOutcome::Held { by, .. } if by == "one"),
                "{held:?}"
            );
            one.write(&start, &applied(1), Mutation::new()).await.unwrap();
            assert_eq!(claim(&two, &start).await, ClaimOutcome::Moved(applied(1)));
            assert!(matches!(
                claim(&two, &applied(1)).await,
                ClaimOutcome::Held { .. }
            ));
            one.write(&applied(1), &applied(2), Mutation::new())
                .await
                .unwrap();
            assert_eq!(claim(&two, &applied(2)).await, ClaimOutcome::Granted);
            assert!(matches!(
                claim(&one, &applied(2)).await,
                ClaimOutcome::Held { .. }
            ));
        });
    }

    #[test]
    fn a_claim_is_granted_to_one_of_many() {
        for seed in 0..50 {
            let model = Model::new(seed);
            block_on(async {
                let names = ["one", "two", "three"];
                let stores = join_all(names.map(async |name| opened(&model, name).await.unwrap())).await;
                let long = Duration::from_hours(1);
                let claims = stores.iter().map(|store| store.claim(&Cursor::NOTHING, 2, long));
                let granted = join_all(claims)
                    .await
                    .into_iter()
                    .filter(|outcome| *outcome == Ok(ClaimOutcome::Granted))
                    .count();
                assert_eq!(granted, 1);
            });
        }
    }

    #[test]
    fn damage_is_told() {
        block_on(async {
            let model = Model::new(0);
            let store = opened(&model, "w").await.unwrap();
            model.tamper(NETWORK_NODE, p::APPLIED_BLOCK, vec![Value::Integer(-1)]);
            let error = store.cursor().await.unwrap_err();
            assert_eq!(error.policy(), ErrorPolicy::Mismatch);
            model.tamper(NETWORK_NODE, p::UID_KEY, vec![]);
            let error = opened(&model, "w").await.unwrap_err();
            assert_eq!(error.policy(), ErrorPolicy::Mismatch);
        });
    }

    #[test]
    fn the_model_is_strict() {
        block_on(async {
            let model = Model::new(0);
            model.alter("name: string .\nnames: [string] .").await.unwrap();
            let write = async |change: &dyn Fn(&mut Mutation)| {
                let mut mutation = Mutation::new();
                change(&mut mutation);
                model.write_where(&Expected::default(), mutation).await
            };
            assert!(write(&|m| m.set(Uid(1), "name", "a")).await.unwrap().applied);
            for refused in [
                write(&|m| m.set(Uid(1), "unknown", "a")).await,
                write(&|m| m.set(Uid(1), "name", 1)).await,
                write(&|m| m.set(Uid(10_001), "name", "a")).await,
            ] {
                assert!(matches!(refused, Err(DgraphError::Refused { .. })), "{refused:?}");
            }
            for name in ["a", "b", "a"] {
                write(&|m| m.set(Uid(1), "names", name)).await.unwrap();
            }
            assert_eq!(model.values(Uid(1), "names"), ["a".into(), "b".into()]);
            write(&|m| {
                m.set(Uid(1), "names", "c");
                m.clear(Uid(1), "names");
            })
            .await
            .unwrap();
            assert_eq!(model.values(Uid(1), "names"), ["c".into()]);
            write(&|m| m.delete(Uid(1), "names", "c")).await.unwrap();
            assert_eq!(model.facts().len(), 1);
        });
    }
}
