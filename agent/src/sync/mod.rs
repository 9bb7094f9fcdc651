//! The sync engine: finds gaps, fetches them from peers, and hands verified blocks to the replica in order.

mod buffer;
mod consensus;
mod engine;
mod fetch;
mod handle;
mod quorum;
mod settings;
pub mod verify;

pub use engine::SyncEngine;
pub use handle::{
    ConsensusFound, NoConsensus, NotAsked, PeerSummary, RegisterError, SyncGone, SyncHandle, SyncView,
};
pub use settings::SyncSettings;
