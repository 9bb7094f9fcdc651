//! Which blocks are missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::{PeerFault, PeerId, Standing};
use honeygraph_chain::planner::{Event, FetchFault, FetchKind, FetchOrder};
use honeygraph_chain::{BlockNumber, BlockRange};

use super::claims::{Bottom, believed_head};
use super::{SyncEngine, unix_now};
use crate::config::History;
use crate::peers::PeerSource;
use crate::peers::registry::KnownPeer;
use crate::replica::ReplicaStatus;
use crate::store::Position;

/// Fewest blocks of history that are pruned at once.
const PRUNED_AT_LEAST: u64 = 100;

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
        self.progress.note(&status, Instant::now());
        let missing = self.missing(&status, position);
        let highest = status.have.last().unwrap_or(committed);
        let period = position.schedule.delta_interval;
        // A few blocks above everything that is stored are the head moving on, not a gap.
        let is_gap = |gap: &BlockRange| gap.start() < highest || gap.len() >= period;
        let new_gaps = missing
            .iter()
            .filter(|gap| is_gap(gap) && self.wanted.present_in(*gap).next().is_none());
        self.gaps_detected += new_gaps.count() as u64;
        let head_first = Self::head_first(&status, &missing);
        let head_moved = head_first != self.head_first;
        self.wanted = missing;
        self.head_first = head_first;
        self.fetch_missing(head_moved);
        if self
            .claimed_base
            .is_some_and(|base| base < position.history_start)
            && status.have.first() == Some(position.history_start)
        {
            self.keep_history();
        }
        if committed != self.committed {
            self.committed = committed;
            self.step(Event::CommitFrontMoved { front: committed });
        }
    }

    /// Tells the planner what to fetch, where that is news: all that is missing, or without `SYNC_ENABLED` what a run
    /// was asked for of it.
    pub(super) fn fetch_missing(&mut self, head_moved: bool) {
        let fetching = match &self.run {
            _ if self.settings.enabled => self.wanted.clone(),
            Some(run) => common(&self.wanted, run.asked()),
            None => IntervalSet::default(),
        };
        if fetching == self.fetching && !head_moved {
            return;
        }
        self.fetching = fetching.clone();
        self.step(Event::WantedChanged {
            missing: fetching,
            near_from: self.height().next(),
            head_first: self.head_first,
        });
    }

    /// Every block that the replica wants and does not have, up to the head that it can know of.
    fn missing(&self, status: &ReplicaStatus, position: &Position) -> IntervalSet {
        let target = self.target(status, position);
        BlockRange::new(position.history_start, target)
            .map(|wanted| status.have.missing_in(wanted).collect())
            .unwrap_or_default()
    }

    /// What is wanted at the head before the gap below it.
    fn head_first(status: &ReplicaStatus, missing: &IntervalSet) -> Option<BlockRange> {
        BlockRange::new(status.ahead_from?, missing.last()?).ok()
    }

    /// The highest block to fetch from peers. What a source that stands at the front is about to send, or has
    /// sent and is being committed, need not be fetched, nor what it has sent already above a gap. None of that
    /// counts once they have fallen silent.
    fn target(&self, status: &ReplicaStatus, position: &Position) -> BlockNumber {
        let height = position.state_height;
        let is_recent = self.progress.is_recent();
        let follows = status
            .sources
            .iter()
            .any(|source| source.connected && source.canonical && source.tip >= Some(height));
        if position.halted.is_some() || (is_recent && follows) {
            return height;
        }
        if is_recent && let Some(pending) = status.first_pending {
            return pending.saturating_sub(1).max(height);
        }
        if is_recent && let Some(ahead) = status.newest_ahead {
            return ahead.max(height);
        }
        let strangers = || self.highest_head(PeerSource::Discovered);
        // What silent sources said of the head is old: it does not keep strangers from being heard.
        let told = status.network_head.filter(|_| is_recent);
        told.max(self.highest_head(PeerSource::Configured))
            .or_else(strangers)
            .max(status.network_head)
            .unwrap_or(height)
            .max(height)
    }

    /// The highest head that honeycombs or configured peers report, as far as it is believed.
    pub(super) fn network_head(&self) -> Option<BlockNumber> {
        let sources = self.status.borrow().network_head;
        sources.max(self.highest_head(PeerSource::Configured))
    }

    /// The highest head of peers that answer, as far as the clock allows it and it is believed.
    fn highest_head(&self, least: PeerSource) -> Option<BlockNumber> {
        let plausible = BlockNumber::highest_at(unix_now().as_secs());
        let now = Instant::now();
        let height = self.height();
        let claims = self
            .registry
            .iter()
            .filter(|(_, peer)| peer.is_alive && peer.source >= least)
            .filter_map(|(key, peer)| Some((peer.head()?, self.doubts.holds(key, now))));
        believed_head(height, claims.filter(|(head, _)| *head <= plausible))
    }

    fn height(&self) -> BlockNumber {
        let status = Arc::clone(&self.status.borrow());
        let height = status.position.as_ref().map(|position| position.state_height);
        height.unwrap_or_default()
    }

    /// Whether somebody who answers has some of what is missing, as far as that is believed.
    pub(super) fn can_fill(&self) -> bool {
        let now = Instant::now();
        let height = self.height();
        let has = |(key, peer): (&PeerId, &KnownPeer)| {
            let available = peer.profile.and_then(|profile| profile.available);
            let believed = if self.doubts.holds(key, now) {
                available.and_then(|range| BlockRange::new(range.start(), range.end().min(height)).ok())
            } else {
                available
            };
            peer.is_alive && believed.is_some_and(|range| self.wanted.present_in(range).next().is_some())
        };
        self.registry.iter().any(has)
    }

    /// Learns from an answer with so many blocks how far to believe what its peer claims.
    pub(super) fn weigh_claim(&mut self, order: &FetchOrder, blocks: usize, fault: Option<&FetchFault>) {
        let next = self.height().next();
        if blocks > 0 {
            if order.range.contains(next) {
                self.doubts.on_served(&order.peer);
            }
            return;
        }
        if !matches!(
            fault,
            Some(FetchFault::Peer(PeerFault::NotFound | PeerFault::ShortAnswer))
        ) {
            return;
        }
        if order.range.contains(next) {
            self.doubts.on_denied(&order.peer, Instant::now());
            self.on_status();
        } else {
            let lowest = self.status.borrow().have.first();
            if lowest.is_none_or(|lowest| order.range.end() < lowest) && order.range.end() < next {
                self.reach.on_denied();
            }
        }
    }

    /// Moves the start of the history that is wanted: down towards what peers claim, a step at a time and as
    /// far as they prove to have it, or up to what is kept.
    pub(super) fn keep_history(&mut self) {
        let status = self.status.borrow().clone();
        let Some(position) = &status.position else { return };
        self.claimed_base = self.claimed_bases().min();
        let next = position.state_height.next();
        // What stands above a gap is no history.
        let lowest = status.have.first().unwrap_or(next).min(next);
        let kept = match self.settings.history {
            History::All => BlockNumber::default(),
            // The deltas since the last full state are computed from their blocks for those who start from them.
            History::Newest(blocks) => position
                .state_height
                .saturating_sub(blocks.get() - 1)
                .min(first_since_full_state(position)),
        };
        let step = BlockRange::starting_at(position.history_start, self.reach.step());
        let step =
            step.intersection(BlockRange::new(BlockNumber::default(), position.state_height).unwrap_or(step));
        let missing = step.map_or(0, |step| status.have.missing_in(step).map(BlockRange::len).sum());
        let bottom = Bottom {
            start: position.history_start,
            lowest,
            kept,
            missing,
            claimants: self.claimed_bases().filter(|base| *base < lowest).count(),
        };
        let start = self.reach.start(bottom, self.claimed_base, Instant::now());
        // What stands below a full state is proven by what stands above it.
        let provable = provable_from(&position.schedule, lowest);
        let start = start.max(provable.min(lowest));
        // Pruning block by block would be a commit a block.
        let removes = start > lowest && start.distance_from(position.history_start) < PRUNED_AT_LEAST;
        if start != position.history_start && !removes {
            let replica = self.replica.clone();
            self.tasks.spawn(async move {
                match replica.set_history_start(start).await {
                    Ok(()) => super::Done::Nothing,
                    Err(gone) => super::Done::Gone(gone),
                }
            });
        }
    }

    /// The lowest blocks that peers claim to have.
    fn claimed_bases(&self) -> impl Iterator<Item = BlockNumber> {
        let has_voters = self.registry.voters().next().is_some();
        let mut peers = self.registry.iter().map(|(_, peer)| peer.source);
        let least = if peers.any(|source| source == PeerSource::Configured) {
            PeerSource::Configured
        } else {
            PeerSource::Discovered
        };
        let now = unix_now();
        let banned: BTreeSet<_> = self
            .planner
            .peers(now)
            .filter(|peer| matches!(peer.score.standing(now), Standing::Banned { .. }))
            .map(|peer| peer.id)
            .collect();
        // What the voters say counts where some are peers. An older peer says nothing of where its blocks begin.
        self.registry
            .iter()
            .filter(move |(key, peer)| {
                peer.is_alive
                    && peer.source >= least
                    && (peer.voter.is_some() || !has_voters)
                    && !banned.contains(key)
            })
            .filter_map(|(_, peer)| peer.profile)
            .filter(|profile| profile.kind == FetchKind::Batch)
            .filter_map(|profile| profile.available)
            .map(BlockRange::start)
    }
}

/// The first block that what is stored from `lowest` on proves: that of the period of the full state below.
fn provable_from(schedule: &CheckpointSchedule, lowest: BlockNumber) -> BlockNumber {
    let state = schedule.last_state_before(lowest);
    state.map_or(BlockNumber::default(), |state| schedule.period_of(state).start())
}

/// The blocks that are in both sets.
pub(super) fn common(one: &IntervalSet, other: &IntervalSet) -> IntervalSet {
    one.iter().flat_map(|range| other.present_in(range)).collect()
}

/// The first block after the last full state.
fn first_since_full_state(position: &Position) -> BlockNumber {
    let checkpoints = &position.checkpoints;
    let first_delta = checkpoints.deltas.first().map(|delta| delta.hive_block);
    first_delta.map_or(checkpoints.last_block.next(), |delta| {
        position.schedule.period_of(delta).start()
    })
}
