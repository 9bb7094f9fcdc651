//! Operations: the entries of honeycomb's log.

use serde::{Deserialize, Deserializer, Serialize};

use crate::canonical_json::{JsonValue, write_utf8};
use crate::path::Path;

/// One entry of honeycomb's log, without its index: the index is its place in the block.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Sets a leaf, or each member of an object.
    Put {
        /// Where.
        path: Path,
        /// What.
        data: JsonValue,
    },
    /// Removes every leaf at or below a path.
    Del {
        /// Where.
        path: Path,
    },
    /// Ends one atomic batch.
    WriteMarker,
}

/// The `type` of an operation on every wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationType {
    /// A put.
    Put,
    /// A del.
    Del,
    /// A write marker.
    WriteMarker,
}

/// An operation's own fields in JSON, before they are known to fit each other.
#[derive(Debug, Deserialize)]
pub struct OperationFields {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// `path`, an array of strings.
    pub path: Option<Path>,
    /// `data`; `null` is a value, absence is none.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<JsonValue>,
}

/// Reads a member that is there, so that `null` differs from absence.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonValue>, D::Error> {
    JsonValue::deserialize(deserializer).map(Some)
}

/// Fields that do not make an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// A put or a del without its path.
    #[error("`{0:?}` without `path`")]
    PathMissing(OperationType),
    /// A put without data.
    #[error("`put` of {0} without `data`")]
    DataMissing(Path),
    /// A del with data, or a write marker with either.
    #[error("`{0:?}` with a field it does not have")]
    FieldTooMany(OperationType),
}

impl TryFrom<OperationFields> for Operation {
    type Error = OperationError;

    fn try_from(fields: OperationFields) -> Result<Self, Self::Error> {
        match (fields.kind, fields.path, fields.data) {
            (OperationType::Put, Some(path), Some(data)) => Ok(Self::Put { path, data }),
            (OperationType::Put, Some(path), None) => Err(OperationError::DataMissing(path)),
            (OperationType::Del, Some(path), None) => Ok(Self::Del { path }),
            (OperationType::WriteMarker, None, None) => Ok(Self::WriteMarker),
            (kind @ (OperationType::Put | OperationType::Del), None, _) => {
                Err(OperationError::PathMissing(kind))
            }
            (kind, _, _) => Err(OperationError::FieldTooMany(kind)),
        }
    }
}

impl Operation {
    /// The operation's type.
    pub const fn kind(&self) -> OperationType {
        match self {
            Self::Put { .. } => OperationType::Put,
            Self::Del { .. } => OperationType::Del,
            Self::WriteMarker => OperationType::WriteMarker,
        }
    }

    /// Its path; a write marker has none.
    pub const fn path(&self) -> Option<&Path> {
        match self {
            Self::Put { path, .. } | Self::Del { path } => Some(path),
            Self::WriteMarker => None,
        }
    }

    /// Its data; only a put has some.
    pub const fn data(&self) -> Option<&JsonValue> {
        match self {
            Self::Put { data, .. } => Some(data),
            Self::Del { .. } | Self::WriteMarker => None,
        }
    }

    /// Appends the canonical JSON of `{index, type, path?, data?}`, the form inside a block's hash.
    pub fn write_canonical_indexed(&self, index: usize, out: &mut Vec<u8>) {
        self.write(Some(index), out);
    }

    /// Appends this operation as an entry of a delta document: a JSON string that holds the canonical
    /// JSON of `{type, path, data?}`, or `"W"`.
    pub fn write_log_entry(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::WriteMarker) {
            out.extend_from_slice(b"\"W\"");
            return;
        }
        let mut inner = Vec::with_capacity(256);
        self.write(None, &mut inner);
        // Canonical JSON is UTF-8 by construction.
        write_utf8(&inner, out);
    }

    /// Reads an entry of a delta document (the text inside the string).
    pub fn from_log_entry(text: &str) -> Result<Self, String> {
        if text == "W" {
            return Ok(Self::WriteMarker);
        }
        let fields: OperationFields = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let operation = Self::try_from(fields).map_err(|error| error.to_string())?;
        match operation {
            Self::WriteMarker => Err("a write marker is written \"W\"".to_owned()),
            other => Ok(other),
        }
    }

    fn write(&self, index: Option<usize>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(data) = self.data() {
            out.extend_from_slice(b"\"data\":");
            data.write_canonical(out);
            out.push(b',');
        }
        if let Some(index) = index {
            out.extend_from_slice(format!("\"index\":{index},").as_bytes());
        }
        if let Some(path) = self.path() {
            out.extend_from_slice(b"\"path\":");
            path.write_canonical(out);
            out.push(b',');
        }
        out.extend_from_slice(match self.kind() {
            OperationType::Put => b"\"type\":\"put\"}".as_slice(),
            OperationType::Del => b"\"type\":\"del\"}",
            OperationType::WriteMarker => b"\"type\":\"write_marker\"}",
        });
    }
}

/// All operations of one block: in order, and closed by a write marker unless there are none
/// (a batch never spans blocks).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Operations(Vec<Operation>);

/// The last operation of a block is not a write marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("operation {last_index} is the last of its block and not a write marker: a batch never spans blocks")]
pub struct UnclosedBatch {
    /// Index of the last operation.
    pub last_index: usize,
}

impl Operations {
    /// The operations of a block.
    pub fn new(operations: Vec<Operation>) -> Result<Self, UnclosedBatch> {
        match operations.last() {
            None | Some(Operation::WriteMarker) => Ok(Self(operations)),
            Some(_) => Err(UnclosedBatch {
                last_index: operations.len() - 1,
            }),
        }
    }

    /// The operations in order.
    pub fn as_slice(&self) -> &[Operation] {
        &self.0
    }

    /// Appends the canonical JSON of the operations with their indexes: the array inside a block's hash.
    pub fn write_canonical_indexed(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, operation) in self.as_slice().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            operation.write_canonical_indexed(index, out);
        }
        out.push(b']');
    }

    /// The atomic batches in order, without their write markers.
    pub fn batches(&self) -> impl Iterator<Item = &[Operation]> {
        self.0
            .split_inclusive(|operation| matches!(operation, Operation::WriteMarker))
            .map(|batch| batch.strip_suffix(&[Operation::WriteMarker]).unwrap_or(batch))
    }
}

impl From<Operations> for Vec<Operation> {
    fn from(operations: Operations) -> Self {
        operations.0
    }
}
