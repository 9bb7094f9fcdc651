//! Blocks from peers at the front: the next ones after the state height.

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::{BlockNumber, BlockRange, Operations};

use std::time::Instant;

use super::reorganize::Undone;
use super::tip::{CheckpointFinding, Provenance, StageError};
use super::{Replica, StoreError};
use crate::store::Verification;

/// A block that a peer handed over; its hash was computed from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedBlock {
    /// The block.
    pub block: HashedBlock,
    /// When it was made, as the peer says; milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

/// Who vouched for operations without a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// Nobody but the peer that gave them.
    ByNobody,
    /// More than half of the configured weight gave the same.
    ByQuorum,
}

/// What became of blocks at the front.
#[derive(Debug, Clone, PartialEq)]
pub enum ExtendOutcome {
    /// They follow and were applied up to `applied`, which is the last of them unless commits are to be held
    /// before it. Those up to `committed` are durable or about to be, the rest waits for the checkpoint that
    /// proves it.
    Accepted {
        /// Highest applied block.
        applied: BlockNumber,
        /// Highest block that is committed or being committed.
        committed: BlockNumber,
    },
    /// The first block is not the next one.
    NotNext {
        /// The next one.
        next: BlockNumber,
    },
    /// A block is wrong. Nothing of its period is committed.
    Rejected {
        /// Blocks that are missing again.
        discarded: BlockRange,
        /// What was wrong.
        fault: PeerFault,
        /// Peers whose blocks are in doubt: one where it is certain.
        suspects: Vec<PeerId>,
        /// Who gave which of the discarded blocks, so that the liar is known once the right ones are.
        evidence: Vec<(PeerId, BlockReference)>,
    },
    /// Blocks since the last checkpoint are missing; they have to be filled in first.
    NeedsHistory,
    /// Blocks without hashes of their own are only taken where a known checkpoint proves them, and a delta document
    /// that cannot be computed only where its content id is known; that of this checkpoint is not yet.
    NeedsCheckpoint {
        /// The checkpoint.
        block: BlockNumber,
    },
    /// Commits are stopped.
    Halted,
}

/// What became of the next block.
pub(super) enum Pushed {
    /// It is staged.
    Staged,
    /// The chain before it was linked again; the block was not taken yet.
    Relinked,
    /// It does not follow; nothing of it is staged.
    Refused(StageError),
    /// The replica has no state to stand on yet.
    NotStarted,
}

/// Blocks that are enough for a commit while nothing is being committed. While something is, more is gathered rather
/// than waiting for it: a leaf that changes twice is written once.
const fn worth_committing(commit_blocks: usize) -> usize {
    commit_blocks.saturating_mul(3).div_ceil(4)
}

/// The blocks of a run from one on.
fn blocks_from(blocks: &[FetchedBlock], number: BlockNumber) -> &[FetchedBlock] {
    let at = blocks.iter().position(|fetched| fetched.block.number() >= number);
    at.and_then(|at| blocks.get(at..)).unwrap_or_default()
}

impl Replica {
    /// Takes blocks from a peer at the front.
    ///
    /// Where the content id of the period's checkpoint is known already, nothing of a period is committed
    /// before its checkpoint proves it; near the head, where it is not known yet, blocks are committed as
    /// they come, unconfirmed.
    pub fn extend(&mut self, peer: &PeerId, blocks: &[FetchedBlock]) -> Result<ExtendOutcome, StoreError> {
        self.extend_as(peer, blocks, Verification::Verified)
    }

    fn extend_as(
        &mut self,
        peer: &PeerId,
        blocks: &[FetchedBlock],
        verification: Verification,
    ) -> Result<ExtendOutcome, StoreError> {
        if self.halted().is_some() {
            return Ok(ExtendOutcome::Halted);
        }
        let Some(running) = &self.running else {
            return Ok(ExtendOutcome::Halted);
        };
        if !running.stage.tip.is_whole {
            return Ok(ExtendOutcome::NeedsHistory);
        }
        let next = running.stage.tip.number.next();
        match blocks.first() {
            Some(first) if first.block.number() == next => {}
            _ => return Ok(ExtendOutcome::NotNext { next }),
        }
        for fetched in blocks {
            let number = fetched.block.number();
            if self.is_beyond_stop(number) {
                break;
            }
            if let Some(rejected) = self.contradicts_agreed_hash(&fetched.block) {
                return self.reject(number, rejected, peer);
            }
            let provenance = Provenance::Peer(peer.clone());
            match self.push_next(&fetched.block, fetched.timestamp_ms, provenance, verification)? {
                Pushed::Staged => {
                    self.counters.unverified_blocks += u64::from(verification == Verification::Unverified);
                }
                Pushed::Relinked => return self.extend_as(peer, blocks_from(blocks, number), verification),
                Pushed::NotStarted => return Ok(ExtendOutcome::Halted),
                // Nobody's fault: it waits until somebody who can be trusted reports the checkpoint.
                Pushed::Refused(StageError::NotComputable { number: block }) => {
                    if block == next {
                        return Ok(ExtendOutcome::NeedsCheckpoint { block });
                    }
                    break;
                }
                Pushed::Refused(error) => {
                    let fault = match &error {
                        StageError::NotNext { .. } => PeerFault::WrongNumber,
                        StageError::BrokenLink { .. } => PeerFault::BrokenLink,
                        StageError::BreaksState { .. } => PeerFault::BreaksState,
                        StageError::CheckpointMismatch { .. }
                        | StageError::PeriodNotWhole { .. }
                        | StageError::NotComputable { .. }
                        | StageError::Store(_) => PeerFault::CheckpointMismatch,
                    };
                    tracing::warn!(peer = %peer, block = %number, %error, "block refused");
                    return self.reject(number, fault, peer);
                }
            }
        }
        self.commit_if_due()?;
        self.after_advance()?;
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return Ok(ExtendOutcome::Halted);
        };
        Ok(ExtendOutcome::Accepted {
            applied: running.stage.tip.number,
            committed: position.state_height,
        })
    }

    /// Checks and stages the next block, whoever gave it, and commits what is due. Where it shows that the schedule
    /// of checkpoints is wrong, that is corrected.
    pub(super) fn push_next(
        &mut self,
        block: &HashedBlock,
        timestamp_ms: u64,
        provenance: Provenance,
        verification: Verification,
    ) -> Result<Pushed, StoreError> {
        let number = block.number();
        let reported = self.reported_checkpoint(number);
        let (Some(running), Some(position)) = (&mut self.running, self.writer.position()) else {
            return Ok(Pushed::NotStarted);
        };
        let schedule = position.schedule;
        let stage = &mut running.stage;
        match stage.push(block, timestamp_ms, provenance, &schedule, reported) {
            Ok(finding) => {
                if let Some(block) = stage.blocks.last_mut() {
                    block.stored.verification = verification;
                }
                let enough = stage.blocks.len() >= worth_committing(self.settings.commit_blocks);
                if let CheckpointFinding::OtherKind(kind) = finding {
                    self.commit_stage()?;
                    self.correct_schedule(number, kind)?;
                } else if enough || schedule.kind_at(number).is_some() {
                    self.commit_if_due()?;
                }
                Ok(Pushed::Staged)
            }
            // The checkpoint before it is of the other kind; everything since then was linked again.
            Err(StageError::BrokenLink { got, .. }) if self.relink_to(got)? => Ok(Pushed::Relinked),
            Err(StageError::Store(error)) => {
                self.drop_stage();
                Err(error)
            }
            Err(error) => Ok(Pushed::Refused(error)),
        }
    }

    /// Commits what is staged once enough of it is gathered, or it has waited long enough.
    pub fn commit_if_due(&mut self) -> Result<(), StoreError> {
        if self.is_commit_due() {
            self.commit_stage()
        } else {
            Ok(())
        }
    }

    /// Commits what is staged as far as it may be, before the replica goes.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        if self.may_commit_stage() {
            self.commit_stage()?;
        }
        self.settle()
    }

    /// When [`Replica::commit_if_due`] has something to do again.
    pub fn commit_deadline(&self) -> Option<Instant> {
        let since = self.running.as_ref()?.stage.since?;
        self.may_commit_stage()
            .then(|| since + self.settings.commit_interval)
    }

    fn is_commit_due(&self) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        let Some(since) = running.stage.since else {
            return false;
        };
        let staged = running.stage.blocks.len();
        let most = self.settings.commit_blocks;
        let enough = staged >= most || (staged >= worth_committing(most) && !self.writer.would_wait());
        let due = enough
            || since.elapsed() >= self.settings.commit_interval
            || self.stop == Some(running.stage.tip.number);
        due && self.may_commit_stage()
    }

    /// Makes way for a block of a source: what is staged is committed, or dropped where it still waits for its
    /// proof and the source has all of it itself. A block that follows something staged needs that to stay.
    pub(super) fn settle_stage(&mut self, number: BlockNumber) -> Result<(), StoreError> {
        let has_all = self
            .running
            .as_ref()
            .is_none_or(|running| number == running.tip.number.next());
        if self.may_commit_stage() || !has_all {
            self.commit_stage()
        } else {
            self.drop_stage();
            Ok(())
        }
    }

    /// Whether nothing better can be waited for: the stage ends at a checkpoint, or the checkpoint that
    /// would prove its end is not known yet.
    pub(super) fn may_commit_stage(&self) -> bool {
        let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
            return false;
        };
        let next = running.stage.tip.number;
        let checkpoint = position.schedule.next_at_or_after(next);
        checkpoint == next || self.reported_checkpoint(checkpoint).is_none()
    }

    /// Refuses a block at the front. Where only the block itself is wrong, what stands before it stays; where
    /// its period is disproved, or it links to something else than what is applied but not proven, everything
    /// since the last proven checkpoint goes: either side may be the wrong one.
    fn reject(
        &mut self,
        at: BlockNumber,
        fault: PeerFault,
        peer: &PeerId,
    ) -> Result<ExtendOutcome, StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(ExtendOutcome::Halted);
        };
        if fault == PeerFault::CheckpointMismatch {
            self.counters.state_hash_mismatches += 1;
        }
        let doubts_period = matches!(fault, PeerFault::CheckpointMismatch | PeerFault::BreaksState)
            || (fault == PeerFault::BrokenLink && self.waits_for_proof());
        if !doubts_period {
            if self.may_commit_stage() {
                self.commit_stage()?;
            }
            return Ok(ExtendOutcome::Rejected {
                discarded: BlockRange::single(at),
                fault,
                suspects: vec![peer.clone()],
                evidence: Vec::new(),
            });
        }
        let period = position.schedule.period_of(at);
        let evidence = self.evidence(period)?;
        let mut suspects = vec![peer.clone()];
        for (other, _) in &evidence {
            if !suspects.contains(other) {
                suspects.push(other.clone());
            }
        }
        self.keep_proven_stage()?;
        let before = period.start().saturating_sub(1);
        if fault == PeerFault::CheckpointMismatch && position.state_height > before {
            self.roll_back(before, Undone::Discard)?;
        }
        let next = self.writer.position().map_or(at, |now| now.state_height.next());
        let discarded = BlockRange::new(next.min(at), at).unwrap_or(BlockRange::single(at));
        Ok(ExtendOutcome::Rejected {
            discarded,
            fault,
            suspects,
            evidence,
        })
    }

    /// Commits what is staged up to its last checkpoint, and drops the rest.
    pub(super) fn keep_proven_stage(&mut self) -> Result<(), StoreError> {
        let rewound = match &mut self.running {
            Some(running) => running.stage.rewind_to_checkpoint()?,
            None => false,
        };
        if rewound {
            self.commit_stage()?;
        } else {
            self.drop_stage();
        }
        Ok(())
    }

    /// Whether the block before the next one is applied, but not committed before its checkpoint proves it.
    fn waits_for_proof(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| !running.stage.blocks.is_empty()) && !self.may_commit_stage()
    }

    /// Who handed over which block of a period that is not proven.
    fn evidence(&self, period: BlockRange) -> Result<Vec<(PeerId, BlockReference)>, StoreError> {
        let mut evidence = Vec::new();
        let view = self.writer.store().view();
        for (number, provenance) in self.provenance.range(period.start()..=period.end()) {
            if let (Provenance::Peer(peer), Some(block)) = (provenance, view.block(*number)?) {
                evidence.push((
                    peer.clone(),
                    BlockReference {
                        number: *number,
                        hash: block.hash,
                    },
                ));
            }
        }
        let staged = self.running.iter().flat_map(|running| &running.stage.blocks);
        for block in staged.filter(|block| period.contains(block.number)) {
            if let Provenance::Peer(peer) = &block.provenance {
                let reference = BlockReference {
                    number: block.number,
                    hash: block.stored.hash,
                };
                evidence.push((peer.clone(), reference));
            }
        }
        Ok(evidence)
    }

    /// Takes operations from an older peer, whose hashes nobody can recompute.
    ///
    /// Where the checkpoint of their period is known it will prove them. Where it is not, they are taken
    /// only if a quorum vouched for them (`verification=quorum`), and marked as unverified.
    pub fn extend_operations(
        &mut self,
        peer: &PeerId,
        blocks: Vec<(BlockNumber, Operations, u64)>,
        vouched: Vouched,
    ) -> Result<ExtendOutcome, StoreError> {
        let mut outcome = ExtendOutcome::Halted;
        for (number, operations, timestamp_ms) in blocks {
            let (Some(running), Some(position)) = (&self.running, self.writer.position()) else {
                break;
            };
            let checkpoint = position.schedule.next_at_or_after(number);
            let verification = match (self.reported_checkpoint(checkpoint), vouched) {
                (Some(_), _) => Verification::Verified,
                (None, Vouched::ByQuorum) => Verification::Unverified,
                (None, Vouched::ByNobody) => {
                    return Ok(ExtendOutcome::NeedsCheckpoint { block: checkpoint });
                }
            };
            let previous_hash = running.stage.tip.link();
            let block = HashedBlock::from(Block {
                number,
                previous_hash,
                operations,
            });
            outcome = self.extend_as(peer, &[FetchedBlock { block, timestamp_ms }], verification)?;
            if !matches!(outcome, ExtendOutcome::Accepted { applied, .. } if applied == number) {
                break;
            }
        }
        Ok(outcome)
    }
}
