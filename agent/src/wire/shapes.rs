//! The JSON shapes of the HTTP API (`docs/protocol.md`, section 6), for reading and for writing.
//!
//! What the JavaScript honeygraph knows has its names and types exactly. When read, unknown members are
//! ignored and what an older node does not send is absent, so that both read each other. Numbers of
//! blocks beyond 2^53 - 1, or below 0, are refused while reading.

mod blocks;
mod errors;
mod gaps;
mod ours;
mod peers;
mod status;

pub use blocks::{
    FullBlock, FullBlockError, FullOperation, FullPath, Head, MAX_FULL_OPERATIONS, ReportedBlock,
    ReportedHash,
};
pub use errors::{BlockErrorAnswer, ErrorAnswer};
pub use gaps::{Gap, Gaps, MAX_LISTED_GAPS, SyncGapsAnswer, SyncGapsRequest, SyncResults};
pub use ours::{
    AnchorAnswer, Anchors, BatchLimits, Capabilities, CheckpointEntry, Checkpoints, Features, HashAnswer,
    MAX_LISTED_ANCHORS, MAX_LISTED_CHECKPOINTS, StateAnswer,
};
pub use peers::{
    Consensus, ConsensusAnswer, Discover, DiscoverAnswer, MAX_LISTED_PEERS, PeerEntries, PeerEntry,
    RegisterPeer, RegisterPeerAnswer,
};
pub use status::{
    Agreement, CheckpointStatus, DgraphMismatch, DgraphStatus, DgraphWriters, ForkStatus, ForkTip, GapStatus,
    Health, PeerStatus, SyncMode, SyncStatus, VerificationPolicy, VerificationStatus,
};

/// The name of the canonical fork.
pub const MAIN_FORK: &str = "main";

fn main_fork() -> String {
    MAIN_FORK.to_owned()
}

/// Reads a member that may be null as its default.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    use serde::Deserialize;
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
