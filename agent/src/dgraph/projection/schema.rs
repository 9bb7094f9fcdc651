//! The schema of what stands in Dgraph, by versions.
//!
//! Names are those of the JavaScript honeygraph where both mean the same. `dgraph.type` is not written: on
//! each node it costs up to 20 % of the rate, and no question here needs it.

use std::fmt::Write as _;

/// Names of predicates.
pub mod predicate {
    /// Network node: the network's name.
    pub const NETWORK: &str = "network";
    /// Network node: version of the schema that stands here.
    pub const SCHEMA_VERSION: &str = "schemaVersion";
    /// Network node: key of the hash that names nodes of the state.
    pub const UID_KEY: &str = "uidKey";
    /// Network node: number of the last block that stands here.
    pub const APPLIED_BLOCK: &str = "appliedBlock";
    /// Network node: hash of the last block that stands here.
    pub const APPLIED_HASH: &str = "appliedHash";
    /// Network node: number of the lowest block from which all up to the last stand here.
    pub const APPLIED_FROM: &str = "appliedFrom";
    /// Network node: writer and mark of the last step.
    pub const APPLIED_BY: &str = "appliedBy";
    /// Network node: the state here is the one after this block.
    pub const STATE_BLOCK: &str = "stateBlock";
    /// Network node: the state here is being replaced by the one after this block.
    pub const STATE_TO: &str = "stateTo";
    /// Network node: the state is replaced up to and with this path, `0x` and its key in hexadecimal.
    pub const STATE_AFTER: &str = "stateAfter";
    /// Network node: the writer that said it writes the next steps.
    pub const CLAIMED_BY: &str = "claimedBy";
    /// Network node: the block up to which it does.
    pub const CLAIMED_TO: &str = "claimedTo";
    /// Network node: when its word ends, by its clock.
    pub const CLAIMED_UNTIL: &str = "claimedUntil";

    /// Block: number.
    pub const BLOCK_NUM: &str = "blockNum";
    /// Block: hash.
    pub const BLOCK_HASH: &str = "blockHash";
    /// Block: hash of the block before.
    pub const PREVIOUS_HASH: &str = "previousHash";
    /// Block: when it was made or heard of; a witness, never hashed.
    pub const TIMESTAMP: &str = "timestamp";
    /// Block: its operations, as JSON.
    pub const OPERATIONS: &str = "operations";
    /// Block: paths of its operations.
    pub const OP_PATH: &str = "op.path";
    /// Block: accounts that those paths name.
    pub const OP_ACCOUNT: &str = "op.account";
    /// Block: its fork; none for a canonical block.
    pub const FORK_ID: &str = "forkId";
    /// Block: how far it is proven, where that is not in full.
    pub const VERIFICATION: &str = "verification";

    /// State: path of the object or leaf.
    pub const STATE_PATH: &str = "state.path";
    /// State: its value, as JSON.
    pub const STATE_VALUE: &str = "state.value";
    /// State: the block whose state was written when this was: not below the one that last changed it.
    pub const STATE_BLOCK_NUM: &str = "state.blockNum";

    /// Checkpoint: the block it covers everything up to.
    pub const CHECKPOINT_BLOCK_NUM: &str = "checkpoint.blockNum";
    /// Checkpoint: hash of that block.
    pub const CHECKPOINT_BLOCK_HASH: &str = "checkpoint.blockHash";
    /// Checkpoint: content id of its document.
    pub const CHECKPOINT_STATE_HASH: &str = "checkpoint.stateHash";
    /// Checkpoint: `delta` or `state`.
    pub const CHECKPOINT_KIND: &str = "checkpoint.kind";
    /// Checkpoint: digest of the state after its block.
    pub const CHECKPOINT_STATE_DIGEST: &str = "checkpoint.stateDigest";

    /// Fork: number of its highest block.
    pub const FORK_TIP_BLOCK: &str = "fork.tipBlock";
    /// Fork: hash of its highest block.
    pub const FORK_TIP_HASH: &str = "fork.tipHash";
    /// Fork: the last block that it has in common with the canonical chain.
    pub const FORK_ANCESTOR_BLOCK: &str = "fork.ancestorBlock";
    /// Fork: hash of that block.
    pub const FORK_ANCESTOR_HASH: &str = "fork.ancestorHash";
}

use predicate as p;

/// A predicate and what Dgraph is told of it.
pub type Declaration = (&'static str, &'static str);

/// From one version of the schema to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The version that stands after it.
    pub to: u32,
    /// Predicates that are new, or change. Declaring them again changes nothing.
    pub declares: &'static [Declaration],
}

impl Migration {
    /// What Dgraph is told.
    pub fn schema(&self) -> String {
        Self::text(self.declares)
    }

    /// Declarations, as Dgraph is told them.
    pub(super) fn text<'a>(declares: impl IntoIterator<Item = &'a Declaration>) -> String {
        let mut text = String::new();
        for (name, kind) in declares {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {kind} .");
        }
        text
    }
}

/// All versions, from the first on: what an empty Dgraph gets is all of them.
pub const MIGRATIONS: &[Migration] = &[Migration {
    to: 1,
    declares: &[
        (p::NETWORK, "string @index(exact) @upsert"),
        (p::SCHEMA_VERSION, "int"),
        (p::UID_KEY, "string"),
        (p::APPLIED_BLOCK, "int"),
        (p::APPLIED_HASH, "string"),
        (p::APPLIED_FROM, "int"),
        (p::APPLIED_BY, "string"),
        (p::STATE_BLOCK, "int"),
        (p::STATE_TO, "int"),
        (p::STATE_AFTER, "string"),
        (p::CLAIMED_BY, "string"),
        (p::CLAIMED_TO, "int"),
        (p::CLAIMED_UNTIL, "datetime"),
        (p::BLOCK_NUM, "int @index(int)"),
        (p::BLOCK_HASH, "string @index(hash)"),
        (p::PREVIOUS_HASH, "string"),
        (p::TIMESTAMP, "datetime"),
        (p::OPERATIONS, "string"),
        (p::OP_PATH, "[string] @index(hash)"),
        (p::OP_ACCOUNT, "[string] @index(hash)"),
        (p::FORK_ID, "string @index(hash)"),
        (p::VERIFICATION, "string"),
        (p::STATE_PATH, "string @index(exact)"),
        (p::STATE_VALUE, "string"),
        (p::STATE_BLOCK_NUM, "int"),
        (p::CHECKPOINT_BLOCK_NUM, "int @index(int)"),
        (p::CHECKPOINT_BLOCK_HASH, "string"),
        (p::CHECKPOINT_STATE_HASH, "string @index(hash)"),
        (p::CHECKPOINT_KIND, "string"),
        (p::CHECKPOINT_STATE_DIGEST, "string"),
        (p::FORK_TIP_BLOCK, "int @index(int)"),
        (p::FORK_TIP_HASH, "string"),
        (p::FORK_ANCESTOR_BLOCK, "int"),
        (p::FORK_ANCESTOR_HASH, "string"),
    ],
}];

/// In the place of a version: the namespace is being cleared.
pub const CLEARING: u32 = 0;

/// The newest version.
pub const VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].to;

/// The newest of some versions.
pub(super) fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(CLEARING, |migration| migration.to)
}

/// Migrations that a Dgraph at a version still needs; 0 where it holds none.
pub fn pending(migrations: &[Migration], version: u32) -> &[Migration] {
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    migrations.get(done..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn versions_follow_each_other() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.to, version);
        }
        assert_eq!(pending(MIGRATIONS, 0).len(), MIGRATIONS.len());
        assert!(pending(MIGRATIONS, VERSION).is_empty());
        assert!(pending(MIGRATIONS, VERSION + 1).is_empty());
        assert_eq!(newest(MIGRATIONS), VERSION);
    }

    #[test]
    fn a_version_declares_a_predicate_once() {
        for migration in MIGRATIONS {
            let names: BTreeSet<_> = migration.declares.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), migration.declares.len());
        }
    }

    #[test]
    fn declarations_become_lines() {
        let schema = MIGRATIONS[0].schema();
        assert_eq!(schema.lines().count(), MIGRATIONS[0].declares.len());
        assert!(schema.contains("op.path: [string] @index(hash) .\n"));
    }
}
