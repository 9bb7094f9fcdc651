//! The embedded store: the authority on what this replica holds.
//!
//! Blocks, state, undo, have/missing intervals, retry queue, peers, checkpoints and cursors are keyspaces of
//! one fjall database, and one [`Transaction`] changes them together. There is one [`Writer`]; everybody
//! else reads a [`View`], which stays as it is while commits go on. See `docs/store.md`.

mod chain_walk;
pub mod check;
mod committer;
mod error;
mod last_commit;
mod layout;
mod migrate;
mod position;
mod record;
mod rows;
mod transaction;
pub mod transfer;
mod view;

pub use error::StoreError;
pub(crate) use layout::DOCUMENT_CHUNK_BYTES;
pub use position::Position;
pub(crate) use record::leaf_from_bytes;
pub use record::{CheckpointRecord, PeerRecord, StoredBlock, Verification};
pub use rows::BlockRows;
pub use transaction::{Durable, StateReplacement, Transaction, Writer};
pub use view::{LeavesBefore, View};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace};

use last_commit::LastCommitFile;
use layout::Keyspaces;

/// How the store uses memory and disk.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Bytes of the block cache, shared by everything that is read.
    pub cache_bytes: u64,
    /// Bytes that each keyspace gathers in memory before it writes a table.
    pub write_buffer_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            write_buffer_bytes: 8 << 20,
        }
    }
}

/// An open store, for reading; cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
    keyspaces: Arc<Keyspaces>,
    directory: Arc<PathBuf>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// What opening a store found out about the commit before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The last commit that was acknowledged is there.
    Complete,
    /// Commits that were acknowledged are gone: the journal is damaged. What is left is a committed prefix,
    /// and the sync engine fetches the rest again.
    LostCommits {
        /// Commits that are there.
        found: u64,
        /// Commits that were acknowledged.
        acknowledged: u64,
    },
}

impl Store {
    /// Opens the store in a directory, which is created if it is not there, for reading and for its one
    /// writer. Takes an exclusive lock; refuses a format newer than this program knows, migrates older ones.
    pub fn open(directory: &Path, settings: &StoreSettings) -> Result<(Self, Writer, Recovery), StoreError> {
        std::fs::create_dir_all(directory).map_err(|error| StoreError::Directory {
            path: directory.to_owned(),
            error,
        })?;
        let database = Database::builder(directory.join("log"))
            .cache_size(settings.cache_bytes)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::Locked {
                    path: directory.to_owned(),
                },
                other => StoreError::Database(other),
            })?;
        let keyspaces = Keyspaces::open(&database, settings.write_buffer_bytes)?;
        migrate::migrate(&database, &keyspaces)?;
        let store = Self {
            database,
            keyspaces: Arc::new(keyspaces),
            directory: Arc::new(directory.to_owned()),
        };
        let last_commit = LastCommitFile::new(directory);
        let found = store.view().position()?.map_or(0, |position| position.commits);
        let acknowledged = last_commit.read()?.map_or(0, |last| last.commits);
        let recovery = if found < acknowledged {
            Recovery::LostCommits { found, acknowledged }
        } else {
            Recovery::Complete
        };
        let writer = Writer::new(store.clone(), last_commit)?;
        Ok((store, writer, recovery))
    }

    /// Whether the store in a directory was started from a document, without opening it.
    pub fn was_started(directory: &Path) -> bool {
        let last = LastCommitFile::new(directory).read();
        last.is_ok_and(|last| last.is_some_and(|last| last.commits > 0))
    }

    /// The store as it is now; later commits do not change what the view shows.
    pub fn view(&self) -> View {
        View::new(self.database.snapshot(), Arc::clone(&self.keyspaces))
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.database.disk_space()?)
    }

    /// The directory the store is in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn state_keyspace(&self) -> &Keyspace {
        &self.keyspaces.state
    }
}

#[cfg(test)]
mod tests;
