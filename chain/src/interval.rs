//! Sets of blocks, kept as runs: what a node has, what it misses.

use std::fmt;

use rangemap::{RangeInclusiveSet, StepFns};
use serde::{Deserialize, Serialize};

use crate::block_number::{BlockNumber, BlockRange};

/// A set of block numbers as sorted runs that neither overlap nor touch.
///
/// Its size is the number of runs, not of blocks, and so is the time for walking its gaps.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<BlockRange>", into = "Vec<BlockRange>")]
pub struct IntervalSet {
    runs: RangeInclusiveSet<BlockNumber, BlockSteps>,
}

/// How the set steps from a block to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockSteps;

impl StepFns<BlockNumber> for BlockSteps {
    fn add_one(number: &BlockNumber) -> BlockNumber {
        number.next()
    }

    fn sub_one(number: &BlockNumber) -> BlockNumber {
        number.saturating_sub(1)
    }
}

/// A list of ranges that is not the written form of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("range {second} must start above {first} with a gap between them; sort and join the list")]
pub struct IntervalSetError {
    /// The range before.
    pub first: BlockRange,
    /// The range that is out of order, overlaps or touches.
    pub second: BlockRange,
}

impl IntervalSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every block of a range.
    pub fn insert(&mut self, range: BlockRange) {
        self.runs.insert(range.start()..=range.end());
    }

    /// Takes every block of a range out.
    pub fn remove(&mut self, range: BlockRange) {
        self.runs.remove(range.start()..=range.end());
    }

    /// Whether a block is in the set.
    pub fn contains(&self, number: BlockNumber) -> bool {
        self.runs.contains(&number)
    }

    /// Whether every block of a range is in the set.
    pub fn contains_range(&self, range: BlockRange) -> bool {
        self.runs
            .get(&range.start())
            .is_some_and(|run| *run.end() >= range.end())
    }

    /// The runs, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = BlockRange> {
        self.runs.iter().map(|run| joined(*run.start(), *run.end()))
    }

    /// What the set holds of a range, as runs, lowest first.
    pub fn present_in(&self, range: BlockRange) -> impl Iterator<Item = BlockRange> {
        self.runs
            .overlapping(range.start()..=range.end())
            .filter_map(move |run| joined(*run.start(), *run.end()).intersection(range))
    }

    /// What the set lacks of a range, as runs, lowest first.
    pub fn missing_in(&self, range: BlockRange) -> impl Iterator<Item = BlockRange> {
        let mut present = self.present_in(range);
        let mut unseen = Some(range);
        std::iter::from_fn(move || {
            loop {
                let rest = unseen.take()?;
                let Some(run) = present.next() else {
                    return Some(rest);
                };
                if run.end() < rest.end() {
                    unseen = Some(joined(run.end().next(), rest.end()));
                }
                if rest.start() < run.start() {
                    return Some(joined(rest.start(), run.start().saturating_sub(1)));
                }
            }
        })
    }

    /// The first run that has blocks at or above `number`, cut to those.
    pub fn run_from(&self, number: BlockNumber) -> Option<BlockRange> {
        self.present_in(joined(number, BlockNumber::MAX)).next()
    }

    /// The lowest block at or above `number` that is not in the set; nothing if the set reaches from there to
    /// [`BlockNumber::MAX`].
    pub fn first_missing_from(&self, number: BlockNumber) -> Option<BlockNumber> {
        match self.runs.get(&number) {
            None => Some(number),
            Some(run) if *run.end() == BlockNumber::MAX => None,
            Some(run) => Some(run.end().next()),
        }
    }

    /// The lowest block.
    pub fn first(&self) -> Option<BlockNumber> {
        self.runs.first().map(|run| *run.start())
    }

    /// The highest block.
    pub fn last(&self) -> Option<BlockNumber> {
        self.runs.last().map(|run| *run.end())
    }

    /// Number of blocks.
    pub fn block_count(&self) -> u64 {
        self.iter().map(BlockRange::len).sum()
    }

    /// Number of runs.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is no block in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// The run from `start` to `end`, which the callers know to be in order.
fn joined(start: BlockNumber, end: BlockNumber) -> BlockRange {
    BlockRange::new(start, end).unwrap_or(BlockRange::single(start))
}

impl Extend<BlockRange> for IntervalSet {
    fn extend<I: IntoIterator<Item = BlockRange>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl FromIterator<BlockRange> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = BlockRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl From<BlockRange> for IntervalSet {
    fn from(range: BlockRange) -> Self {
        Self::from_iter([range])
    }
}

impl TryFrom<Vec<BlockRange>> for IntervalSet {
    type Error = IntervalSetError;

    fn try_from(ranges: Vec<BlockRange>) -> Result<Self, IntervalSetError> {
        for pair in ranges.windows(2) {
            if let [first, second] = *pair
                && second.start() <= first.end().next()
            {
                return Err(IntervalSetError { first, second });
            }
        }
        Ok(Self::from_iter(ranges))
    }
}

impl From<IntervalSet> for Vec<BlockRange> {
    fn from(set: IntervalSet) -> Self {
        set.iter().collect()
    }
}

/// The runs separated by commas; after 8 of them only how many more there are.
impl fmt::Display for IntervalSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        if self.is_empty() {
            return formatter.write_str("none");
        }
        for (position, run) in self.iter().take(SHOWN).enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            write!(formatter, "{separator}{run}")?;
        }
        match self.run_count().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

impl fmt::Debug for IntervalSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> BlockRange {
        BlockRange::new(start.try_into().unwrap(), end.try_into().unwrap()).unwrap()
    }

    fn is_sorted_and_joined(runs: &[BlockRange]) -> bool {
        runs.windows(2).all(|pair| pair[0].end().next() < pair[1].start())
    }

    #[test]
    fn the_ends_of_the_number_space_are_kept() {
        let max = BlockNumber::MAX.get();
        let mut set = IntervalSet::from(range(0, max));
        assert_eq!(set.first_missing_from(BlockNumber::default()), None);
        set.remove(range(5, max - 5));
        assert_eq!(set.iter().collect::<Vec<_>>(), [range(0, 4), range(max - 4, max)]);
        assert_eq!(
            set.missing_in(range(0, max)).collect::<Vec<_>>(),
            [range(5, max - 5)]
        );
        set.insert(range(5, max - 5));
        assert_eq!((set.run_count(), set.block_count()), (1, max + 1));
    }

    #[test]
    fn text_is_a_list_of_ranges_and_checked() {
        let set = IntervalSet::from_iter([range(7, 9), range(1, 3), range(4, 4)]);
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"[{"start":1,"end":4},{"start":7,"end":9}]"#);
        assert_eq!(serde_json::from_str::<IntervalSet>(&text).unwrap(), set);
        for bad in [
            r#"[{"start":7,"end":9},{"start":1,"end":3}]"#,
            r#"[{"start":1,"end":3},{"start":3,"end":4}]"#,
            r#"[{"start":1,"end":3},{"start":4,"end":4}]"#,
            r#"[{"start":3,"end":1}]"#,
        ] {
            assert!(serde_json::from_str::<IntervalSet>(bad).is_err(), "{bad}");
        }
        assert_eq!(set.to_string(), "1..=4, 7..=9");
    }

    #[test]
    fn many_blocks_and_gaps_take_one_step_a_gap() {
        let base = range(1, 100_000_000);
        let mut have = IntervalSet::from(base);
        for gap in 0..10_000_u64 {
            have.remove(range(1_000 + gap * 9_000, 1_099 + gap * 9_000));
        }
        let gaps: Vec<BlockRange> = have.missing_in(base).collect();
        assert_eq!(gaps.len(), 10_000);
        assert!(gaps.iter().all(|gap| gap.len() == 100));
        assert_eq!(have.run_count(), 10_001);
    }

    fn changes() -> impl Strategy<Value = Vec<(bool, u64, u64)>> {
        prop::collection::vec((any::<bool>(), 0_u64..200, 0_u64..40), 0..60)
    }

    proptest! {
        /// I1, against a set that lists its blocks.
        #[test]
        fn have_and_missing_partition_the_span(changes in changes(), base in 0_u64..100, span in 0_u64..150) {
            let mut set = IntervalSet::new();
            let mut model = BTreeSet::new();
            for (add, start, length) in changes {
                let changed = range(start, start + length);
                if add {
                    set.insert(changed);
                    model.extend(changed.iter());
                } else {
                    set.remove(changed);
                    model.retain(|number| !changed.contains(*number));
                }
            }
            let whole = range(base, base + span);
            let have: Vec<BlockRange> = set.present_in(whole).collect();
            let missing: Vec<BlockRange> = set.missing_in(whole).collect();
            prop_assert!(is_sorted_and_joined(&have) && is_sorted_and_joined(&missing));
            for number in whole.iter() {
                let held = have.iter().filter(|run| run.contains(number)).count();
                let lacked = missing.iter().filter(|run| run.contains(number)).count();
                prop_assert_eq!((held, lacked), if model.contains(&number) { (1, 0) } else { (0, 1) });
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            let runs: Vec<BlockRange> = set.iter().collect();
            prop_assert!(is_sorted_and_joined(&runs));
            prop_assert_eq!(set.run_count(), runs.len());
            prop_assert_eq!(set.block_count(), model.len() as u64);
            prop_assert_eq!(set.first(), model.first().copied());
            prop_assert_eq!(set.last(), model.last().copied());
            prop_assert_eq!(set.contains_range(whole), whole.iter().all(|number| model.contains(&number)));
            let next = (whole.start().get()..).map(|number| BlockNumber::try_from(number).unwrap());
            prop_assert_eq!(
                set.first_missing_from(whole.start()),
                next.into_iter().find(|number| !model.contains(number))
            );
            prop_assert_eq!(
                set.run_from(whole.start()).map(BlockRange::start),
                model.range(whole.start()..).next().copied()
            );
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<IntervalSet>(&text).unwrap(), set);
        }
    }
}
