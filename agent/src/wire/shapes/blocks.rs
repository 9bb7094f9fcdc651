//! Whole blocks in the shape of the JavaScript honeygraph, and what their operations are.

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::operation::{OperationError, OperationFields, OperationType, UnclosedBatch, present};
use honeygraph_chain::{BlockNumber, JsonValue, Operation, Operations, Path};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{MAIN_FORK, main_fork, null_as_default};
use crate::wire::capped::Capped;
use crate::wire::{UnixMillis, unix_millis};

/// Most operations of one block that are read.
pub const MAX_FULL_OPERATIONS: usize = 100_000;

/// Answer of `GET /api/query/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Head {
    /// Highest stored canonical block; 0 while there is none.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = u64)]
    pub head: BlockNumber,
    /// The fork it is on.
    #[serde(default = "main_fork")]
    pub fork: String,
}

/// Answer of `GET /api/query/block/:num/full`.
///
/// Hashes are text here: those of older nodes are of a kind that no one can recompute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullBlock {
    /// Its number.
    #[schema(value_type = u64)]
    pub block_num: BlockNumber,
    /// Its hash.
    #[serde(default, deserialize_with = "null_as_default")]
    pub block_hash: String,
    /// What it links to.
    #[serde(default, deserialize_with = "null_as_default")]
    pub previous_hash: String,
    /// When it was made (RFC 3339).
    #[serde(default, with = "unix_millis::rfc3339")]
    #[schema(value_type = Option<String>)]
    pub timestamp: Option<UnixMillis>,
    /// Its fork.
    #[serde(default = "main_fork")]
    pub fork_id: String,
    /// Whether it is at or below the last irreversible block.
    #[serde(default, deserialize_with = "null_as_default")]
    pub is_finalized: bool,
    /// False where it stands above a gap: stored, but its state is not applied. Left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_applied: Option<bool>,
    /// Its operations.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Vec<FullOperation>)]
    pub operations: Capped<FullOperation, MAX_FULL_OPERATIONS>,
    /// The node that answers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub peer_id: String,
}

/// One operation inside a [`FullBlock`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullOperation {
    /// Its place: from 0 within the block, or a source's running index.
    pub index: u64,
    /// `put`, `del` or `write_marker`; older nodes may write it in capitals.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where; absent from a write marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<FullPath>,
    /// What; only a put has some. `null` is a value.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<JsonValue>,
    /// What stood there before, where the node still knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub previous_value: Option<JsonValue>,
    /// When it was made (RFC 3339).
    #[serde(default, with = "unix_millis::rfc3339")]
    #[schema(value_type = Option<String>)]
    pub timestamp: Option<UnixMillis>,
    /// Whether it was undone: its block lost to another fork.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reverted: bool,
}

/// A path: an array of strings, or one string with `/` between them as older nodes write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum FullPath {
    /// Segment by segment.
    Segments(Vec<String>),
    /// Joined by `/`.
    Slashed(String),
}

impl<'de> Deserialize<'de> for FullPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathVisitor;
        impl<'de> serde::de::Visitor<'de> for PathVisitor {
            type Value = FullPath;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array of strings, or a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FullPath, E> {
                Ok(FullPath::Slashed(text.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<FullPath, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(list)).map(FullPath::Segments)
            }
        }
        deserializer.deserialize_any(PathVisitor)
    }
}

impl From<FullPath> for Path {
    fn from(path: FullPath) -> Self {
        match path {
            FullPath::Segments(segments) => Self(segments),
            FullPath::Slashed(text) => Self::from_slashed(&text),
        }
    }
}

/// A hash as a peer reports it, not recomputed by anyone yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReportedHash(pub String);

/// What an older peer says a block is: operations in order, and claims.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedBlock {
    /// Its number.
    pub number: BlockNumber,
    /// Its operations, indexed from 0.
    pub operations: Operations,
    /// The hash it claims, if any.
    pub hash: Option<ReportedHash>,
    /// The link it claims, if any.
    pub previous_hash: Option<ReportedHash>,
    /// When it was made, if the peer knows.
    pub timestamp: Option<UnixMillis>,
    /// Whether the peer marks it as undone.
    pub is_reverted: bool,
}

/// A full block that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FullBlockError {
    /// Another block than the one asked for.
    #[error("asked for block {asked}, got block {found}")]
    WrongNumber {
        /// Asked for.
        asked: BlockNumber,
        /// In the answer.
        found: BlockNumber,
    },
    /// More operations than a node reads.
    #[error("block {number}: {sent} operations are more than {MAX_FULL_OPERATIONS}")]
    TooManyOperations {
        /// The block.
        number: BlockNumber,
        /// How many it has.
        sent: usize,
    },
    /// An index that is missing or there twice.
    #[error("block {number}: index {found} where {expected} must stand")]
    BrokenIndex {
        /// The block.
        number: BlockNumber,
        /// The index after the one before.
        expected: u64,
        /// The index there is.
        found: u64,
    },
    /// A `type` that no operation has.
    #[error("block {number}: operation {index} has an unknown type")]
    UnknownType {
        /// The block.
        number: BlockNumber,
        /// The operation's index.
        index: u64,
    },
    /// Fields that do not make an operation.
    #[error("block {number}: operation {index}: {error}")]
    Operation {
        /// The block.
        number: BlockNumber,
        /// The operation's index.
        index: u64,
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
}

impl FullBlock {
    /// The shape of a block of our own: canonical, not reverted, without previous values.
    pub fn from_block(block: &HashedBlock, timestamp: Option<UnixMillis>, peer_id: &str) -> Self {
        let operations = (0..)
            .zip(block.block().operations.as_slice())
            .map(|(index, operation)| FullOperation {
                index,
                kind: type_name(operation.kind()).to_owned(),
                path: operation.path().map(|path| FullPath::Segments(path.0.clone())),
                data: operation.data().cloned(),
                previous_value: None,
                timestamp,
                reverted: false,
            })
            .collect();
        Self {
            block_num: block.number(),
            block_hash: block.hash().to_string(),
            previous_hash: block.previous_hash().to_string(),
            timestamp,
            fork_id: MAIN_FORK.to_owned(),
            is_finalized: false,
            is_applied: None,
            operations,
            peer_id: peer_id.to_owned(),
        }
    }

    /// The block that this is, if it is the one asked for.
    ///
    /// Operations are taken in the order of their `index` (an older node lists them in the order of its
    /// database); a hole or a doubled index is refused. A running index, which starts above 0, is counted
    /// from 0.
    pub fn into_reported(self, asked: BlockNumber) -> Result<ReportedBlock, FullBlockError> {
        let number = self.block_num;
        if number != asked {
            return Err(FullBlockError::WrongNumber { asked, found: number });
        }
        if self.operations.is_cut() {
            return Err(FullBlockError::TooManyOperations {
                number,
                sent: self.operations.sent(),
            });
        }
        let is_reverted = self
            .operations
            .as_slice()
            .iter()
            .any(|operation| operation.reverted);
        let mut listed = self.operations.into_vec();
        listed.sort_by_key(|operation| operation.index);
        let first = listed.first().map_or(0, |first| first.index);
        let mut operations = Vec::with_capacity(listed.len());
        for (position, operation) in (0..).zip(listed) {
            let found = operation.index;
            let expected = first.saturating_add(position);
            if found - first != position {
                return Err(FullBlockError::BrokenIndex {
                    number,
                    expected,
                    found,
                });
            }
            operations.push(operation.into_operation(number)?);
        }
        Ok(ReportedBlock {
            number,
            operations: Operations::new(operations)
                .map_err(|error| FullBlockError::UnclosedBatch { number, error })?,
            hash: reported(self.block_hash),
            previous_hash: reported(self.previous_hash),
            timestamp: self.timestamp,
            is_reverted,
        })
    }
}

impl FullOperation {
    /// The operation without its index.
    ///
    /// The database of older nodes holds the type in capitals and the data as JSON text, and some serve it
    /// like that: with such a type, text that is JSON is the value it spells.
    fn into_operation(self, number: BlockNumber) -> Result<Operation, FullBlockError> {
        let index = self.index;
        let (kind, is_stored_form) = match self.kind.as_str() {
            "put" => (OperationType::Put, false),
            "del" => (OperationType::Del, false),
            "write_marker" | "W" => (OperationType::WriteMarker, false),
            "PUT" => (OperationType::Put, true),
            "DEL" => (OperationType::Del, true),
            "WRITE_MARKER" => (OperationType::WriteMarker, true),
            _ => return Err(FullBlockError::UnknownType { number, index }),
        };
        let data = match self.data {
            Some(JsonValue::String(text)) if is_stored_form => {
                Some(serde_json::from_str(&text).unwrap_or(JsonValue::String(text)))
            }
            other => other,
        };
        // What an operation of this type does not have, a database may list as empty.
        let fields = match kind {
            OperationType::Put => OperationFields {
                kind,
                path: self.path.map(Path::from),
                data,
            },
            OperationType::Del => OperationFields {
                kind,
                path: self.path.map(Path::from),
                data: data.filter(|data| *data != JsonValue::Null),
            },
            OperationType::WriteMarker => OperationFields {
                kind,
                path: self.path.map(Path::from).filter(|path| !path.0.is_empty()),
                data: data.filter(|data| *data != JsonValue::Null),
            },
        };
        Operation::try_from(fields).map_err(|error| FullBlockError::Operation { number, index, error })
    }
}

const fn type_name(kind: OperationType) -> &'static str {
    match kind {
        OperationType::Put => "put",
        OperationType::Del => "del",
        OperationType::WriteMarker => "write_marker",
    }
}

fn reported(hash: String) -> Option<ReportedHash> {
    (!hash.is_empty()).then_some(ReportedHash(hash))
}
