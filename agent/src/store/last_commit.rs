//! A journal cannot vouch for itself: how many commits were acknowledged is also kept beside it, so that a
//! flipped byte in the journal is not mistaken for a torn end (I16).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;

/// The last acknowledged commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastCommit {
    /// Number of commits so far.
    pub(super) commits: u64,
    /// Checksum of the number, since this file is not inside the database's checksums.
    crc32: u32,
}

impl LastCommit {
    pub(super) fn new(commits: u64) -> Self {
        Self {
            commits,
            crc32: crc32fast::hash(&commits.to_be_bytes()),
        }
    }
}

/// The file that holds it. It is replaced after each commit is durable and not synced itself: after a power
/// loss it may be behind, which hides a loss at worst and never invents one.
#[derive(Debug)]
pub(super) struct LastCommitFile {
    path: PathBuf,
    next: PathBuf,
}

impl LastCommitFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("last-commit.json"),
            next: directory.join("last-commit.json.next"),
        }
    }

    /// The last acknowledged commit; none for a new store or where the file itself is damaged.
    pub(super) fn read(&self) -> Result<Option<LastCommit>, StoreError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes).ok();
                Ok(read.filter(|last: &LastCommit| *last == LastCommit::new(last.commits)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::LastCommit(error)),
        }
    }

    pub(super) fn write(&self, commits: u64) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&LastCommit::new(commits)).unwrap_or_default();
        std::fs::write(&self.next, bytes)
            .and_then(|()| std::fs::rename(&self.next, &self.path))
            .map_err(StoreError::LastCommit)
    }
}
