//! Handing over blocks of the past: holes, and history behind the replica's start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::planner::Event;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::front::{bytes_of, linked};
use super::{Done, SyncEngine};
use crate::metrics::BlockOutcome;
use crate::replica::{HistoryOutcome, ToldBlocks};
use crate::sync::buffer::Run;
use crate::sync::fetch::Fetched;

/// First and longest wait before blocks that nothing proves yet are looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);

/// What goes on in the past.
#[derive(Debug, Default)]
pub(super) struct HistoryState {
    storing: bool,
    /// Something is being learned that proves blocks.
    pub(super) learning: bool,
    /// Times that peers were asked for the document of a delta.
    pub(super) asked: usize,
    /// Runs that nothing proves yet, by their last block.
    aside: BTreeMap<BlockNumber, Aside>,
    /// Blocks of full states as most of the peers tell them, where nobody votes.
    pub(super) told: ToldBlocks,
}

/// When a run is looked at again.
#[derive(Debug, Clone, Copy)]
struct Aside {
    until: Instant,
    times: u32,
}

/// Blocks of the past in a row that were handed over, by whom they came from, and what became of them.
#[derive(Debug)]
pub(super) struct Stored {
    parts: Vec<Run>,
    range: BlockRange,
    outcome: HistoryOutcome,
}

impl HistoryState {
    fn is_aside(&self, end: BlockNumber, now: Instant) -> bool {
        self.aside.get(&end).is_some_and(|aside| now < aside.until)
    }

    /// Goes on without a run for a while, longer each time.
    fn set_aside(&mut self, end: BlockNumber, now: Instant) {
        let times = self.aside.get(&end).map_or(0, |aside| aside.times);
        let wait = AGAIN_AFTER.saturating_mul(1 << times.min(6)).min(AGAIN_AFTER_MAX);
        let until = now + wait;
        let times = times.saturating_add(1);
        self.aside.insert(end, Aside { until, times });
    }

    /// Something is known that was not: every run is looked at again.
    pub(super) fn on_learned(&mut self, learned: bool) {
        self.learning = false;
        if learned {
            self.aside.clear();
        }
    }
}

impl SyncEngine {
    pub(super) fn hand_over_history(&mut self) {
        if self.history.storing {
            return;
        }
        let Some(parts) = self.next_of_the_past() else {
            return;
        };
        let (Some(first), Some(last)) = (
            parts.first().and_then(Run::range),
            parts.last().and_then(Run::range),
        ) else {
            return;
        };
        let Ok(range) = BlockRange::new(first.start(), last.end()) else {
            return;
        };
        let blocks: Option<Vec<_>> = parts.iter().map(linked).collect();
        let Some(blocks) = blocks else {
            // Operations alone say nothing about the past.
            let (blamed, fault) = (Vec::new(), PeerFault::NotFound);
            return self.step(Event::RangeRejected { range, blamed, fault });
        };
        self.history.storing = true;
        self.step(Event::RangeVerified { range });
        let (replica, told) = (self.replica.clone(), self.history.told.clone());
        self.tasks.spawn(async move {
            match replica.fill_history(blocks.concat(), told).await {
                Ok(outcome) => Done::HistoryStored(Stored {
                    parts,
                    range,
                    outcome,
                }),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    /// Takes the highest run out of the buffer whose last block's hash is fixed by something and that is not set
    /// aside, together with the runs right before it up to a period's start: a period that came in pieces is proven
    /// as a whole.
    fn next_of_the_past(&mut self) -> Option<Vec<Run>> {
        let status = self.status.borrow().clone();
        let position = status.position.as_ref()?;
        let schedule = position.schedule;
        let now = Instant::now();
        let start = self.buffer.iter().rev().find_map(|run| {
            let range = run.range()?;
            let end = range.end();
            let fixed = end == position.state_height
                || schedule.kind_at(end).is_some()
                || status.have.contains(end.next());
            let due = end <= position.state_height && !self.history.is_aside(end, now);
            (fixed && due).then_some(range.start())
        })?;
        let mut parts = vec![self.buffer.take(start)?];
        let mut start = start;
        let period = schedule.period_of(start);
        while let Some(before) = start.previous().filter(|before| period.contains(*before)) {
            let lower = self
                .buffer
                .iter()
                .filter_map(Run::range)
                .find(|range| range.end() == before);
            let Some(lower) = lower else { break };
            start = lower.start();
            parts.insert(0, self.buffer.take(start)?);
        }
        Some(parts)
    }

    pub(super) fn on_history_stored(&mut self, stored: Stored) {
        self.history.storing = false;
        let Stored {
            parts,
            range,
            outcome,
        } = stored;
        match outcome {
            HistoryOutcome::Stored => self.on_past_taken(&parts, range),
            HistoryOutcome::StoredFrom { first } => {
                let taken = BlockRange::new(first, range.end()).unwrap_or(range);
                let above: Vec<Run> = parts.iter().map(|run| run.part(taken)).collect();
                self.on_past_taken(&above, taken);
                if let Ok(rest) = BlockRange::new(range.start(), first.saturating_sub(1)) {
                    for run in &parts {
                        self.buffer.put(run.part(rest));
                    }
                }
            }
            HistoryOutcome::NeedsCheckpoints { range: needed } => {
                self.wait_with(parts, range);
                self.learn_checkpoints(needed);
            }
            HistoryOutcome::NeedsDocument { range: needed, id } => {
                self.wait_with(parts, range);
                self.learn_past_document(needed, id);
            }
            HistoryOutcome::Rejected {
                at,
                fault,
                is_certain,
            } => {
                let blocks = parts.iter().map(|run| run.blocks.len() as u64).sum();
                self.metrics.count_sync_blocks(BlockOutcome::Refused, blocks);
                let blamed = if is_certain {
                    self.givers_of(&parts, at, fault)
                } else {
                    // Those who told of the full state above may as well be wrong.
                    self.history.told.retain(|number, _| *number < at);
                    Vec::new()
                };
                tracing::warn!(%range, block = %at, %fault, peers = ?blamed, "blocks of the past refused");
                self.step(Event::RangeRejected { range, blamed, fault });
            }
        }
    }

    fn on_past_taken(&mut self, parts: &[Run], range: BlockRange) {
        for run in parts {
            self.count_synced(run);
            self.metrics
                .count_sync_blocks(BlockOutcome::Committed, run.blocks.len() as u64);
            self.needed_bytes += bytes_of(run);
            self.settle_blame(run, range.end());
        }
        self.history.aside.retain(|end, _| !range.contains(*end));
        self.history.told.retain(|number, _| !range.contains(*number));
        self.step(Event::RangeCommitted { range });
    }

    /// Puts blocks back, and goes on with others meanwhile.
    fn wait_with(&mut self, parts: Vec<Run>, range: BlockRange) {
        for run in parts {
            self.buffer.put(run);
        }
        self.history.set_aside(range.end(), Instant::now());
    }

    /// Who is to blame for wrong blocks: whoever gave the wrong one. Where a period is wrong as a whole and came from
    /// several peers, that shows once it is proven.
    fn givers_of(&mut self, parts: &[Run], at: BlockNumber, fault: PeerFault) -> Vec<PeerId> {
        let period = self.schedule().period_of(at);
        let givers: Vec<PeerId> = parts
            .iter()
            .filter(|run| {
                run.range().is_some_and(|range| match fault {
                    PeerFault::CheckpointMismatch => range.intersection(period).is_some(),
                    _ => range.contains(at),
                })
            })
            .map(|run| run.peer.clone())
            .collect();
        let mut different = givers.clone();
        different.sort();
        different.dedup();
        if different.len() == 1 {
            return different;
        }
        for run in parts {
            for block in &run.blocks {
                if let Fetched::Linked(fetched) = block {
                    let (number, hash): (BlockNumber, ContentId) =
                        (fetched.block.number(), fetched.block.hash());
                    self.ledger.remember(run.peer.clone(), number, hash);
                }
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nothing_proves_waits_longer_each_time_and_no_more_once_something_is_learned() {
        let end = BlockNumber::try_from(100).unwrap();
        let mut history = HistoryState::default();
        let now = Instant::now();
        assert!(!history.is_aside(end, now));
        history.set_aside(end, now);
        assert!(history.is_aside(end, now));
        assert!(!history.is_aside(end, now + AGAIN_AFTER));
        for _ in 0..40 {
            history.set_aside(end, now);
        }
        assert!(history.is_aside(end, now + AGAIN_AFTER_MAX / 2));
        assert!(!history.is_aside(end, now + AGAIN_AFTER_MAX));
        history.on_learned(false);
        assert!(history.is_aside(end, now));
        history.on_learned(true);
        assert!(!history.is_aside(end, now));
    }
}
