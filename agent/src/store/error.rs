//! Why the store fails. Always a local fault: no peer is to blame.

use std::path::PathBuf;

use honeygraph_chain::BlockNumber;
use honeygraph_chain::peer::LocalFault;

/// Why the store fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("data directory {path}: {error}; check DATA_DIR and its permissions")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another process has the store open.
    #[error("data directory {path} is in use by another process; stop that one or choose another DATA_DIR")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    #[error("the store has format {found}, this program knows up to {supported}: upgrade honeygraph-agent")]
    FormatTooNew {
        /// Format of the store.
        found: u32,
        /// Highest format this program knows.
        supported: u32,
    },
    /// The store belongs to another network.
    #[error("the store belongs to network `{found}`, not `{wanted}`; choose another DATA_DIR or NETWORK")]
    OtherNetwork {
        /// Network of the store.
        found: String,
        /// Network asked for.
        wanted: String,
    },
    /// Stored bytes that cannot be what was written.
    #[error("damaged {what}: {reason}")]
    Damaged {
        /// What was read, with its key.
        what: String,
        /// Why it cannot be right.
        reason: String,
    },
    /// The database failed.
    #[error("store: {0}")]
    Database(#[from] fjall::Error),
    /// The record of the last commit cannot be kept.
    #[error("record of the last commit: {0}")]
    LastCommit(std::io::Error),
    /// The thread that commits cannot be started.
    #[error("thread that commits: {0}")]
    Committer(std::io::Error),
    /// The thread that commits has ended by a fault of its own; what it said is in the log.
    #[error("the thread that commits is gone; restart the node")]
    CommitterGone,
}

impl StoreError {
    /// An error about a stored value.
    pub(crate) fn damaged(what: impl std::fmt::Display, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            what: what.to_string(),
            reason: reason.to_string(),
        }
    }

    /// An error about a stored block.
    pub(crate) fn damaged_block(number: BlockNumber, reason: impl std::fmt::Display) -> Self {
        Self::damaged(format_args!("block {number}"), reason)
    }
}

impl From<StoreError> for LocalFault {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}
