//! Handing over blocks of the past: holes, and history behind the replica's start.

use std::time::{Duration, Instant};

use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::planner::Event;
use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange};

use super::front::{bytes_of, linked};
use super::{Done, SyncEngine};
use crate::metrics::BlockOutcome;
use crate::replica::HistoryOutcome;
use crate::store::CheckpointRecord;
use crate::sync::buffer::Run;
use crate::wire::shapes::{CheckpointEntry, MAX_LISTED_CHECKPOINTS};

/// Wait after checkpoints could not be learned.
const LEARN_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Peers that are asked for checkpoints of the past at once.
const PEERS_ASKED: usize = 8;

/// What goes on in the past.
#[derive(Debug, Default)]
pub(super) struct HistoryState {
    storing: bool,
    learning: bool,
    learn_after: Option<Instant>,
    /// Runs that wait for checkpoints to be learned.
    needs: Option<BlockRange>,
}

/// A run of the past that was handed over, and what became of it.
#[derive(Debug)]
pub(super) struct Stored {
    run: Run,
    range: BlockRange,
    outcome: HistoryOutcome,
}

impl SyncEngine {
    pub(super) fn hand_over_history(&mut self) {
        if self.history.storing || self.history.learning {
            return;
        }
        if let Some(range) = self.history.needs {
            if self
                .history
                .learn_after
                .is_none_or(|after| Instant::now() >= after)
            {
                self.learn_checkpoints(range);
            }
            return;
        }
        let Some(run) = self.next_of_the_past() else {
            return;
        };
        let Some(range) = run.range() else { return };
        let Some(blocks) = linked(&run) else {
            // Operations alone say nothing about the past.
            let (blamed, fault) = (Vec::new(), PeerFault::NotFound);
            return self.step(Event::RangeRejected { range, blamed, fault });
        };
        self.history.storing = true;
        self.step(Event::RangeVerified { range });
        let replica = self.replica.clone();
        self.tasks.spawn(async move {
            match replica.fill_history(blocks).await {
                Ok(outcome) => Done::HistoryStored(Stored { run, range, outcome }),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    /// Takes a run out of the buffer whose last block's hash is fixed by something, together with the runs
    /// right before it up to a period's start.
    fn next_of_the_past(&mut self) -> Option<Run> {
        let status = self.status.borrow().clone();
        let position = status.position.as_ref()?;
        let schedule = position.schedule;
        let start = self.buffer.iter().find_map(|run| {
            let range = run.range()?;
            let end = range.end();
            let fixed = end == position.state_height
                || schedule.kind_at(end).is_some()
                || status.have.contains(end.next());
            (end <= position.state_height && fixed).then_some(range.start())
        })?;
        let mut run = self.buffer.take(start)?;
        // A period that came in pieces is proven as a whole.
        let period = schedule.period_of(run.range()?.start());
        while let Some(before) = run
            .range()?
            .start()
            .previous()
            .filter(|before| period.contains(*before))
        {
            let Some(lower) = self
                .buffer
                .iter()
                .filter_map(Run::range)
                .find(|range| range.end() == before)
            else {
                break;
            };
            let lower = self.buffer.take(lower.start())?;
            if lower.peer != run.peer {
                // Two peers' blocks are judged apart, the later ones first.
                self.buffer.put(lower);
                break;
            }
            run.blocks.splice(0..0, lower.blocks);
        }
        Some(run)
    }

    pub(super) fn on_history_stored(&mut self, stored: Stored) {
        self.history.storing = false;
        let Stored { run, range, outcome } = stored;
        match outcome {
            HistoryOutcome::Stored => {
                self.count_synced(&run);
                self.metrics
                    .count_sync_blocks(BlockOutcome::Committed, run.blocks.len() as u64);
                self.needed_bytes += bytes_of(&run);
                self.step(Event::RangeCommitted { range });
            }
            HistoryOutcome::NeedsCheckpoints { range } => {
                self.buffer.put(run);
                self.history.needs = Some(range);
            }
            HistoryOutcome::Rejected { at, fault } => {
                self.metrics
                    .count_sync_blocks(BlockOutcome::Refused, run.blocks.len() as u64);
                tracing::warn!(peer = %run.peer, block = %at, %fault, "blocks of the past refused");
                self.step(Event::RangeRejected {
                    range,
                    blamed: vec![run.peer],
                    fault,
                });
            }
        }
    }

    /// Asks peers for the checkpoints of the past: the voters where some are peers, and then only what most
    /// of them agree on is taken.
    fn learn_checkpoints(&mut self, around: BlockRange) {
        self.history.learning = true;
        let schedule = self.schedule();
        let first = schedule.last_before(around.start()).unwrap_or_default();
        let span = schedule
            .delta_interval
            .saturating_mul(MAX_LISTED_CHECKPOINTS as u64 - 1);
        let range = BlockRange::starting_at(first, span);
        // Sources keep no list of their past: the peers among the voters decide.
        let weights = self.registry.voters().map(|(_, _, voter)| {
            (
                voter.clone(),
                u32::try_from(self.settings.voters.weight(voter)).unwrap_or(u32::MAX),
            )
        });
        let voters = Voters::new(weights);
        let mut asked: Vec<_> = self
            .registry
            .voters()
            .filter(|(_, peer, _)| peer.is_alive)
            .map(|(_, peer, voter)| (Some(voter.clone()), peer.url.clone()))
            .collect();
        if asked.is_empty() {
            let mut others: Vec<_> = self.registry.iter().filter(|(_, peer)| peer.is_alive).collect();
            others.sort_by_key(|(_, peer)| std::cmp::Reverse(peer.source));
            asked = others
                .into_iter()
                .map(|(_, peer)| (None, peer.url.clone()))
                .collect();
        }
        asked.truncate(PEERS_ASKED);
        let (client, replica) = (self.client.clone(), self.replica.clone());
        self.tasks.spawn(async move {
            let mut told = Vec::new();
            for (voter, url) in asked {
                if let Ok(entries) = client.checkpoints(&url, range).await {
                    told.push((voter, entries));
                    if told.last().is_some_and(|(voter, _)| voter.is_none()) {
                        break;
                    }
                }
            }
            let records = agreed_records(&voters, told);
            match replica.learn_checkpoints(records).await {
                Ok(learned) => Done::Learned {
                    range: around,
                    learned: learned > 0,
                },
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    pub(super) fn on_learned(&mut self, range: BlockRange, learned: bool) {
        if self.history.needs != Some(range) {
            return;
        }
        self.history.learning = false;
        if learned {
            self.history.needs = None;
            self.history.learn_after = None;
        } else {
            self.history.learn_after = Some(Instant::now() + LEARN_AGAIN_AFTER);
        }
    }
}

/// The entries that count: those of the only peer that was asked, or what the voters agree on.
fn agreed_records(
    voters: &Voters,
    told: Vec<(Option<VoterId>, Vec<CheckpointEntry>)>,
) -> Vec<CheckpointRecord> {
    let mut by_block: std::collections::BTreeMap<BlockNumber, Vec<_>> = std::collections::BTreeMap::new();
    for (voter, entries) in told {
        for entry in entries {
            by_block
                .entry(entry.block_num)
                .or_default()
                .push((voter.clone(), entry));
        }
    }
    by_block
        .into_values()
        .filter_map(|entries| {
            let (_, first) = entries.first()?.clone();
            if entries.iter().any(|(voter, _)| voter.is_none()) {
                // A stranger's content id of a delta can be proven by the blocks; its hash of the block cannot.
                return record_of(&first).map(|record| match record.kind {
                    CheckpointKind::Delta => CheckpointRecord { block_hash: None, ..record },
                    CheckpointKind::State => record,
                });
            }
            let cast = entries.iter().filter_map(|(voter, entry)| {
                Some((voter.clone()?, (entry.state_hash, entry.block_hash, entry.state_digest)))
            });
            match voters.decide(cast) {
                Agreement::Agreed { value, .. } => entries
                    .iter()
                    .filter(|(_, entry)| (entry.state_hash, entry.block_hash, entry.state_digest) == value)
                    .find_map(|(_, entry)| record_of(entry)),
                Agreement::Conflict | Agreement::Undecided => {
                    tracing::debug!(block = %first.block_num, "the voters do not agree on this checkpoint yet");
                    None
                }
            }
        })
        .collect()
}

fn record_of(entry: &CheckpointEntry) -> Option<CheckpointRecord> {
    Some(CheckpointRecord {
        block_num: entry.block_num,
        kind: entry.kind,
        state_hash: entry.state_hash,
        block_hash: entry.block_hash,
        state_digest: entry.state_digest,
        root: entry.root?,
        prev_root: entry.prev_root.map_or(PreviousRoot::None, PreviousRoot::Known),
    })
}
