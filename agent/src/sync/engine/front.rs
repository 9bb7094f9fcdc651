//! Handing blocks over to the replica, in order, at the front.

use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::planner::Event;
use honeygraph_chain::{BlockNumber, BlockRange};
use std::sync::Arc;

use super::{Done, SyncEngine};
use crate::config::Verification;
use crate::metrics::BlockOutcome;
use crate::peers::PeerSource;
use crate::replica::{ExtendOutcome, Vouched};
use crate::sync::buffer::Run;
use crate::sync::fetch::Fetched;
use crate::sync::quorum::Quorum;

/// Hand-overs under way at most: one is applied while the next one waits.
const HANDING_MAX: usize = 2;

/// Peers that are asked where they stand.
const PEERS_ASKED: usize = 5;

/// A run that was handed over, and what became of it.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) run: Run,
    pub(super) range: BlockRange,
    pub(super) outcome: ExtendOutcome,
}

impl SyncEngine {
    /// Hands over what is next.
    pub(super) fn hand_over(&mut self) {
        let halted = self
            .status
            .borrow()
            .position
            .as_ref()
            .is_none_or(|position| position.halted.is_some());
        if halted {
            return;
        }
        self.hand_over_ahead();
        if self.front_waits() {
            return self.hand_over_history();
        }
        let held_at = self.status.borrow().held_at;
        while self.handing < HANDING_MAX && held_at.is_none_or(|held| self.front_next <= held) {
            let Some(run) = self.buffer.take(self.front_next) else {
                break;
            };
            let Some(range) = run.range() else { continue };
            self.front_next = range.end().next();
            self.handing += 1;
            self.step(Event::RangeVerified { range });
            let replica = self.replica.clone();
            let quorum = self.quorum();
            self.tasks.spawn(async move {
                let outcome = match linked(&run) {
                    Some(blocks) => replica.extend(run.peer.clone(), blocks).await,
                    None => {
                        let vouched = match &quorum {
                            Some(quorum) if quorum.vouches_for(&run).await => Vouched::ByQuorum,
                            _ => Vouched::ByNobody,
                        };
                        replica
                            .extend_operations(run.peer.clone(), operations(&run), vouched)
                            .await
                    }
                };
                match outcome {
                    Ok(outcome) => Done::Handed(Handed { run, range, outcome }),
                    Err(gone) => Done::Gone(gone),
                }
            });
        }
        self.hand_over_history();
    }

    /// Whom to ask about operations without a hash, if `verification=quorum` allows them.
    fn quorum(&self) -> Option<Quorum> {
        match self.settings.verification {
            Verification::Strict => None,
            Verification::Quorum => Some(Quorum {
                client: self.client.clone(),
                voters: self.settings.voters.clone(),
                peers: self
                    .registry
                    .voters()
                    .map(|(_, peer, voter)| (voter.clone(), peer.url.clone()))
                    .collect(),
            }),
        }
    }

    /// Whether blocks since the last checkpoint are missing: then nothing can go on at the front before they
    /// are there.
    fn front_waits(&self) -> bool {
        let status = Arc::clone(&self.status.borrow());
        let Some(position) = &status.position else {
            return true;
        };
        BlockRange::new(position.checkpoints.last_block.next(), position.state_height)
            .is_ok_and(|range| status.have.missing_in(range).next().is_some())
    }

    pub(super) fn on_handed(&mut self, handed: Handed) {
        self.handing = self.handing.saturating_sub(1);
        let Handed { run, range, outcome } = handed;
        match outcome {
            ExtendOutcome::Accepted { applied, committed } => {
                let taken = run.up_to(applied);
                self.count_synced(&taken);
                self.metrics
                    .count_sync_blocks(BlockOutcome::Committed, taken.blocks.len() as u64);
                self.needed_bytes += bytes_of(&taken);
                self.settle_blame(&taken, committed);
                if applied < range.end() {
                    // Commits are held before the end of the run; the rest is handed over after that.
                    if let Ok(rest) = BlockRange::new(applied.next(), range.end()) {
                        self.buffer.put(run.part(rest));
                    }
                    self.front_next = applied.next();
                }
            }
            ExtendOutcome::NotNext { next } => {
                let duplicate = next.distance_from(range.start()).min(range.len());
                self.metrics.count_sync_blocks(BlockOutcome::Duplicate, duplicate);
                if let Ok(rest) = BlockRange::new(next.max(range.start()), range.end()) {
                    self.buffer.put(run.part(rest));
                }
                self.front_next = next;
            }
            ExtendOutcome::Rejected {
                discarded,
                fault,
                suspects,
                evidence,
            } => {
                self.front_next = discarded.start();
                for (peer, block) in evidence {
                    self.ledger.remember(peer, block.number, block.hash);
                }
                if suspects.len() > 1 {
                    for block in &run.blocks {
                        if let Fetched::Linked(fetched) = block {
                            self.ledger
                                .remember(run.peer.clone(), block.number(), fetched.block.hash());
                        }
                    }
                }
                let disputes_front = fault == PeerFault::BrokenLink && discarded.start() == range.start();
                if disputes_front {
                    // Either the peer stands on another chain, or this node does.
                    self.look_at_front(range.start(), run.peer.clone());
                }
                let blamed = if suspects.len() == 1 && !disputes_front {
                    suspects
                } else {
                    Vec::new()
                };
                let whole =
                    BlockRange::new(discarded.start().min(range.start()), range.end()).unwrap_or(range);
                self.metrics
                    .count_sync_blocks(BlockOutcome::Refused, run.blocks.len() as u64);
                tracing::warn!(range = %whole, %fault, peers = ?blamed, "blocks refused");
                self.buffer.discard(whole);
                self.step(Event::RangeRejected {
                    range: whole,
                    blamed,
                    fault,
                });
            }
            ExtendOutcome::NeedsCheckpoint { block } => {
                tracing::debug!(%block, peer = %run.peer, "blocks of an older peer wait for their checkpoint");
                self.front_next = range.start();
                self.step(Event::RangeRejected {
                    range,
                    blamed: Vec::new(),
                    fault: PeerFault::NotFound,
                });
            }
            ExtendOutcome::Halted | ExtendOutcome::NeedsHistory => {
                self.front_next = range.start();
                self.buffer.put(run);
            }
        }
    }

    /// Asks the voters that are peers (or, without any, a few peers) whether they stand on the block before
    /// `next` as well. Where most of those that answer do not, and no source stands here, what is not
    /// proven is taken back; where all of them do, the one that disputed it is blamed.
    fn look_at_front(&mut self, next: BlockNumber, disputing: PeerId) {
        let status = self.status.borrow().clone();
        let (Some(position), Some(tip)) = (&status.position, next.previous()) else {
            return;
        };
        let followed = status
            .sources
            .iter()
            .any(|source| source.connected && source.canonical);
        if followed || self.looking_at_front || position.irreversible_block().is_some_and(|lib| tip <= lib) {
            return;
        }
        let Some(ours) = position.state_block_hash.filter(|_| position.state_height == tip) else {
            return;
        };
        let voters: Vec<_> = self
            .registry
            .voters()
            .map(|(_, peer, voter)| (self.settings.voters.weight(voter), peer.url.clone()))
            .collect();
        let configured = self
            .registry
            .iter()
            .any(|(_, peer)| peer.source == PeerSource::Configured);
        let least = if configured {
            PeerSource::Configured
        } else {
            PeerSource::Discovered
        };
        let others = self
            .registry
            .iter()
            .filter(|(_, peer)| peer.is_alive && peer.source >= least);
        let asked = if voters.is_empty() {
            others
                .map(|(_, peer)| (1, peer.url.clone()))
                .take(PEERS_ASKED)
                .collect()
        } else {
            voters
        };
        let total: u64 = asked.iter().map(|(weight, _)| weight).sum();
        self.looking_at_front = true;
        let (client, replica) = (self.client.clone(), self.replica.clone());
        self.tasks.spawn(async move {
            let (mut with, mut against) = (0, 0);
            for (weight, url) in asked {
                match client.hash(&url, tip).await {
                    Ok(answer) if answer.block_hash == ours => with += weight,
                    Ok(_) => against += weight,
                    Err(error) => tracing::debug!(%url, %error, "no hash"),
                }
            }
            if against * 2 > total {
                tracing::warn!(block = %tip, "peers stand on another chain; taking back what is not proven");
                if let Err(gone) = replica.abandon_unproven(tip).await {
                    return Done::Gone(gone);
                }
            }
            Done::LookedAtFront {
                disputing,
                stands: against == 0 && with > 0,
            }
        });
    }

    /// Names the peers whose earlier answers differ from blocks that stand now.
    pub(super) fn settle_blame(&mut self, run: &Run, committed: BlockNumber) {
        if self.ledger.is_empty() {
            return;
        }
        // Blocks are proven up to the last checkpoint that is committed.
        let schedule = self.schedule();
        let Some(proven_to) = schedule.last_before(committed.next()) else {
            return;
        };
        let proven = run.blocks.iter().filter_map(|block| match block {
            Fetched::Linked(fetched) if fetched.block.number() <= proven_to => {
                Some((fetched.block.number(), fetched.block.hash()))
            }
            Fetched::Linked(_) | Fetched::Operations { .. } => None,
        });
        let guilty: Vec<PeerId> = self.ledger.settle(proven).into_iter().collect();
        for peer in guilty {
            tracing::warn!(%peer, "peer gave blocks that a checkpoint disproved");
            self.step(Event::PeerFaulted {
                peer,
                fault: PeerFault::CheckpointMismatch,
            });
        }
    }
}

/// The blocks of a run with links of their own; none if there is one without.
pub(super) fn linked(run: &Run) -> Option<Vec<crate::replica::FetchedBlock>> {
    run.blocks
        .iter()
        .map(|block| match block {
            Fetched::Linked(fetched) => Some(fetched.clone()),
            Fetched::Operations { .. } => None,
        })
        .collect()
}

fn operations(run: &Run) -> Vec<(BlockNumber, honeygraph_chain::Operations, u64)> {
    run.blocks
        .iter()
        .map(|block| match block {
            Fetched::Linked(fetched) => (
                fetched.block.number(),
                fetched.block.block().operations.clone(),
                fetched.timestamp_ms,
            ),
            Fetched::Operations {
                number,
                operations,
                timestamp_ms,
            } => (*number, operations.clone(), *timestamp_ms),
        })
        .collect()
}

pub(super) fn bytes_of(run: &Run) -> u64 {
    run.blocks
        .iter()
        .map(|block| match block {
            Fetched::Linked(fetched) => fetched.block.bytes().len() as u64,
            Fetched::Operations { .. } => 0,
        })
        .sum()
}
