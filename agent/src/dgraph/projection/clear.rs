//! Takes everything away that projections wrote to a namespace, whoever did.
//!
//! Predicate by predicate: Dgraph's own way to drop all takes every namespace of the cluster away, with its users.
//! Version 0 of the schema says that it is under way, and the mark of the last step who does it. Nobody writes
//! meanwhile; where it was interrupted, the same writer goes on with it when it opens the namespace again.

use backon::BackoffBuilder;
use tokio::time::sleep;

use super::cluster::{Cluster, Expected, NetworkNode};
use super::error::{ErrorPolicy, ProjectionError};
use super::mark::Mark;
use super::region::NETWORK_NODE;
use super::schema::{self, CLEARING, Migration, predicate as p};
use super::store::{WriterName, busy, write_leased};
use crate::dgraph::client::{DgraphError, Mutation, Value};
use crate::wire::NetworkName;

/// What says that a namespace is being cleared: it goes last, in one transaction.
const LAST: [&str; 4] = [p::NETWORK, p::SCHEMA_VERSION, p::UID_KEY, p::APPLIED_BY];

/// Takes everything away that projections wrote to a namespace, unless it is another network's. What other writers
/// are about to write there is refused: they open it again.
pub async fn clear<C: Cluster>(
    cluster: &C,
    network: &NetworkName,
    writer: &WriterName,
) -> Result<(), ProjectionError> {
    let mark = begin(cluster, network, writer).await?;
    tracing::warn!("everything of this network in dgraph is taken away, because a person asked for it");
    let declared = schema::MIGRATIONS.iter().flat_map(|migration| migration.declares);
    for (name, _) in declared.filter(|(name, _)| !LAST.contains(name)) {
        drop_predicate(cluster, name, &mark).await?;
    }
    end(cluster, &mark).await
}

/// Says that it is under way. Whoever said so before stops with the predicate that it is at.
async fn begin<C: Cluster>(
    cluster: &C,
    network: &NetworkName,
    writer: &WriterName,
) -> Result<Mark, ProjectionError> {
    let declares: Vec<_> = schema::MIGRATIONS
        .iter()
        .flat_map(|migration| migration.declares)
        .filter(|(name, _)| LAST.contains(name))
        .collect();
    let mut waits = cluster.backoff().build();
    loop {
        let attempt = async {
            let node = cluster.network_node().await?;
            if let Some(found) = node.network.as_ref().filter(|found| *found != network.as_str()) {
                return Err(ProjectionError::OtherNetwork {
                    found: found.clone(),
                    ours: network.to_string(),
                });
            }
            cluster
                .alter(&Migration::text(declares.iter().copied()))
                .await
                .map_err(busy)?;
            let mark = Mark::new(writer);
            let mut expected = Expected::default();
            expected.push(p::NETWORK, node.network.map(Value::Text));
            expected.push(p::APPLIED_BY, node.applied_by.map(Value::Text));
            let mut mutation = Mutation::new();
            mutation.set(NETWORK_NODE, p::NETWORK, network.as_str());
            mutation.set(NETWORK_NODE, p::SCHEMA_VERSION, i64::from(CLEARING));
            mutation.set(NETWORK_NODE, p::APPLIED_BY, mark.as_str());
            let attempt = write_leased(cluster, &expected, &mutation).await?;
            Ok(attempt.applied.then_some(mark))
        };
        let error = match attempt.await {
            Ok(Some(mark)) => return Ok(mark),
            // Somebody wrote meanwhile.
            Ok(None) => DgraphError::Aborted.into(),
            Err(error) => error,
        };
        match waits.next() {
            Some(wait) if error.policy() == ErrorPolicy::RetryLater => sleep(wait).await,
            _ => return Err(error),
        }
    }
}

async fn drop_predicate<C: Cluster>(cluster: &C, name: &str, mark: &Mark) -> Result<(), ProjectionError> {
    let mut waits = cluster.backoff().build();
    loop {
        let attempt = async {
            expect_ours(&cluster.network_node().await?, mark)?;
            cluster.drop_predicate(name).await.map_err(busy)
        };
        match attempt.await {
            Ok(()) => return Ok(()),
            Err(error @ ProjectionError::Clearing { .. }) => return Err(error),
            Err(error) => match waits.next() {
                Some(wait) if error.policy() == ErrorPolicy::RetryLater => sleep(wait).await,
                _ => return Err(error),
            },
        }
    }
}

/// Takes the last facts away: from then on the namespace is an empty one.
async fn end<C: Cluster>(cluster: &C, mark: &Mark) -> Result<(), ProjectionError> {
    let mut expected = Expected::default();
    expected.push(p::SCHEMA_VERSION, Some(i64::from(CLEARING).into()));
    expected.push(p::APPLIED_BY, Some(mark.as_str().into()));
    let mut mutation = Mutation::new();
    for name in LAST {
        mutation.clear(NETWORK_NODE, name);
    }
    let mut waits = cluster.backoff().build();
    loop {
        let error = match cluster.write_where(&expected, mutation.clone()).await {
            Ok(attempt) if attempt.applied => return Ok(()),
            // An attempt before, whose answer was lost, did it; or somebody else is at it.
            Ok(attempt) if attempt.stood.applied_by.is_none() => return Ok(()),
            Ok(attempt) => return expect_ours(&attempt.stood, mark),
            Err(error) => ProjectionError::from(error),
        };
        match waits.next() {
            Some(wait) if error.policy() == ErrorPolicy::RetryLater => sleep(wait).await,
            _ => return Err(error),
        }
    }
}

/// Refuses to go on with what somebody else does, or has done.
fn expect_ours(node: &NetworkNode, mark: &Mark) -> Result<(), ProjectionError> {
    match node.mark() {
        Some(by) if by == *mark => Ok(()),
        by => Err(ProjectionError::Clearing {
            by: by.as_ref().map_or("", Mark::writer).to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backon::ExponentialBuilder;

    use super::super::cluster::Attempt;
    use super::super::model::Model;
    use super::super::{Cursor, ProjectionStore};
    use super::*;
    use crate::dgraph::client::Uid;

    /// A model that is away after so many predicates were dropped.
    #[derive(Debug, Clone)]
    struct Interrupted(Model, Arc<AtomicUsize>);

    impl Cluster for Interrupted {
        async fn network_node(&self) -> Result<NetworkNode, DgraphError> {
            self.0.network_node().await
        }

        async fn write_where(&self, expected: &Expected, mutation: Mutation) -> Result<Attempt, DgraphError> {
            self.0.write_where(expected, mutation).await
        }

        async fn alter(&self, schema: &str) -> Result<(), DgraphError> {
            self.0.alter(schema).await
        }

        async fn drop_predicate(&self, predicate: &str) -> Result<(), DgraphError> {
            if self.1.fetch_add(1, Ordering::SeqCst) >= 5 {
                return Err(DgraphError::Unavailable {
                    endpoint: "http://away:9080".parse().unwrap(),
                    reason: "killed".to_owned(),
                });
            }
            self.0.drop_predicate(predicate).await
        }

        async fn allocate_uids(&self, count: u64) -> Result<RangeInclusive<Uid>, DgraphError> {
            self.0.allocate_uids(count).await
        }

        fn backoff(&self) -> ExponentialBuilder {
            self.0.backoff()
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn network() -> NetworkName {
        "spkcc".parse().unwrap()
    }

    async fn opened(model: &Model, writer: &str) -> Result<ProjectionStore<Model>, ProjectionError> {
        ProjectionStore::open(model.clone(), &network(), &writer.parse().unwrap()).await
    }

    async fn interrupt(model: &Model, writer: &str) {
        let cluster = Interrupted(model.clone(), Arc::default());
        let error = clear(&cluster, &network(), &writer.parse().unwrap()).await;
        assert_eq!(error.unwrap_err().policy(), ErrorPolicy::RetryLater);
    }

    #[test]
    fn what_is_not_a_projections_stays() {
        block_on(async {
            let model = Model::new(1);
            opened(&model, "w").await.unwrap();
            model.tamper(Uid(5), "theirs", vec!["x".into()]);
            model.tamper(Uid(6), p::OPERATIONS, vec!["[]".into()]);
            clear(&model, &network(), &"w".parse().unwrap()).await.unwrap();
            let left: Vec<_> = model.facts().into_keys().collect();
            assert_eq!(left, [(Uid(5), "theirs".to_owned())]);
            let store = opened(&model, "w").await.unwrap();
            assert_eq!(store.cursor().await, Ok(Cursor::NOTHING));

            let other = "dlux".parse().unwrap();
            let error = clear(&model, &other, &"w".parse().unwrap()).await.unwrap_err();
            assert!(matches!(error, ProjectionError::OtherNetwork { .. }), "{error}");
            assert_eq!(store.cursor().await, Ok(Cursor::NOTHING));
        });
    }

    #[test]
    fn an_interrupted_one_is_gone_on_with_by_its_writer_and_waited_for_by_others() {
        block_on(async {
            let model = Model::new(2);
            let before = opened(&model, "other").await.unwrap();
            interrupt(&model, "w").await;
            let waiting = ProjectionError::Clearing { by: "w".to_owned() };
            assert_eq!(waiting.policy(), ErrorPolicy::RetryLater);
            assert_eq!(opened(&model, "other").await.unwrap_err(), waiting);
            assert_eq!(before.cursor().await.unwrap_err(), waiting);
            let step = before
                .write(&Cursor::NOTHING, &Cursor::NOTHING, Mutation::new())
                .await;
            assert_eq!(step.unwrap_err(), waiting);

            let store = opened(&model, "w").await.unwrap();
            assert_eq!(store.cursor().await, Ok(Cursor::NOTHING));
            let gone = before.cursor().await.unwrap_err();
            assert_eq!(gone.policy(), ErrorPolicy::Reopen, "{gone}");
        });
    }

    #[test]
    fn another_writer_takes_over_where_it_is_told_to() {
        block_on(async {
            let model = Model::new(3);
            opened(&model, "w").await.unwrap();
            interrupt(&model, "gone").await;
            clear(&model, &network(), &"w".parse().unwrap()).await.unwrap();
            opened(&model, "gone").await.unwrap();
        });
    }
}
