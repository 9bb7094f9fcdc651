//! Writing the whole state anew, piece by piece, as it stood at one block.

use honeygraph_chain::{BlockNumber, Path, PathKey};

use super::cursor::{Cursor, StateCursor};
use super::facts::{clear_state, put_state};
use super::region::Region;
use super::touched::{StateNode, nodes_after};
use crate::dgraph::client::{Mutation, Uid};
use crate::store::{StoreError, View};

/// Nodes of the state that one step writes.
const NODES_A_STEP: usize = 2_000;

/// A node of the state that stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Its uid.
    pub uid: Uid,
    /// Its path as text.
    pub path: String,
    /// Its value.
    pub value: Option<String>,
}

/// A state on its way into Dgraph. It is taken from one view, so that every piece is of the same block; an
/// interrupted one is begun again.
#[derive(Debug)]
pub(super) struct Replacement {
    view: View,
    to: BlockNumber,
    after: Option<PathKey>,
    /// Up to which node what stands there was compared; none once all was.
    sweeping: Option<Uid>,
    written: u64,
}

impl Replacement {
    pub(super) const fn new(view: View, to: BlockNumber) -> Self {
        Self {
            view,
            to,
            after: None,
            sweeping: Some(Uid(0)),
            written: 0,
        }
    }

    /// The state cursor that says that this replacement is as far as it is.
    pub(super) fn state_cursor(&self) -> StateCursor {
        StateCursor::Replacing {
            to: self.to,
            after: self.after.clone(),
        }
    }

    /// Nodes that were written.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Where nodes that stand in Dgraph are to be read next; none once everything was compared.
    pub(super) const fn sweeping(&self) -> Option<Uid> {
        self.sweeping
    }

    /// Takes back what stands in Dgraph and not in the state. An empty page is the end.
    pub(super) fn sweep(&mut self, region: &Region, page: &[StoredState]) -> Result<Mutation, StoreError> {
        let mut facts = Mutation::new();
        for stored in page {
            // What cannot be read is written again with the rest, where it is right.
            if !matches!(judge(&self.view, region, stored)?, Judged::Stands(..)) {
                clear_state(stored.uid, &mut facts);
            }
        }
        self.sweeping = page.last().map(|last| last.uid);
        Ok(facts)
    }

    /// The next piece, and where Dgraph stands with it.
    pub(super) fn next_piece(
        &mut self,
        region: &Region,
        cursor: &Cursor,
    ) -> Result<(Mutation, Cursor), StoreError> {
        let (nodes, last) = nodes_after(&self.view, self.after.as_ref(), NODES_A_STEP)?;
        self.after = last;
        let mut facts = Mutation::new();
        self.written += nodes.len() as u64;
        for node in nodes {
            put_state(region, &node, node.value(&self.view)?, self.to, &mut facts)?;
        }
        let state = if self.after.is_none() {
            StateCursor::At(self.to)
        } else {
            self.state_cursor()
        };
        let after = Cursor {
            state,
            ..cursor.clone()
        };
        Ok((facts, after))
    }
}

/// What the state says about a node that stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// It stands in the state too, with this value.
    Stands(StateNode, String),
    /// Nothing of the state is kept there.
    Gone,
    /// Its path cannot be read back from the text: a name has a `/` in it, or somebody changed the path.
    Unreadable,
}

/// Looks a node of Dgraph up in the state.
pub(super) fn judge(view: &View, region: &Region, stored: &StoredState) -> Result<Judged, StoreError> {
    let key = PathKey::from(&Path::from_slashed(&stored.path));
    if region.state(&key) != stored.uid {
        return Ok(Judged::Unreadable);
    }
    for node in [StateNode::Leaf(key.clone()), StateNode::Object(key)] {
        if node.is_kept()
            && let Some(value) = node.value(view)?
        {
            return Ok(Judged::Stands(node, value));
        }
    }
    Ok(Judged::Gone)
}
