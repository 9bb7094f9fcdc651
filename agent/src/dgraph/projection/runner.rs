//! The loop that keeps Dgraph in step with the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange, PathKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::claim::ClaimOutcome;
use super::cursor::{Cursor, StateCursor};
use super::error::{ErrorPolicy, ProjectionError};
use super::log::{gather, log_position};
use super::plan::{CursorBlock, Step, next_step};
use super::replacement::Replacement;
use super::store::StepOutcome;
use super::target::Target;
use super::touched::nodes_after;
use super::verify::{self, Repair};
use super::weight::{STEP_BYTES, blocks_within};
use crate::dgraph::client::{Mutation, Uid};
use crate::replica::ReplicaStatus;
use crate::store::{Store, StoreError, View};

/// How often a projection that has nothing to do looks whether somebody else moved Dgraph.
const IDLE: Duration = Duration::from_secs(10);

/// How often a piece of what stands in Dgraph is compared with the log while there is nothing else to do.
const VERIFY: Duration = Duration::from_secs(1);

/// How long a replacement of the state by somebody else may stand still before it counts as left.
const LEFT: Duration = Duration::from_mins(1);

/// Steps that a writer claims at once where others write too, and how long they are its own.
const CLAIMED_STEPS: u64 = 10;
/// See [`CLAIMED_STEPS`].
const CLAIM: Duration = Duration::from_secs(30);

/// What a projection is told by configuration.
#[derive(Debug, Clone)]
pub struct ProjectionSettings {
    /// Blocks of one transaction at most.
    pub step_blocks: u64,
    /// Who else writes there.
    pub writers: Writers,
}

/// Who writes to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// This node alone.
    One,
    /// Other nodes too.
    Several,
}

/// A step that failed. Neither is a peer's fault.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// Dgraph, or what stands there.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    /// The log cannot be read.
    #[error("the log cannot be read for dgraph: {0}")]
    Log(#[from] StoreError),
    /// The thread that reads the log failed.
    #[error("the thread that reads the log for dgraph failed: {0}")]
    Reader(String),
}

impl AdvanceError {
    /// Whether the cluster has to be opened again.
    pub const fn asks_to_reopen(&self) -> bool {
        matches!(self, Self::Projection(error) if matches!(error.policy(), ErrorPolicy::Reopen))
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Something was written, or somebody else was faster: there may be more.
    Moved,
    /// There is nothing to do.
    Idle,
    /// A piece that differed from the log was put right.
    Repaired {
        /// Blocks.
        blocks: u64,
        /// Nodes of the state.
        nodes: u64,
    },
    /// Dgraph stands at a block that the log does not have yet, or another writer writes the next steps.
    Waiting {
        /// After this time it is worth looking again.
        longest: Duration,
    },
    /// Dgraph holds a block that contradicts the log.
    Mismatch {
        /// Dgraph's block.
        block: BlockReference,
        /// Hash of the log's block there; none where it has none.
        ours: Option<honeygraph_chain::ContentId>,
    },
}

/// Keeps one Dgraph in step with one log.
#[derive(Debug)]
pub struct Projection<T> {
    target: Arc<T>,
    log: Store,
    settings: ProjectionSettings,
    /// Where Dgraph stands, as far as is known; none where it has to be asked.
    cursor: Option<Cursor>,
    replacement: Option<Replacement>,
    /// A replacement by somebody else, and since when it stands still.
    others: Option<(StateCursor, Instant)>,
    /// Up to which block this writer claimed the steps.
    claimed: Option<BlockNumber>,
    verified: Verified,
}

/// How far what stands in Dgraph was compared with the log.
#[derive(Debug)]
struct Verified {
    blocks: Option<BlockNumber>,
    stored: Uid,
    state: Option<PathKey>,
    next: Piece,
}

/// What is compared next; the three take turns.
#[derive(Debug, Clone, Copy, Default)]
enum Piece {
    #[default]
    Blocks,
    Stored,
    State,
}

impl<T: Target> Projection<T> {
    /// A projection of a log.
    pub fn new(target: Arc<T>, log: Store, settings: ProjectionSettings) -> Self {
        Self {
            target,
            log,
            settings,
            cursor: None,
            replacement: None,
            others: None,
            claimed: None,
            verified: Verified {
                blocks: None,
                stored: Uid(0),
                state: None,
                next: Piece::Blocks,
            },
        }
    }

    /// Where Dgraph stands, as far as is known.
    pub const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Follows the log until it is told to stop, or the cluster has to be opened again. A Dgraph that is slow,
    /// away or wrong holds nothing else up; `report` is told of every attempt.
    pub async fn follow(
        mut self,
        mut changes: watch::Receiver<Arc<ReplicaStatus>>,
        stop: CancellationToken,
        mut report: impl FnMut(&Self, &Result<Progress, AdvanceError>, Duration) + Send,
    ) {
        let mut waits = backoff();
        loop {
            changes.mark_unchanged();
            let started = Instant::now();
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = self.advance() => attempt,
            };
            report(&self, &attempt, started.elapsed());
            let wait = match attempt {
                Ok(Progress::Moved) => {
                    waits = backoff();
                    continue;
                }
                Ok(Progress::Idle) => {
                    waits = backoff();
                    let verified = tokio::select! {
                        () = stop.cancelled() => return,
                        verified = self.verify_piece() => verified,
                    };
                    if !matches!(verified, Ok(Progress::Idle)) {
                        report(&self, &verified, started.elapsed());
                    }
                    VERIFY
                }
                Ok(Progress::Waiting { longest }) => longest,
                Ok(Progress::Mismatch { .. } | Progress::Repaired { .. }) => IDLE,
                Err(error) if error.asks_to_reopen() => return,
                Err(_) => {
                    self.cursor = None;
                    let wait = waits.next().unwrap_or(IDLE);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => continue,
                    }
                }
            };
            // Others may move it meanwhile.
            self.cursor = None;
            tokio::select! {
                () = stop.cancelled() => return,
                moved = changes.changed() => if moved.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Compares the next piece of what stands in Dgraph with the log, and puts it right.
    pub async fn verify_piece(&mut self) -> Result<Progress, AdvanceError> {
        let cursor = self.target.cursor().await?;
        let piece = self.verified.next;
        self.verified.next = match piece {
            Piece::Blocks => Piece::Stored,
            Piece::Stored => Piece::State,
            Piece::State => Piece::Blocks,
        };
        let repair = match piece {
            Piece::Blocks => self.verify_blocks(&cursor).await?,
            Piece::Stored => self.verify_stored(&cursor).await?,
            Piece::State => self.verify_state(&cursor).await?,
        };
        if repair.facts.is_empty() {
            return Ok(Progress::Idle);
        }
        match self.target.write(&cursor, &cursor, repair.facts).await? {
            StepOutcome::Won => Ok(Progress::Repaired {
                blocks: repair.blocks,
                nodes: repair.nodes,
            }),
            // Looked at again on the next round.
            StepOutcome::Lost(_) => Ok(Progress::Idle),
        }
    }

    async fn verify_blocks(&mut self, cursor: &Cursor) -> Result<Repair, AdvanceError> {
        let log = self.log.clone();
        let (seen, at) = (cursor.clone(), self.verified.blocks);
        let next = off_thread(move || {
            let view = log.view();
            let Some(position) = log_position(&view, &seen)? else {
                return Ok(None);
            };
            let CursorBlock::Canonical(applied) = position.cursor_block else {
                return Ok(None);
            };
            let from = at.map_or(position.from, |at| at.max(position.from));
            let range = BlockRange::new(from, applied)
                .or_else(|_| BlockRange::new(position.from, applied))
                .ok();
            Ok(range.map(|range| {
                let piece = BlockRange::starting_at(range.start(), range.len().min(verify::BLOCKS));
                (view, piece, applied)
            }))
        })
        .await?;
        let Some((view, range, applied)) = next else {
            return Ok(Repair::default());
        };
        // A piece that cannot be read must not hold the others up. After the last it begins anew, also where
        // more blocks come meanwhile.
        self.verified.blocks = (range.end() < applied).then(|| range.end().next());
        let found = self.target.blocks(range).await?;
        let target = Arc::clone(&self.target);
        off_thread(move || verify::repair_blocks(&view, target.region(), range, found)).await
    }

    /// The view of the log, if Dgraph shows exactly its state.
    fn view_of_state(&self, cursor: &Cursor) -> Result<Option<(View, BlockNumber)>, AdvanceError> {
        let view = self.log.view();
        let height = view.position()?.map(|position| position.state_height);
        let is_canonical = match cursor.applied {
            Some(block) => view
                .block(block.number)?
                .is_some_and(|ours| ours.hash == block.hash),
            None => false,
        };
        Ok(match (&cursor.state, height) {
            (StateCursor::At(block), Some(height)) if *block == height && is_canonical => {
                Some((view, height))
            }
            _ => None,
        })
    }

    async fn verify_stored(&mut self, cursor: &Cursor) -> Result<Repair, AdvanceError> {
        let Some((view, height)) = self.view_of_state(cursor)? else {
            return Ok(Repair::default());
        };
        let page = self.target.state_nodes(self.verified.stored).await?;
        self.verified.stored = page.last().map_or(Uid(0), |last| last.uid);
        let target = Arc::clone(&self.target);
        off_thread(move || verify::repair_stored_state(&view, target.region(), height, &page)).await
    }

    async fn verify_state(&mut self, cursor: &Cursor) -> Result<Repair, AdvanceError> {
        let Some((view, height)) = self.view_of_state(cursor)? else {
            return Ok(Repair::default());
        };
        let after = self.verified.state.clone();
        let (view, (nodes, last)) = off_thread(move || {
            let nodes = nodes_after(&view, after.as_ref(), verify::NODES)?;
            Ok((view, nodes))
        })
        .await?;
        self.verified.state = last;
        let uids: Vec<Uid> = nodes
            .iter()
            .map(|node| self.target.region().state(node.key()))
            .collect();
        let found = self.target.state_of(&uids).await?;
        let target = Arc::clone(&self.target);
        off_thread(move || verify::repair_state(&view, target.region(), height, nodes, &found)).await
    }

    /// Does the next step.
    pub async fn advance(&mut self) -> Result<Progress, AdvanceError> {
        let cursor = match self.cursor.clone() {
            Some(cursor) => cursor,
            None => self.target.cursor().await?,
        };
        self.cursor = Some(cursor.clone());
        let (log, target, blocks) = (
            self.log.clone(),
            Arc::clone(&self.target),
            self.settings.step_blocks,
        );
        let seen = cursor.clone();
        let planned = off_thread(move || {
            let view = log.view();
            let Some(position) = log_position(&view, &seen)? else {
                return Ok(None);
            };
            let mut step = next_step(&seen, &position, blocks);
            if let Step::Blocks {
                range: Some(range), ..
            } = &step
            {
                let within = blocks_within(&view, *range, STEP_BYTES)?;
                if within < range.len() {
                    step = next_step(&seen, &position, within);
                }
            }
            let gathered = gather(&view, target.region(), &seen, &position, &step)?;
            Ok(Some((view, position, step, gathered)))
        })
        .await?;
        let Some((view, position, step, gathered)) = planned else {
            return Ok(Progress::Idle);
        };
        if let Some((facts, after)) = gathered {
            if let Step::Blocks {
                range: Some(range), ..
            } = &step
                && range.end() < position.height
                && let Some(waiting) = self.claim(&cursor, range.end()).await?
            {
                return Ok(waiting);
            }
            if matches!(step, Step::Reorganize { .. }) {
                tracing::info!(step = ?step, "a fork is taken back in Dgraph");
            }
            return self.write(&cursor, after, facts).await;
        }
        match step {
            Step::ReplaceState => {
                let is_ours = self
                    .replacement
                    .as_ref()
                    .is_some_and(|replacement| replacement.state_cursor() == cursor.state);
                if is_ours {
                    return self.replace_state(&cursor).await;
                }
                if self.is_replaced_by_others(&cursor.state) {
                    return Ok(Progress::Waiting { longest: IDLE });
                }
                let replacement = Replacement::new(view, position.height);
                let state = replacement.state_cursor();
                self.replacement = Some(replacement);
                let applied = cursor.applied;
                tracing::info!(block = %position.height, "the state is written to Dgraph anew");
                self.write(&cursor, Cursor { applied, state }, Mutation::new())
                    .await
            }
            Step::Mismatch { block, ours } => Ok(Progress::Mismatch { block, ours }),
            Step::WaitForLog => Ok(Progress::Waiting { longest: IDLE }),
            Step::Idle | Step::Blocks { .. } | Step::Reorganize { .. } => Ok(Progress::Idle),
        }
    }

    /// Claims the next steps where others write too and there are many: what to do instead, if they are
    /// somebody else's.
    async fn claim(&mut self, cursor: &Cursor, end: BlockNumber) -> Result<Option<Progress>, AdvanceError> {
        let is_ours = self.claimed.is_some_and(|claimed| end <= claimed);
        if self.settings.writers == Writers::One || is_ours {
            return Ok(None);
        }
        let blocks = self.settings.step_blocks.saturating_mul(CLAIMED_STEPS);
        match self.target.claim(cursor, blocks, CLAIM).await? {
            ClaimOutcome::Granted => {
                let from = cursor.applied.map_or(end, |block| block.number);
                self.claimed = Some(from.saturating_add(blocks).max(end));
                Ok(None)
            }
            ClaimOutcome::Held { wait, .. } => Ok(Some(Progress::Waiting { longest: wait })),
            ClaimOutcome::Moved(now) => {
                self.cursor = Some(now);
                Ok(Some(Progress::Moved))
            }
        }
    }

    /// Whether another writer is writing the state anew, as far as can be told from its going on.
    fn is_replaced_by_others(&mut self, state: &StateCursor) -> bool {
        if self.settings.writers == Writers::One || !matches!(state, StateCursor::Replacing { .. }) {
            return false;
        }
        match &self.others {
            Some((seen, since)) if seen == state => since.elapsed() < LEFT,
            _ => {
                self.others = Some((state.clone(), Instant::now()));
                true
            }
        }
    }

    /// The next piece of a state that is written anew.
    async fn replace_state(&mut self, cursor: &Cursor) -> Result<Progress, AdvanceError> {
        let Some(mut replacement) = self.replacement.take() else {
            return Ok(Progress::Moved);
        };
        let page = match replacement.sweeping() {
            Some(after) => Some(self.target.state_nodes(after).await?),
            None => None,
        };
        let (target, before) = (Arc::clone(&self.target), cursor.clone());
        let (replacement, facts, after) = off_thread(move || {
            let (facts, after) = match page {
                Some(page) => (replacement.sweep(target.region(), &page)?, before),
                None => replacement.next_piece(target.region(), &before)?,
            };
            Ok((replacement, facts, after))
        })
        .await?;
        if !matches!(after.state, StateCursor::At(_)) {
            self.replacement = Some(replacement);
        }
        if after == *cursor && facts.is_empty() {
            return Ok(Progress::Moved);
        }
        self.write(cursor, after, facts).await
    }

    async fn write(
        &mut self,
        before: &Cursor,
        after: Cursor,
        facts: Mutation,
    ) -> Result<Progress, AdvanceError> {
        let written = match self.target.write(before, &after, facts).await {
            Err(error) if error.policy() == ErrorPolicy::Refuse => {
                // A Dgraph that was wiped refuses what its schema does not have.
                self.target.cursor().await?;
                return Err(error.into());
            }
            written => written?,
        };
        match written {
            StepOutcome::Won => self.cursor = Some(after),
            StepOutcome::Lost(now) => {
                self.replacement = None;
                self.claimed = None;
                self.cursor = Some(now);
            }
        }
        Ok(Progress::Moved)
    }
}

/// Between attempts while Dgraph fails: half a second, doubling to half a minute.
fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Reads the log on a thread that may block.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, AdvanceError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => Ok(read?),
        Err(error) => Err(AdvanceError::Reader(error.to_string())),
    }
}
