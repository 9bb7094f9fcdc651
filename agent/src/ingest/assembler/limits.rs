//! What one source may make us hold.

use std::time::Duration;

/// Caps and times of one session's assembler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblerLimits {
    /// Most bytes of operations held: of the block that is being gathered and of those behind a hole,
    /// each. Estimated as they stand in memory.
    pub held_bytes: usize,
    /// Most operations held behind a hole; later ones are dropped and requested again.
    pub ahead_operations: usize,
    /// Most operations asked for in one `request_missing`.
    pub request_operations: u64,
    /// A hole of more operations than this is left to the peers.
    pub hole_operations: u64,
    /// How long a requested range may bring nothing before it is left to the peers.
    pub request_timeout: Duration,
    /// Longest run of blocks without operations; a longer one is left to the peers.
    pub empty_blocks: u64,
    /// How many past operations a repeated one is compared with.
    pub remembered_operations: usize,
    /// How many past blocks the source can be asked for again.
    pub remembered_blocks: usize,
    /// Blocks that a source's clock may be ahead of ours.
    pub clock_skew_blocks: u64,
}

impl Default for AssemblerLimits {
    fn default() -> Self {
        Self {
            held_bytes: 32 << 20,
            ahead_operations: 50_000,
            request_operations: 5_000,
            hole_operations: 100_000,
            request_timeout: Duration::from_secs(20),
            empty_blocks: 28_800,
            remembered_operations: 4_096,
            remembered_blocks: 256,
            clock_skew_blocks: 20,
        }
    }
}
