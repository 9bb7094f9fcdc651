//! The projection of the log into Dgraph; `docs/dgraph.md`.
//!
//! A [`store::ProjectionStore`] is what stands in Dgraph: it knows the schema, names nodes, and moves the
//! cursor together with what a step writes, so that each step is written once, whoever writes and whatever
//! fails.

pub mod claim;
mod clear;
pub mod cluster;
mod compare;
pub mod cursor;
pub mod error;
pub mod facts;
mod log;
mod mark;
mod orphans;
pub mod plan;
pub mod region;
mod replacement;
mod rewind;
pub mod runner;
pub mod schema;
pub mod store;
mod taken_back;
pub mod target;
mod touched;
pub mod verification;
mod verify;
mod weight;

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod model_target;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod tests;

pub use claim::ClaimOutcome;
pub use clear::clear;
pub use cursor::{Cursor, StateCursor};
pub use error::{ErrorPolicy, ProjectionError};
pub use log::{CHANGED_BLOCKS_MAX, log_ends};
pub use mark::Mark;
pub use region::Region;
pub use replacement::{StoredPath, StoredState};
pub use runner::{AdvanceError, Progress, Projection, ProjectionSettings, Writers};
pub use store::{ProjectionStore, StepOutcome, WriterName};
pub use verification::{Mend, Verification, Verified};
pub use verify::{BlockNode, Difference, StoodBlock, StoodCheckpoint};

// Steps are made of these.
pub use crate::dgraph::client::{DgraphError, Mutation, Uid};
