//! What the node says to a honeycomb.

use serde::Serialize;

use super::{LastIndex, OperationIndex};

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
