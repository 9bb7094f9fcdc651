//! What a projection writes to and reads from.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claim::ClaimOutcome;
use super::cursor::Cursor;
use super::error::ProjectionError;
use super::facts::{BlockRow, CheckpointRow};
use super::mark::Mark;
use super::region::Region;
use super::replacement::{StoredPath, StoredState};
use super::schema::predicate as p;
use super::store::{ProjectionStore, StepOutcome, WriterName};
use super::verify::{BlockNode, StoodBlock, StoodCheckpoint};
use crate::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};

/// A cluster that holds one network; Dgraph, or a model of it.
pub trait Target: std::fmt::Debug + Send + Sync + 'static {
    /// How nodes are named.
    fn region(&self) -> &Region;

    /// Where it stands.
    fn cursor(&self) -> impl Future<Output = Result<Cursor, ProjectionError>> + Send;

    /// Where it stands, and the mark of the step that was written last.
    fn last_step(&self) -> impl Future<Output = Result<(Cursor, Option<Mark>), ProjectionError>> + Send;

    /// The name that this writer goes by.
    fn writer(&self) -> &WriterName;

    /// Writes facts and moves the cursor, if it stands at `before`.
    fn write(
        &self,
        before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> impl Future<Output = Result<StepOutcome, ProjectionError>> + Send;

    /// Says that the next blocks behind the cursor are this writer's, so that others do not do the same work.
    fn claim(
        &self,
        before: &Cursor,
        blocks: u64,
        longest: Duration,
    ) -> impl Future<Output = Result<ClaimOutcome, ProjectionError>> + Send;

    /// A page of the nodes of the state, by their uids, from the one after `after` on; empty at the end. Without
    /// their values: those of a page may be of any size.
    fn state_nodes(
        &self,
        after: Uid,
    ) -> impl Future<Output = Result<Vec<StoredPath>, ProjectionError>> + Send;

    /// Those of some nodes of the state that stand there.
    fn state_of(
        &self,
        nodes: &[Uid],
    ) -> impl Future<Output = Result<Vec<StoredState>, ProjectionError>> + Send;

    /// What stands on the nodes of the blocks of a range.
    fn blocks(
        &self,
        range: BlockRange,
    ) -> impl Future<Output = Result<Vec<StoodBlock>, ProjectionError>> + Send;

    /// The hashes that stand on the nodes of the blocks of a range, where they can be read.
    fn block_hashes(
        &self,
        range: BlockRange,
    ) -> impl Future<Output = Result<Vec<BlockReference>, ProjectionError>> + Send;

    /// What stands on the nodes of checkpoints at the blocks of a range.
    fn checkpoints(
        &self,
        range: BlockRange,
    ) -> impl Future<Output = Result<Vec<StoodCheckpoint>, ProjectionError>> + Send;

    /// A page of all nodes that say they are blocks, by their uids, from the one after `after` on; empty at the
    /// end.
    fn block_nodes(&self, after: Uid)
    -> impl Future<Output = Result<Vec<BlockNode>, ProjectionError>> + Send;

    /// A page of all nodes that say they are checkpoints, likewise.
    fn checkpoint_nodes(
        &self,
        after: Uid,
    ) -> impl Future<Output = Result<Vec<StoodCheckpoint>, ProjectionError>> + Send;
}

/// Nodes of the state on a page.
const PAGE: usize = 1_000;

#[derive(Deserialize)]
struct PathRow {
    uid: String,
    #[serde(rename = "state.path", default)]
    path: String,
}

#[derive(Deserialize)]
struct HashRow {
    uid: String,
    #[serde(rename = "blockHash")]
    hash: Option<String>,
}

#[derive(Deserialize)]
struct StateRow {
    uid: String,
    #[serde(rename = "state.path", default)]
    path: String,
    #[serde(rename = "state.value")]
    value: Option<String>,
}

impl StateRow {
    fn into_stored(self) -> Result<StoredState, ProjectionError> {
        Ok(StoredState {
            uid: self.uid.parse()?,
            path: self.path,
            value: self.value,
        })
    }
}

#[derive(Deserialize)]
struct StoredBlockRow {
    uid: String,
    #[serde(rename = "blockNum")]
    number: Option<i64>,
    #[serde(rename = "blockHash")]
    hash: Option<String>,
    #[serde(rename = "previousHash")]
    previous_hash: Option<String>,
    timestamp: Option<jiff::Timestamp>,
    operations: Option<String>,
    #[serde(rename = "op.path", default)]
    paths: BTreeSet<String>,
    #[serde(rename = "op.account", default)]
    accounts: BTreeSet<String>,
    #[serde(rename = "forkId")]
    fork: Option<String>,
    verification: Option<String>,
}

/// A number that a block can have; somebody may have written any other.
fn block_number(number: Option<i64>) -> Option<BlockNumber> {
    BlockNumber::try_from(u64::try_from(number?).ok()?).ok()
}

impl StoredBlockRow {
    /// What stands on the node of a block; none where nothing does: Dgraph answers for any uid.
    fn into_stood(self, node: BlockNumber) -> Option<StoodBlock> {
        let texts = [
            &self.hash,
            &self.previous_hash,
            &self.operations,
            &self.fork,
            &self.verification,
        ];
        let is_empty = texts.into_iter().all(Option::is_none)
            && self.number.is_none()
            && self.timestamp.is_none()
            && self.paths.is_empty()
            && self.accounts.is_empty();
        (!is_empty).then(|| StoodBlock {
            node,
            number: block_number(self.number),
            fork: self.fork,
            row: BlockRow {
                number: node,
                hash: self.hash.unwrap_or_default(),
                previous_hash: self.previous_hash.unwrap_or_default(),
                timestamp_ms: self.timestamp.map(jiff::Timestamp::as_millisecond),
                operations: self.operations.unwrap_or_default(),
                paths: self.paths,
                accounts: self.accounts,
                is_unverified: self.verification.is_some(),
            },
        })
    }
}

#[derive(Deserialize)]
struct BlockNodeRow {
    uid: String,
    #[serde(rename = "blockNum")]
    number: Option<i64>,
    #[serde(rename = "blockHash")]
    hash: Option<String>,
    #[serde(rename = "forkId")]
    fork: Option<String>,
}

#[derive(Deserialize)]
struct StoredCheckpointRow {
    uid: String,
    #[serde(rename = "checkpoint.blockNum")]
    number: Option<i64>,
    #[serde(rename = "checkpoint.blockHash")]
    block_hash: Option<String>,
    #[serde(rename = "checkpoint.stateHash")]
    state_hash: Option<String>,
    #[serde(rename = "checkpoint.kind")]
    kind: Option<String>,
    #[serde(rename = "checkpoint.stateDigest")]
    state_digest: Option<String>,
}

impl StoredCheckpointRow {
    fn into_stood(self) -> Result<StoodCheckpoint, ProjectionError> {
        Ok(StoodCheckpoint {
            uid: self.uid.parse()?,
            row: block_number(self.number).map(|number| CheckpointRow {
                number,
                block_hash: self.block_hash,
                state_hash: self.state_hash.unwrap_or_default(),
                kind: self.kind.unwrap_or_default(),
                state_digest: self.state_digest,
            }),
        })
    }
}

/// What is read of a checkpoint.
fn of_checkpoint() -> String {
    let names = [
        p::CHECKPOINT_BLOCK_NUM,
        p::CHECKPOINT_BLOCK_HASH,
        p::CHECKPOINT_STATE_HASH,
        p::CHECKPOINT_KIND,
        p::CHECKPOINT_STATE_DIGEST,
    ];
    format!("uid {}", names.join(" "))
}

#[derive(Deserialize)]
struct Rows<T> {
    #[serde(default = "Vec::new")]
    rows: Vec<T>,
}

/// What a question finds, whose one block is called `rows`.
async fn rows<T: DeserializeOwned>(
    store: &ProjectionStore<DgraphClient>,
    text: String,
) -> Result<Vec<T>, ProjectionError> {
    let answer = store.cluster().query(&Query::new(text), Reading::Strict).await?;
    Ok(answer.read::<Rows<T>>()?.rows)
}

/// The nodes of the blocks of a range, by uid.
fn block_nodes(region: &Region, range: BlockRange) -> BTreeMap<Uid, BlockNumber> {
    range
        .iter()
        .map(|number| (region.block(number), number))
        .collect()
}

/// A list of uids, as a question names them.
fn uid_list(uids: impl IntoIterator<Item = Uid>) -> String {
    let texts: Vec<String> = uids.into_iter().map(|uid| uid.to_string()).collect();
    texts.join(", ")
}

impl Target for ProjectionStore<DgraphClient> {
    fn region(&self) -> &Region {
        Self::region(self)
    }

    async fn cursor(&self) -> Result<Cursor, ProjectionError> {
        Self::cursor(self).await
    }

    async fn last_step(&self) -> Result<(Cursor, Option<Mark>), ProjectionError> {
        Self::last_step(self).await
    }

    fn writer(&self) -> &WriterName {
        Self::writer(self)
    }

    async fn write(
        &self,
        before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> Result<StepOutcome, ProjectionError> {
        Self::write(self, before, after, facts).await
    }

    async fn claim(
        &self,
        before: &Cursor,
        blocks: u64,
        longest: Duration,
    ) -> Result<ClaimOutcome, ProjectionError> {
        Self::claim(self, before, blocks, longest).await
    }

    async fn state_nodes(&self, after: Uid) -> Result<Vec<StoredPath>, ProjectionError> {
        let text = format!(
            "{{ rows(func: has({}), first: {PAGE}, after: {after}) {{ uid {} }} }}",
            p::STATE_PATH,
            p::STATE_PATH
        );
        let rows: Vec<PathRow> = rows(self, text).await?;
        let stored = rows.into_iter().map(|row| {
            Ok(StoredPath {
                uid: row.uid.parse()?,
                path: row.path,
            })
        });
        stored.collect()
    }

    async fn state_of(&self, nodes: &[Uid]) -> Result<Vec<StoredState>, ProjectionError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let text = format!(
            "{{ rows(func: uid({})) @filter(has({})) {{ uid {} {} }} }}",
            uid_list(nodes.iter().copied()),
            p::STATE_PATH,
            p::STATE_PATH,
            p::STATE_VALUE
        );
        let rows: Vec<StateRow> = rows(self, text).await?;
        rows.into_iter().map(StateRow::into_stored).collect()
    }

    async fn blocks(&self, range: BlockRange) -> Result<Vec<StoodBlock>, ProjectionError> {
        let numbers = block_nodes(Self::region(self), range);
        let text = format!(
            "{{ rows(func: uid({})) {{ uid {} {} {} {} {} {} {} {} {} }} }}",
            uid_list(numbers.keys().copied()),
            p::BLOCK_NUM,
            p::BLOCK_HASH,
            p::PREVIOUS_HASH,
            p::TIMESTAMP,
            p::OPERATIONS,
            p::OP_PATH,
            p::OP_ACCOUNT,
            p::FORK_ID,
            p::VERIFICATION
        );
        let mut stood = Vec::new();
        for row in rows::<StoredBlockRow>(self, text).await? {
            let number = numbers.get(&row.uid.parse()?);
            stood.extend(number.and_then(|number| row.into_stood(*number)));
        }
        Ok(stood)
    }

    async fn block_hashes(&self, range: BlockRange) -> Result<Vec<BlockReference>, ProjectionError> {
        let numbers = block_nodes(Self::region(self), range);
        let text = format!(
            "{{ rows(func: uid({})) {{ uid {} }} }}",
            uid_list(numbers.keys().copied()),
            p::BLOCK_HASH
        );
        let mut stood = Vec::new();
        for row in rows::<HashRow>(self, text).await? {
            let number = numbers.get(&row.uid.parse()?).copied();
            let hash = row.hash.and_then(|hash| hash.parse().ok());
            stood.extend(
                number
                    .zip(hash)
                    .map(|(number, hash)| BlockReference { number, hash }),
            );
        }
        Ok(stood)
    }

    async fn checkpoints(&self, range: BlockRange) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        let region = Self::region(self);
        let text = format!(
            "{{ rows(func: uid({})) @filter(has({})) {{ {} }} }}",
            uid_list(range.iter().map(|number| region.checkpoint(number))),
            p::CHECKPOINT_BLOCK_NUM,
            of_checkpoint()
        );
        let rows: Vec<StoredCheckpointRow> = rows(self, text).await?;
        rows.into_iter().map(StoredCheckpointRow::into_stood).collect()
    }

    async fn block_nodes(&self, after: Uid) -> Result<Vec<BlockNode>, ProjectionError> {
        let text = format!(
            "{{ rows(func: has({}), first: {PAGE}, after: {after}) {{ uid {} {} {} }} }}",
            p::BLOCK_NUM,
            p::BLOCK_NUM,
            p::BLOCK_HASH,
            p::FORK_ID
        );
        let rows: Vec<BlockNodeRow> = rows(self, text).await?;
        rows.into_iter()
            .map(|row| {
                Ok(BlockNode {
                    uid: row.uid.parse()?,
                    number: block_number(row.number),
                    hash: row.hash.and_then(|hash| hash.parse().ok()),
                    is_on_fork: row.fork.is_some(),
                })
            })
            .collect()
    }

    async fn checkpoint_nodes(&self, after: Uid) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        let text = format!(
            "{{ rows(func: has({}), first: {PAGE}, after: {after}) {{ {} }} }}",
            p::CHECKPOINT_BLOCK_NUM,
            of_checkpoint()
        );
        let rows: Vec<StoredCheckpointRow> = rows(self, text).await?;
        rows.into_iter().map(StoredCheckpointRow::into_stood).collect()
    }
}
