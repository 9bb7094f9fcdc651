//! What is kept in memory so that it is not made twice: encoded ranges and computed documents.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use moka::future::Cache;

use super::blocks::{ContentCoding, EncodedBatch};

/// How long an answer with blocks that are not final is kept: about a block.
const RECENT: Duration = Duration::from_secs(3);

/// How long it is remembered that something cannot be made: what is missing may be fetched meanwhile.
const ABSENT: Duration = Duration::from_secs(30);

/// What cannot be made is remembered of so many at most.
const MAX_ABSENT: u64 = 4_096;

/// Names an encoded range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BatchKey {
    pub(super) range: BlockRange,
    pub(super) coding: ContentCoding,
    /// Commits at the time for blocks that may still change; 0 for those that are final.
    pub(super) commits: u64,
}

/// The caches; each is bounded, by its bytes or by its entries.
pub(crate) struct Caches {
    pub(super) finalized: Cache<BatchKey, Arc<EncodedBatch>>,
    pub(super) recent: Cache<BatchKey, Arc<EncodedBatch>>,
    pub(super) documents: Cache<ContentId, Bytes>,
    /// The block of a range that was missing when the range was to be encoded. It is not here still where the store says
    /// so.
    pub(super) missing: Cache<BlockRange, BlockNumber>,
    /// Why a document could not be computed.
    pub(super) absent: Cache<ContentId, Arc<str>>,
}

impl Caches {
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |_: &BatchKey, batch: &Arc<EncodedBatch>| weight(batch.body.len());
        Self {
            finalized: Cache::builder().max_capacity(bytes / 2).weigher(weigh).build(),
            recent: Cache::builder()
                .max_capacity(bytes / 4)
                .weigher(weigh)
                .time_to_live(RECENT)
                .build(),
            documents: Cache::builder()
                .max_capacity(bytes / 4)
                .weigher(|_: &ContentId, document: &Bytes| weight(document.len()))
                .build(),
            missing: Cache::builder()
                .max_capacity(MAX_ABSENT)
                .time_to_live(ABSENT)
                .build(),
            absent: Cache::builder()
                .max_capacity(MAX_ABSENT)
                .time_to_live(ABSENT)
                .build(),
        }
    }
}

/// Bytes of an entry; what it costs besides its content counts as well.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(256)).unwrap_or(u32::MAX)
}
