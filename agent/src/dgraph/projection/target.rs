//! What a projection writes to and reads from.

use std::future::Future;

use honeygraph_chain::BlockRange;

use super::error::ProjectionError;
use super::facts::BlockRow;
use super::region::Region;
use super::replacement::StoredState;
use super::store::{Cursor, StepOutcome};
use crate::dgraph::client::{Mutation, Uid};

/// A cluster that holds one network; Dgraph, or a model of it.
pub trait Target: std::fmt::Debug + Send + Sync + 'static {
    /// How nodes are named.
    fn region(&self) -> &Region;

    /// Where it stands.
    fn cursor(&self) -> impl Future<Output = Result<Cursor, ProjectionError>> + Send;

    /// Writes facts and moves the cursor, if it stands at `before`.
    fn write(
        &self,
        before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> impl Future<Output = Result<StepOutcome, ProjectionError>> + Send;

    /// A page of the nodes of the state, by their uids, from the one after `after` on; empty at the end.
    fn state_nodes(
        &self,
        after: Uid,
    ) -> impl Future<Output = Result<Vec<StoredState>, ProjectionError>> + Send;

    /// Those of some nodes of the state that stand there.
    fn state_of(
        &self,
        nodes: &[Uid],
    ) -> impl Future<Output = Result<Vec<StoredState>, ProjectionError>> + Send;

    /// The blocks of a range that stand there.
    fn blocks(
        &self,
        range: BlockRange,
    ) -> impl Future<Output = Result<Vec<BlockRow>, ProjectionError>> + Send;
}
