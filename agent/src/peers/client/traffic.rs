//! Counts what peers sent, as it arrives.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of answers with blocks. They are counted as they arrive, so that those of requests that are given up count
/// as well.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    blocks: AtomicU64,
}

impl Traffic {
    /// Bytes that arrived, compressed.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of the blocks in them.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    pub(crate) fn count_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_blocks(&self, bytes: u64) {
        self.blocks.fetch_add(bytes, Ordering::Relaxed);
    }
}
