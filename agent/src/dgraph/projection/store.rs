//! What stands in Dgraph, and how it is moved on.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::BackoffBuilder;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::claim::{Claim, ClaimOutcome, Watch};
use super::clear::clear;
use super::cluster::{Attempt, Cluster, Expected, NetworkNode};
use super::cursor::Cursor;
use super::error::ProjectionError;
use super::mark::Mark;
use super::region::{NETWORK_NODE, Region, USED, UidKey};
use super::schema::{self, Migration, predicate as p};
use crate::dgraph::client::{DgraphClient, DgraphError, Mutation, Value};
use crate::wire::NetworkName;

/// Names a writer to the others: 1 to 128 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WriterName(String);

/// Text that cannot name a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a writer's name has 1 to 128 bytes and no control characters; this one has {length} bytes")]
pub struct WriterNameError {
    /// Bytes of the refused text.
    pub length: usize,
}

impl WriterName {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WriterName {
    type Err = WriterNameError;

    fn from_str(text: &str) -> Result<Self, WriterNameError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && !text.contains(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WriterNameError { length: text.len() })
        }
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It stands, written by this writer.
    Won,
    /// The cursor stands elsewhere: another writer wrote this step or a different one, or has already gone on
    /// from this one. What stands there is to be compared with the log.
    Lost(Cursor),
}

/// The projection of one network in one Dgraph. Cheap to clone; clones are one writer.
#[derive(Debug, Clone)]
pub struct ProjectionStore<C = DgraphClient>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C> {
    cluster: C,
    network: NetworkName,
    writer: WriterName,
    region: Region,
    /// The schema that it is opened with.
    migrations: &'static [Migration],
    watch: Mutex<Watch>,
}

impl<C: Cluster> ProjectionStore<C> {
    /// Opens what stands there; makes it where nothing does. Other writers may do the same meanwhile.
    pub async fn open(
        cluster: C,
        network: &NetworkName,
        writer: &WriterName,
    ) -> Result<Self, ProjectionError> {
        Self::open_with(cluster, network, writer, schema::MIGRATIONS).await
    }

    /// Opens what stands there and writes nothing; an error where it would have to be made or migrated.
    pub async fn open_existing(
        cluster: C,
        network: &NetworkName,
        writer: &WriterName,
    ) -> Result<Self, ProjectionError> {
        let migrations = schema::MIGRATIONS;
        let known = schema::newest(migrations);
        let node = cluster.network_node().await?;
        match Standing::of(&node, network, known)? {
            Standing::At { version, key } if version == known => {
                Ok(Self::opened(cluster, network, writer, key, migrations))
            }
            Standing::At { version, .. } => Err(ProjectionError::OlderSchema {
                found: version,
                known,
            }),
            Standing::Empty => Err(ProjectionError::Nothing),
            Standing::Clearing { by } => Err(ProjectionError::Clearing { by }),
        }
    }

    /// [`ProjectionStore::open`] with versions of the schema.
    pub(super) async fn open_with(
        cluster: C,
        network: &NetworkName,
        writer: &WriterName,
        migrations: &'static [Migration],
    ) -> Result<Self, ProjectionError> {
        let mut waits = cluster.backoff().build();
        let key = loop {
            let error = match prepare(&cluster, network, writer, migrations).await {
                Ok(key) => break key,
                Err(error) => error,
            };
            let met_another = matches!(
                &error,
                ProjectionError::SchemaBusy(_) | ProjectionError::Dgraph(DgraphError::Aborted)
            );
            match waits.next() {
                Some(wait) if met_another => sleep(wait).await,
                _ => return Err(error),
            }
        };
        Ok(Self::opened(cluster, network, writer, key, migrations))
    }

    fn opened(
        cluster: C,
        network: &NetworkName,
        writer: &WriterName,
        key: UidKey,
        migrations: &'static [Migration],
    ) -> Self {
        Self(Arc::new(Inner {
            cluster,
            network: network.clone(),
            writer: writer.clone(),
            region: Region::new(key),
            migrations,
            watch: Mutex::default(),
        }))
    }

    /// Names nodes.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// The cluster that is written to.
    pub fn cluster(&self) -> &C {
        &self.0.cluster
    }

    /// Where the cursor stands.
    pub async fn cursor(&self) -> Result<Cursor, ProjectionError> {
        let node = self.0.cluster.network_node().await?;
        self.read(&node)
    }

    /// Where the cursor stands, and the mark of the step that was written last.
    pub async fn last_step(&self) -> Result<(Cursor, Option<Mark>), ProjectionError> {
        let node = self.0.cluster.network_node().await?;
        Ok((self.read(&node)?, node.mark()))
    }

    /// The name that this writer goes by.
    pub fn writer(&self) -> &WriterName {
        &self.0.writer
    }

    /// Writes a step: facts, and the cursor that tells of them, in one transaction, once.
    ///
    /// An error leaves open whether it stands, or will: ask the cursor, and go on from there. Whatever it
    /// says, the facts stand or do not stand as it tells.
    pub async fn write(
        &self,
        before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> Result<StepOutcome, ProjectionError> {
        let mark = Mark::new(&self.0.writer);
        let mut expected = self.expected();
        before.expect(&mut expected);
        let mut mutation = facts;
        after.replace(before, &mut mutation);
        // Every step writes this, and never the same: of two that meet, Dgraph aborts one.
        mutation.set(NETWORK_NODE, p::APPLIED_BY, mark.as_str());

        let mut waits = self.0.cluster.backoff().build();
        loop {
            let error = match write_leased(&self.0.cluster, &expected, &mutation).await {
                Ok(attempt) if attempt.applied => return Ok(StepOutcome::Won),
                Ok(attempt) => {
                    return self.settle(&attempt.stood, before, &mark)?.ok_or_else(|| {
                        ProjectionError::Damaged("it is as expected, and was not found so".to_owned())
                    });
                }
                Err(error) => error,
            };
            let ProjectionError::Dgraph(cause) = &error else {
                return Err(error);
            };
            if cause.outcome_unknown() {
                let node = self.0.cluster.network_node().await?;
                if let Some(outcome) = self.settle(&node, before, &mark)? {
                    return Ok(outcome);
                }
                // It may still be on its way: sent again, at most one of the two is written.
            } else if !cause.is_conflict() {
                return Err(self.explain(error).await);
            }
            match waits.next() {
                Some(wait) => sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    /// Claims the next blocks behind a cursor, so that other writers do not do the same work. A claim ends
    /// when its blocks are written, or after `longest`.
    pub async fn claim(
        &self,
        before: &Cursor,
        blocks: u64,
        longest: Duration,
    ) -> Result<ClaimOutcome, ProjectionError> {
        let writer = self.0.writer.as_str();
        let mut node = self.0.cluster.network_node().await?;
        let mut waits = self.0.cluster.backoff().build();
        loop {
            let cursor = self.read(&node)?;
            if cursor != *before {
                return Ok(ClaimOutcome::Moved(cursor));
            }
            let stands = Claim::read(&node);
            let watched = self.watch().see(&stands, Instant::now());
            let now = Timestamp::now();
            if let Some((by, wait)) = stands.holder(writer, before, now, watched, longest) {
                return Ok(ClaimOutcome::Held { by, wait });
            }
            let mut expected = self.expected();
            before.expect(&mut expected);
            stands.expect(&mut expected);
            let mut mutation = Mutation::new();
            let until = now.saturating_add(longest).unwrap_or(Timestamp::MAX);
            let ours = Claim::new(writer, before, blocks, until);
            ours.write(&mut mutation);
            match write_leased(&self.0.cluster, &expected, &mutation).await {
                Ok(attempt) if attempt.applied => {
                    self.watch().see(&ours, Instant::now());
                    return Ok(ClaimOutcome::Granted);
                }
                Ok(attempt) => node = attempt.stood,
                Err(ProjectionError::Dgraph(DgraphError::Aborted)) => {
                    node = self.0.cluster.network_node().await?;
                }
                Err(error) => return Err(self.explain(error).await),
            }
            match waits.next() {
                Some(wait) => sleep(wait).await,
                None => return Err(DgraphError::Aborted.into()),
            }
        }
    }

    fn version(&self) -> u32 {
        schema::newest(self.0.migrations)
    }

    /// What every write asks for: that what was opened still stands there, in the schema known here.
    fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        expected.push(p::NETWORK, Some(self.0.network.as_str().into()));
        expected.push(p::SCHEMA_VERSION, Some(i64::from(self.version()).into()));
        expected.push(p::UID_KEY, Some(self.0.region.key().to_text().into()));
        expected
    }

    /// The cursor of a network node, which has to be the one that was opened.
    fn read(&self, node: &NetworkNode) -> Result<Cursor, ProjectionError> {
        match Standing::of(node, &self.0.network, self.version())? {
            Standing::Empty => Err(ProjectionError::Gone("it is empty".to_owned())),
            Standing::Clearing { by } => Err(ProjectionError::Clearing { by }),
            Standing::At { version, .. } if version != self.version() => Err(ProjectionError::Gone(format!(
                "its schema version is {version}, not {}",
                self.version()
            ))),
            Standing::At { key, .. } if key != self.0.region.key() => {
                Err(ProjectionError::Gone("it was cleared and made again".to_owned()))
            }
            Standing::At { .. } => Cursor::read(node),
        }
    }

    /// What became of a step, by the network node after it was tried; none where it stands before the step.
    fn settle(
        &self,
        node: &NetworkNode,
        before: &Cursor,
        mark: &Mark,
    ) -> Result<Option<StepOutcome>, ProjectionError> {
        let cursor = self.read(node)?;
        if node.applied_by.as_deref() == Some(mark.as_str()) {
            return Ok(Some(StepOutcome::Won));
        }
        Ok((cursor != *before).then_some(StepOutcome::Lost(cursor)))
    }

    /// Why a write was refused: maybe because what was opened is gone, and its schema with it.
    async fn explain(&self, error: ProjectionError) -> ProjectionError {
        if !matches!(error, ProjectionError::Dgraph(DgraphError::Refused { .. })) {
            return error;
        }
        let Ok(node) = self.0.cluster.network_node().await else {
            return error;
        };
        self.read(&node).err().unwrap_or(error)
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose a Dgraph is.
enum Standing {
    Empty,
    /// Somebody takes everything away.
    Clearing {
        by: String,
    },
    At {
        version: u32,
        key: UidKey,
    },
}

impl Standing {
    /// By a network node, where the schema is known up to a version.
    fn of(node: &NetworkNode, ours: &NetworkName, known: u32) -> Result<Self, ProjectionError> {
        let (version, key) = match (&node.network, node.schema_version, &node.uid_key) {
            (None, None, None) if node.applied_by.is_none() => return Ok(Self::Empty),
            (Some(network), _, _) if network != ours.as_str() => {
                return Err(ProjectionError::OtherNetwork {
                    found: network.clone(),
                    ours: ours.to_string(),
                });
            }
            (Some(_), Some(schema::CLEARING), _) => {
                let mark = node.mark();
                let by = mark.as_ref().map_or("", Mark::writer).to_owned();
                return Ok(Self::Clearing { by });
            }
            (Some(_), Some(version), Some(key)) => (version, key),
            _ => {
                return Err(ProjectionError::Damaged(
                    "of network, schemaVersion and uidKey some are missing".to_owned(),
                ));
            }
        };
        if version > known {
            return Err(ProjectionError::NewerSchema {
                found: version,
                known,
            });
        }
        let key = UidKey::from_text(key)
            .ok_or_else(|| ProjectionError::Damaged("its uidKey is not 64 hexadecimal digits".to_owned()))?;
        Ok(Self::At { version, key })
    }
}

/// Brings a Dgraph to the newest schema, step by step; of several writers one does each.
async fn prepare<C: Cluster>(
    cluster: &C,
    network: &NetworkName,
    writer: &WriterName,
    migrations: &[Migration],
) -> Result<UidKey, ProjectionError> {
    loop {
        let node = cluster.network_node().await?;
        let (version, known) = match Standing::of(&node, network, schema::newest(migrations))? {
            Standing::Empty => (0, None),
            // It was interrupted: who began it ends it.
            Standing::Clearing { by } if by == writer.as_str() => {
                clear(cluster, network, writer).await?;
                continue;
            }
            Standing::Clearing { by } => return Err(ProjectionError::Clearing { by }),
            Standing::At { version, key } => (version, Some(key)),
        };
        let Some(migration) = schema::pending(migrations, version).first() else {
            return known.ok_or_else(|| ProjectionError::Damaged("it has no uidKey".to_owned()));
        };
        cluster.alter(&migration.schema()).await.map_err(busy)?;

        let mut expected = Expected::default();
        let mut mutation = Mutation::new();
        match known {
            Some(key) => {
                expected.push(p::NETWORK, Some(network.as_str().into()));
                expected.push(p::UID_KEY, Some(key.to_text().into()));
                expected.push(p::SCHEMA_VERSION, Some(i64::from(version).into()));
            }
            None => {
                expected.push(p::NETWORK, None);
                expected.push(p::UID_KEY, None);
                expected.push(p::SCHEMA_VERSION, None);
                mutation.set(NETWORK_NODE, p::NETWORK, network.as_str());
                mutation.set(NETWORK_NODE, p::UID_KEY, UidKey::random().to_text());
            }
        }
        mutation.set(
            NETWORK_NODE,
            p::SCHEMA_VERSION,
            Value::Integer(migration.to.into()),
        );
        // No step of an older writer is committed beside it.
        mutation.set(NETWORK_NODE, p::APPLIED_BY, Mark::new(writer).as_str());
        match write_leased(cluster, &expected, &mutation).await {
            Ok(attempt) if attempt.applied => {
                tracing::info!(version = migration.to, "dgraph has a new schema version");
            }
            // Another writer did it: what stands there now is read again.
            Ok(_) | Err(ProjectionError::Dgraph(DgraphError::Aborted)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Texts of Dgraph's (25.4) for a schema that cannot be changed just now.
const BUSY: [&str; 3] = [
    "schema is already being modified",
    "Pending transactions found",
    "indexing in progress",
];

pub(super) fn busy(error: DgraphError) -> ProjectionError {
    match error {
        DgraphError::Refused { message, .. } if BUSY.iter().any(|text| message.contains(text)) => {
            ProjectionError::SchemaBusy(message)
        }
        other => other.into(),
    }
}

/// Text of Dgraph's (25.4) for a uid that was never leased.
const NOT_LEASED: &str = "cannot be greater than lease";

/// Uids that are leased at once. Several writers that find out together take this much too much each, and a
/// lease cannot be given back.
const LEASE: u64 = 1 << 58;

/// Writes; leases the uids first where Dgraph does not know them yet: a new cluster, or one whose zero lost
/// its memory.
pub(super) async fn write_leased<C: Cluster>(
    cluster: &C,
    expected: &Expected,
    mutation: &Mutation,
) -> Result<Attempt, ProjectionError> {
    match cluster.write_where(expected, mutation.clone()).await {
        Err(DgraphError::Refused { message, .. }) if message.contains(NOT_LEASED) => {
            tracing::info!(reason = message, "leasing uids");
            lease(cluster).await?;
            Ok(cluster.write_where(expected, mutation.clone()).await?)
        }
        other => Ok(other?),
    }
}

async fn lease<C: Cluster>(cluster: &C) -> Result<(), ProjectionError> {
    // Each lease lies above the one before.
    let at_most = USED.end().0 / LEASE + 1;
    for _ in 0..at_most {
        let leased = cluster.allocate_uids(LEASE).await.map_err(|error| match error {
            DgraphError::Refused { .. } | DgraphError::Unauthenticated { .. } => {
                ProjectionError::LeaseRefused {
                    up_to: USED.end().to_string(),
                    reason: error.to_string(),
                }
            }
            other => other.into(),
        })?;
        if leased.end() >= USED.end() {
            break;
        }
    }
    Ok(())
}
