//! What is written about blocks, the state, checkpoints and forks. Pure: the same input gives the same facts,
//! whoever writes them.

use std::collections::BTreeSet;

use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, Path};

use super::region::Region;
use super::touched::StateNode;
use crate::dgraph::client::{Mutation, Uid, Value};
use crate::store::{CheckpointRecord, StoreError, StoredBlock, Verification};

/// Longest path that Dgraph's exact index takes, with room to spare; what stands deeper is not found there.
const INDEXED_PATH_BYTES: usize = 32_768;

/// Predicates of a block, with what else may stand on its node.
const BLOCK_PREDICATES: [&str; 8] = [
    "blockNum",
    "blockHash",
    "previousHash",
    "timestamp",
    "operations",
    "op.path",
    "op.account",
    "verification",
];

/// What stands in Dgraph about a block of the canonical chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: String,
    /// What it links to.
    pub previous_hash: String,
    /// When it was made, milliseconds since the Unix epoch; none where nobody said.
    pub timestamp_ms: Option<i64>,
    /// Canonical JSON of its operations, with their indexes.
    pub operations: String,
    /// The paths that it writes, with `/` between their names.
    pub paths: BTreeSet<String>,
    /// The accounts that they name.
    pub accounts: BTreeSet<String>,
    /// Whether it was taken on a quorum alone.
    pub is_unverified: bool,
}

impl BlockRow {
    /// What is to stand there about a block.
    pub fn of(number: BlockNumber, stored: &StoredBlock) -> Result<Self, StoreError> {
        let decoded = stored.decode(number)?;
        let block = decoded.block();
        let operations = block.operations.as_slice();
        let mut text = vec![b'['];
        let (mut paths, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        for (index, operation) in operations.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            operation.write_canonical_indexed(index, &mut text);
            if let Some(path) = operation.path() {
                paths.insert(path.to_string());
                accounts.extend(account_of(path));
            }
        }
        text.push(b']');
        let timestamp_ms = i64::try_from(stored.timestamp_ms).ok();
        Ok(Self {
            number,
            hash: stored.hash.to_string(),
            previous_hash: block.previous_hash.to_string(),
            timestamp_ms: timestamp_ms.filter(|ms| *ms > 0),
            operations: String::from_utf8(text).map_err(|error| StoreError::damaged_block(number, error))?,
            paths,
            accounts,
            is_unverified: stored.verification == Verification::Unverified,
        })
    }

    /// Writes it.
    pub fn put(self, region: &Region, facts: &mut Mutation) -> Result<(), StoreError> {
        let node = region.block(self.number);
        facts.set(node, "blockNum", integer(self.number)?);
        facts.set(node, "blockHash", self.hash);
        put_content(node, self.previous_hash, self.timestamp_ms, self.operations, facts);
        for path in self.paths {
            facts.set(node, "op.path", path);
        }
        for account in self.accounts {
            facts.set(node, "op.account", account);
        }
        if self.is_unverified {
            facts.set(node, "verification", "unverified");
        }
        Ok(())
    }

    /// Writes it as a block that is not on the canonical chain any more, on the fork that ends with `fork`. It
    /// has no paths and accounts there: it would be taken for the newest.
    pub fn put_orphan(
        self,
        node: Uid,
        fork: &str,
        facts: &mut Mutation,
    ) -> Result<(), StoreError> {
        facts.set(node, "forkBlockNum", integer(self.number)?);
        facts.set(node, "forkBlockHash", self.hash);
        facts.set(node, "forkId", fork);
        put_content(node, self.previous_hash, self.timestamp_ms, self.operations, facts);
        Ok(())
    }
}

fn put_content(
    node: Uid,
    previous_hash: String,
    timestamp_ms: Option<i64>,
    operations: String,
    facts: &mut Mutation,
) {
    facts.set(node, "previousHash", previous_hash);
    if let Some(time) = timestamp_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        facts.set(node, "timestamp", Value::Time(time));
    }
    facts.set(node, "operations", operations);
}

/// Takes back everything that stands on the node of a block number, lists too.
pub fn clear_block(region: &Region, number: BlockNumber, facts: &mut Mutation) {
    for predicate in BLOCK_PREDICATES {
        facts.clear(region.block(number), predicate);
    }
    clear_checkpoint(region, number, facts);
}

/// A node of the state as it is after a block; none where nothing stands there.
pub fn put_state(
    region: &Region,
    node: &StateNode,
    value: Option<String>,
    block: BlockNumber,
    facts: &mut Mutation,
) -> Result<(), StoreError> {
    let path = node
        .key()
        .to_path()
        .map_err(|error| StoreError::damaged("key of a leaf", error))?
        .to_string();
    let uid = region.state(node.key());
    match value {
        Some(value) if path.len() <= INDEXED_PATH_BYTES => {
            facts.set(uid, "state.path", path);
            facts.set(uid, "state.value", value);
            facts.set(uid, "state.block", integer(block)?);
        }
        _ => clear_state(uid, facts),
    }
    Ok(())
}

/// Takes a node of the state back.
pub fn clear_state(node: Uid, facts: &mut Mutation) {
    for predicate in ["state.path", "state.value", "state.block"] {
        facts.clear(node, predicate);
    }
}

/// A checkpoint.
pub fn put_checkpoint(
    region: &Region,
    record: &CheckpointRecord,
    facts: &mut Mutation,
) -> Result<(), StoreError> {
    let node = region.checkpoint(record.block_num);
    facts.set(node, "checkpoint.blockNum", integer(record.block_num)?);
    facts.set(node, "checkpoint.stateHash", record.state_hash.to_string());
    if let Some(hash) = record.block_hash {
        facts.set(node, "checkpoint.blockHash", hash.to_string());
    }
    let kind = match record.kind {
        CheckpointKind::Delta => "delta",
        CheckpointKind::State => "state",
    };
    facts.set(node, "checkpoint.kind", kind);
    Ok(())
}

fn clear_checkpoint(region: &Region, number: BlockNumber, facts: &mut Mutation) {
    for predicate in [
        "checkpoint.blockNum",
        "checkpoint.stateHash",
        "checkpoint.blockHash",
        "checkpoint.kind",
    ] {
        facts.clear(region.checkpoint(number), predicate);
    }
}

/// The account that a path names: its second segment, where that can be the name of a Hive account (3 to 16
/// letters, digits, `-` and `.`, a letter first).
fn account_of(path: &Path) -> Option<String> {
    let segment = path.0.get(1)?;
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let fits = (3..=16).contains(&segment.len())
        && segment.bytes().next().is_some_and(is_letter)
        && segment
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    fits.then(|| segment.clone())
}

fn integer(number: BlockNumber) -> Result<i64, StoreError> {
    i64::try_from(number.get()).map_err(|error| StoreError::damaged_block(number, error))
}
