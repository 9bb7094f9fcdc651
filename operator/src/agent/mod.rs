//! What the operator knows of an agent: asked over HTTP at its admin port, and believed as little as needed.

mod client;
mod status;

pub use client::{AgentClient, AgentError};
pub use status::{
    AgentStatus, Agreement, CheckpointStatus, DgraphStatus, GapStatus, ListedPeer, SyncMode, SyncStatus,
    VerificationStatus,
};
