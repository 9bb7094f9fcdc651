//! The projection of the log into Dgraph; `docs/dgraph.md`.
//!
//! A [`store::ProjectionStore`] is what stands in Dgraph: it knows the schema, names nodes, and moves the
//! cursor together with what a step writes, so that each step is written once, whoever writes and whatever
//! fails.

pub mod claim;
pub mod cluster;
pub mod cursor;
pub mod error;
pub mod region;
pub mod schema;
pub mod store;

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod schedule;

pub use claim::ClaimOutcome;
pub use cursor::{Cursor, StateCursor};
pub use error::{ErrorPolicy, ProjectionError};
pub use region::Region;
pub use store::{ProjectionStore, StepOutcome, WriterName};

// Steps are made of these.
pub use crate::dgraph::client::{DgraphError, Mutation, Uid};
