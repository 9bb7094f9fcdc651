//! Compares what stands in Dgraph with the log, piece by piece, and repairs what differs.
//!
//! A repair is written only if the cursor has not moved since the piece was read, so that it can never put an
//! older value over a newer one.

use std::collections::{BTreeMap, BTreeSet};

use honeygraph_chain::{BlockNumber, BlockRange};

use super::facts::{BlockRow, clear_state, put_checkpoint, put_state};
use super::region::Region;
use super::replacement::{Judged, StoredState, judge};
use super::touched::StateNode;
use crate::dgraph::client::{Mutation, Uid};
use crate::store::{StoreError, View};

/// Blocks of one piece.
pub(super) const BLOCKS: u64 = 250;
/// Nodes of the state of one piece.
pub(super) const NODES: usize = 1_000;

/// What was found wrong, and what puts it right.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Blocks that differ or are missing.
    pub blocks: u64,
    /// Nodes of the state that differ, are missing, or should not be there.
    pub nodes: u64,
    /// The facts.
    pub facts: Mutation,
}

/// Compares blocks.
pub(super) fn repair_blocks(
    view: &View,
    region: &Region,
    range: BlockRange,
    found: Vec<BlockRow>,
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    let mut found: BTreeMap<BlockNumber, BlockRow> = found.into_iter().map(|row| (row.number, row)).collect();
    for row in view.blocks(range) {
        let (number, stored) = row?;
        let expected = BlockRow::of(number, &stored)?;
        let stands = found.remove(&number);
        if !stands.as_ref().is_some_and(|stood| expected.is_right(stood)) {
            match stands {
                Some(old) => expected.put_over(&old, region, &mut repair.facts)?,
                None => expected.put(region, &mut repair.facts)?,
            }
            if let Some(record) = view.checkpoint(number)? {
                put_checkpoint(region, &record, &mut repair.facts)?;
            }
            repair.blocks += 1;
        }
    }
    Ok(repair)
}

/// Compares nodes of the state that stand in Dgraph with the state at `block`.
pub(super) fn repair_stored_state(
    view: &View,
    region: &Region,
    block: BlockNumber,
    page: &[StoredState],
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    for stored in page {
        match judge(view, region, stored)? {
            Judged::Stands(node, expected) => {
                if stored.value.as_ref() != Some(&expected) {
                    put_state(region, &node, Some(expected), block, &mut repair.facts)?;
                    repair.nodes += 1;
                }
            }
            Judged::Gone => {
                clear_state(stored.uid, &mut repair.facts);
                repair.nodes += 1;
            }
            // Found from the side of the state, if it is wrong.
            Judged::Unreadable => {}
        }
    }
    Ok(repair)
}

/// Compares nodes of the state with what stands in Dgraph of them.
pub(super) fn repair_state(
    view: &View,
    region: &Region,
    block: BlockNumber,
    nodes: BTreeSet<StateNode>,
    found: &[StoredState],
) -> Result<Repair, StoreError> {
    let found: BTreeMap<Uid, &StoredState> = found.iter().map(|stored| (stored.uid, stored)).collect();
    let mut repair = Repair::default();
    for node in nodes {
        let expected = node.value(view)?;
        let stands = found.get(&region.state(node.key()));
        if stands.is_none_or(|stored| stored.path != text_of(&node))
            || stands.and_then(|stored| stored.value.as_ref()) != expected.as_ref()
        {
            put_state(region, &node, expected, block, &mut repair.facts)?;
            repair.nodes += 1;
        }
    }
    Ok(repair)
}

fn text_of(node: &StateNode) -> String {
    node.key()
        .to_path()
        .map(|path| path.to_string())
        .unwrap_or_default()
}
