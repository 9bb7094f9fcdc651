//! Where the log stands, and what a step takes out of it.

use std::collections::{BTreeMap, BTreeSet};

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::cursor::{Cursor, StateCursor};
use super::facts::{BlockRow, clear_block, clear_orphan, put_checkpoint, put_fork, put_state};
use super::plan::{CursorBlock, LogPosition, StateStep, Step};
use super::region::Region;
use super::touched::{StateNode, touched_by_leaves, touched_by_orphan};
use crate::dgraph::client::Mutation;
use crate::store::{StoreError, StoredBlock, View};

/// Blocks whose changes are looked for at most; where Dgraph's state is further behind, it is written anew.
pub const CHANGED_BLOCKS_MAX: u64 = 10_000;

/// Where the log stands, seen from Dgraph's cursor; none while it has no block with a state.
pub(super) fn log_position(view: &View, cursor: &Cursor) -> Result<Option<LogPosition>, StoreError> {
    let Some(position) = view.position()? else {
        return Ok(None);
    };
    let height = position.state_height;
    let have = view.have()?;
    let Some(run) = have.iter().find(|run| run.contains(height)) else {
        return Ok(None);
    };
    let cursor_block = match cursor.applied {
        None => CursorBlock::None,
        Some(block) => cursor_block(view, block, height)?,
    };
    let changes_from = match (&cursor.state, cursor_block) {
        (StateCursor::At(shown), CursorBlock::Orphan { ancestor, .. }) => {
            kept_from((*shown).min(ancestor.number).next(), height, view)?
        }
        (StateCursor::At(shown), _) => kept_from(shown.next(), height, view)?,
        _ => None,
    };
    Ok(Some(LogPosition {
        height,
        from: run.start(),
        irreversible: position.irreversible_block(),
        changes_from,
        cursor_block,
    }))
}

fn kept_from(from: BlockNumber, height: BlockNumber, view: &View) -> Result<Option<BlockNumber>, StoreError> {
    match BlockRange::new(from, height) {
        Ok(range) if range.len() <= CHANGED_BLOCKS_MAX && view.keeps_changes_of(range)? => Ok(Some(from)),
        _ => Ok(None),
    }
}

fn cursor_block(view: &View, block: BlockReference, height: BlockNumber) -> Result<CursorBlock, StoreError> {
    let ours = view.block(block.number)?.map(|stored| stored.hash);
    if block.number <= height && ours == Some(block.hash) {
        return Ok(CursorBlock::Canonical(block.number));
    }
    let orphans = orphans_from(view, block)?;
    if let Some((lowest, stored)) = orphans.last()
        && let Some(ancestor) = canonical_parent(view, *lowest, stored)?
    {
        return Ok(CursorBlock::Orphan { block, ancestor });
    }
    Ok(if block.number > height {
        CursorBlock::Ahead(block.number)
    } else {
        CursorBlock::Unknown { block, ours }
    })
}

/// The blocks of a fork from its block `tip` down to the one that left the canonical chain, as far as they are
/// stored; none where `tip` is not.
fn orphans_from(view: &View, tip: BlockReference) -> Result<Vec<(BlockNumber, StoredBlock)>, StoreError> {
    let mut orphans = Vec::new();
    let mut next = view.fork_block(tip)?.map(|stored| (tip.number, stored));
    while let Some((number, stored)) = next.take() {
        let previous = stored.previous_hash(number)?;
        let is_last = canonical_parent(view, number, &stored)?.is_some();
        orphans.push((number, stored));
        if let (false, Some(before)) = (is_last, number.previous()) {
            let hash = previous;
            next = view
                .fork_block(BlockReference { number: before, hash })?
                .map(|stored| (before, stored));
        }
    }
    Ok(orphans)
}

/// The canonical block that a block follows: by its hash, or by the checkpoint that the block is.
fn canonical_parent(
    view: &View,
    number: BlockNumber,
    stored: &StoredBlock,
) -> Result<Option<BlockReference>, StoreError> {
    let previous = stored.previous_hash(number)?;
    let Some(before) = number.previous() else {
        return Ok(None);
    };
    let Some(parent) = view.block(before)? else {
        return Ok(None);
    };
    let checkpoint = view.checkpoint(before)?;
    let follows = parent.hash == previous || checkpoint.is_some_and(|record| record.state_hash == previous);
    Ok(follows.then_some(BlockReference {
        number: before,
        hash: parent.hash,
    }))
}

/// What a step writes, and where Dgraph stands after it. None for steps that write nothing of blocks.
pub(super) fn gather(
    view: &View,
    region: &Region,
    cursor: &Cursor,
    log: &LogPosition,
    step: &Step,
) -> Result<Option<(Mutation, Cursor)>, StoreError> {
    let mut facts = Mutation::new();
    // What stands on the nodes of blocks that come.
    let mut replaced = BTreeMap::new();
    let (range, state, ancestor) = match step {
        Step::Blocks { range, state } => (*range, *state, cursor.applied),
        Step::Reorganize {
            ancestor,
            orphaned,
            range,
            state,
        } => {
            if let Some(tip) = cursor.applied {
                let fork = tip.hash.to_string();
                put_fork(region, tip, *ancestor, &mut facts)?;
                for (number, stored) in orphans_from(view, tip)? {
                    let row = BlockRow::of(number, &stored)?;
                    row.clone()
                        .put_orphan(region.orphan(stored.hash), &fork, &mut facts)?;
                    replaced.insert(number, row);
                }
            }
            let stays = |number| range.is_some_and(|range| range.contains(number));
            for number in orphaned.iter().filter(|number| !stays(*number)) {
                clear_block(region, number, &mut facts);
            }
            (*range, *state, Some(*ancestor))
        }
        Step::Idle | Step::WaitForLog | Step::ReplaceState | Step::Mismatch { .. } => return Ok(None),
    };
    let mut applied = ancestor;
    if let Some(range) = range {
        for row in view.blocks(range) {
            let (number, stored) = row?;
            let row = BlockRow::of(number, &stored)?;
            match replaced.get(&number) {
                Some(old) => row.put_over(old, region, &mut facts)?,
                None => row.put(region, &mut facts)?,
            }
            if !replaced.is_empty() {
                clear_orphan(region, stored.hash, &mut facts);
            }
            applied = Some(BlockReference {
                number,
                hash: stored.hash,
            });
        }
        for record in view.checkpoints(range) {
            put_checkpoint(region, &record?, &mut facts)?;
        }
    }
    let state = match state {
        StateStep::Leave => cursor.state.clone(),
        StateStep::Forget => StateCursor::Nothing,
        StateStep::Changed { from, orphaned } => {
            for node in touched(view, cursor, from, log.height, orphaned)? {
                let value = node.value(view)?;
                put_state(region, &node, value, log.height, &mut facts)?;
            }
            StateCursor::At(log.height)
        }
    };
    Ok(Some((facts, Cursor { applied, state })))
}

fn touched(
    view: &View,
    cursor: &Cursor,
    from: BlockNumber,
    height: BlockNumber,
    orphaned: Option<BlockRange>,
) -> Result<BTreeSet<StateNode>, StoreError> {
    let mut touched = BTreeSet::new();
    if let Ok(range) = BlockRange::new(from, height) {
        for number in range.iter() {
            let changes = view.undo(number)?.ok_or_else(|| {
                StoreError::damaged(format_args!("changes of block {number}"), "they are gone")
            })?;
            touched.append(&mut touched_by_leaves(changes.iter().map(|(key, _)| key)));
        }
    }
    if let (Some(orphaned), Some(tip)) = (orphaned, cursor.applied) {
        let blocks = orphans_from(view, tip)?;
        for (number, stored) in blocks.iter().filter(|(number, _)| orphaned.contains(*number)) {
            let block = stored.decode(*number)?;
            touched.append(&mut touched_by_orphan(&block.block().operations, view)?);
        }
    }
    Ok(touched)
}
