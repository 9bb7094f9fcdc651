//! Encoding of stored values.

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::{Anchor, CheckpointChain, PreviousRoot};
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::state::{Leaf, LeafChange};
use honeygraph_chain::{BlockNumber, ContentId, JsonValue, PathKey, StateDigest};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use super::StoreError;
use crate::peers::PeerSource;

/// How far a stored block is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Its bytes have its hash, it links, and what the rules ask was checked.
    Verified,
    /// Taken on a quorum from peers whose hashes cannot be recomputed (`verification=quorum`).
    Unverified,
}

/// A block as it is stored: its hash, what belongs to it, and its canonical bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBlock {
    /// Hash of the bytes.
    pub hash: ContentId,
    /// Digest of the state after the block; none while its state was not applied here.
    pub digest: Option<StateDigest>,
    /// When it was made or heard of, milliseconds since the Unix epoch; a witness, never hashed.
    pub timestamp_ms: u64,
    /// How far it is proven.
    pub verification: Verification,
    /// Canonical JSON of the block.
    pub bytes: Vec<u8>,
}

const HAS_DIGEST: u8 = 1;
const UNVERIFIED: u8 = 2;
const HEADER_BYTES: usize = 1 + 32 + 32 + 8;

impl StoredBlock {
    /// A verified block whose state was not applied yet.
    pub fn new(block: &HashedBlock, timestamp_ms: u64) -> Self {
        Self {
            hash: block.hash(),
            digest: None,
            timestamp_ms,
            verification: Verification::Verified,
            bytes: block.bytes().to_vec(),
        }
    }

    /// Reads the block out of its bytes and checks that they have its hash.
    pub fn decode(&self, number: BlockNumber) -> Result<HashedBlock, StoreError> {
        let block = HashedBlock::from_canonical(self.bytes.clone())
            .map_err(|error| StoreError::damaged_block(number, error))?;
        if block.hash() != self.hash {
            return Err(StoreError::damaged_block(
                number,
                "its bytes do not have its hash",
            ));
        }
        if block.number() != number {
            return Err(StoreError::damaged_block(
                number,
                format_args!("it is block {}", block.number()),
            ));
        }
        Ok(block)
    }

    /// What the block links to, without checking the rest.
    pub fn previous_hash(&self, number: BlockNumber) -> Result<ContentId, StoreError> {
        Block::previous_hash_of_canonical(&self.bytes)
            .ok_or_else(|| StoreError::damaged_block(number, "no previous hash at its end"))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.bytes.len());
        let digest_flag = if self.digest.is_some() { HAS_DIGEST } else { 0 };
        let verification_flag = if self.verification == Verification::Unverified {
            UNVERIFIED
        } else {
            0
        };
        out.push(digest_flag | verification_flag);
        out.extend_from_slice(self.hash.digest());
        out.extend_from_slice(&self.digest.unwrap_or_default().to_bytes());
        out.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        out.extend_from_slice(&self.bytes);
        out
    }

    pub(super) fn from_bytes(number: BlockNumber, bytes: &[u8]) -> Result<Self, StoreError> {
        let short = || StoreError::damaged_block(number, format_args!("{} bytes are too few", bytes.len()));
        let (flags, rest) = bytes.split_first().ok_or_else(short)?;
        let (hash, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (timestamp, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        if flags & !(HAS_DIGEST | UNVERIFIED) != 0 {
            return Err(StoreError::damaged_block(
                number,
                format_args!("unknown flags {flags}"),
            ));
        }
        Ok(Self {
            hash: ContentId::from_digest(*hash),
            digest: (flags & HAS_DIGEST != 0).then(|| StateDigest::from_bytes(*digest)),
            timestamp_ms: u64::from_be_bytes(*timestamp),
            verification: if flags & UNVERIFIED == 0 {
                Verification::Verified
            } else {
                Verification::Unverified
            },
            bytes: rest.to_vec(),
        })
    }
}

/// A checkpoint that this replica knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointRecord {
    /// The block it covers last.
    pub block_num: BlockNumber,
    /// Which document it is.
    pub kind: CheckpointKind,
    /// Content id of the document.
    pub state_hash: ContentId,
    /// Hash of the block; none for the document that the replica started from.
    pub block_hash: Option<ContentId>,
    /// Digest of the state after the block, if it was applied here.
    pub state_digest: Option<StateDigest>,
    /// Content id of the last full state before it; a full state with none before it, or none that is known, names
    /// itself.
    pub root: ContentId,
    /// The full state before that.
    pub prev_root: PreviousRoot,
}

impl CheckpointRecord {
    /// The anchor that the checkpoint makes, where everything of it is known.
    pub fn anchor(&self) -> Option<Anchor> {
        Some(Anchor {
            block_num: self.block_num,
            block_hash: self.block_hash?,
            state_hash: self.state_hash,
            state_digest: self.state_digest?,
        })
    }

    /// Whether its document can be computed from the blocks here. A delta that names a full state that is not known was
    /// taken as it was reported.
    pub fn is_computed(&self) -> bool {
        self.kind == CheckpointKind::State || self.prev_root != PreviousRoot::Unknown
    }

    /// What the deltas after a full state say of the full state before it.
    pub fn previous_root(&self) -> PreviousRoot {
        match self.prev_root {
            _ if self.root != self.state_hash => PreviousRoot::Known(self.root),
            PreviousRoot::Unknown => PreviousRoot::Unknown,
            PreviousRoot::None | PreviousRoot::Known(_) => PreviousRoot::None,
        }
    }

    /// The same checkpoint once the full state before the last one, or before itself, is known.
    #[must_use]
    pub const fn with_previous_root(self, previous: PreviousRoot) -> Self {
        match (self.kind, previous) {
            (CheckpointKind::Delta, _)
            | (CheckpointKind::State, PreviousRoot::None | PreviousRoot::Unknown) => Self {
                prev_root: previous,
                ..self
            },
            (CheckpointKind::State, PreviousRoot::Known(root)) => Self {
                root,
                prev_root: PreviousRoot::Unknown,
                ..self
            },
        }
    }

    /// The record of a full state that a replica starts from.
    pub const fn of_start(
        block_num: BlockNumber,
        state_hash: ContentId,
        state_digest: StateDigest,
        previous: PreviousRoot,
    ) -> Self {
        let record = Self {
            block_num,
            kind: CheckpointKind::State,
            state_hash,
            block_hash: None,
            state_digest: Some(state_digest),
            root: state_hash,
            prev_root: PreviousRoot::Unknown,
        };
        record.with_previous_root(previous)
    }

    /// The record of a full state of the past that a delta after it names; nothing was applied here.
    pub const fn of_past_state(
        block_num: BlockNumber,
        state_hash: ContentId,
        previous: PreviousRoot,
    ) -> Self {
        let start = Self::of_start(block_num, state_hash, StateDigest::EMPTY, previous);
        Self {
            state_digest: None,
            ..start
        }
    }

    /// The record of the checkpoint that makes `after` out of `before`.
    pub fn of(before: &CheckpointChain, kind: CheckpointKind, anchor: &Anchor) -> Self {
        Self {
            block_num: anchor.block_num,
            kind,
            state_hash: anchor.state_hash,
            block_hash: Some(anchor.block_hash),
            state_digest: Some(anchor.state_digest),
            root: before.root,
            prev_root: before.prev_root,
        }
    }
}

/// What is kept of a peer across restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRecord {
    /// The name it gives itself, where it is known.
    pub peer_id: Option<String>,
    /// How the node came to know it; none for an address that is no peer any more and is kept for its ban.
    #[serde(default = "discovered")]
    pub source: Option<PeerSource>,
    /// Its score and bans.
    pub score: serde_json::Value,
    /// When it last answered, milliseconds since the Unix epoch.
    pub last_seen_ms: Option<u64>,
}

/// What is known of records that say nothing of it.
#[allow(clippy::unnecessary_wraps, reason = "the default of an optional field")]
const fn discovered() -> Option<PeerSource> {
    Some(PeerSource::Discovered)
}

/// The leaves before a block, as they are kept to undo it.
pub(super) fn undo_to_bytes(changes: &[LeafChange]) -> Result<Vec<u8>, StoreError> {
    let rows: Vec<(&Bytes, Option<ByteBuf>)> = changes
        .iter()
        .map(|change| {
            let before = change.before.as_ref();
            (
                Bytes::new(change.key.as_bytes()),
                before.map(|leaf| ByteBuf::from(leaf.value().to_canonical())),
            )
        })
        .collect();
    postcard::to_allocvec(&rows).map_err(|error| StoreError::damaged("undo to write", error))
}

/// Reads what [`undo_to_bytes`] wrote.
pub(super) fn undo_from_bytes(
    number: BlockNumber,
    bytes: &[u8],
) -> Result<Vec<(PathKey, Option<Leaf>)>, StoreError> {
    let damaged =
        |reason: &dyn std::fmt::Display| StoreError::damaged(format_args!("undo of block {number}"), reason);
    let rows: Vec<(ByteBuf, Option<ByteBuf>)> =
        postcard::from_bytes(bytes).map_err(|error| damaged(&error))?;
    rows.into_iter()
        .map(|(key, leaf)| {
            let leaf = leaf.map(|leaf| leaf_from_bytes(&leaf)).transpose()?;
            Ok((PathKey::from(key.into_vec()), leaf))
        })
        .collect()
}

/// Reads a stored leaf.
pub(crate) fn leaf_from_bytes(bytes: &[u8]) -> Result<Leaf, StoreError> {
    serde_json::from_slice::<JsonValue>(bytes)
        .map_err(|error| error.to_string())
        .and_then(|value| Leaf::try_from(value).map_err(|error| error.to_string()))
        .map_err(|reason| StoreError::damaged("leaf", reason))
}

/// Reads a value that is stored as JSON.
pub(super) fn json_from_bytes<T: for<'de> Deserialize<'de>>(
    what: &str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::damaged(what, error))
}

/// Writes a value as JSON.
pub(super) fn json_to_bytes<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::damaged(what, error))
}
