//! What a projection writes to and reads from.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use honeygraph_chain::{BlockNumber, BlockRange};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claim::ClaimOutcome;
use super::cursor::Cursor;
use super::error::ProjectionError;
use super::facts::BlockRow;
use super::region::Region;
use super::replacement::StoredState;
use super::schema::predicate as p;
use super::store::{ProjectionStore, StepOutcome};
use crate::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};

/// A cluster that holds one network; Dgraph, or a model of it.
pub trait Target: std::fmt::Debug + Send + Sync + 'static {
    /// How nodes are named.
    fn region(&self) -> &Region;

    /// Where it stands.
    fn cursor(&self) -> impl Future<Output = Result<Cursor, ProjectionError>> + Send;

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

    /// A page of the nodes of the state, by their uids, from the one after `after` on; empty at the end.
    fn state_nodes(
        &self,
        after: Uid,
    ) -> impl Future<Output = Result<Vec<StoredState>, ProjectionError>> + Send;

    /// Those of some nodes of the state that stand there.
    fn state_of(
        &self,
        nodes: &[Uid],
    ) -> impl Future<Output = Result<Vec<StoredState>, ProjectionError>> + Send;

    /// The blocks of a range that stand there.
    fn blocks(
        &self,
        range: BlockRange,
    ) -> impl Future<Output = Result<Vec<BlockRow>, ProjectionError>> + Send;
}

/// Nodes of the state on a page.
const PAGE: usize = 1_000;

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
    #[serde(rename = "blockNum")]
    number: u64,
    #[serde(rename = "blockHash", default)]
    hash: String,
    #[serde(rename = "previousHash", default)]
    previous_hash: String,
    timestamp: Option<jiff::Timestamp>,
    #[serde(default)]
    operations: String,
    #[serde(rename = "op.path", default)]
    paths: BTreeSet<String>,
    #[serde(rename = "op.account", default)]
    accounts: BTreeSet<String>,
    verification: Option<String>,
}

impl StoredBlockRow {
    /// None where somebody put a number there that no block has: the block counts as missing.
    fn into_row(self) -> Option<BlockRow> {
        Some(BlockRow {
            number: BlockNumber::try_from(self.number).ok()?,
            hash: self.hash,
            previous_hash: self.previous_hash,
            timestamp_ms: self.timestamp.map(jiff::Timestamp::as_millisecond),
            operations: self.operations,
            paths: self.paths,
            accounts: self.accounts,
            is_unverified: self.verification.is_some(),
        })
    }
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

    async fn state_nodes(&self, after: Uid) -> Result<Vec<StoredState>, ProjectionError> {
        let text = format!(
            "{{ rows(func: has({}), first: {PAGE}, after: {after}) {{ uid {} {} }} }}",
            p::STATE_PATH,
            p::STATE_PATH,
            p::STATE_VALUE
        );
        let rows: Vec<StateRow> = rows(self, text).await?;
        rows.into_iter().map(StateRow::into_stored).collect()
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

    async fn blocks(&self, range: BlockRange) -> Result<Vec<BlockRow>, ProjectionError> {
        let region = Self::region(self);
        let text = format!(
            "{{ rows(func: uid({})) @filter(has({})) {{ {} {} {} {} {} {} {} {} }} }}",
            uid_list(range.iter().map(|number| region.block(number))),
            p::BLOCK_NUM,
            p::BLOCK_NUM,
            p::BLOCK_HASH,
            p::PREVIOUS_HASH,
            p::TIMESTAMP,
            p::OPERATIONS,
            p::OP_PATH,
            p::OP_ACCOUNT,
            p::VERIFICATION
        );
        let rows: Vec<StoredBlockRow> = rows(self, text).await?;
        Ok(rows.into_iter().filter_map(StoredBlockRow::into_row).collect())
    }
}
