//! Who feeds us, and what the rest of the node hears of it.

use std::fmt;

use honeygraph_chain::{BlockNumber, BlockRange, ContentId, Operations};
use serde::{Deserialize, Serialize};

use super::message::{LastIndex, OperationIndex};

/// The name of a honeycomb source: the configured one, or `loopback`. 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and
/// `-`, so that it can stand in settings, certificates and logs as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(String);

/// Text that cannot name a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", SourceId::ALLOWED)]
pub struct SourceIdError;

impl SourceId {
    /// What a name may be.
    pub const ALLOWED: &str = "a name of 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`";

    /// All sources on this machine that came without a token: one operator, whatever their number.
    pub fn loopback() -> Self {
        Self("loopback".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SourceId {
    type Err = SourceIdError;

    fn from_str(text: &str) -> Result<Self, SourceIdError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SourceIdError)
        }
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
    fn names_can_stand_in_settings() {
        for good in ["honeycomb-1", "hive_2.example.org", &"x".repeat(64)] {
            assert_eq!(good.parse::<SourceId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a b",
            "a=b",
            "a,b",
            "a/b",
            "a:1",
            "ü",
            "line\n",
            &"x".repeat(65),
        ] {
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
