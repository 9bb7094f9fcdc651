//! A bar that shows which blocks of a range are there.

use honeygraph_chain::BlockRange;
use honeygraph_chain::interval::IntervalSet;

/// How much of one cell's blocks is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// All.
    Whole,
    /// At least half.
    Most,
    /// Less than half.
    Few,
    /// None.
    None,
}

impl Cell {
    /// The sign of the cell.
    pub(crate) const fn sign(self) -> char {
        match self {
            Self::Whole => '█',
            Self::Most => '▓',
            Self::Few => '░',
            Self::None => '·',
        }
    }

    const fn of(missing: u64, blocks: u64) -> Self {
        match missing {
            0 => Self::Whole,
            missing if missing >= blocks => Self::None,
            missing if missing.saturating_mul(2) <= blocks => Self::Most,
            _ => Self::Few,
        }
    }
}

/// The cells of a bar over `range`, each for an equal part of it. A cell is whole only where not one block is
/// missing, however small the bar.
pub(crate) fn cells(range: BlockRange, missing: &IntervalSet, width: u16) -> Vec<Cell> {
    let width = u64::from(width);
    (0..width)
        .map(|place| {
            let start = range.len() * place / width;
            let end = (range.len() * (place + 1) / width).max(start + 1);
            let part = BlockRange::starting_at(range.start().saturating_add(start), end - start);
            let missing = missing.present_in(part).map(BlockRange::len).sum();
            Cell::of(missing, part.len())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::BlockNumber;
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, count: u64) -> BlockRange {
        BlockRange::starting_at(BlockNumber::try_from(start).unwrap(), count)
    }

    fn text(range: BlockRange, missing: &[BlockRange], width: u16) -> String {
        let mut set = IntervalSet::default();
        for range in missing {
            set.insert(*range);
        }
        cells(range, &set, width).into_iter().map(Cell::sign).collect()
    }

    #[test]
    fn a_bar_shows_where_blocks_are_missing() {
        let all = range(101, 1_000);
        assert_eq!(text(all, &[], 10), "██████████");
        assert_eq!(text(all, &[all], 10), "··········");
        assert_eq!(text(all, &[range(301, 100)], 10), "██·███████");
        assert_eq!(text(all, &[range(301, 1)], 10), "██▓███████");
        assert_eq!(text(all, &[range(331, 99)], 10), "██░▓██████");
        assert_eq!(text(all, &[range(1_001, 100)], 10), "█████████·");
    }

    #[test]
    fn a_range_shorter_than_the_bar_is_stretched() {
        assert_eq!(text(range(1, 2), &[range(2, 1)], 6), "███···");
    }

    proptest! {
        #[test]
        fn a_single_missing_block_shows(count in 1_u64..100_000, at in 0_u64..100_000, width in 1_u16..80) {
            let bar = text(range(7, count), &[range(7 + at % count, 1)], width);
            prop_assert_eq!(bar.chars().count(), usize::from(width));
            prop_assert!(bar.chars().any(|sign| sign != '█'));
        }
    }
}
