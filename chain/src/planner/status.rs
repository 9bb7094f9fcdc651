//! What people and metrics may see of the planner.

use std::time::Duration;

use super::Planner;
use super::message::PeerProfile;
use super::ranges::RangeState;
#[cfg(test)]
use crate::block_number::BlockRange;
use crate::interval::IntervalSet;
use crate::peer::{CircuitState, PeerId, PeerScore};

/// The state of a wanted block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RangeStage {
    /// To be fetched, perhaps after a back-off.
    Missing,
    /// Asked for.
    InFlight,
    /// Fetched, waiting for what comes before it.
    Buffered,
    /// Handed over to be committed.
    Verified,
    /// Left alone for a while: too many peers answered badly.
    Quarantined,
}

impl From<&RangeState> for RangeStage {
    fn from(state: &RangeState) -> Self {
        match state {
            RangeState::Missing { .. } => Self::Missing,
            RangeState::InFlight { .. } => Self::InFlight,
            RangeState::Buffered { .. } => Self::Buffered,
            RangeState::Verified { .. } => Self::Verified,
            RangeState::Quarantined { .. } => Self::Quarantined,
        }
    }
}

/// Counts over all wanted blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlannerStatus {
    /// Blocks to fetch.
    pub missing_blocks: u64,
    /// Blocks asked for.
    pub in_flight_blocks: u64,
    /// Blocks in the re-ordering buffer.
    pub buffered_blocks: u64,
    /// Blocks handed over and not committed yet.
    pub verified_blocks: u64,
    /// Blocks left alone for a while.
    pub quarantined_blocks: u64,
    /// Bytes of the buffered and handed-over blocks.
    pub held_bytes: u64,
    /// Bytes that answers in flight may bring at most.
    pub awaited_bytes_max: u64,
    /// Requests in flight.
    pub requests_in_flight: usize,
    /// Ranges with a state or a history of their own.
    pub tracked_ranges: usize,
}

/// What the planner thinks of a peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerView<'a> {
    /// Its id.
    pub id: &'a PeerId,
    /// What it says it can serve.
    pub profile: PeerProfile,
    /// Its score, to be stored.
    pub score: &'a PeerScore,
    /// Its circuit breaker.
    pub circuit: CircuitState,
    /// Requests in flight to it.
    pub in_flight: u32,
    /// Most requests in flight to it now.
    pub window: u32,
    /// Blocks it is asked for at once.
    pub range_blocks: u64,
    /// Smoothed time of a round trip.
    pub round_trip: Duration,
}

impl Planner {
    /// Every block that is wanted and not committed.
    pub const fn wanted(&self) -> &IntervalSet {
        self.ranges.wanted()
    }

    /// The ranges with a state or a history of their own, lowest first. All other wanted blocks are missing.
    #[cfg(test)]
    pub(super) fn tracked_ranges(&self) -> impl Iterator<Item = (BlockRange, RangeStage)> {
        self.ranges
            .tracked()
            .map(|tracked| (tracked.range, (&tracked.state).into()))
    }

    /// Counts for the status page and metrics.
    pub fn status(&self) -> PlannerStatus {
        let mut status = PlannerStatus {
            requests_in_flight: self.requests.len(),
            tracked_ranges: self.ranges.tracked_len(),
            awaited_bytes_max: self.requests.values().map(|request| request.byte_limit).sum(),
            ..PlannerStatus::default()
        };
        for tracked in self.ranges.tracked() {
            let blocks = tracked.range.len();
            match RangeStage::from(&tracked.state) {
                RangeStage::Missing => {}
                RangeStage::InFlight => status.in_flight_blocks += blocks,
                RangeStage::Buffered => status.buffered_blocks += blocks,
                RangeStage::Verified => status.verified_blocks += blocks,
                RangeStage::Quarantined => status.quarantined_blocks += blocks,
            }
            status.held_bytes = status.held_bytes.saturating_add(tracked.state.bytes());
        }
        status.missing_blocks = self.ranges.wanted().block_count()
            - status.in_flight_blocks
            - status.buffered_blocks
            - status.verified_blocks
            - status.quarantined_blocks;
        status
    }

    /// All known peers, by id.
    pub fn peers(&self, now: Duration) -> impl Iterator<Item = PeerView<'_>> {
        let steady = self.clock.at(now).steady;
        self.peers.iter().map(move |(id, peer)| PeerView {
            id,
            profile: peer.profile,
            score: &peer.score,
            circuit: peer.circuit.state(steady),
            in_flight: peer.in_flight,
            window: peer.window,
            range_blocks: peer.request_blocks(&self.settings),
            round_trip: peer.timeout.round_trip(),
        })
    }
}
