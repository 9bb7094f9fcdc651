//! What a honeycomb says on its WebSocket (`docs/protocol.md`, section 5), as text frames.

use std::ops::RangeInclusive;

use honeygraph_chain::operation::OperationType;
use honeygraph_chain::{BlockNumber, ContentId, JsonValue, Operation, Path};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::reference_chain::{ChainBlock, Checkpoint, Head};

/// How write markers are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MarkerForm {
    /// `{type:"write_marker", index, blockNum, ...}`.
    #[default]
    Object,
    /// The bare string `"W"`.
    Bare,
}

/// How operations are put into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Each operation is a frame.
    #[default]
    Single,
    /// `{type:"batch", operations}` of at most this many operations of one block.
    Batch(std::num::NonZeroUsize),
}

/// A text frame, and the running indexes of the operations in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The JSON text.
    pub text: String,
    /// Which operations it holds; `None` for other messages.
    pub indexes: Option<RangeInclusive<u64>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationMessage<'block> {
    #[serde(rename = "type")]
    kind: OperationType,
    index: u64,
    block_num: BlockNumber,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'block Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'block JsonValue>,
    fork_hash: ContentId,
    prev_checkpoint_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
}

#[derive(Serialize)]
struct BatchMessage {
    #[serde(rename = "type")]
    kind: &'static str,
    operations: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message<'text> {
    Identify {
        source: &'text str,
        version: &'text str,
        token: &'text str,
    },
    #[serde(rename_all = "camelCase")]
    Checkpoint {
        block_num: BlockNumber,
        hash: ContentId,
        prev_hash: ContentId,
        timestamp: String,
    },
    #[serde(rename_all = "camelCase")]
    SyncStatus {
        last_index: i64,
        block_num: BlockNumber,
    },
    Error {
        error: &'text str,
    },
}

/// What a honeygraph node says; members that are not looked at are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeMessage {
    /// The greeting.
    #[serde(rename_all = "camelCase")]
    Connected {
        /// Name of the node.
        node_id: Option<String>,
    },
    /// Answers `identify`, without an index, or operations.
    Ack {
        /// Running index of the operation that is acknowledged.
        index: Option<u64>,
        /// Whether the operation was taken.
        success: Option<bool>,
    },
    /// Answers `sync_status`.
    #[serde(rename_all = "camelCase")]
    SyncStatus {
        /// The last operation the node has, -1 for none.
        last_index: i64,
        /// Its own word for how it stands.
        status: Option<String>,
    },
    /// Asks for operations again.
    RequestMissing {
        /// First running index.
        from: u64,
        /// Last running index.
        to: u64,
    },
    /// Something was refused.
    Error {
        /// What.
        error: String,
    },
}

/// Who the honeycomb says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub source: String,
    /// Token of the network: `LARYNX`, `SPK` and `BROCA` mean `spkcc`, all others `dlux`.
    pub token: String,
}

/// `identify`.
pub fn identify(identity: &Identity) -> Frame {
    message(&Message::Identify {
        source: &identity.source,
        version: env!("CARGO_PKG_VERSION"),
        token: &identity.token,
    })
}

/// `sync_status` at a head; a last index of -1 says that there was no operation yet.
pub fn sync_status(head: Head) -> Frame {
    message(&Message::SyncStatus {
        last_index: i64::try_from(head.next_index).unwrap_or(i64::MAX) - 1,
        block_num: head.number,
    })
}

/// `checkpoint`; its number is the document's, one above the block.
pub fn checkpoint(checkpoint: &Checkpoint, unix_millis: i64) -> Frame {
    message(&Message::Checkpoint {
        block_num: checkpoint.anchor.block_num.next(),
        hash: checkpoint.anchor.state_hash,
        prev_hash: checkpoint.previous_id,
        timestamp: timestamp(unix_millis),
    })
}

/// `error`.
pub fn error(error: &str) -> Frame {
    message(&Message::Error { error })
}

/// The operations of a block whose running indexes are wanted.
pub fn operations(
    block: &ChainBlock,
    wanted: &RangeInclusive<u64>,
    framing: Framing,
    marker: MarkerForm,
) -> Vec<Frame> {
    let numbered = block
        .indexes()
        .zip(block.block.block().operations.as_slice())
        .filter(|(index, _)| wanted.contains(index));
    let single = numbered.map(|(index, operation)| Frame {
        text: operation_text(block, index, operation, marker),
        indexes: Some(index..=index),
    });
    let Framing::Batch(most) = framing else {
        return single.collect();
    };
    let single: Vec<_> = single.collect();
    single.chunks(most.get()).filter_map(batch).collect()
}

fn batch(frames: &[Frame]) -> Option<Frame> {
    let first = frames.first()?.indexes.as_ref()?;
    let last = frames.last()?.indexes.as_ref()?;
    let operations = frames
        .iter()
        .filter_map(|frame| RawValue::from_string(frame.text.clone()).ok())
        .collect();
    let kind = "batch";
    Some(Frame {
        text: json(&BatchMessage { kind, operations }),
        indexes: Some(*first.start()..=*last.end()),
    })
}

fn operation_text(block: &ChainBlock, index: u64, operation: &Operation, marker: MarkerForm) -> String {
    let is_marker = matches!(operation, Operation::WriteMarker);
    if is_marker && marker == MarkerForm::Bare {
        return "\"W\"".to_owned();
    }
    json(&OperationMessage {
        kind: operation.kind(),
        index,
        block_num: block.block.number(),
        path: operation.path(),
        data: operation.data(),
        fork_hash: block.fork_hash,
        prev_checkpoint_hash: block
            .previous_checkpoint
            .map(|id| id.to_string())
            .unwrap_or_default(),
        timestamp: (!is_marker).then(|| timestamp(block.unix_millis)),
    })
}

fn timestamp(unix_millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

fn message(message: &Message<'_>) -> Frame {
    Frame {
        text: json(message),
        indexes: None,
    }
}

/// These messages have string keys and finite numbers only, so writing them cannot fail.
fn json(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference_chain::{ChainSettings, ReferenceChain};
    use std::num::NonZeroUsize;

    fn texts(frames: &[Frame]) -> Vec<&str> {
        frames.iter().map(|frame| frame.text.as_str()).collect()
    }

    #[test]
    fn a_block_is_told_as_the_protocol_says() {
        let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
        let block = chain.next_block().unwrap();
        let all = 0..=u64::MAX;
        let single = operations(&block, &all, Framing::Single, MarkerForm::Object);
        assert_eq!(single.len(), 7);
        assert_eq!(
            single[1].text,
            r#"{"type":"del","index":1,"blockNum":28559102,"path":["runners","élodie","g"],"forkHash":"QmTDEdRwvrbKdBrQAwUWadxBhGkJsQAnymKYJDVWJbaaGQ","prevCheckpointHash":"","timestamp":"2018-12-14T12:00:00.000Z"}"#
        );
        assert_eq!(
            single[3].text,
            r#"{"type":"write_marker","index":3,"blockNum":28559102,"forkHash":"QmTDEdRwvrbKdBrQAwUWadxBhGkJsQAnymKYJDVWJbaaGQ","prevCheckpointHash":""}"#
        );
        let part = operations(&block, &(2..=3), Framing::Single, MarkerForm::Bare);
        assert_eq!(texts(&part), [single[2].text.as_str(), "\"W\""]);
        let size = NonZeroUsize::new(4).unwrap();
        let batches = operations(&block, &all, Framing::Batch(size), MarkerForm::Bare);
        let indexes: Vec<_> = batches
            .iter()
            .map(|frame| frame.indexes.clone().unwrap())
            .collect();
        assert_eq!(indexes, [0..=3, 4..=6]);
        assert!(
            batches[0]
                .text
                .starts_with(r#"{"type":"batch","operations":[{"type":"put","index":0,"#)
        );
        assert!(batches[0].text.ends_with(r#","W"]}"#));
    }

    #[test]
    fn the_other_messages_are_as_the_protocol_says() {
        let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
        assert_eq!(
            sync_status(chain.head()).text,
            r#"{"type":"sync_status","lastIndex":-1,"blockNum":28559101}"#
        );
        let block = chain.find(|block| block.checkpoint.is_some()).unwrap();
        assert_eq!(
            checkpoint(block.checkpoint.as_ref().unwrap(), block.unix_millis).text,
            r#"{"type":"checkpoint","blockNum":28559202,"hash":"QmcA15jkErTwN2CSYHWRDdsESHTWKmXbm3c2fBeKg67Lbs","prevHash":"QmTDEdRwvrbKdBrQAwUWadxBhGkJsQAnymKYJDVWJbaaGQ","timestamp":"2018-12-14T12:04:57.000Z"}"#
        );
        let identity = Identity {
            source: "honeycomb-1".to_owned(),
            token: "DLUX".to_owned(),
        };
        assert_eq!(
            identify(&identity).text,
            format!(
                r#"{{"type":"identify","source":"honeycomb-1","version":"{}","token":"DLUX"}}"#,
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn the_nodes_messages_are_read() {
        let read = |text: &str| serde_json::from_str::<NodeMessage>(text).unwrap();
        assert_eq!(
            read(r#"{"type":"ack","message":"Welcome","token":"DLUX"}"#),
            NodeMessage::Ack {
                index: None,
                success: None
            }
        );
        assert_eq!(
            read(r#"{"type":"request_missing","from":3,"to":9}"#),
            NodeMessage::RequestMissing { from: 3, to: 9 }
        );
    }
}
