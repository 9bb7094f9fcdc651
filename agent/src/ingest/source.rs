//! Who feeds us, and what the rest of the node hears of it.

use std::fmt;

use honeygraph_chain::{BlockNumber, BlockRange, ContentId, Operations};
use serde::{Deserialize, Serialize};

use super::message::{LastIndex, OperationIndex};

/// The name of a honeycomb source: the configured one, or `loopback`. 1 to 64 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceId(String);

/// Text that cannot name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a source name has 1 to 64 visible ASCII characters, this one has {length} bytes")]
pub struct SourceIdError {
    /// Bytes of the refused text.
    pub length: usize,
}

impl SourceId {
    /// The most bytes a name can have.
    pub const MAX_BYTES: usize = 64;

    /// All sources on this machine that came without a token: one operator, whatever their number.
    pub fn loopback() -> Self {
        Self("loopback".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SourceId {
    type Error = SourceIdError;

    fn try_from(text: String) -> Result<Self, SourceIdError> {
        if (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(SourceIdError { length: text.len() })
        }
    }
}

impl std::str::FromStr for SourceId {
    type Err = SourceIdError;

    fn from_str(text: &str) -> Result<Self, SourceIdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<SourceId> for String {
    fn from(id: SourceId) -> Self {
        id.0
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Counts sessions since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How far a source was heard without a hole. Stored with the block it names, it lets the next session go
/// on exactly there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceCursor {
    /// Index of the last operation at or below `block`.
    pub last_index: LastIndex,
    /// A block that is complete.
    pub block: BlockNumber,
}

/// Something that happened at a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceEvent {
    /// Where.
    pub source: SourceId,
    /// What.
    pub event: SourceEventKind,
}

/// What can happen at a source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceEventKind {
    /// A session began. It ends with [`SourceEventKind::Disconnected`], and those of one source never
    /// overlap.
    Connected {
        /// The session.
        session: SessionId,
    },
    /// A complete block. It follows the block or the run before it (at first the cursor that the session
    /// began with), unless `Restarted` stands between.
    Block {
        /// Its number.
        number: BlockNumber,
        /// All of its operations.
        operations: Operations,
        /// When the source wrote it, Unix milliseconds; local knowledge, never hashed.
        timestamp_ms: u64,
        /// Where the source stands after it.
        cursor: SourceCursor,
    },
    /// Blocks that certainly have no operations: the source's log went on without a hole.
    EmptyBlocks {
        /// Which ones.
        range: BlockRange,
        /// When that became known, Unix milliseconds.
        timestamp_ms: u64,
        /// Where the source stands after them.
        cursor: SourceCursor,
    },
    /// The source wrote a checkpoint. Order of arrival means nothing.
    Checkpoint {
        /// The last block it covers (one below the document's number).
        covered: BlockNumber,
        /// Content id of its document.
        id: ContentId,
        /// Content id of the checkpoint before, as the source says.
        previous: Option<ContentId>,
    },
    /// What the source names as its last checkpoint beside its operations, when that changes.
    CheckpointReport {
        /// The block of the operation that said so first.
        at: BlockNumber,
        /// Content id of its last checkpoint (`forkHash`).
        last: ContentId,
        /// Content id of the one before it (`prevCheckpointHash`).
        previous: Option<ContentId>,
    },
    /// The source's head rose.
    Head {
        /// The head.
        number: BlockNumber,
    },
    /// Blocks were left out: the next one does not follow the last one. Peers have what is missing.
    Restarted,
    /// The session ended.
    Disconnected,
}

/// What the node tells a source's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceCommand {
    /// Takes back everything from an operation on and has the source send it again. Where the operation's
    /// block is still remembered, blocks from there on are handed over again, after a `Restarted`.
    RequestMissing {
        /// First running index: usually the one after a block's cursor.
        from_index: OperationIndex,
        /// Last running index.
        to_index: OperationIndex,
    },
    /// Tells the source that something it sent was refused.
    Refuse(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_visible_ascii() {
        assert_eq!("honeycomb-1".parse::<SourceId>().unwrap().as_str(), "honeycomb-1");
        for bad in ["", "a b", "ü", "line\n", &"x".repeat(65)] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_survives_storage() {
        for last_index in [LastIndex(None), LastIndex(Some(OperationIndex::MAX))] {
            let cursor = SourceCursor {
                last_index,
                block: BlockNumber::MAX,
            };
            let text = serde_json::to_string(&cursor).unwrap();
            assert_eq!(serde_json::from_str::<SourceCursor>(&text).unwrap(), cursor);
        }
    }
}
