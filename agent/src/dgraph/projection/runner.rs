//! The loop that keeps Dgraph in step with the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use honeygraph_chain::BlockNumber;
use honeygraph_chain::fork::BlockReference;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::claim::ClaimOutcome;
use super::cursor::{Cursor, StateCursor};
use super::error::{ErrorPolicy, ProjectionError};
use super::log::{Gathered, gather, log_ends, survey};
use super::plan::{CursorBlock, LogPosition, Step, next_step};
use super::replacement::{Others, Replacement};
use super::rewind::Rewinds;
use super::store::StepOutcome;
use super::taken_back::TakenBack;
use super::target::Target;
use super::verification::{Verification, Verified};
use super::verify::{Piece, Places};
use super::weight::{StateLimits, is_heavy};
use crate::dgraph::client::Mutation;
use crate::dgraph::job::{Jobs, LogEnds, Order};
use crate::replica::ReplicaStatus;
use crate::store::{Store, StoreError, View};

/// How often a projection that has nothing to do looks whether somebody else moved Dgraph.
const IDLE: Duration = Duration::from_secs(10);

/// How often a piece of what stands in Dgraph is compared with the log while there is nothing else to do.
const VERIFY: Duration = Duration::from_secs(1);

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
    /// Blocks that contradict the log were taken back; only those that this writer wrote, or where nobody else does.
    Rewound {
        /// The highest of them.
        from: BlockNumber,
        /// Where Dgraph stands now; none where nothing is left.
        to: Option<BlockNumber>,
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
    pub(super) target: Arc<T>,
    pub(super) log: Store,
    pub(super) settings: ProjectionSettings,
    /// Where Dgraph stands, as far as is known; none where it has to be asked.
    pub(super) cursor: Option<Cursor>,
    pub(super) replacement: Option<Replacement>,
    others: Others,
    /// Up to which block this writer claimed the steps.
    claimed: Option<BlockNumber>,
    pub(super) verified: Watched,
    rewinds: Rewinds,
    taken_back: TakenBack,
    pub(super) limits: StateLimits,
    /// Nodes of the state that were written since it was begun anew.
    state_nodes: u64,
}

/// What is to be done next.
struct Planned {
    /// The log as it was looked at.
    view: View,
    position: LogPosition,
    step: Step,
    gathered: Gathered,
}

/// How far what stands in Dgraph was compared with the log, while there is nothing else to do.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) places: Places,
    /// The parts take turns.
    pub(super) next: Piece,
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
            others: Others::default(),
            claimed: None,
            verified: Watched::default(),
            rewinds: Rewinds::default(),
            taken_back: TakenBack::default(),
            limits: StateLimits::FOLLOWED,
            state_nodes: 0,
        }
    }

    /// Where Dgraph stands, as far as is known.
    pub const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Asks Dgraph where it stands before the next step: somebody else may have moved it.
    pub fn forget_cursor(&mut self) {
        self.cursor = None;
    }

    /// Nodes of the state that were written since it was begun anew.
    pub const fn state_nodes_written(&self) -> u64 {
        self.state_nodes
    }

    /// Blocks that the log has without a hole, as it is now; none while it has no block with a state.
    pub fn log_ends(&self) -> Result<Option<LogEnds>, AdvanceError> {
        Ok(log_ends(&self.log.view())?)
    }

    /// Follows the log until it is told to stop, or the cluster has to be opened again; does jobs between its
    /// steps. A Dgraph that is slow, away or wrong holds nothing else up; `report` is told of every attempt.
    pub async fn follow(
        mut self,
        mut changes: watch::Receiver<Arc<ReplicaStatus>>,
        jobs: &Jobs,
        stop: CancellationToken,
        mut report: impl FnMut(&Self, &Result<Progress, AdvanceError>, Duration) + Send,
    ) {
        let mut waits = backoff();
        let mut verification = None;
        loop {
            match jobs.begin() {
                Some((_, Order::Rebuild { drop: true })) => return,
                Some((id, order @ Order::Verify { .. })) => {
                    verification = Some((id, Verification::new(order.mend())));
                }
                Some((_, Order::Rebuild { drop: false })) | None => {}
            }
            changes.mark_unchanged();
            let started = Instant::now();
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = self.advance() => attempt,
            };
            report(&self, &attempt, started.elapsed());
            self.note_fill(jobs, &attempt);
            let wait = match attempt {
                Ok(Progress::Moved | Progress::Rewound { .. }) => {
                    waits = backoff();
                    continue;
                }
                Ok(Progress::Idle) => {
                    waits = backoff();
                    // One that has failed or was cancelled writes no more.
                    verification.take_if(|(id, _)| !jobs.is_under_way(*id));
                    if let Some((_, under_way)) = &mut verification {
                        let went_on = tokio::select! {
                            () = stop.cancelled() => return,
                            went_on = self.verify_for(jobs, under_way) => went_on,
                        };
                        if went_on {
                            self.cursor = None;
                            continue;
                        }
                    }
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
                        () = jobs.wanted() => continue,
                        () = tokio::time::sleep(wait) => continue,
                    }
                }
            };
            // Others may move it meanwhile.
            self.cursor = None;
            tokio::select! {
                // Whoever stops it wants no other step.
                biased;
                () = stop.cancelled() => return,
                moved = changes.changed() => if moved.is_err() { return },
                () = jobs.wanted() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells the job that was begun how far Dgraph is filled, and ends it where it cannot go on. One that was asked for
    /// while this step was done has its turn yet.
    fn note_fill(&self, jobs: &Jobs, attempt: &Result<Progress, AdvanceError>) {
        let Some(order) = jobs.begun() else { return };
        match (order, attempt) {
            (_, Ok(Progress::Mismatch { block, .. })) => jobs.fail(format_args!(
                "Dgraph stands at block {}, {}, which contradicts the log; `dgraph rebuild --drop` fills it again",
                block.number, block.hash
            )),
            (Order::Verify { .. }, Err(error)) => jobs.fail(error),
            (Order::Rebuild { .. }, Err(error)) => jobs.note(|job| job.error = Some(error.to_string())),
            (Order::Rebuild { .. }, Ok(progress)) => {
                if let (Some(cursor), Ok(Some(log))) = (&self.cursor, self.log_ends()) {
                    jobs.note(|job| job.filled(cursor, log, self.state_nodes));
                }
                if *progress == Progress::Idle {
                    jobs.done();
                }
            }
            (Order::Verify { .. }, Ok(_)) => {}
        }
    }

    /// Compares the next piece for a job; whether that could be done.
    async fn verify_for(&self, jobs: &Jobs, verification: &mut Verification) -> bool {
        let verified = self.verify_step(verification).await;
        let blocks = self.cursor.as_ref().map_or(0, Cursor::blocks);
        jobs.note(|job| job.compared(verification, blocks));
        match verified {
            Ok(Verified::More) => {}
            Ok(Verified::Done) => jobs.done(),
            // It is about to be there: the log was followed up to its end before.
            Ok(Verified::NotNow(why)) => {
                jobs.note(|job| job.error = Some(why));
                return false;
            }
            Err(error) => jobs.fail(error),
        }
        true
    }

    /// Does the next step.
    pub async fn advance(&mut self) -> Result<Progress, AdvanceError> {
        let cursor = match self.cursor.clone() {
            Some(cursor) => cursor,
            None => self.target.cursor().await?,
        };
        self.cursor = Some(cursor.clone());
        let Some(planned) = self.plan(&cursor).await? else {
            return Ok(Progress::Idle);
        };
        let Planned {
            view,
            position,
            step,
            gathered,
        } = planned;
        if !matches!(step, Step::Mismatch { .. }) {
            self.rewinds.over();
        }
        if let Gathered::Facts(facts, after) = gathered {
            if let Step::Blocks {
                range: Some(range), ..
            } = &step
                && range.end() < position.height
                && let Some(waiting) = self.claim(&cursor, range.end()).await?
            {
                return Ok(waiting);
            }
            let Step::Reorganize { .. } = step else {
                return self.write(&cursor, after, facts).await;
            };
            tracing::info!(step = ?step, "a fork is taken back in Dgraph");
            let progress = self.write(&cursor, after.clone(), facts).await?;
            if let Some(tip) = cursor.applied
                && self.cursor.as_ref() == Some(&after)
            {
                self.taken_back.note(tip);
            }
            return Ok(progress);
        }
        match step {
            Step::ReplaceState => {
                let is_ours = self
                    .replacement
                    .as_mut()
                    .is_some_and(|replacement| replacement.stands_at(&cursor.state));
                if is_ours {
                    return self.replace_state(&cursor).await;
                }
                if let Some(instead) = self.is_replaced_by_others(&cursor).await? {
                    return Ok(instead);
                }
                let replacement = Replacement::new(view, position.height);
                let state = replacement.state_cursor();
                self.replacement = Some(replacement);
                tracing::info!(block = %position.height, "the state is written to Dgraph anew");
                let after = Cursor {
                    state,
                    ..cursor.clone()
                };
                self.write(&cursor, after, Mutation::new()).await
            }
            Step::Mismatch { block, ours } => {
                if self.wrote(&cursor).await? && self.rewinds.allow(Instant::now()) {
                    return self.rewind(&cursor, block, ours).await;
                }
                Ok(Progress::Mismatch { block, ours })
            }
            Step::WaitForLog => Ok(Progress::Waiting { longest: IDLE }),
            Step::Idle | Step::Blocks { .. } | Step::History(_) | Step::Reorganize { .. } => {
                Ok(Progress::Idle)
            }
        }
    }

    /// Decides on the next step and reads what it writes out of the log; none while the log has no block with a state.
    async fn plan(&mut self, cursor: &Cursor) -> Result<Option<Planned>, AdvanceError> {
        let (log, target, blocks) = (
            self.log.clone(),
            Arc::clone(&self.target),
            self.settings.step_blocks,
        );
        let seen = cursor.clone();
        let (writers, limits) = (self.settings.writers, self.limits);
        let mut taken_back = self.taken_back.clone();
        let planned = off_thread(move || {
            let view = log.view();
            taken_back.forget_followed(&view)?;
            let Some(survey) = survey(&view, &seen)? else {
                return Ok(None);
            };
            let mut step = next_step(&seen, &survey.position, blocks);
            while let Step::Blocks {
                range: Some(range), ..
            }
            | Step::Reorganize {
                range: Some(range), ..
            }
            | Step::History(range) = &step
                && is_heavy(&view, *range)?
            {
                step = next_step(&seen, &survey.position, range.len() / 2);
            }
            if let CursorBlock::Orphan { block, ours, .. } = survey.position.cursor_block
                && writers == Writers::Several
                && taken_back.is_among(survey.orphaned())
            {
                step = Step::Mismatch { block, ours };
            }
            let gathered = gather(&view, target.region(), &seen, &survey, &step, limits)?;
            if matches!(gathered, Gathered::ReplaceState) {
                step = Step::ReplaceState;
            }
            let planned = Planned {
                view,
                position: survey.position,
                step,
                gathered,
            };
            Ok(Some((planned, taken_back)))
        })
        .await?;
        Ok(planned.map(|(planned, taken_back)| {
            self.taken_back = taken_back;
            planned
        }))
    }

    /// Whether this writer brought Dgraph to where it stands: what it wrote itself it may take back, where its log has
    /// turned since.
    async fn wrote(&self, cursor: &Cursor) -> Result<bool, AdvanceError> {
        if self.settings.writers == Writers::One {
            return Ok(true);
        }
        let (now, mark) = self.target.last_step().await?;
        let own = self.target.writer().as_str();
        Ok(now == *cursor && mark.is_some_and(|mark| mark.writer() == own))
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

    /// What to do instead of writing the state anew, where another writer does.
    async fn is_replaced_by_others(&mut self, cursor: &Cursor) -> Result<Option<Progress>, AdvanceError> {
        if self.settings.writers == Writers::One || !matches!(cursor.state, StateCursor::Replacing { .. }) {
            return Ok(None);
        }
        let (now, mark) = self.target.last_step().await?;
        if now != *cursor {
            self.cursor = Some(now);
            return Ok(Some(Progress::Moved));
        }
        // Its own is one that it began before it was started again.
        if mark
            .as_ref()
            .is_some_and(|mark| mark.writer() == self.target.writer().as_str())
        {
            return Ok(None);
        }
        let go_on = self.others.go_on(&cursor.state, mark, Instant::now());
        Ok(go_on.then_some(Progress::Waiting { longest: IDLE }))
    }

    /// The next piece of a state that is written anew.
    async fn replace_state(&mut self, cursor: &Cursor) -> Result<Progress, AdvanceError> {
        let page = match self.replacement.as_ref().and_then(Replacement::sweeping) {
            Some(after) => Some(self.target.state_nodes(after).await?),
            None => None,
        };
        let Some(mut replacement) = self.replacement.take() else {
            return Ok(Progress::Moved);
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
        self.replacement = Some(replacement);
        // Others see by its mark that a page without facts was done.
        if after != *cursor || !facts.is_empty() || self.settings.writers == Writers::Several {
            self.write(cursor, after, facts).await?;
        }
        // None where somebody else was faster. After an error the same piece is tried again.
        if let Some(replacement) = &mut self.replacement {
            replacement.done();
            self.state_nodes = replacement.written();
        }
        let is_whole = |cursor: &Cursor| matches!(cursor.state, StateCursor::At(_));
        if self.cursor.as_ref().is_some_and(is_whole) {
            self.replacement = None;
        }
        Ok(Progress::Moved)
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
pub(super) async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, AdvanceError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => Ok(read?),
        Err(error) => Err(AdvanceError::Reader(error.to_string())),
    }
}
