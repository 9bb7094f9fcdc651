//! What a honeycomb and this node say to each other: `docs/protocol.md`, section 5.
//!
//! JSON text frames. Reading is lenient where the protocol is (a bare `"W"`, a path as one string, fields
//! that we do not know) and strict everywhere else. serde's own recursion limit (128 levels) bounds
//! nesting; the size of a frame is bounded by the socket.

mod index;
mod server;

pub use index::{LastIndex, OperationIndex, OperationIndexError};
pub use server::{Ack, ServerMessage, SyncState};

use std::borrow::Cow;
use std::fmt;

use honeygraph_chain::operation::{OperationError, OperationFields, OperationType, present};
use honeygraph_chain::{BlockNumber, ContentId, JsonValue, Operation, Path};
use serde::{Deserialize, Deserializer};

/// A message from a honeycomb.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceMessage {
    /// Who it says it is, and which network it belongs to.
    Identify(Identify),
    /// One operation of its log.
    Logged(LogEntry),
    /// Several operations of its log.
    Batch(Vec<LogEntry>),
    /// It wrote a checkpoint.
    Checkpoint(CheckpointMessage),
    /// Where it stands.
    SyncStatus(SyncStatusMessage),
}

/// `{type:"identify", source, version, token}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identify {
    /// What it calls itself; logged, never trusted.
    #[serde(default, deserialize_with = "short_text")]
    pub source: Option<String>,
    /// Its software's version.
    #[serde(default, deserialize_with = "short_text")]
    pub version: Option<String>,
    /// Its token's symbol, which names the network.
    #[serde(default, deserialize_with = "short_text")]
    pub token: Option<String>,
}

impl Identify {
    /// The network that the token names (section 5).
    pub fn network(&self) -> &'static str {
        match self.token.as_deref() {
            Some("LARYNX" | "SPK" | "BROCA") => "spkcc",
            _ => "dlux",
        }
    }
}

/// An entry of a source's log, as it arrives.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEntry {
    /// An operation that says where it stands.
    Indexed(IndexedOperation),
    /// The bare string `"W"`: a write marker right after the operation sent before it.
    BareWriteMarker,
}

/// `{type:"put"|"del"|"write_marker", index, blockNum, path?, data?, forkHash, prevCheckpointHash, timestamp}`.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedOperation {
    /// Its running index.
    pub index: OperationIndex,
    /// The block it belongs to.
    pub block: BlockNumber,
    /// What it does.
    pub operation: Operation,
    /// `forkHash`: content id of the source's last checkpoint.
    pub fork_hash: Option<ContentId>,
    /// `prevCheckpointHash`: content id of the one before.
    pub previous_checkpoint: Option<ContentId>,
    /// When the source wrote it, Unix milliseconds.
    pub timestamp_ms: Option<u64>,
}

/// `{type:"checkpoint", blockNum, hash, prevHash, timestamp}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointMessage {
    /// The document's number: the block after the last one it covers.
    pub block_num: BlockNumber,
    /// The document's content id.
    pub hash: ContentId,
    /// Content id of the checkpoint before.
    #[serde(default, deserialize_with = "content_id_or_none")]
    pub prev_hash: Option<ContentId>,
}

/// `{type:"sync_status", lastIndex, blockNum?}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatusMessage {
    /// Index of its newest operation.
    pub last_index: LastIndex,
    /// Its head.
    pub block_num: Option<BlockNumber>,
}

/// A frame that is no message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not JSON, or a member is missing or of the wrong type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A string that is not `"W"`.
    #[error("a bare string can only be \"W\"")]
    UnknownText,
    /// A type that the protocol does not have.
    #[error("unknown message type `{0}`")]
    UnknownType(String),
    /// A batch with too many operations.
    #[error("a batch of {operations} operations; send at most {most}")]
    BatchTooLong {
        /// How many it has.
        operations: usize,
        /// How many are taken.
        most: usize,
    },
    /// Fields that do not make an operation.
    #[error("operation {index}: {error}")]
    Operation {
        /// Its running index.
        index: OperationIndex,
        /// What is wrong.
        error: OperationError,
    },
}

impl From<serde_json::Error> for MessageError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct BatchFields {
    operations: Vec<EntryFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationMessage {
    #[serde(rename = "type")]
    kind: OperationType,
    index: OperationIndex,
    block_num: BlockNumber,
    #[serde(default, deserialize_with = "path_or_text")]
    path: Option<Path>,
    #[serde(default, deserialize_with = "present")]
    data: Option<JsonValue>,
    #[serde(default, deserialize_with = "content_id_or_none")]
    fork_hash: Option<ContentId>,
    #[serde(default, deserialize_with = "content_id_or_none")]
    prev_checkpoint_hash: Option<ContentId>,
    #[serde(default, deserialize_with = "milliseconds")]
    timestamp: Option<u64>,
}

enum EntryFields {
    Operation(Box<OperationMessage>),
    BareWriteMarker,
}

impl SourceMessage {
    /// Reads one text frame.
    ///
    /// A batch of more than `most_operations` is refused before it is taken apart.
    pub fn parse(text: &str, most_operations: usize) -> Result<Self, MessageError> {
        if text.trim_start().starts_with('"') {
            return match serde_json::from_str::<Cow<'_, str>>(text)?.as_ref() {
                "W" => Ok(Self::Logged(LogEntry::BareWriteMarker)),
                _ => Err(MessageError::UnknownText),
            };
        }
        let TypeOnly { kind } = serde_json::from_str(text)?;
        Ok(match kind.as_ref() {
            "put" | "del" | "write_marker" => {
                let message: OperationMessage = serde_json::from_str(text)?;
                Self::Logged(LogEntry::Indexed(message.try_into()?))
            }
            "batch" => {
                let BatchFields { operations } = serde_json::from_str(text)?;
                if operations.len() > most_operations {
                    return Err(MessageError::BatchTooLong {
                        operations: operations.len(),
                        most: most_operations,
                    });
                }
                Self::Batch(
                    operations
                        .into_iter()
                        .map(LogEntry::try_from)
                        .collect::<Result<_, _>>()?,
                )
            }
            "identify" => Self::Identify(serde_json::from_str(text)?),
            "checkpoint" => Self::Checkpoint(serde_json::from_str(text)?),
            "sync_status" => Self::SyncStatus(serde_json::from_str(text)?),
            unknown => return Err(MessageError::UnknownType(unknown.chars().take(64).collect())),
        })
    }
}

impl TryFrom<OperationMessage> for IndexedOperation {
    type Error = MessageError;

    fn try_from(message: OperationMessage) -> Result<Self, MessageError> {
        let index = message.index;
        // A sender that writes every member writes `null` where a del or a marker has none.
        let data = message
            .data
            .filter(|data| message.kind == OperationType::Put || *data != JsonValue::Null);
        let operation = Operation::try_from(OperationFields {
            kind: message.kind,
            path: message.path,
            data,
        })
        .map_err(|error| MessageError::Operation { index, error })?;
        Ok(Self {
            index,
            block: message.block_num,
            operation,
            fork_hash: message.fork_hash,
            previous_checkpoint: message.prev_checkpoint_hash,
            timestamp_ms: message.timestamp,
        })
    }
}

impl TryFrom<EntryFields> for LogEntry {
    type Error = MessageError;

    fn try_from(fields: EntryFields) -> Result<Self, MessageError> {
        match fields {
            EntryFields::Operation(message) => Ok(Self::Indexed((*message).try_into()?)),
            EntryFields::BareWriteMarker => Ok(Self::BareWriteMarker),
        }
    }
}

impl<'de> Deserialize<'de> for EntryFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> serde::de::Visitor<'de> for EntryVisitor {
            type Value = EntryFields;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an operation or \"W\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EntryFields, E> {
                match text {
                    "W" => Ok(EntryFields::BareWriteMarker),
                    _ => Err(E::custom("a bare string can only be \"W\"")),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, access: A) -> Result<EntryFields, A::Error> {
                OperationMessage::deserialize(serde::de::value::MapAccessDeserializer::new(access))
                    .map(|message| EntryFields::Operation(Box::new(message)))
            }
        }
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// Text that we log or send back.
fn short_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    const MOST_BYTES: usize = 256;
    let text = Option::<String>::deserialize(deserializer)?;
    match text.as_ref().map_or(0, String::len) {
        0..=MOST_BYTES => Ok(text),
        bytes => Err(serde::de::Error::custom(format!(
            "a name of {bytes} bytes; {MOST_BYTES} are allowed"
        ))),
    }
}

fn path_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Path>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`path` is neither an array of strings nor a string")]
    enum Either {
        Segments(Path),
        Text(String),
    }
    Ok(
        Option::<Either>::deserialize(deserializer)?.map(|either| match either {
            Either::Segments(path) => path,
            Either::Text(text) => Path::from_slashed(&text),
        }),
    )
}

/// A content id; `null` and `""` mean that there is none yet.
fn content_id_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ContentId>, D::Error> {
    match Option::<Cow<'de, str>>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Unix milliseconds, or the text that JavaScript's `toISOString` writes.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`timestamp` is neither Unix milliseconds nor a date")]
    enum Either {
        Number(u64),
        Text(jiff::Timestamp),
    }
    Ok(
        Option::<Either>::deserialize(deserializer)?.map(|either| match either {
            Either::Number(milliseconds) => milliseconds,
            Either::Text(time) => u64::try_from(time.as_millisecond()).unwrap_or_default(),
        }),
    )
}

#[cfg(test)]
mod tests;
