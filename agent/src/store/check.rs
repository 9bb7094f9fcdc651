//! Verifies everything that is stored, streaming: memory does not grow with the store.
//!
//! What is checked is listed in `docs/store.md`. Damage is a line in the report, never an error or a panic:
//! the check goes on with what can still be read.

mod chain;
mod records;
mod repair;
mod state;
#[cfg(test)]
mod tests;

pub use repair::{Repaired, repair};

use std::fmt;
use std::sync::Arc;

use fjall::{Readable as _, Snapshot};
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockRange, ContentId};

use super::layout::{Keyspaces, POSITION_KEY};
use super::{Position, Store, StoreError, View};

/// Problems that are kept one by one; beyond these they are counted.
const MAX_PROBLEMS: usize = 1_000;
/// Rows that one repair removes at most.
const MAX_ROWS: usize = 100_000;

/// What mends a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// `check --repair` removes the blocks, and the node fetches them again.
    FetchAgain(BlockRange),
    /// `check --repair` removes the row; the node does without it.
    Forget,
    /// `check --repair` writes the row again from what it is made of.
    Rewrite,
    /// The blocks are sound but what was computed from them is not.
    ComputeAgain,
    /// Nothing here can mend it.
    StartAgain,
}

impl fmt::Display for Remedy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchAgain(range) if range.len() == 1 => {
                write!(
                    formatter,
                    "`check --repair` removes it, the node fetches it again"
                )
            }
            Self::FetchAgain(range) => write!(
                formatter,
                "`check --repair` removes blocks {range}, the node fetches them again"
            ),
            Self::Forget => formatter.write_str("`check --repair` removes it, the node does without it"),
            Self::Rewrite => formatter.write_str("`check --repair` writes it again"),
            Self::ComputeAgain => formatter.write_str(
                "`export` to a file, move DATA_DIR away and `import` the file: everything is computed again",
            ),
            Self::StartAgain => formatter.write_str(
                "move DATA_DIR away and start the node again, or `import` a file from another node",
            ),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `block 7`, `checkpoint 101`, `state`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What mends it.
    pub remedy: Remedy,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; {}", self.place, self.reason, self.remedy)
    }
}

/// How much was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Blocks of the canonical chain.
    pub blocks: u64,
    /// Blocks off it.
    pub fork_blocks: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Checkpoints whose content id was computed again from the blocks.
    pub proven_checkpoints: u64,
    /// Stored documents.
    pub documents: u64,
    /// Leaves of the state.
    pub leaves: u64,
    /// Blocks that can be undone.
    pub undo_rows: u64,
    /// Peers, entries of the retry queue and cursors of sources.
    pub other_rows: u64,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    counts: Counts,
    problems: Vec<Problem>,
    problem_count: u64,
    /// Blocks that a repair removes.
    bad_blocks: IntervalSet,
    rows: Vec<Row>,
}

/// A row that a repair removes or writes again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Row {
    /// A row of a keyspace.
    Remove(Table, Vec<u8>),
    /// A document.
    Document(ContentId),
    /// Every row of the intervals.
    Have,
    /// An entry of the index of checkpoints that is missing or wrong.
    CheckpointId(ContentId, [u8; 8]),
}

/// The keyspaces of which a repair removes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Blocks,
    ForkBlocks,
    Undo,
    CheckpointIds,
    Documents,
    Retry,
    Peers,
    Sources,
}

impl CheckReport {
    /// How much was read.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The first problems, in the order of checking.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are in all.
    pub const fn problem_count(&self) -> u64 {
        self.problem_count
    }

    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, place: impl fmt::Display, reason: impl fmt::Display, remedy: Remedy) {
        self.problem_count += 1;
        if let Remedy::FetchAgain(range) = remedy {
            self.bad_blocks.insert(range);
        }
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                place: place.to_string(),
                reason: reason.to_string(),
                remedy,
            });
        }
    }

    fn repairable(&mut self, row: Row) {
        let twice = row == Row::Have && self.rows.contains(&row);
        if self.rows.len() < MAX_ROWS && !twice {
            self.rows.push(row);
        }
    }

    /// A keyspace cannot be read on: a database file is damaged.
    fn unreadable(&mut self, place: impl fmt::Display, error: impl fmt::Display) {
        let reason = format!("the rest of it cannot be read: {error}");
        self.problem(place, reason, Remedy::StartAgain);
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is being checked.
    pub part: CheckPart,
    /// Rows of it that were checked.
    pub done: u64,
    /// All of them; 0 where that is not known before.
    pub total: u64,
}

/// The parts of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPart {
    /// Blocks and checkpoints.
    Blocks,
    /// Leaves of the state.
    State,
    /// Everything else.
    Records,
}

/// Rows between two calls of the progress function.
const PROGRESS_ROWS: u64 = 256;

/// Checks everything that is stored and reports how far it has come now and then.
pub fn check(store: &Store, progress: &mut dyn FnMut(CheckProgress)) -> CheckReport {
    // One snapshot for all, so that a store that is written meanwhile is checked as it was.
    let snapshot = store.database.snapshot();
    let view = View::new(snapshot.clone(), Arc::clone(&store.keyspaces));
    let mut check = Check {
        snapshot,
        keyspaces: &store.keyspaces,
        report: CheckReport::default(),
        progress,
    };
    let position = match view.position() {
        Ok(position) => position,
        Err(error) => {
            check.report.problem("position", error, Remedy::StartAgain);
            None
        }
    };
    if let Some(position) = &position
        && let Ok(Some(bytes)) = check.snapshot.get(&check.keyspaces.meta, POSITION_KEY)
        && serde_json::to_vec(position).is_ok_and(|written| written != *bytes)
    {
        let reason = "it is not spelled as it was written";
        check.report.problem("position", reason, Remedy::StartAgain);
    }
    let have = check.intervals();
    check.chain(position.as_ref(), &have);
    check.state(position.as_ref());
    check.undo(position.as_ref(), &view);
    check.fork_blocks();
    check.documents();
    check.checkpoint_index();
    check.small_rows();
    check.report
}

/// A check that is running.
struct Check<'store> {
    snapshot: Snapshot,
    keyspaces: &'store Keyspaces,
    report: CheckReport,
    progress: &'store mut dyn FnMut(CheckProgress),
}

impl Check<'_> {
    fn advance(&mut self, part: CheckPart, done: u64, total: u64) {
        if done.is_multiple_of(PROGRESS_ROWS) || done == total {
            (self.progress)(CheckProgress { part, done, total });
        }
    }
}

/// The digest of `position` and where it is.
fn state_place(position: &Position) -> String {
    format!("state after block {}", position.state_height)
}

/// A database error as its text alone, so that it is not said twice that it is the store's.
fn reason_of(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}
