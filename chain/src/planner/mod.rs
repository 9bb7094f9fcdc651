//! What to fetch next, from whom, and what to do with the outcome.
//!
//! A pure state machine: [`Planner::step`] takes an event and the time and returns what to do. It opens no
//! connection, holds no block, and reads no clock; chance comes from a seed, so the same events give the same
//! actions. [`Planner::next_wake`] says when it wants to be asked again without an event.
//!
//! Every wanted block is in exactly one state: missing (perhaps not before some time), in flight, buffered,
//! verified (handed over to be committed) or quarantined. What is wanted at the head at once comes first, then
//! everything above the commit front, then the gaps below; in each region the lowest missing range is always
//! allowed, everything behind it only within three limits: requests in flight, blocks and bytes.
//!
//! A range that failed waits: for a back-off, or in quarantine. It waits for the peers that were there. One that
//! is new, comes back from a ban or an open circuit, or has got the blocks since, is asked at once, and once.

mod blame;
mod clock;
mod cut;
mod hedge;
mod message;
mod outcome;
mod peers;
mod random;
mod ranges;
mod retry;
mod schedule;
mod settings;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub use blame::BlameLedger;
pub use message::{
    Action, AvoidReason, AvoidedPeer, Event, FetchFault, FetchKind, FetchOrder, PeerProfile, RequestId,
    RetryEntry, RetryHold,
};
pub use settings::PlannerSettings;
pub use status::{PeerView, PlannerStatus};

use clock::SteadyClock;
use hedge::{HedgeBudget, Latencies};
use peers::PeerTable;
use ranges::RangeTable;

use crate::block_number::{BlockNumber, BlockRange};
use crate::network::CheckpointSchedule;
use crate::peer::PeerId;

/// Assumed size of a block until blocks have come, in bytes.
const FIRST_BLOCK_BYTES: u64 = 2_048;

/// The sync planner.
#[derive(Debug, Clone)]
pub struct Planner {
    settings: PlannerSettings,
    schedule: CheckpointSchedule,
    random: ChaCha8Rng,
    clock: SteadyClock,
    near_from: BlockNumber,
    head_first: Option<BlockRange>,
    ranges: RangeTable,
    peers: PeerTable,
    requests: BTreeMap<RequestId, Request>,
    next_request: u64,
    block_bytes: u64,
    latencies: Latencies,
    hedges: HedgeBudget,
    actions: Vec<Action>,
}

/// A request in flight; times are steady times.
#[derive(Debug, Clone)]
struct Request {
    peer: PeerId,
    range: BlockRange,
    sent: Duration,
    deadline: Duration,
    byte_limit: u64,
    /// What the hedge budget paid for it.
    hedged: u64,
}

impl Planner {
    /// A planner that knows no peer and wants nothing yet.
    pub fn new(settings: PlannerSettings, schedule: CheckpointSchedule, seed: u64) -> Self {
        Self {
            settings,
            schedule,
            random: ChaCha8Rng::seed_from_u64(seed),
            clock: SteadyClock::default(),
            near_from: BlockNumber::default(),
            head_first: None,
            ranges: RangeTable::default(),
            peers: PeerTable::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            block_bytes: FIRST_BLOCK_BYTES,
            latencies: Latencies::default(),
            hedges: HedgeBudget::default(),
            actions: Vec::new(),
        }
    }

    /// Takes in what happened at a Unix time and returns what to do now, in order.
    ///
    /// Reports about requests that it does not know, or no longer, change nothing.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let now = self.clock.advance(now);
        self.apply(event, now);
        self.give_up_overdue(now);
        self.release_quarantined(now);
        self.cancel_unneeded();
        self.peers.notice_returns(now);
        self.hedge(now);
        self.fill(now);
        self.ranges.forget_beyond(self.settings.tracked_ranges_max);
        std::mem::take(&mut self.actions)
    }

    /// What is wanted at the head at once, the rest above the commit front, and what is below it: in this order.
    fn regions(&self) -> impl Iterator<Item = BlockRange> + use<> {
        let near = ranges::span(self.near_from, BlockNumber::MAX);
        let older = self
            .near_from
            .previous()
            .map(|end| ranges::span(BlockNumber::default(), end));
        let first = self.head_first.filter(|first| first.start() > self.near_from);
        let below = first.map_or(near, |first| {
            ranges::span(near.start(), first.start().saturating_sub(1))
        });
        let above = first.and_then(|first| ranges::after(first, near.end()));
        first.into_iter().chain([below]).chain(above).chain(older)
    }
}
