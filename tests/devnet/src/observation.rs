//! What the nodes say of themselves, as one picture at one moment.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use honeygraph_agent::wire::shapes::{SyncMode, SyncStatus};
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};

/// Time that a rate is taken over.
const RATE_TIME: Duration = Duration::from_secs(3);

/// What is known of a node.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// It is not running.
    Offline {
        /// Why, in a word.
        reason: &'static str,
        /// What it lacks of the whole chain, as far as can be known.
        missing: IntervalSet,
    },
    /// It runs and does not answer.
    Silent,
    /// It answers.
    Online(Box<Standing>),
}

/// Where a node that answers stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// What it says of itself.
    pub status: SyncStatus,
    /// What it lacks of the whole chain as it was when it was asked.
    pub missing: IntervalSet,
}

impl Standing {
    /// Blocks that it lacks.
    pub(crate) fn missing_blocks(&self) -> u64 {
        self.missing.block_count()
    }

    /// Whether it has every block of the range, and the state after it.
    pub(crate) fn covers(&self, range: BlockRange) -> bool {
        self.status.state_height >= Some(range.end()) && self.missing.present_in(range).next().is_none()
    }

    /// How many of its peers answer, and how many it knows.
    pub(crate) fn peers(&self) -> (usize, usize) {
        let peers = self.status.peers.as_slice();
        (peers.iter().filter(|peer| peer.is_alive).count(), peers.len())
    }

    /// Blocks that its Dgraph lacks; none where it has none, or does not know yet.
    pub(crate) fn dgraph_lag(&self) -> Option<u64> {
        self.status.dgraph.as_ref()?.lag_blocks
    }

    /// The highest block that a recomputed checkpoint proves.
    pub(crate) fn proven_to(&self) -> Option<BlockNumber> {
        self.status.verification.as_ref()?.verified_height
    }
}

/// A node in a picture.
#[derive(Debug, Clone)]
pub(crate) struct NodePicture {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub condition: Condition,
    /// Blocks a second that it gained of late.
    pub rate: u64,
}

impl NodePicture {
    /// What it says, where it answers.
    pub(crate) fn standing(&self) -> Option<&Standing> {
        match &self.condition {
            Condition::Online(standing) => Some(standing),
            Condition::Offline { .. } | Condition::Silent => None,
        }
    }
}

/// All nodes at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Every block there is.
    pub chain: BlockRange,
    /// The nodes.
    pub nodes: Vec<NodePicture>,
    /// Whether they keep a Dgraph in step.
    pub has_dgraph: bool,
}

/// How a state of the sync engine is called.
pub(crate) const fn mode_name(mode: Option<SyncMode>) -> &'static str {
    match mode {
        None => "starting",
        Some(SyncMode::Boot) => "boot",
        Some(SyncMode::Recover) => "recover",
        Some(SyncMode::Discover) => "discover",
        Some(SyncMode::Anchor) => "anchor",
        Some(SyncMode::Fill) => "fill",
        Some(SyncMode::Follow) => "follow",
        Some(SyncMode::Starved) => "starved",
        Some(SyncMode::Partitioned) => "cut off",
        Some(SyncMode::Halted) => "halted",
        Some(SyncMode::Repair) => "repair",
        Some(SyncMode::Unknown) => "unknown",
    }
}

/// How fast a count grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeter {
    counts: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    /// Notes a count.
    pub(crate) fn note(&mut self, at: Instant, count: u64) {
        self.counts.push_back((at, count));
        while self.counts.len() > 2
            && self
                .counts
                .front()
                .is_some_and(|(first, _)| at.duration_since(*first) > RATE_TIME)
        {
            self.counts.pop_front();
        }
    }

    /// Forgets what was noted.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }

    /// How much the count grew a second of late.
    pub(crate) fn per_second(&self) -> u64 {
        let (Some((first, low)), Some((last, high))) = (self.counts.front(), self.counts.back()) else {
            return 0;
        };
        per_second(high.saturating_sub(*low), last.duration_since(*first))
    }
}

/// A count by the time it took, rounded down.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis();
    if millis == 0 {
        return 0;
    }
    u64::try_from(u128::from(count) * 1_000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = RateMeter::default();
        assert_eq!(meter.per_second(), 0);
        meter.note(at(0), 100);
        assert_eq!(meter.per_second(), 0);
        meter.note(at(1), 300);
        assert_eq!(meter.per_second(), 200);
        for second in 2..8 {
            meter.note(at(second), 300);
        }
        assert_eq!(meter.per_second(), 0);
        meter.note(at(8), 200);
        assert_eq!(meter.per_second(), 0);
        meter.clear();
        assert_eq!(meter.per_second(), 0);
    }
}
