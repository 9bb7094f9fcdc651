//! Handing over blocks above a gap: the newest periods, which known checkpoints prove by themselves, and what
//! stands above them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use honeygraph_chain::BlockRange;
use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::planner::Event;

use super::front::{bytes_of, linked};
use super::{Done, SyncEngine};
use crate::metrics::BlockOutcome;
use crate::replica::AheadOutcome;
use crate::sync::buffer::Run;

/// Wait after blocks whose place could not be told.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What goes on above a gap.
#[derive(Debug, Default)]
pub(super) struct AheadState {
    storing: bool,
    again_after: Option<Instant>,
}

/// Runs that were handed over together, and what became of them.
#[derive(Debug)]
pub(super) struct Stored {
    runs: Vec<Run>,
    range: BlockRange,
    outcome: AheadOutcome,
}

impl SyncEngine {
    pub(super) fn hand_over_ahead(&mut self) {
        let waits = self.ahead.again_after.is_some_and(|after| Instant::now() < after);
        if self.ahead.storing || waits {
            return;
        }
        let Some(range) = self.whole_ahead() else { return };
        let runs = self.buffer.take_range(range);
        let blocks: Option<Vec<_>> = runs.iter().map(linked).collect();
        let Some(blocks) = blocks else {
            // Operations alone are placed where the state has come up to them.
            self.ahead.again_after = Some(Instant::now() + AGAIN_AFTER);
            for run in runs {
                self.buffer.put(run);
            }
            return;
        };
        self.ahead.storing = true;
        self.step(Event::RangeVerified { range });
        let replica = self.replica.clone();
        self.tasks.spawn(async move {
            match replica.store_ahead(blocks.concat()).await {
                Ok(outcome) => Done::AheadStored(Stored { runs, range, outcome }),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    /// Missing blocks above the gap that are all in the buffer: the rest of a period that a checkpoint proves, or
    /// the next ones above the newest known checkpoint.
    fn whole_ahead(&self) -> Option<BlockRange> {
        let wanted = self.head_first?;
        let status = self.status.borrow();
        let schedule = status.position.as_ref()?.schedule;
        let (newest, _) = status.newest_reported?;
        let mut start = wanted.start();
        while start <= newest {
            let period = schedule.period_of(start);
            let mut missing = status.have.missing_in(period);
            if let (Some(rest), None) = (missing.next(), missing.next())
                && rest.end() == period.end()
                && self
                    .buffer
                    .covered_from(rest.start())
                    .is_some_and(|end| end >= rest.end())
            {
                return Some(rest);
            }
            start = period.end().next();
        }
        let next = status.have.first_missing_from(newest.next())?;
        let end = self.buffer.covered_from(next)?;
        BlockRange::new(next, end.min(schedule.next_at_or_after(next))).ok()
    }

    pub(super) fn on_ahead_stored(&mut self, stored: Stored) {
        self.ahead.storing = false;
        let Stored { runs, range, outcome } = stored;
        match outcome {
            AheadOutcome::Stored => {
                for run in &runs {
                    self.count_synced(run);
                    self.metrics
                        .count_sync_blocks(BlockOutcome::Committed, run.blocks.len() as u64);
                    self.needed_bytes += bytes_of(run);
                }
                self.step(Event::RangeCommitted { range });
            }
            AheadOutcome::Waits => {
                // The gap may have been filled up to here meanwhile: then they are taken at the front.
                self.ahead.again_after = Some(Instant::now() + AGAIN_AFTER);
                for run in runs {
                    self.buffer.put(run);
                }
            }
            AheadOutcome::Rejected { at, fault } => {
                let blocks: usize = runs.iter().map(|run| run.blocks.len()).sum();
                self.metrics
                    .count_sync_blocks(BlockOutcome::Refused, blocks as u64);
                let peers: BTreeSet<PeerId> = runs.into_iter().map(|run| run.peer).collect();
                // Where several had a part, or what stands before is not proven, it is not known who is wrong.
                let schedule = self.schedule();
                let after_checkpoint = at
                    .previous()
                    .is_some_and(|before| schedule.kind_at(before).is_some());
                let certain = peers.len() == 1 && (fault != PeerFault::BrokenLink || after_checkpoint);
                let blamed = if certain {
                    peers.into_iter().collect()
                } else {
                    Vec::new()
                };
                tracing::warn!(%range, block = %at, %fault, peers = ?blamed, "blocks near the head refused");
                self.step(Event::RangeRejected { range, blamed, fault });
            }
        }
    }
}
