//! The rules every node of a honeycomb network must agree on, without any I/O.
//!
//! What a block, an operation, a checkpoint and a state document are, how each is hashed, how state
//! changes and is undone, which fork wins, when an anchor is agreed, and what to fetch next. Sockets,
//! disks, clocks and random numbers are handed in. The contract itself is `docs/protocol.md`.

pub mod block;
pub mod block_number;
pub mod canonical_json;
pub mod checkpoint;
pub mod conformance;
pub mod content_id;
pub mod fork;
pub mod interval;
pub mod network;
pub mod operation;
pub mod path;
pub mod peer;
pub mod planner;
pub mod quorum;
pub mod state;
pub mod state_digest;
pub mod state_document;
pub mod subtrees;

pub use block::{Block, BlockError};
pub use block_number::{BlockNumber, BlockRange};
pub use canonical_json::JsonValue;
pub use content_id::ContentId;
pub use operation::{Operation, Operations};
pub use path::{Path, PathKey};
pub use state_digest::StateDigest;
