//! The sync engine: finds gaps, fetches them from peers, and hands verified blocks to the replica in order.

mod handle;
pub mod verify;

pub use handle::{ConsensusFound, PeerSummary, RegisterError, SyncGone, SyncHandle, SyncView};
