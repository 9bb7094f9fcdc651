//! Keyspaces and the encoding of their keys.

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use honeygraph_chain::{BlockNumber, ContentId};

use super::StoreError;

/// Bytes of a stored piece of a document: IPFS's own chunk size.
pub(crate) const DOCUMENT_CHUNK_BYTES: usize = 262_144;

/// Every keyspace of the store.
pub(super) struct Keyspaces {
    /// Block number -> canonical block.
    pub(super) blocks: Keyspace,
    /// Block number, hash -> block above the last irreversible one that is not on the canonical chain.
    pub(super) fork_blocks: Keyspace,
    /// Block number -> leaves before the block, for blocks above the last irreversible one.
    pub(super) undo: Keyspace,
    /// Path key -> leaf.
    pub(super) state: Keyspace,
    /// Block number -> checkpoint.
    pub(super) checkpoints: Keyspace,
    /// Content id of a checkpoint's document -> its block number.
    pub(super) checkpoint_ids: Keyspace,
    /// Content id, chunk number -> 256 KiB of a document that cannot be computed from the blocks.
    pub(super) documents: Keyspace,
    /// First block of a run of stored blocks -> its last block.
    pub(super) have: Keyspace,
    /// First block of a range to try again -> entry of the retry queue.
    pub(super) retry: Keyspace,
    /// Peer URL -> what is known of the peer.
    pub(super) peers: Keyspace,
    /// Source name -> how far its log was taken.
    pub(super) sources: Keyspace,
    /// Format, position.
    pub(super) meta: Keyspace,
}

impl Keyspaces {
    pub(super) fn open(database: &Database, write_buffer_bytes: u64) -> Result<Self, StoreError> {
        let large = |name| {
            database.keyspace(name, || {
                KeyspaceCreateOptions::default().max_memtable_size(write_buffer_bytes)
            })
        };
        let small = |name| {
            database.keyspace(name, || {
                KeyspaceCreateOptions::default().max_memtable_size(1 << 20)
            })
        };
        Ok(Self {
            blocks: large("blocks")?,
            fork_blocks: small("fork_blocks")?,
            undo: large("undo")?,
            state: large("state")?,
            checkpoints: small("checkpoints")?,
            checkpoint_ids: small("checkpoint_ids")?,
            documents: large("documents")?,
            have: small("have")?,
            retry: small("retry")?,
            peers: small("peers")?,
            sources: small("sources")?,
            meta: small("meta")?,
        })
    }
}

/// Key of the store's format in `meta`.
pub(super) const FORMAT_KEY: &str = "format";
/// Key of the position in `meta`.
pub(super) const POSITION_KEY: &str = "position";
/// Key in `meta` that is there while a state is being replaced.
pub(super) const REPLACING_STATE_KEY: &str = "replacing-state";

/// Key of something by block number; sorts by number.
pub(super) fn number_key(number: BlockNumber) -> [u8; 8] {
    number.get().to_be_bytes()
}

/// The number inside a key that starts with one.
pub(super) fn key_number(key: &[u8]) -> Result<BlockNumber, StoreError> {
    key.first_chunk::<8>()
        .and_then(|bytes| BlockNumber::try_from(u64::from_be_bytes(*bytes)).ok())
        .ok_or_else(|| StoreError::damaged("key of a block number", hex::encode(key)))
}

/// Key of a block off the canonical chain.
pub(super) fn fork_key(number: BlockNumber, hash: ContentId) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&number_key(number));
    key[8..].copy_from_slice(hash.digest());
    key
}

/// Key of a chunk of a document.
pub(super) fn chunk_key(id: ContentId, chunk: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(id.digest());
    key[32..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Content id of the document in a key that [`chunk_key`] made.
pub(super) fn document_of_key(key: &[u8]) -> Result<ContentId, StoreError> {
    match key.first_chunk::<32>() {
        Some(digest) if key.len() == 36 => Ok(ContentId::from_digest(*digest)),
        _ => Err(StoreError::damaged(
            "key of a document",
            format_args!("{} bytes", key.len()),
        )),
    }
}

/// Number of the chunk in a key that [`chunk_key`] made.
pub(super) fn chunk_of_key(key: &[u8]) -> Result<u32, StoreError> {
    match key.last_chunk::<4>() {
        Some(chunk) if key.len() == 36 => Ok(u32::from_be_bytes(*chunk)),
        _ => Err(StoreError::damaged(
            "key of a document",
            format_args!("{} bytes", key.len()),
        )),
    }
}
