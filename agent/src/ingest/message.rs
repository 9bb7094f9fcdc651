//! What a honeycomb and this node say to each other: `docs/protocol.md`, section 5.
//!
//! JSON text frames. Reading is lenient where the protocol is (a bare `"W"`, a path as one string, fields
//! that we do not know) and strict everywhere else. serde's own recursion limit (128 levels) bounds
//! nesting; the size of a frame is bounded by the socket.

use std::borrow::Cow;
use std::fmt;

use honeygraph_chain::operation::{OperationError, OperationFields, OperationType, present};
use honeygraph_chain::{BlockNumber, ContentId, JsonValue, Operation, Path};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A source's running operation index: counts every operation it ever logged, write markers included,
/// from 0. At most 2^53 - 1, which is what a JavaScript source can count to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct OperationIndex(u64);

/// A number that no running index can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("operation index {0} is above 2^53 - 1")]
pub struct OperationIndexError(pub u64);

impl OperationIndex {
    /// The highest index.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The index as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index after this one; [`OperationIndex::MAX`] stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        self.saturating_add(1)
    }

    /// The index before this one, if there is one.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// `self + operations`, never above [`OperationIndex::MAX`].
    #[must_use]
    pub const fn saturating_add(self, operations: u64) -> Self {
        let sum = self.0.saturating_add(operations);
        if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
    }

    /// Operations from `other` up to `self`; 0 where `other` is higher.
    pub const fn distance_from(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl TryFrom<u64> for OperationIndex {
    type Error = OperationIndexError;

    fn try_from(index: u64) -> Result<Self, Self::Error> {
        if index > Self::MAX.0 {
            Err(OperationIndexError(index))
        } else {
            Ok(Self(index))
        }
    }
}

impl From<OperationIndex> for u64 {
    fn from(index: OperationIndex) -> Self {
        index.0
    }
}

impl fmt::Display for OperationIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Index of a source's newest operation; none before its first, which the wire writes as -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastIndex(pub Option<OperationIndex>);

impl LastIndex {
    /// The newest operation before `next`.
    pub const fn before(next: OperationIndex) -> Self {
        Self(next.previous())
    }

    /// The index that the next operation will have.
    pub const fn next(self) -> OperationIndex {
        match self.0 {
            Some(index) => index.next(),
            None => OperationIndex(0),
        }
    }
}

impl Serialize for LastIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(index) => index.serialize(serializer),
            None => serializer.serialize_i64(-1),
        }
    }
}

impl<'de> Deserialize<'de> for LastIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let number = i64::deserialize(deserializer)?;
        if number == -1 {
            return Ok(Self(None));
        }
        let index = u64::try_from(number)
            .map_err(|_| D::Error::custom(format!("last index {number} is below -1")))
            .and_then(|index| OperationIndex::try_from(index).map_err(D::Error::custom))?;
        Ok(Self(Some(index)))
    }
}

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

/// A message to a honeycomb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The greeting.
    #[serde(rename_all = "camelCase")]
    Connected {
        /// This node's name.
        node_id: String,
        /// When, Unix milliseconds.
        timestamp: u64,
        /// Always `honeygraph`.
        server: &'static str,
    },
    /// Answers `identify` and operations.
    Ack(Ack),
    /// Answers `sync_status`.
    #[serde(rename_all = "camelCase")]
    SyncStatus {
        /// Newest operation up to which nothing is missing here.
        last_index: LastIndex,
        /// How that compares with the source.
        status: SyncState,
    },
    /// Asks to send operations again.
    RequestMissing {
        /// First running index.
        from: OperationIndex,
        /// Last running index.
        to: OperationIndex,
    },
    /// Something was refused.
    Error {
        /// What, and why.
        error: String,
    },
}

/// The two acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Ack {
    /// Of `identify`.
    Identified {
        /// A sentence.
        message: String,
        /// The token it came with.
        token: Option<String>,
    },
    /// Of an operation.
    Operation {
        /// Its running index.
        index: OperationIndex,
        /// Whether it was taken.
        success: bool,
    },
}

/// The `status` of a `sync_status` answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Every operation the source has was received.
    Synced,
    /// Operations are missing; they are or will be requested.
    Missing,
}

impl ServerMessage {
    /// A refusal, cut to a length that repeats nobody's megabyte.
    pub fn error(error: &impl ToString) -> Self {
        const MOST_CHARACTERS: usize = 300;
        Self::Error {
            error: error.to_string().chars().take(MOST_CHARACTERS).collect(),
        }
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        // Strings and integers only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH";

    fn parse(text: &str) -> Result<SourceMessage, MessageError> {
        SourceMessage::parse(text, 3)
    }

    fn indexed(text: &str) -> IndexedOperation {
        match parse(text).unwrap() {
            SourceMessage::Logged(LogEntry::Indexed(operation)) => operation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn operations_are_read_in_both_spellings() {
        let array = indexed(&format!(
            r#"{{"type":"put","index":4,"blockNum":9,"path":["a","b"],"data":null,"forkHash":"{HASH}","prevCheckpointHash":"","timestamp":1500,"extra":[]}}"#
        ));
        let slashed = indexed(
            r#"{"type":"put","index":4,"blockNum":9,"path":"a/b","data":null,"timestamp":"1970-01-01T00:00:01.500Z"}"#,
        );
        assert_eq!(array.operation, slashed.operation);
        assert_eq!(array.timestamp_ms, Some(1_500));
        assert_eq!(slashed.timestamp_ms, Some(1_500));
        assert_eq!(array.fork_hash.unwrap().to_string(), HASH);
        assert_eq!(array.previous_checkpoint, None);
        assert_eq!(
            indexed(r#"{"type":"del","index":4,"blockNum":9,"path":["a"],"data":null}"#).operation,
            Operation::Del {
                path: Path(vec!["a".to_owned()])
            }
        );
    }

    #[test]
    fn markers_are_read_in_both_spellings() {
        assert_eq!(
            parse(" \"W\" "),
            Ok(SourceMessage::Logged(LogEntry::BareWriteMarker))
        );
        assert_eq!(
            indexed(r#"{"type":"write_marker","index":1,"blockNum":2,"path":null,"data":null}"#).operation,
            Operation::WriteMarker
        );
        let batch = parse(
            r#"{"type":"batch","operations":[{"type":"del","index":1,"blockNum":2,"path":["a"]},"W"]}"#,
        );
        let Ok(SourceMessage::Batch(entries)) = batch else {
            panic!("{batch:?}")
        };
        assert_eq!(entries[1], LogEntry::BareWriteMarker);
    }

    #[test]
    fn the_token_names_the_network() {
        for (token, network) in [
            ("\"SPK\"", "spkcc"),
            ("\"LARYNX\"", "spkcc"),
            ("\"BROCA\"", "spkcc"),
            ("\"DLUX\"", "dlux"),
            ("null", "dlux"),
        ] {
            match parse(&format!(r#"{{"type":"identify","source":"x","token":{token}}}"#)) {
                Ok(SourceMessage::Identify(identify)) => assert_eq!(identify.network(), network),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_source_without_operations_has_last_index_minus_one() {
        let parsed = parse(r#"{"type":"sync_status","lastIndex":-1,"blockNum":7}"#);
        let Ok(SourceMessage::SyncStatus(status)) = parsed else {
            panic!("{parsed:?}")
        };
        assert_eq!(status.last_index.next().get(), 0);
        assert_eq!(serde_json::to_string(&status.last_index).unwrap(), "-1");
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        let deep = format!(
            r#"{{"type":"put","index":1,"blockNum":2,"path":["a"],"data":{}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        for bad in [
            "",
            "{",
            "[]",
            "5",
            "null",
            r#""X""#,
            r#"{"index":1}"#,
            r#"{"type":5}"#,
            r#"{"type":"put","index":-1,"blockNum":2,"path":["a"],"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":-1,"path":["a"],"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":"2","path":["a"],"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":2,"path":["a",1],"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":2,"path":["a"]}"#,
            r#"{"type":"put","index":1,"blockNum":2,"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":2,"path":["a"],"data":"\ud800"}"#,
            r#"{"type":"put","index":9007199254740992,"blockNum":2,"path":["a"],"data":1}"#,
            r#"{"type":"put","index":1,"blockNum":2,"path":["a"],"data":1,"forkHash":"main"}"#,
            r#"{"type":"del","index":1,"blockNum":2,"path":["a"],"data":1}"#,
            r#"{"type":"write_marker","index":1,"blockNum":2,"path":["a"]}"#,
            r#"{"type":"batch","operations":["X"]}"#,
            r#"{"type":"batch","operations":{}}"#,
            r#"{"type":"batch","operations":["W","W","W","W"]}"#,
            r#"{"type":"checkpoint","blockNum":-1,"hash":""}"#,
            r#"{"type":"sync_status","lastIndex":-2}"#,
            r#"{"type":"sync_status","lastIndex":1,"blockNum":-1}"#,
            r#"{"type":"shout"}"#,
            deep.as_str(),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse(r#"{"type":"shout"}"#),
            Err(MessageError::UnknownType("shout".to_owned()))
        );
    }

    #[test]
    fn refusals_stay_short() {
        let long = "x".repeat(100_000);
        for bad in [
            format!(r#"{{"type":"put","index":"{long}"}}"#),
            format!(r#"{{"type":"put","index":1,"blockNum":1,"path":["{long}"]}}"#),
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":"identify","source":"{long}"}}"#),
        ] {
            let error = parse(&bad).unwrap_err();
            assert!(ServerMessage::error(&error).to_text().len() < 400);
        }
    }

    #[test]
    fn answers_have_the_protocols_shape() {
        for (message, text) in [
            (
                ServerMessage::Ack(Ack::Operation {
                    index: OperationIndex(3),
                    success: true,
                }),
                r#"{"type":"ack","index":3,"success":true}"#,
            ),
            (
                ServerMessage::Ack(Ack::Identified {
                    message: "hello".to_owned(),
                    token: Some("DLUX".to_owned()),
                }),
                r#"{"type":"ack","message":"hello","token":"DLUX"}"#,
            ),
            (
                ServerMessage::RequestMissing {
                    from: OperationIndex(3),
                    to: OperationIndex(4),
                },
                r#"{"type":"request_missing","from":3,"to":4}"#,
            ),
            (
                ServerMessage::SyncStatus {
                    last_index: LastIndex(None),
                    status: SyncState::Synced,
                },
                r#"{"type":"sync_status","lastIndex":-1,"status":"synced"}"#,
            ),
            (
                ServerMessage::Connected {
                    node_id: "n".to_owned(),
                    timestamp: 5,
                    server: "honeygraph",
                },
                r#"{"type":"connected","nodeId":"n","timestamp":5,"server":"honeygraph"}"#,
            ),
        ] {
            assert_eq!(message.to_text(), text);
        }
    }
}
