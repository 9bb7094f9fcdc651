//! Which state each missing block is in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::{AvoidReason, AvoidedPeer, RequestId};
use crate::block_number::{BlockNumber, BlockRange};
use crate::interval::IntervalSet;
use crate::peer::PeerId;

/// Most peers that one range remembers to avoid.
const AVOIDED_MAX: usize = 16;

/// What happens to a range; times are steady times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RangeState {
    Missing {
        not_before: Duration,
    },
    InFlight {
        first: RequestId,
        hedge: Option<RequestId>,
    },
    Buffered {
        peer: PeerId,
        bytes: u64,
    },
    Verified {
        peer: PeerId,
        bytes: u64,
    },
    Quarantined {
        until: Duration,
    },
}

impl RangeState {
    /// Whether a request is to bring the range.
    pub(super) fn awaits(&self, request: RequestId) -> bool {
        match self {
            Self::InFlight { first, hedge } => *first == request || *hedge == Some(request),
            _ => false,
        }
    }

    /// Whether the range is to be fetched, but not yet.
    pub(super) fn waits(&self, now: Duration) -> bool {
        match self {
            Self::Missing { not_before } => *not_before > now,
            Self::Quarantined { until } => *until > now,
            _ => false,
        }
    }

    /// Bytes in memory.
    pub(super) const fn bytes(&self) -> u64 {
        match self {
            Self::Buffered { bytes, .. } | Self::Verified { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}

/// What went wrong with a range before; times are steady times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) attempts: u32,
    /// The step of the last failed attempt; 0 if that was before this planner.
    pub(super) failed_in: u64,
    pub(super) avoid: Vec<AvoidedPeer>,
}

impl History {
    /// Whether a peer is not to be asked.
    pub(super) fn avoids(&self, peer: &PeerId, now: Duration) -> bool {
        self.avoid
            .iter()
            .any(|avoided| avoided.peer == *peer && avoided.until > now)
    }

    /// Notes that a peer is not to be asked; the note that ends first gives way when there are too many.
    pub(super) fn note(&mut self, avoided: AvoidedPeer) {
        self.avoid.retain(|earlier| earlier.peer != avoided.peer);
        self.avoid.push(avoided);
        self.avoid.sort_by_key(|avoided| std::cmp::Reverse(avoided.until));
        self.avoid.truncate(AVOIDED_MAX);
    }

    /// Number of peers that answered badly.
    pub(super) fn bad_answers(&self, now: Duration) -> usize {
        self.avoid
            .iter()
            .filter(|avoided| avoided.reason == AvoidReason::BadAnswer && avoided.until > now)
            .count()
    }

    /// Adds what another range has gone through.
    pub(super) fn merge(&mut self, other: Self) {
        self.attempts = self.attempts.max(other.attempts);
        self.failed_in = self.failed_in.max(other.failed_in);
        for avoided in other.avoid {
            self.note(avoided);
        }
    }
}

/// A range with a state or a history of its own.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) range: BlockRange,
    pub(super) state: RangeState,
    pub(super) history: History,
}

impl Tracked {
    /// The part before `number` and the part from it on.
    fn split(mut self, number: BlockNumber) -> (Self, Self) {
        let mut upper = self.clone();
        let length = self.range.len();
        self.range = span(self.range.start(), number.saturating_sub(1));
        upper.range = span(number, upper.range.end());
        let total = self.state.bytes();
        let lower_bytes = share(total, self.range.len(), length);
        for (part, part_bytes) in [(&mut self, lower_bytes), (&mut upper, total - lower_bytes)] {
            if let RangeState::Buffered { bytes, .. } | RangeState::Verified { bytes, .. } = &mut part.state {
                *bytes = part_bytes;
            }
        }
        (self, upper)
    }
}

/// `total * part / whole`.
pub(super) fn share(total: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(total) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(total).min(total)
}

/// The range between two blocks that the caller knows to be in order.
pub(super) fn span(start: BlockNumber, end: BlockNumber) -> BlockRange {
    BlockRange::new(start, end).unwrap_or(BlockRange::single(start))
}

/// The blocks after a range, up to `end`.
pub(super) fn after(range: BlockRange, end: BlockNumber) -> Option<BlockRange> {
    (range.end() < end).then(|| span(range.end().next(), end))
}

/// Every wanted block, each in exactly one state: that of the tracked range that holds it, or missing and
/// free to be fetched where no tracked range does. Tracked ranges never overlap and hold only wanted blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct RangeTable {
    wanted: IntervalSet,
    tracked: BTreeMap<BlockNumber, Tracked>,
}

impl RangeTable {
    pub(super) const fn wanted(&self) -> &IntervalSet {
        &self.wanted
    }

    pub(super) fn tracked(&self) -> impl DoubleEndedIterator<Item = &Tracked> {
        self.tracked.values()
    }

    pub(super) fn tracked_mut(&mut self) -> impl Iterator<Item = &mut Tracked> {
        self.tracked.values_mut()
    }

    pub(super) fn tracked_len(&self) -> usize {
        self.tracked.len()
    }

    /// The tracked range that holds a block.
    pub(super) fn holding(&self, number: BlockNumber) -> Option<&Tracked> {
        let (_, tracked) = self.tracked.range(..=number).next_back()?;
        tracked.range.contains(number).then_some(tracked)
    }

    /// Makes a tracked range begin at `number` if one reaches across it.
    fn split_at(&mut self, number: BlockNumber) {
        let Some(key) = self
            .holding(number)
            .map(|tracked| tracked.range.start())
            .filter(|start| *start < number)
        else {
            return;
        };
        if let Some(tracked) = self.tracked.remove(&key) {
            let (lower, upper) = tracked.split(number);
            self.tracked.insert(key, lower);
            self.tracked.insert(number, upper);
        }
    }

    /// The tracked ranges inside of `range`, split at its ends.
    pub(super) fn inside(&mut self, range: BlockRange) -> impl Iterator<Item = &mut Tracked> {
        self.split_at(range.start());
        if range.end() < BlockNumber::MAX {
            self.split_at(range.end().next());
        }
        self.tracked
            .range_mut(range.start()..=range.end())
            .map(|(_, tracked)| tracked)
    }

    /// Takes the tracked ranges inside of `range` for which `which` holds out of the table.
    pub(super) fn take_inside(
        &mut self,
        range: BlockRange,
        which: impl Fn(&RangeState) -> bool,
    ) -> Vec<Tracked> {
        let starts: Vec<BlockNumber> = self
            .inside(range)
            .filter(|tracked| which(&tracked.state))
            .map(|tracked| tracked.range.start())
            .collect();
        starts
            .iter()
            .filter_map(|start| self.tracked.remove(start))
            .collect()
    }

    /// Puts a range that no tracked range overlaps into the table.
    pub(super) fn put(&mut self, tracked: Tracked) {
        self.tracked.insert(tracked.range.start(), tracked);
    }

    /// Gives a range one state; it keeps its history.
    pub(super) fn set(&mut self, range: BlockRange, state: RangeState) {
        let mut history = History::default();
        for earlier in self.take_inside(range, |_| true) {
            history.merge(earlier.history);
        }
        self.put(Tracked {
            range,
            state,
            history,
        });
    }

    /// Adds blocks that are wanted.
    pub(super) fn want(&mut self, range: BlockRange) {
        self.wanted.insert(range);
    }

    /// Takes blocks out that are no longer wanted; gives back what was tracked of them.
    pub(super) fn forget(&mut self, range: BlockRange) -> Vec<Tracked> {
        self.wanted.remove(range);
        self.take_inside(range, |_| true)
    }

    /// Replaces the wanted blocks; gives back what was tracked of those that are no longer wanted.
    pub(super) fn replace_wanted(&mut self, wanted: IntervalSet) -> Vec<Tracked> {
        let unwanted: Vec<BlockRange> = self
            .wanted
            .iter()
            .flat_map(|run| wanted.missing_in(run))
            .collect();
        let mut gone = Vec::new();
        for range in unwanted {
            gone.extend(self.take_inside(range, |_| true));
        }
        self.wanted = wanted;
        gone
    }

    /// The lowest range inside of `region` that may be fetched now: as far as it is of one kind. One that waits
    /// may be if it failed before `newest_peer`, the step in which the newest of the peers came.
    pub(super) fn next_missing(
        &self,
        region: BlockRange,
        newest_peer: u64,
        now: Duration,
    ) -> Option<BlockRange> {
        let mut rest = region;
        loop {
            let run = self.wanted.run_from(rest.start())?.intersection(rest)?;
            let start = run.start();
            let Some(tracked) = self.holding(start) else {
                let next = self.tracked.range(start..=run.end()).next();
                let end = next.map_or(run.end(), |(next, _)| next.saturating_sub(1));
                return Some(span(start, end));
            };
            let is_free = match tracked.state {
                RangeState::Missing { .. } | RangeState::Quarantined { .. } => {
                    !tracked.state.waits(now) || tracked.history.failed_in < newest_peer
                }
                _ => false,
            };
            if is_free {
                return span(start, tracked.range.end()).intersection(region);
            }
            rest = after(tracked.range, region.end())?;
        }
    }

    /// The lowest tracked range inside of `region` that is not buffered or handed over, if everything below it
    /// is: the one that the commit waits for next.
    pub(super) fn awaited(&self, region: BlockRange) -> Option<&Tracked> {
        let mut rest = region;
        loop {
            let run = self.wanted.run_from(rest.start())?.intersection(rest)?;
            let tracked = self.holding(run.start())?;
            if !matches!(
                tracked.state,
                RangeState::Buffered { .. } | RangeState::Verified { .. }
            ) {
                return Some(tracked);
            }
            rest = after(tracked.range, region.end())?;
        }
    }

    /// Forgets the history of the highest waiting ranges until at most `most` ranges are tracked.
    pub(super) fn forget_beyond(&mut self, most: usize) {
        let excess = self.tracked.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let highest: Vec<BlockNumber> = self
            .tracked
            .iter()
            .rev()
            .filter(|(_, tracked)| {
                matches!(
                    tracked.state,
                    RangeState::Missing { .. } | RangeState::Quarantined { .. }
                )
            })
            .map(|(start, _)| *start)
            .take(excess)
            .collect();
        for start in highest {
            self.tracked.remove(&start);
        }
    }
}
