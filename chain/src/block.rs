//! Blocks and their hashes.

use std::sync::Arc;

use serde::Deserialize;

use crate::block_number::BlockNumber;
use crate::content_id::ContentId;
use crate::operation::{Operation, OperationError, OperationFields, Operations, UnclosedBatch, present};
use crate::{JsonValue, Path};

/// All operations of one Hive block, bound to what came before.
///
/// `docs/protocol.md`, section 3: the hash is the content id of the canonical JSON of exactly
/// `{blockNum, operations, previousHash}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its number.
    pub number: BlockNumber,
    /// Hash of the block before; right after a checkpoint the checkpoint's content id.
    pub previous_hash: ContentId,
    /// Its operations, indexed from 0 in order.
    pub operations: Operations,
}

/// Bytes that are not a block in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not JSON, or not of a block's shape.
    #[error("not a block: {0}")]
    Malformed(String),
    /// The indexes are not 0..n-1 in order.
    #[error("block {number}: operation {position} has index {index}")]
    IndexOutOfOrder {
        /// The block.
        number: BlockNumber,
        /// Place in the list.
        position: usize,
        /// Index it carries.
        index: u64,
    },
    /// An operation with missing or foreign fields.
    #[error("block {number}: operation {position}: {error}")]
    Operation {
        /// The block.
        number: BlockNumber,
        /// Place in the list.
        position: usize,
        /// What is wrong.
        error: OperationError,
    },
    /// The last batch is not closed.
    #[error("block {number}: {error}")]
    UnclosedBatch {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        error: UnclosedBatch,
    },
    /// The same content in another spelling, which would have another hash.
    #[error("block {number} is not in canonical form")]
    NotCanonical {
        /// The block.
        number: BlockNumber,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockFields {
    block_num: BlockNumber,
    operations: Vec<IndexedFields>,
    previous_hash: ContentId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexedFields {
    index: u64,
    #[serde(rename = "type")]
    kind: crate::operation::OperationType,
    path: Option<Path>,
    #[serde(default, deserialize_with = "present")]
    data: Option<JsonValue>,
}

impl Block {
    /// The bytes the hash is made of.
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.operations.as_slice().len() * 128);
        out.extend_from_slice(format!("{{\"blockNum\":{},\"operations\":", self.number).as_bytes());
        self.operations.write_canonical_indexed(&mut out);
        out.extend_from_slice(format!(",\"previousHash\":\"{}\"}}", self.previous_hash).as_bytes());
        out
    }

    /// What canonical bytes of a block link to, read from their end alone.
    pub fn previous_hash_of_canonical(bytes: &[u8]) -> Option<ContentId> {
        let text = bytes.strip_suffix(b"\"}")?.last_chunk::<46>()?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// The block's hash.
    pub fn hash(&self) -> ContentId {
        ContentId::of(&self.to_canonical())
    }

    /// Reads a block from its canonical bytes, typed and once, and checks that they are canonical: other
    /// spellings of the same content would give it a second hash.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, BlockError> {
        let fields: BlockFields =
            serde_json::from_slice(bytes).map_err(|error| BlockError::Malformed(error.to_string()))?;
        let number = fields.block_num;
        let mut operations = Vec::with_capacity(fields.operations.len());
        for (position, operation) in fields.operations.into_iter().enumerate() {
            if u64::try_from(position) != Ok(operation.index) {
                return Err(BlockError::IndexOutOfOrder {
                    number,
                    position,
                    index: operation.index,
                });
            }
            let fields = OperationFields {
                kind: operation.kind,
                path: operation.path,
                data: operation.data,
            };
            operations.push(
                Operation::try_from(fields).map_err(|error| BlockError::Operation {
                    number,
                    position,
                    error,
                })?,
            );
        }
        let operations =
            Operations::new(operations).map_err(|error| BlockError::UnclosedBatch { number, error })?;
        let block = Self {
            number,
            previous_hash: fields.previous_hash,
            operations,
        };
        if block.to_canonical() == bytes {
            Ok(block)
        } else {
            Err(BlockError::NotCanonical { number })
        }
    }
}

/// A block together with its hash and canonical bytes: made only by computing the hash from the bytes, so
/// holding one means that the three belong together. Clones share them.
#[derive(Debug, Clone, PartialEq)]
pub struct HashedBlock(Arc<Parts>);

#[derive(Debug, Clone, PartialEq)]
struct Parts {
    block: Block,
    hash: ContentId,
    bytes: Vec<u8>,
}

impl HashedBlock {
    /// Hashes raw bytes first, then parses them once.
    pub fn from_canonical(bytes: Vec<u8>) -> Result<Self, BlockError> {
        let hash = ContentId::of(&bytes);
        let block = Block::from_canonical(&bytes)?;
        Ok(Self(Arc::new(Parts { block, hash, bytes })))
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.0.block
    }

    /// Its number.
    pub fn number(&self) -> BlockNumber {
        self.0.block.number
    }

    /// Its hash.
    pub fn hash(&self) -> ContentId {
        self.0.hash
    }

    /// What it links to.
    pub fn previous_hash(&self) -> ContentId {
        self.0.block.previous_hash
    }

    /// Its canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The same operations linked to something else.
    #[must_use]
    pub fn relinked(self, previous_hash: ContentId) -> Self {
        Self::from(Block {
            previous_hash,
            ..Arc::unwrap_or_clone(self.0).block
        })
    }
}

impl From<Block> for HashedBlock {
    fn from(block: Block) -> Self {
        let bytes = block.to_canonical();
        Self(Arc::new(Parts {
            hash: ContentId::of(&bytes),
            block,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(operations: &str) -> Result<Block, BlockError> {
        let text = format!(
            r#"{{"blockNum":7,"operations":[{operations}],"previousHash":"QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"}}"#
        );
        Block::from_canonical(text.as_bytes())
    }

    #[test]
    fn canonical_bytes_round_trip() {
        let block =
            parse(r#"{"data":1,"index":0,"path":["a"],"type":"put"},{"index":1,"type":"write_marker"}"#)
                .unwrap();
        assert_eq!(Block::from_canonical(&block.to_canonical()).unwrap(), block);
        assert_eq!(
            Block::previous_hash_of_canonical(&block.to_canonical()),
            Some(block.previous_hash)
        );
    }

    #[test]
    fn broken_blocks_are_refused() {
        assert!(matches!(
            parse(r#"{"data":1,"index":1,"path":["a"],"type":"put"},{"index":2,"type":"write_marker"}"#),
            Err(BlockError::IndexOutOfOrder {
                position: 0,
                index: 1,
                ..
            })
        ));
        assert!(matches!(
            parse(r#"{"data":1,"index":0,"path":["a"],"type":"put"}"#),
            Err(BlockError::UnclosedBatch { .. })
        ));
        assert!(matches!(
            parse(r#"{"data":1.0,"index":0,"path":["a"],"type":"put"},{"index":1,"type":"write_marker"}"#),
            Err(BlockError::NotCanonical { .. })
        ));
        assert!(matches!(
            parse(r#"{"index":0,"path":["a"],"type":"put"},{"index":1,"type":"write_marker"}"#),
            Err(BlockError::Operation {
                error: OperationError::DataMissing(_),
                ..
            })
        ));
        assert!(matches!(
            parse(r#"{"index":0,"path":["a",1],"type":"del"}"#),
            Err(BlockError::Malformed(_))
        ));
        assert!(matches!(
            Block::from_canonical(b"\xff\xfe"),
            Err(BlockError::Malformed(_))
        ));
    }
}
