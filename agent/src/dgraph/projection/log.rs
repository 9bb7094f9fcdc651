//! Where the log stands, and what a step takes out of it.

use std::collections::{BTreeMap, BTreeSet};

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::cursor::{Cursor, StateCursor};
use super::facts::{BlockRow, clear_block, clear_orphan, put_checkpoint, put_fork, put_state};
use super::orphans::{Orphans, orphans_from};
use super::plan::{CursorBlock, LogPosition, StateStep, Step};
use super::region::Region;
use super::touched::{StateNode, touched_by_leaves, touched_by_orphan};
use super::weight::{StateLimits, StateWeight};
use crate::dgraph::client::Mutation;
use crate::dgraph::job::LogEnds;
use crate::store::{Position, StoreError, StoredBlock, View};

/// Blocks whose changes are looked for at most; where Dgraph's state is further behind, it is written anew.
pub const CHANGED_BLOCKS_MAX: u64 = 10_000;

/// Where the log stands, with what was found on the way there.
#[derive(Debug)]
pub(super) struct Survey {
    /// Where it stands, seen from Dgraph's cursor.
    pub position: LogPosition,
    /// The fork that the cursor is on.
    orphans: Option<Orphans>,
}

impl Survey {
    /// Hashes of the blocks of the fork that the cursor is on.
    pub(super) fn orphaned(&self) -> impl Iterator<Item = ContentId> {
        let blocks = self.orphans.iter().flat_map(|orphans| &orphans.blocks);
        blocks.map(|(_, stored)| stored.hash)
    }
}

/// The blocks that the log has without a hole, up to its height; none while it has no block with a state.
pub fn log_ends(view: &View) -> Result<Option<LogEnds>, StoreError> {
    let Some(position) = view.position()? else {
        return Ok(None);
    };
    let height = position.state_height;
    let have = view.have()?;
    let run = have.iter().find(|run| run.contains(height));
    Ok(run.map(|run| LogEnds {
        from: run.start(),
        height,
    }))
}

/// Looks where the log stands; none while it has no block with a state.
pub(super) fn survey(view: &View, cursor: &Cursor) -> Result<Option<Survey>, StoreError> {
    let Some(position) = view.position()? else {
        return Ok(None);
    };
    let height = position.state_height;
    let have = view.have()?;
    let Some(run) = have.iter().find(|run| run.contains(height)) else {
        return Ok(None);
    };
    let (cursor_block, orphans) = match cursor.applied {
        None => (CursorBlock::None, None),
        Some(block) => cursor_block(view, block, &position, run)?,
    };
    let changes_from = match (&cursor.state, cursor_block) {
        (StateCursor::At(shown), CursorBlock::Orphan { ancestor, .. }) => {
            kept_from((*shown).min(ancestor.number).next(), height, view)?
        }
        (StateCursor::At(shown), _) => kept_from(shown.next(), height, view)?,
        _ => None,
    };
    Ok(Some(Survey {
        position: LogPosition {
            height,
            from: run.start(),
            wanted_from: position.history_start,
            irreversible: position.irreversible_block(),
            changes_from,
            cursor_block,
        },
        orphans,
    }))
}

fn kept_from(from: BlockNumber, height: BlockNumber, view: &View) -> Result<Option<BlockNumber>, StoreError> {
    match BlockRange::new(from, height) {
        Ok(range) if range.len() <= CHANGED_BLOCKS_MAX && view.keeps_changes_of(range)? => Ok(Some(from)),
        _ => Ok(None),
    }
}

fn cursor_block(
    view: &View,
    block: BlockReference,
    position: &Position,
    run: BlockRange,
) -> Result<(CursorBlock, Option<Orphans>), StoreError> {
    let ours = view.block(block.number)?.map(|stored| stored.hash);
    let differs = ours.is_some_and(|ours| ours != block.hash);
    if block.number.next() < run.start() && !differs || block.number < run.start() && ours.is_none() {
        return Ok((CursorBlock::Below(block), None));
    }
    if block.number <= run.end() && ours == Some(block.hash) {
        return Ok((CursorBlock::Canonical(block.number), None));
    }
    let height = position.state_height;
    if let Some(orphans) = orphans_from(view, block, position)? {
        let ancestor = orphans.ancestor;
        let fork = CursorBlock::Orphan {
            block,
            ancestor,
            ours,
        };
        return Ok((fork, Some(orphans)));
    }
    let unknown = if block.number > height {
        CursorBlock::Ahead(block.number)
    } else {
        CursorBlock::Unknown { block, ours }
    };
    Ok((unknown, None))
}

/// What a step comes to.
#[derive(Debug)]
pub(super) enum Gathered {
    /// It writes nothing of blocks.
    Nothing,
    /// What it writes, and where Dgraph stands after it.
    Facts(Mutation, Cursor),
    /// Too much of the state changed for one step: it is to be written anew, in pieces.
    ReplaceState,
}

/// What a step writes.
pub(super) fn gather(
    view: &View,
    region: &Region,
    cursor: &Cursor,
    survey: &Survey,
    step: &Step,
    limits: StateLimits,
) -> Result<Gathered, StoreError> {
    let mut facts = Mutation::new();
    let log = &survey.position;
    let orphans = survey.orphans.as_ref().map_or(&[][..], |orphans| &orphans.blocks);
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
                for (number, stored) in orphans {
                    let row = BlockRow::of(*number, stored)?;
                    row.clone()
                        .put_orphan(region.orphan(stored.hash), &fork, &mut facts)?;
                    replaced.insert(*number, row);
                }
            }
            let stays = |number| range.is_some_and(|range| range.contains(number));
            for number in orphaned.iter().filter(|number| !stays(*number)) {
                clear_block(region, number, &mut facts);
            }
            (*range, *state, Some(*ancestor))
        }
        Step::History(range) => {
            put_blocks(view, region, *range, log.irreversible, &replaced, &mut facts)?;
            let after = Cursor {
                from: Some(range.start()),
                ..cursor.clone()
            };
            return Ok(Gathered::Facts(facts, after));
        }
        Step::Idle | Step::WaitForLog | Step::ReplaceState | Step::Mismatch { .. } => {
            return Ok(Gathered::Nothing);
        }
    };
    let last = match range {
        Some(range) => put_blocks(view, region, range, log.irreversible, &replaced, &mut facts)?,
        None => None,
    };
    let state = match state {
        StateStep::Leave => cursor.state.clone(),
        StateStep::Forget => StateCursor::Nothing,
        StateStep::Changed { from, orphaned } => {
            let shown = orphans
                .iter()
                .filter(|(number, _)| orphaned.is_some_and(|orphaned| orphaned.contains(*number)));
            match changed(view, from, log.height, shown, limits)? {
                Some(nodes) => {
                    for (node, value) in nodes {
                        put_state(region, &node, value, log.height, &mut facts)?;
                    }
                    StateCursor::At(log.height)
                }
                None if matches!(step, Step::Blocks { range: None, .. }) => {
                    return Ok(Gathered::ReplaceState);
                }
                // It shows the fork.
                None if orphaned.is_some() => StateCursor::Nothing,
                None => cursor.state.clone(),
            }
        }
    };
    let stays = match (cursor.applied, cursor.from) {
        (None, _) => false,
        (Some(_), None) => true,
        // Of a chain that was left below everything that stands there nothing stays.
        (Some(_), Some(from)) => ancestor.is_some_and(|ancestor| from <= ancestor.number),
    };
    let (applied, from) = if stays {
        (last.or(ancestor), cursor.from)
    } else {
        (last, range.map(BlockRange::start))
    };
    let after = Cursor { applied, from, state };
    Ok(Gathered::Facts(facts, after))
}

/// Writes the blocks of a range and their checkpoints; gives the last. One that may have been left once is no block
/// of a fork any more.
fn put_blocks(
    view: &View,
    region: &Region,
    range: BlockRange,
    irreversible: Option<BlockNumber>,
    replaced: &BTreeMap<BlockNumber, BlockRow>,
    facts: &mut Mutation,
) -> Result<Option<BlockReference>, StoreError> {
    let mut last = None;
    for row in view.blocks(range) {
        let (number, stored) = row?;
        let row = BlockRow::of(number, &stored)?;
        match replaced.get(&number) {
            Some(old) => row.put_over(old, region, facts)?,
            None => row.put(region, facts)?,
        }
        if irreversible.is_none_or(|irreversible| irreversible < number) {
            clear_orphan(region, stored.hash, facts);
        }
        last = Some(BlockReference {
            number,
            hash: stored.hash,
        });
    }
    for record in view.checkpoints(range) {
        put_checkpoint(region, &record?, facts)?;
    }
    Ok(last)
}

/// A node of the state, and its value; none where nothing stands there any more.
type ChangedNode = (StateNode, Option<String>);

/// The nodes of the state that blocks changed, and orphaned ones, as they are now; none where they are too many.
fn changed<'a>(
    view: &View,
    from: BlockNumber,
    height: BlockNumber,
    orphaned: impl Iterator<Item = &'a (BlockNumber, StoredBlock)>,
    limits: StateLimits,
) -> Result<Option<Vec<ChangedNode>>, StoreError> {
    let mut touched = BTreeSet::new();
    if let Ok(range) = BlockRange::new(from, height) {
        for number in range.iter() {
            let changes = view.undo(number)?.ok_or_else(|| {
                StoreError::damaged(format_args!("changes of block {number}"), "they are gone")
            })?;
            touched.append(&mut touched_by_leaves(changes.iter().map(|(key, _)| key)));
            if touched.len() > limits.nodes {
                return Ok(None);
            }
        }
    }
    for (number, stored) in orphaned {
        let block = stored.decode(*number)?;
        touched.append(&mut touched_by_orphan(&block.block().operations, view)?);
        if touched.len() > limits.nodes {
            return Ok(None);
        }
    }
    let mut weight = StateWeight::default();
    let mut nodes = Vec::with_capacity(touched.len());
    for node in touched {
        let value = node.value(view)?;
        if !weight.add(value.as_ref().map_or(0, String::len), limits) {
            return Ok(None);
        }
        nodes.push((node, value));
    }
    Ok(Some(nodes))
}
