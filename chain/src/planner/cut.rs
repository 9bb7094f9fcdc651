//! Where a request ends.

use crate::block_number::{BlockNumber, BlockRange};
use crate::network::CheckpointSchedule;

/// The range of at most `blocks` blocks from `start` on, up to `limit`.
///
/// A range that reaches a checkpoint ends at one, so that a period comes from one peer where it fits and a
/// mismatch blames that one. Where `blocks` is less than the rest of the period, it ends inside the period.
pub(super) fn cut(
    schedule: &CheckpointSchedule,
    start: BlockNumber,
    blocks: u64,
    limit: BlockNumber,
) -> BlockRange {
    let longest = BlockRange::starting_at(start, blocks.max(1));
    let end = longest.end().min(limit.max(start));
    let checkpoint = schedule.last_before(end.next());
    let end = checkpoint
        .filter(|checkpoint| *checkpoint >= start)
        .unwrap_or(end);
    BlockRange::new(start, end).unwrap_or(BlockRange::single(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    fn end(start: u64, blocks: u64, limit: u64) -> u64 {
        let schedule = CheckpointSchedule::default();
        let range = cut(&schedule, number(start), blocks, number(limit));
        assert_eq!(range.start(), number(start));
        range.end().get()
    }

    #[test]
    fn whole_periods_where_they_fit() {
        assert_eq!(end(102, 256, 10_000), 301);
        assert_eq!(end(102, 512, 10_000), 601);
        assert_eq!(end(150, 256, 10_000), 401);
    }

    #[test]
    fn inside_a_period_never_across_its_end() {
        assert_eq!(end(102, 64, 10_000), 165);
        assert_eq!(end(166, 64, 10_000), 201);
        assert_eq!(end(201, 64, 10_000), 201);
    }

    #[test]
    fn the_limit_holds() {
        assert_eq!(end(102, 256, 250), 201);
        assert_eq!(end(202, 256, 250), 250);
        assert_eq!(end(102, 256, 102), 102);
        let max = BlockNumber::MAX.get();
        assert!(end(max, 512, max) == max && end(max - 3, 512, max) <= max);
    }
}
