//! Which blocks are missing.

use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::planner::{Event, FetchKind};
use honeygraph_chain::{BlockNumber, BlockRange};

use super::{SyncEngine, unix_now};
use crate::config::History;
use crate::peers::registry::{KnownPeer, PeerSource};
use crate::replica::ReplicaStatus;
use crate::store::Position;

impl SyncEngine {
    /// The replica has changed: what is missing is what it wants and does not have.
    pub(super) fn on_status(&mut self) {
        let status = self.status.borrow_and_update().clone();
        let Some(position) = &status.position else { return };
        if self.handing == 0 {
            let next = status.applied.unwrap_or(position.state_height).next();
            if let Some(lost) = self
                .front_next
                .previous()
                .and_then(|last| BlockRange::new(next, last).ok())
            {
                // Handed over, and taken back since: by a source's own blocks, a reorganization, a halt.
                self.buffer.discard(lost);
                self.step(Event::RangeRejected {
                    range: lost,
                    blamed: Vec::new(),
                    fault: PeerFault::NotFound,
                });
            }
            self.front_next = next;
        }
        let committed = position.state_height;
        let missing = self.missing(&status, position);
        let highest = status.have.last().unwrap_or(committed);
        let period = position.schedule.delta_interval;
        // A few blocks above everything that is stored are the head moving on, not a gap.
        let is_gap = |gap: &BlockRange| gap.start() < highest || gap.len() >= period;
        let new_gaps = missing
            .iter()
            .filter(|gap| is_gap(gap) && self.wanted.present_in(*gap).next().is_none());
        self.gaps_detected += new_gaps.count() as u64;
        if missing != self.wanted {
            self.wanted = missing.clone();
            let fetching = if self.settings.enabled || self.run.is_some() {
                missing
            } else {
                IntervalSet::default()
            };
            self.step(Event::WantedChanged {
                missing: fetching,
                near_from: committed.next(),
            });
        }
        if committed != self.committed {
            self.committed = committed;
            self.step(Event::CommitFrontMoved { front: committed });
        }
    }

    /// Every block that the replica wants and does not have, up to the head that it can know of.
    fn missing(&self, status: &ReplicaStatus, position: &Position) -> IntervalSet {
        let target = self.target(status, position);
        BlockRange::new(position.history_start, target)
            .map(|wanted| status.have.missing_in(wanted).collect())
            .unwrap_or_default()
    }

    /// The highest block to fetch from peers. What a source that stands at the front is about to send need
    /// not be fetched.
    fn target(&self, status: &ReplicaStatus, position: &Position) -> BlockNumber {
        let height = position.state_height;
        let follows = status
            .sources
            .iter()
            .any(|source| source.connected && source.canonical && source.tip == Some(height));
        if follows || position.halted.is_some() {
            return height;
        }
        if let Some(pending) = status.first_pending {
            return pending.saturating_sub(1).max(height);
        }
        let strangers = || self.highest_head(PeerSource::Discovered);
        self.network_head()
            .or_else(strangers)
            .unwrap_or(height)
            .max(height)
    }

    /// The highest head that honeycombs or configured peers report, as far as the clock allows it.
    pub(super) fn network_head(&self) -> Option<BlockNumber> {
        let sources = self.status.borrow().network_head;
        sources.max(self.highest_head(PeerSource::Configured))
    }

    /// The highest plausible head of peers that answer.
    fn highest_head(&self, least: PeerSource) -> Option<BlockNumber> {
        let plausible = BlockNumber::highest_at(unix_now().as_secs());
        let peers = self.registry.iter().map(|(_, peer)| peer);
        let heads = peers
            .filter(|peer| peer.is_alive && peer.source >= least)
            .filter_map(KnownPeer::head);
        heads.filter(|head| *head <= plausible).max()
    }

    /// Moves the start of the history that is wanted: down to what peers have, or up to what is kept.
    pub(super) fn keep_history(&mut self) {
        let status = self.status.borrow().clone();
        let Some(position) = &status.position else { return };
        let has_voters = self.registry.voters().next().is_some();
        // Blocks that do not exist would be wanted for ever: what the voters say counts where some are peers.
        // An older peer says nothing of where its blocks begin.
        let bases = |least: PeerSource| {
            let peers = self.registry.iter().map(|(_, peer)| peer).filter(|peer| {
                peer.is_alive && peer.source >= least && (peer.voter.is_some() || !has_voters)
            });
            peers
                .filter_map(|peer| peer.profile)
                .filter(|profile| profile.kind == FetchKind::Batch)
                .filter_map(|profile| profile.available)
                .map(BlockRange::start)
                .min()
        };
        let configured = self
            .registry
            .iter()
            .any(|(_, peer)| peer.source == PeerSource::Configured);
        let base = if configured {
            bases(PeerSource::Configured)
        } else {
            bases(PeerSource::Discovered)
        };
        let kept = match self.settings.history {
            History::All => BlockNumber::default(),
            History::Newest(blocks) => position.state_height.saturating_sub(blocks.get() - 1),
        };
        let start = match base {
            Some(base) => base.min(position.history_start).max(kept),
            None => position.history_start.max(kept),
        };
        // Pruning block by block would be a commit a block.
        let prunes = start > position.history_start && start.distance_from(position.history_start) >= 100;
        if start < position.history_start || prunes {
            let replica = self.replica.clone();
            self.tasks.spawn(async move {
                match replica.set_history_start(start).await {
                    Ok(()) => super::Done::Nothing,
                    Err(gone) => super::Done::Gone(gone),
                }
            });
        }
    }
}
