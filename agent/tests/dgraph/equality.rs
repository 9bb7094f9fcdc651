//! Whether a Dgraph holds what a log holds: everything of it, once, and nothing else.
//!
//! Both sides are read whole and compared here, by other code than the projection's own verifier: the state leaf by
//! leaf, whatever nodes Dgraph keeps the leaves in.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use honeygraph_agent::dgraph::client::{DgraphClient, Query, Reading};
use honeygraph_agent::dgraph::projection::facts::BlockRow;
use honeygraph_agent::store::View;
use honeygraph_chain::{BlockNumber, PathKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Nodes of one answer.
const PAGE: usize = 200;

/// What was found equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Blocks.
    pub(crate) blocks: usize,
    /// Leaves of the state.
    pub(crate) leaves: usize,
    /// Blocks of forks, which the log does not have on its chain.
    pub(crate) orphans: usize,
}

/// Compares everything; an error names the first difference.
pub(crate) async fn compare(client: &DgraphClient, view: &View) -> anyhow::Result<Compared> {
    let position = view.position()?.context("the log has no state")?;
    let have = view.have()?;
    let run = have
        .iter()
        .find(|run| run.contains(position.state_height))
        .context("the log has no block at its height")?;

    let cursor = cursor(client).await?;
    ensure!(
        cursor.block == position.state_height.get(),
        "the cursor stands at {}, the log at {}",
        cursor.block,
        position.state_height
    );
    let hash = position.state_block_hash.map(|hash| hash.to_string());
    ensure!(
        Some(&cursor.hash) == hash.as_ref(),
        "the cursor has hash {}",
        cursor.hash
    );
    ensure!(
        cursor.state == Some(cursor.block) && cursor.replacing.is_none(),
        "the state in Dgraph is that of {:?}, on its way to {:?}",
        cursor.state,
        cursor.replacing
    );

    let mut stored = blocks(client).await?;
    let forks: Vec<Fork> = all(client, "fork.tipHash", "fork.tipHash").await?;
    let left = stored
        .orphans
        .iter()
        .chain(forks.iter().map(|fork| &fork.tip_hash));
    for hash in left {
        let twice = stored.canonical.values().find(|row| row.hash == *hash);
        ensure!(
            twice.is_none(),
            "a block of the chain stands on a fork, too: {twice:?}"
        );
    }
    let mut compared = 0;
    for row in view.blocks(run) {
        let (number, block) = row?;
        let mut expected = BlockRow::of(number, &block)?;
        let found = stored
            .canonical
            .remove(&number.get())
            .with_context(|| format!("block {number} is missing"))?;
        if found.timestamp_ms.is_some() {
            // When the node that wrote it heard of it, which is not each node's own time.
            expected.timestamp_ms = found.timestamp_ms;
        }
        ensure!(
            found == expected,
            "block {number} differs:\n{found:?}\n{expected:?}"
        );
        compared += 1;
    }
    ensure!(
        stored.canonical.is_empty(),
        "blocks that the log does not have: {:?}",
        stored.canonical.keys()
    );

    let leaves = leaves(client, view).await?;
    let checkpoints: Vec<(u64, String)> = checkpoints(client).await?;
    let expected = view
        .checkpoints(run)
        .map(|record| record.map(|record| (record.block_num.get(), record.state_hash.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(
        checkpoints == expected,
        "checkpoints differ:\n{checkpoints:?}\n{expected:?}"
    );
    Ok(Compared {
        blocks: compared,
        leaves,
        orphans: stored.orphans.len(),
    })
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default = "Vec::new")]
    rows: Vec<T>,
}

async fn rows<T: DeserializeOwned>(client: &DgraphClient, text: String) -> anyhow::Result<Vec<T>> {
    let answer = client.query(&Query::new(text), Reading::Strict).await?;
    Ok(answer.read::<Page<T>>()?.rows)
}

/// A row that was given by its uid, so that the next page starts behind it.
#[derive(Deserialize)]
struct Given<T> {
    uid: String,
    #[serde(flatten)]
    row: T,
}

/// Every node with a predicate, page by page.
async fn all<T: DeserializeOwned>(
    client: &DgraphClient,
    predicate: &str,
    fields: &str,
) -> anyhow::Result<Vec<T>> {
    let mut found = Vec::new();
    let mut after = "0x0".to_owned();
    loop {
        let page: Vec<Given<T>> = rows(
            client,
            format!("{{ rows(func: has({predicate}), first: {PAGE}, after: {after}) {{ uid {fields} }} }}"),
        )
        .await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after.clone_from(&last.uid);
        found.extend(page.into_iter().map(|given| given.row));
    }
}

#[derive(Deserialize)]
struct Cursor {
    #[serde(rename = "appliedBlock")]
    block: u64,
    #[serde(rename = "appliedHash")]
    hash: String,
    #[serde(rename = "stateBlock")]
    state: Option<u64>,
    #[serde(rename = "stateTo")]
    replacing: Option<u64>,
}

async fn cursor(client: &DgraphClient) -> anyhow::Result<Cursor> {
    let fields = "appliedBlock appliedHash stateBlock stateTo";
    let mut found: Vec<Cursor> = all(client, "network", fields).await?;
    ensure!(found.len() == 1, "{} networks", found.len());
    found.pop().context("no network")
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "blockNum")]
    number: u64,
    #[serde(rename = "blockHash", default)]
    hash: String,
    #[serde(rename = "previousHash", default)]
    previous_hash: String,
    timestamp: Option<String>,
    #[serde(default)]
    operations: String,
    #[serde(rename = "op.path", default)]
    paths: Vec<String>,
    #[serde(rename = "op.account", default)]
    accounts: Vec<String>,
    verification: Option<String>,
    #[serde(rename = "forkId")]
    fork: Option<String>,
}

#[derive(Default)]
struct Blocks {
    canonical: BTreeMap<u64, BlockRow>,
    /// Hashes of blocks of forks.
    orphans: Vec<String>,
}

#[derive(Deserialize)]
struct Fork {
    #[serde(rename = "fork.tipHash")]
    tip_hash: String,
}

async fn blocks(client: &DgraphClient) -> anyhow::Result<Blocks> {
    let fields =
        "blockNum blockHash previousHash timestamp operations op.path op.account verification forkId";
    let mut found = Blocks::default();
    for block in all::<Block>(client, "blockNum", fields).await? {
        if block.fork.is_some() {
            found.orphans.push(block.hash);
            continue;
        }
        let timestamp: Option<jiff::Timestamp> = block.timestamp.map(|text| text.parse()).transpose()?;
        let row = BlockRow {
            number: BlockNumber::try_from(block.number)?,
            hash: block.hash,
            previous_hash: block.previous_hash,
            timestamp_ms: timestamp.map(jiff::Timestamp::as_millisecond),
            operations: block.operations,
            paths: block.paths.into_iter().collect(),
            accounts: block.accounts.into_iter().collect(),
            is_unverified: block.verification.is_some(),
        };
        let twice = found.canonical.insert(block.number, row);
        ensure!(twice.is_none(), "block {} stands there twice", block.number);
    }
    Ok(found)
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "state.path")]
    path: String,
    #[serde(rename = "state.value")]
    value: Option<String>,
}

/// Compares every leaf; gives how many there are.
async fn leaves(client: &DgraphClient, view: &View) -> anyhow::Result<usize> {
    let mut found = Vec::new();
    for state in all::<State>(client, "state.path", "state.path state.value").await? {
        let value = state
            .value
            .with_context(|| format!("{} has no value", state.path))?;
        if value.starts_with('{') {
            // The scalars right below the path.
            let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&value)?;
            found.extend(
                members
                    .into_iter()
                    .map(|(name, leaf)| (format!("{}/{name}", state.path), leaf.get().to_owned())),
            );
        } else {
            found.push((state.path, value));
        }
    }
    let mut expected = Vec::new();
    for row in view.leaves_from(&PathKey::root()) {
        let (key, leaf) = row?;
        let value = String::from_utf8(leaf.value().to_canonical())?;
        expected.push((key.to_path()?.to_string(), value));
    }
    found.sort();
    expected.sort();
    for (found, expected) in found.iter().zip(&expected) {
        ensure!(found == expected, "the state has {found:?}, not {expected:?}");
    }
    ensure!(
        found.len() == expected.len(),
        "the state has {} leaves, not {}",
        found.len(),
        expected.len()
    );
    Ok(found.len())
}

#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "checkpoint.blockNum")]
    block: u64,
    #[serde(rename = "checkpoint.stateHash")]
    state_hash: String,
}

async fn checkpoints(client: &DgraphClient) -> anyhow::Result<Vec<(u64, String)>> {
    let fields = "checkpoint.blockNum checkpoint.stateHash";
    let found: Vec<Checkpoint> = all(client, "checkpoint.blockNum", fields).await?;
    let mut found: Vec<_> = found
        .into_iter()
        .map(|checkpoint| (checkpoint.block, checkpoint.state_hash))
        .collect();
    found.sort();
    Ok(found)
}
