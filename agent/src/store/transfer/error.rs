//! Why a file cannot be written or taken.

use std::path::PathBuf;

use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, ContentId};

use super::super::StoreError;
use crate::replica::StartError;

/// Why a file cannot be written or taken.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file to write is there already.
    #[error("{path} exists; choose another name or use --force")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to export.
    #[error("the store holds nothing of that range; let the node run first, or choose other blocks")]
    Empty,
    /// The bytes are no export, or are damaged or cut off.
    #[error("{path} cannot be used: {reason}; copy it again or ask for another export. Nothing was taken")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was written by a newer program.
    #[error("the file has version {found}, this program reads up to {supported}: upgrade honeygraph-agent")]
    TooNew {
        /// Version of the file.
        found: u32,
        /// Highest version this program reads.
        supported: u32,
    },
    /// The file is of another network.
    #[error("the file is of network `{found}`, not `{wanted}`; choose another file, or set NETWORK")]
    OtherNetwork {
        /// Network of the file.
        found: String,
        /// Network asked for.
        wanted: String,
    },
    /// File and store contradict each other.
    #[error("the file is of another chain than the store: {reason}. Nothing was taken")]
    OtherChain {
        /// Where they differ.
        reason: String,
    },
    /// An empty store cannot start from the file.
    #[error("the store is empty and the file holds no state to start from; import a file that does")]
    NoStart,
    /// The checkpoint that is vouched for is not in the file, or cannot be computed from it.
    #[error("the file does not prove checkpoint {block}:{id}: {reason}. Nothing was taken")]
    NotTrusted {
        /// Its block.
        block: BlockNumber,
        /// Its content id.
        id: ContentId,
        /// Why not.
        reason: String,
    },
    /// A block breaks the rules. Blocks before it were verified and stay.
    #[error("block {block} of the file was refused ({fault:?}); the blocks before it were taken")]
    Refused {
        /// The block.
        block: BlockNumber,
        /// What is wrong.
        fault: PeerFault,
    },
    /// The store takes no blocks.
    #[error("commits are stopped: {reason}; clear that first")]
    Halted {
        /// Why.
        reason: String,
    },
    /// The documents of the file do not start a replica.
    #[error("the file's documents cannot be used: {0}")]
    Start(#[from] StartError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
