//! Which step comes next: decided from where Dgraph stands and where the log stands. Pure.

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::cursor::{Cursor, StateCursor};

/// Where the log stands, seen from Dgraph's cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    /// Highest applied block.
    pub height: BlockNumber,
    /// Lowest block that every block up to the height is stored from.
    pub from: BlockNumber,
    /// Lowest block that the log wants to hold.
    pub wanted_from: BlockNumber,
    /// The last irreversible block.
    pub irreversible: Option<BlockNumber>,
    /// Lowest block that the changes of the state are kept from, up to the height; none where not even the
    /// highest block's are.
    pub changes_from: Option<BlockNumber>,
    /// What the log says about the block that the cursor names.
    pub cursor_block: CursorBlock,
}

/// What the log says about the block that Dgraph's cursor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorBlock {
    /// Dgraph is empty.
    None,
    /// It is on the canonical chain.
    Canonical(BlockNumber),
    /// The log has it, or not, and lacks a block between it and those up to its height.
    Below(BlockReference),
    /// The log ends before it: another writer is ahead, or this log was restored from an older copy.
    Ahead(BlockNumber),
    /// It was on the canonical chain and is on a fork now, which left the chain after `ancestor`.
    Orphan {
        /// It.
        block: BlockReference,
        /// The last block that both have.
        ancestor: BlockReference,
        /// Hash of the log's block of its number; none where the log ends before.
        ours: Option<ContentId>,
    },
    /// The log has another block there and does not know this one.
    Unknown {
        /// It.
        block: BlockReference,
        /// Hash of the log's block; none where the log has none.
        ours: Option<ContentId>,
    },
}

/// How a step changes the state in Dgraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateStep {
    /// It stays as it is, behind the blocks.
    Leave,
    /// What blocks from `from` up to the log's height touched is written as it stands at the height, with what
    /// orphaned blocks touched that it still shows.
    Changed {
        /// First block whose changes are not in Dgraph.
        from: BlockNumber,
        /// Blocks of a fork whose changes are.
        orphaned: Option<BlockRange>,
    },
    /// What stands there belongs to a fork and cannot be taken back piece by piece.
    Forget,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: Dgraph stands where the log stands.
    Idle,
    /// Nothing before the log has the block that Dgraph stands at.
    WaitForLog,
    /// Write blocks that follow; none for the state alone.
    Blocks {
        /// Which.
        range: Option<BlockRange>,
        /// What becomes of the state.
        state: StateStep,
    },
    /// Take the blocks after `ancestor` back, and write those of the log, up to its height where they are not too many.
    Reorganize {
        /// The last block that stays.
        ancestor: BlockReference,
        /// Blocks that go.
        orphaned: BlockRange,
        /// Blocks that come; none where the log ends at the ancestor.
        range: Option<BlockRange>,
        /// What becomes of the state.
        state: StateStep,
    },
    /// Write blocks below those that stand there, which the log has fetched since.
    History(BlockRange),
    /// Write the whole state, as it stands at the log's height.
    ReplaceState,
    /// Dgraph holds a block that contradicts the log.
    Mismatch {
        /// Dgraph's block.
        block: BlockReference,
        /// Hash of the log's block.
        ours: Option<ContentId>,
    },
}

/// Decides the next step. `blocks` is the most blocks of one, more than zero.
pub fn next_step(cursor: &Cursor, log: &LogPosition, blocks: u64) -> Step {
    let applied = match log.cursor_block {
        CursorBlock::None => log.from.previous(),
        CursorBlock::Canonical(number) => Some(number),
        CursorBlock::Ahead(_) => return Step::WaitForLog,
        // What is fetched later tells whether it is right.
        CursorBlock::Below(block) if log.wanted_from <= block.number => return Step::WaitForLog,
        CursorBlock::Below(block) => return Step::Mismatch { block, ours: None },
        CursorBlock::Unknown { block, ours } => return Step::Mismatch { block, ours },
        CursorBlock::Orphan {
            block,
            ancestor,
            ours,
        } => {
            return reorganize(cursor, log, block, ancestor, blocks)
                .unwrap_or(Step::Mismatch { block, ours });
        }
    };
    let next = applied.map_or(log.from, BlockNumber::next);
    let Ok(missing) = BlockRange::new(next, log.height) else {
        return match state_alone(cursor, log) {
            Step::Idle => history(cursor, log, blocks),
            step => step,
        };
    };
    let range = BlockRange::starting_at(next, blocks.min(missing.len()));
    let state = if range.end() == log.height {
        changed_since(cursor, log, None)
    } else {
        StateStep::Leave
    };
    Step::Blocks {
        range: Some(range),
        state,
    }
}

/// The next blocks below those that stand there: the highest first, so that there is never a hole.
fn history(cursor: &Cursor, log: &LogPosition, blocks: u64) -> Step {
    let below = match (cursor.from, cursor.applied) {
        (Some(from), _) => from.previous(),
        // Written by somebody who did not say from where on: written again.
        (None, Some(applied)) => Some(applied.number),
        (None, None) => None,
    };
    let missing = below.and_then(|end| BlockRange::new(log.from, end).ok());
    missing.map_or(Step::Idle, |missing| {
        let start = missing.end().saturating_sub(blocks.saturating_sub(1));
        let start = start.max(missing.start());
        Step::History(BlockRange::new(start, missing.end()).unwrap_or(missing))
    })
}

/// What is left to do for the state once every block is written.
fn state_alone(cursor: &Cursor, log: &LogPosition) -> Step {
    match &cursor.state {
        StateCursor::At(block) if *block == log.height => Step::Idle,
        StateCursor::At(_) => match changed_since(cursor, log, None) {
            StateStep::Leave | StateStep::Forget => Step::ReplaceState,
            state @ StateStep::Changed { .. } => Step::Blocks { range: None, state },
        },
        StateCursor::Nothing | StateCursor::Replacing { .. } => Step::ReplaceState,
    }
}

/// Whether the changes that are not in Dgraph yet are still kept.
fn changed_since(cursor: &Cursor, log: &LogPosition, orphaned: Option<BlockRange>) -> StateStep {
    let StateCursor::At(block) = cursor.state else {
        return StateStep::Leave;
    };
    let from = orphaned.map_or(block.next(), BlockRange::start);
    let is_kept = from > log.height || log.changes_from.is_some_and(|kept| kept <= from);
    if is_kept {
        StateStep::Changed { from, orphaned }
    } else {
        StateStep::Leave
    }
}

/// Takes a fork back; none where that would undo what is irreversible.
fn reorganize(
    cursor: &Cursor,
    log: &LogPosition,
    block: BlockReference,
    ancestor: BlockReference,
    blocks: u64,
) -> Option<Step> {
    let after = ancestor.number.next();
    let orphaned = BlockRange::new(after, block.number).ok()?;
    if log
        .irreversible
        .is_some_and(|irreversible| ancestor.number < irreversible)
    {
        return None;
    }
    let shown = match cursor.state {
        StateCursor::At(shown) => BlockRange::new(after, shown).ok(),
        StateCursor::Nothing | StateCursor::Replacing { .. } => None,
    };
    let range = BlockRange::new(after, log.height).ok();
    let range = range.map(|range| BlockRange::starting_at(after, blocks.min(range.len())));
    let is_whole = range.is_none_or(|range| range.end() == log.height);
    let state = match (&cursor.state, changed_since(cursor, log, shown)) {
        _ if !is_whole && shown.is_none() => match cursor.state {
            StateCursor::Replacing { .. } => StateStep::Forget,
            StateCursor::At(_) | StateCursor::Nothing => StateStep::Leave,
        },
        _ if !is_whole => StateStep::Forget,
        // It shows nothing of the fork yet.
        (StateCursor::At(_), state) if shown.is_none() => state,
        (StateCursor::At(_), state @ StateStep::Changed { .. }) => state,
        (StateCursor::Nothing, _) => StateStep::Leave,
        _ => StateStep::Forget,
    };
    Some(Step::Reorganize {
        ancestor,
        orphaned,
        range,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    fn reference(number: u64, fork: &str) -> BlockReference {
        BlockReference {
            number: at(number),
            hash: ContentId::of(format!("{fork}{number}").as_bytes()),
        }
    }

    fn range(start: u64, end: u64) -> BlockRange {
        BlockRange::new(at(start), at(end)).unwrap()
    }

    fn cursor(applied: Option<u64>, state: StateCursor) -> Cursor {
        Cursor {
            applied: applied.map(|number| reference(number, "a")),
            from: applied.map(|_| at(11)),
            state,
        }
    }

    fn log(height: u64, cursor_block: CursorBlock) -> LogPosition {
        LogPosition {
            height: at(height),
            from: at(11),
            wanted_from: at(11),
            irreversible: Some(at(100)),
            changes_from: Some(at(101)),
            cursor_block,
        }
    }

    #[test]
    fn an_empty_dgraph_is_filled_from_the_first_block_on_and_the_state_comes_last() {
        let empty = cursor(None, StateCursor::Nothing);
        let step = next_step(&empty, &log(500, CursorBlock::None), 100);
        assert_eq!(
            step,
            Step::Blocks {
                range: Some(range(11, 110)),
                state: StateStep::Leave
            }
        );
        let filled = cursor(Some(500), StateCursor::Nothing);
        let here = CursorBlock::Canonical(at(500));
        assert_eq!(next_step(&filled, &log(500, here), 100), Step::ReplaceState);
        let shown = cursor(Some(500), StateCursor::At(at(500)));
        assert_eq!(next_step(&shown, &log(500, here), 100), Step::Idle);
    }

    #[test]
    fn the_state_goes_along_where_the_step_reaches_the_head() {
        let cursor = cursor(Some(200), StateCursor::At(at(150)));
        let here = CursorBlock::Canonical(at(200));
        let state = StateStep::Changed {
            from: at(151),
            orphaned: None,
        };
        assert_eq!(
            next_step(&cursor, &log(250, here), 100),
            Step::Blocks {
                range: Some(range(201, 250)),
                state
            }
        );
        assert_eq!(
            next_step(&cursor, &log(400, here), 100),
            Step::Blocks {
                range: Some(range(201, 300)),
                state: StateStep::Leave
            }
        );
        assert_eq!(
            next_step(&cursor, &log(200, here), 100),
            Step::Blocks { range: None, state }
        );
    }

    #[test]
    fn changes_that_are_not_kept_any_more_make_the_state_be_written_anew() {
        let cursor = cursor(Some(200), StateCursor::At(at(50)));
        let here = CursorBlock::Canonical(at(200));
        assert_eq!(next_step(&cursor, &log(200, here), 100), Step::ReplaceState);
    }

    #[test]
    fn a_fork_is_taken_back_with_what_it_showed() {
        let orphan = |ancestor| CursorBlock::Orphan {
            block: reference(200, "a"),
            ancestor: reference(ancestor, "a"),
            ours: Some(reference(200, "b").hash),
        };
        let step = |state, ancestor, height| {
            next_step(&cursor(Some(200), state), &log(height, orphan(ancestor)), 100)
        };
        let expected = |range, state| Step::Reorganize {
            ancestor: reference(190, "a"),
            orphaned: BlockRange::new(at(191), at(200)).unwrap(),
            range,
            state,
        };
        let changed = |from, orphaned| StateStep::Changed {
            from: at(from),
            orphaned,
        };
        assert_eq!(
            step(StateCursor::At(at(195)), 190, 202),
            expected(Some(range(191, 202)), changed(191, Some(range(191, 195))))
        );
        assert_eq!(
            step(StateCursor::At(at(180)), 190, 202),
            expected(Some(range(191, 202)), changed(181, None))
        );
        // The log may be shorter for a moment.
        assert_eq!(
            step(StateCursor::At(at(200)), 190, 190),
            expected(None, changed(191, Some(range(191, 200))))
        );
        let replacing = StateCursor::Replacing {
            to: at(195),
            after: None,
        };
        assert_eq!(
            step(replacing, 190, 202),
            expected(Some(range(191, 202)), StateStep::Forget)
        );
        // Only so many blocks at once; the state comes after the last.
        for (shown, state) in [(195, StateStep::Forget), (180, StateStep::Leave)] {
            let cut = next_step(
                &cursor(Some(200), StateCursor::At(at(shown))),
                &log(400, orphan(190)),
                100,
            );
            assert_eq!(cut, expected(Some(range(191, 290)), state));
        }
        let refused = Step::Mismatch {
            block: reference(200, "a"),
            ours: Some(reference(200, "b").hash),
        };
        assert_eq!(step(StateCursor::At(at(195)), 90, 202), refused);
    }

    #[test]
    fn history_that_comes_later_is_written_downwards_once_all_else_is_done() {
        let here = CursorBlock::Canonical(at(500));
        let from = |from| Cursor {
            from,
            ..cursor(Some(500), StateCursor::At(at(500)))
        };
        let step = |cursor| next_step(&cursor, &log(500, here), 100);
        assert_eq!(step(from(Some(at(300)))), Step::History(range(200, 299)));
        assert_eq!(step(from(Some(at(50)))), Step::History(range(11, 49)));
        assert_eq!(step(from(Some(at(11)))), Step::Idle);
        // Another writer had more than this log.
        assert_eq!(step(from(Some(at(0)))), Step::Idle);
        assert_eq!(step(from(None)), Step::History(range(401, 500)));
        let behind = next_step(&from(Some(at(300))), &log(501, here), 100);
        assert!(matches!(behind, Step::Blocks { .. }), "{behind:?}");
        let stateless = Cursor {
            state: StateCursor::Nothing,
            ..from(Some(at(300)))
        };
        assert_eq!(step(stateless), Step::ReplaceState);
    }

    #[test]
    fn no_hole_is_left_where_the_log_has_one() {
        let below = CursorBlock::Below(reference(5, "a"));
        let cursor = cursor(Some(5), StateCursor::Nothing);
        let mut log = log(500, below);
        assert!(matches!(
            next_step(&cursor, &log, 100),
            Step::Mismatch { ours: None, .. }
        ));
        log.wanted_from = at(5);
        assert_eq!(next_step(&cursor, &log, 100), Step::WaitForLog);
    }

    #[test]
    fn what_the_log_does_not_know_is_no_reason_to_write() {
        let there = cursor(Some(200), StateCursor::At(at(200)));
        let ahead = CursorBlock::Ahead(at(200));
        assert_eq!(next_step(&there, &log(150, ahead), 100), Step::WaitForLog);
        let unknown = CursorBlock::Unknown {
            block: reference(200, "b"),
            ours: Some(reference(200, "a").hash),
        };
        assert!(matches!(
            next_step(&there, &log(300, unknown), 100),
            Step::Mismatch { ours: Some(_), .. }
        ));
    }
}
