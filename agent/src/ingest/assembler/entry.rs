//! One operation on its way into a block.

use honeygraph_chain::{BlockNumber, Operation};
use sha2::{Digest, Sha256};

use crate::ingest::weight::weight_behind;

/// Where an operation's running index comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexOrigin {
    /// The source wrote it.
    Stated,
    /// It follows from the operation sent before: a bare `"W"`.
    Assumed,
}

/// An operation with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) operation: Operation,
    pub(super) block: BlockNumber,
    pub(super) timestamp_ms: Option<u64>,
    pub(super) origin: IndexOrigin,
}

impl Entry {
    /// Bytes it takes in memory, estimated.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + weight_behind(&self.operation)
    }

    /// Whether another one says the same, whenever it was written.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.block == other.block && self.operation == other.operation
    }

    /// Digest of what it says.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut bytes = self.block.get().to_le_bytes().to_vec();
        self.operation.write_canonical_indexed(0, &mut bytes);
        Sha256::digest(&bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeygraph_chain::{JsonValue, Path};

    #[test]
    fn the_weight_counts_what_is_nested() {
        let entry = |data| Entry {
            operation: Operation::Put {
                path: Path(vec!["a".to_owned()]),
                data,
            },
            block: BlockNumber::default(),
            timestamp_ms: None,
            origin: IndexOrigin::Stated,
        };
        let small = entry(JsonValue::Null).weight();
        let large = entry(JsonValue::object(vec![(
            "k".to_owned(),
            JsonValue::Array(vec![JsonValue::String("x".repeat(1_000)); 10]),
        )]));
        assert!(large.weight() > small + 10_000);
    }
}
