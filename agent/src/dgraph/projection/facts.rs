//! What is written about blocks, the state, checkpoints and forks. Pure: the same input gives the same facts,
//! whoever writes them.

use std::collections::BTreeSet;

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, ContentId, Operation, Path};

use super::region::Region;
use super::runner::Writers;
use super::schema::predicate as p;
use super::touched::StateNode;
use crate::dgraph::client::{Mutation, Uid, Value};
use crate::store::{CheckpointRecord, StoreError, StoredBlock, Verification};

/// Longest path that Dgraph's exact index takes, with room to spare; what stands deeper is not found there.
const INDEXED_PATH_BYTES: usize = 32_768;

/// Predicates of a block, with what else may stand on its node.
const BLOCK_PREDICATES: [&str; 8] = [
    p::BLOCK_NUM,
    p::BLOCK_HASH,
    p::PREVIOUS_HASH,
    p::TIMESTAMP,
    p::OPERATIONS,
    p::OP_PATH,
    p::OP_ACCOUNT,
    p::VERIFICATION,
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
        let mut text = Vec::new();
        block.operations.write_canonical_indexed(&mut text);
        let (mut paths, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        for path in block.operations.as_slice().iter().filter_map(Operation::path) {
            paths.insert(path.to_string());
            accounts.extend(account_of(path));
        }
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

    /// What is not right in another row of the same block. When it heard of a block, and whether it could prove it
    /// itself, each node knows for itself: of several that write there none corrects the others.
    pub(super) fn differing(&self, stood: &Self, writers: Writers) -> Vec<&'static str> {
        let is_heard_of = match writers {
            Writers::One => self.timestamp_ms == stood.timestamp_ms,
            Writers::Several => self.timestamp_ms.is_none() || stood.timestamp_ms.is_some(),
        };
        let is_proven = match writers {
            Writers::One => self.is_unverified == stood.is_unverified,
            Writers::Several => self.is_unverified || !stood.is_unverified,
        };
        let right = [
            (p::BLOCK_HASH, self.hash == stood.hash),
            (p::PREVIOUS_HASH, self.previous_hash == stood.previous_hash),
            (p::TIMESTAMP, is_heard_of),
            (p::OPERATIONS, self.operations == stood.operations),
            (p::OP_PATH, self.paths == stood.paths),
            (p::OP_ACCOUNT, self.accounts == stood.accounts),
            (p::VERIFICATION, is_proven),
        ];
        right
            .into_iter()
            .filter_map(|(name, is_right)| (!is_right).then_some(name))
            .collect()
    }

    /// Writes it.
    pub fn put(self, region: &Region, facts: &mut Mutation) -> Result<(), StoreError> {
        let node = region.block(self.number);
        facts.set(node, p::BLOCK_NUM, integer(self.number)?);
        facts.set(node, p::BLOCK_HASH, self.hash);
        put_content(
            node,
            self.previous_hash,
            self.timestamp_ms,
            self.operations,
            facts,
        );
        for path in self.paths {
            facts.set(node, p::OP_PATH, path);
        }
        for account in self.accounts {
            facts.set(node, p::OP_ACCOUNT, account);
        }
        if self.is_unverified {
            facts.set(node, p::VERIFICATION, "unverified");
        }
        Ok(())
    }

    /// Writes it in the place of another row. Within one mutation nothing may be both taken away and set: Dgraph
    /// does the two in any order. So only what the new row does not have is taken away.
    pub fn put_over(self, old: &Self, region: &Region, facts: &mut Mutation) -> Result<(), StoreError> {
        let node = region.block(self.number);
        for path in old.paths.difference(&self.paths) {
            facts.delete(node, p::OP_PATH, path.as_str());
        }
        for account in old.accounts.difference(&self.accounts) {
            facts.delete(node, p::OP_ACCOUNT, account.as_str());
        }
        if self.timestamp_ms.is_none() {
            facts.clear(node, p::TIMESTAMP);
        }
        if !self.is_unverified {
            facts.clear(node, p::VERIFICATION);
        }
        self.put(region, facts)
    }

    /// Writes it as a block that is not on the canonical chain any more, on the fork that ends with `fork`. It
    /// has no paths and accounts there: it would be taken for the newest.
    pub fn put_orphan(self, node: Uid, fork: &str, facts: &mut Mutation) -> Result<(), StoreError> {
        facts.set(node, p::BLOCK_NUM, integer(self.number)?);
        facts.set(node, p::BLOCK_HASH, self.hash);
        facts.set(node, p::FORK_ID, fork);
        put_content(
            node,
            self.previous_hash,
            self.timestamp_ms,
            self.operations,
            facts,
        );
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
    facts.set(node, p::PREVIOUS_HASH, previous_hash);
    if let Some(time) = timestamp_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        facts.set(node, p::TIMESTAMP, Value::Time(time));
    }
    facts.set(node, p::OPERATIONS, operations);
}

/// Takes back a block of a fork, which is on the canonical chain again, and the fork that ended with it.
pub fn clear_orphan(region: &Region, hash: ContentId, facts: &mut Mutation) {
    clear_node(region.orphan(hash), facts);
    for predicate in [
        p::FORK_TIP_BLOCK,
        p::FORK_TIP_HASH,
        p::FORK_ANCESTOR_BLOCK,
        p::FORK_ANCESTOR_HASH,
    ] {
        facts.clear(region.fork(hash), predicate);
    }
}

/// Takes back everything that stands on the node of a block number, lists too. Not together with a block that
/// is put there: see [`BlockRow::put_over`].
pub fn clear_block(region: &Region, number: BlockNumber, facts: &mut Mutation) {
    for predicate in BLOCK_PREDICATES {
        facts.clear(region.block(number), predicate);
    }
    clear_checkpoint(region.checkpoint(number), facts);
}

/// Takes back everything that makes a node a block.
pub(super) fn clear_node(node: Uid, facts: &mut Mutation) {
    for predicate in BLOCK_PREDICATES.into_iter().chain([p::FORK_ID]) {
        facts.clear(node, predicate);
    }
}

/// Whether a path is kept: Dgraph's index takes no longer one.
pub(super) const fn is_indexed(path: &str) -> bool {
    path.len() <= INDEXED_PATH_BYTES
}

/// A node of the state as it is after a block; none where nothing stands there.
pub(super) fn put_state(
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
        Some(value) if is_indexed(&path) => {
            facts.set(uid, p::STATE_PATH, path);
            facts.set(uid, p::STATE_VALUE, value);
            facts.set(uid, p::STATE_BLOCK_NUM, integer(block)?);
        }
        _ => clear_state(uid, facts),
    }
    Ok(())
}

/// Takes a node of the state back.
pub fn clear_state(node: Uid, facts: &mut Mutation) {
    for predicate in [p::STATE_PATH, p::STATE_VALUE, p::STATE_BLOCK_NUM] {
        facts.clear(node, predicate);
    }
}

/// What stands in Dgraph about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The block it covers last.
    pub number: BlockNumber,
    /// Hash of that block, where it is known.
    pub block_hash: Option<String>,
    /// Content id of its document.
    pub state_hash: String,
    /// `delta` or `state`.
    pub kind: String,
    /// Digest of the state, where it is known.
    pub state_digest: Option<String>,
}

impl CheckpointRow {
    /// What is to stand there.
    pub fn of(record: &CheckpointRecord) -> Self {
        Self {
            number: record.block_num,
            block_hash: record.block_hash.map(|hash| hash.to_string()),
            state_hash: record.state_hash.to_string(),
            kind: match record.kind {
                CheckpointKind::Delta => "delta",
                CheckpointKind::State => "state",
            }
            .to_owned(),
            state_digest: record.state_digest.map(|digest| digest.to_string()),
        }
    }

    /// Whether another row of its node is right. Of the block and the state each node says what it knows itself: one
    /// that knows less corrects nobody.
    pub(super) fn is_right(&self, stood: &Self) -> bool {
        let is_right = |ours: &Option<String>, stood: &Option<String>| ours.is_none() || ours == stood;
        self.is_of_same_document(stood)
            && is_right(&self.block_hash, &stood.block_hash)
            && is_right(&self.state_digest, &stood.state_digest)
    }

    fn is_of_same_document(&self, stood: &Self) -> bool {
        self.number == stood.number && self.state_hash == stood.state_hash && self.kind == stood.kind
    }

    /// Writes it. What it does not know stays where it is of the same checkpoint.
    pub(super) fn put(
        self,
        region: &Region,
        stood: Option<&Self>,
        facts: &mut Mutation,
    ) -> Result<(), StoreError> {
        let node = region.checkpoint(self.number);
        let is_of_same = stood.is_some_and(|stood| self.is_of_same_document(stood));
        facts.set(node, p::CHECKPOINT_BLOCK_NUM, integer(self.number)?);
        facts.set(node, p::CHECKPOINT_STATE_HASH, self.state_hash);
        facts.set(node, p::CHECKPOINT_KIND, self.kind);
        for (predicate, value) in [
            (p::CHECKPOINT_BLOCK_HASH, self.block_hash),
            (p::CHECKPOINT_STATE_DIGEST, self.state_digest),
        ] {
            match value {
                Some(value) => facts.set(node, predicate, value),
                None if is_of_same => {}
                None => facts.clear(node, predicate),
            }
        }
        Ok(())
    }
}

/// A checkpoint, in the place of whatever stands there.
pub fn put_checkpoint(
    region: &Region,
    record: &CheckpointRecord,
    facts: &mut Mutation,
) -> Result<(), StoreError> {
    CheckpointRow::of(record).put(region, None, facts)
}

/// Takes a checkpoint back.
pub(super) fn clear_checkpoint(node: Uid, facts: &mut Mutation) {
    for predicate in [
        p::CHECKPOINT_BLOCK_NUM,
        p::CHECKPOINT_STATE_HASH,
        p::CHECKPOINT_BLOCK_HASH,
        p::CHECKPOINT_KIND,
        p::CHECKPOINT_STATE_DIGEST,
    ] {
        facts.clear(node, predicate);
    }
}

/// A fork that left the canonical chain after `ancestor`.
pub fn put_fork(
    region: &Region,
    tip: BlockReference,
    ancestor: BlockReference,
    facts: &mut Mutation,
) -> Result<(), StoreError> {
    let node = region.fork(tip.hash);
    facts.set(node, p::FORK_TIP_BLOCK, integer(tip.number)?);
    facts.set(node, p::FORK_TIP_HASH, tip.hash.to_string());
    facts.set(node, p::FORK_ANCESTOR_BLOCK, integer(ancestor.number)?);
    facts.set(node, p::FORK_ANCESTOR_HASH, ancestor.hash.to_string());
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_node_knows_for_itself_is_not_corrected() {
        let ours = BlockRow {
            number: BlockNumber::try_from(7).unwrap(),
            hash: "h".to_owned(),
            previous_hash: "p".to_owned(),
            timestamp_ms: Some(5),
            operations: "[]".to_owned(),
            paths: BTreeSet::new(),
            accounts: BTreeSet::new(),
            is_unverified: false,
        };
        let stood = |change: fn(&mut BlockRow)| {
            let mut stood = ours.clone();
            change(&mut stood);
            ours.differing(&stood, Writers::Several)
        };
        let none: [&str; 0] = [];
        assert_eq!(stood(|_| {}), none);
        assert_eq!(stood(|row| row.timestamp_ms = Some(9)), none);
        assert_eq!(stood(|row| row.timestamp_ms = None), [p::TIMESTAMP]);
        assert_eq!(stood(|row| row.is_unverified = true), [p::VERIFICATION]);
        assert_eq!(stood(|row| row.operations.push(' ')), [p::OPERATIONS]);
        assert_eq!(stood(|row| _ = row.paths.insert("a".to_owned())), [p::OP_PATH]);
        let unproven = BlockRow {
            is_unverified: true,
            timestamp_ms: None,
            ..ours.clone()
        };
        assert_eq!(
            unproven.differing(&ours, Writers::Several),
            none,
            "another node has proven it"
        );
        let alone = unproven.differing(&ours, Writers::One);
        assert_eq!(alone, [p::TIMESTAMP, p::VERIFICATION], "nobody else writes there");
    }
}
