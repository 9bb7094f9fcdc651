//! Which blocks of a file hang on what a store holds, from the top down.

use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};

/// Blocks of a file in a row, where each proves the one before.
struct Row {
    start: BlockNumber,
    end: BlockNumber,
    /// The highest of them that the store proves.
    proven: Option<BlockNumber>,
}

/// Takes note of the blocks of a file, lowest first.
#[derive(Default)]
pub(super) struct Hanging {
    taken: IntervalSet,
    row: Option<Row>,
}

impl Hanging {
    /// The next block.
    pub(super) fn block(&mut self, number: BlockNumber) {
        match &mut self.row {
            Some(row) if row.end.next() == number => row.end = number,
            _ => {
                self.cut();
                self.row = Some(Row {
                    start: number,
                    end: number,
                    proven: None,
                });
            }
        }
    }

    /// The store proves the last block, and with it those before in a row.
    pub(super) fn proves_last(&mut self) {
        if let Some(row) = &mut self.row {
            row.proven = Some(row.end);
        }
    }

    /// The next block does not prove the last one.
    pub(super) fn cut(&mut self) {
        if let Some(row) = self.row.take()
            && let Some(proven) = row.proven
            && let Ok(range) = BlockRange::new(row.start, proven)
        {
            self.taken.insert(range);
        }
    }

    /// The blocks that hang on the store.
    pub(super) fn finish(mut self) -> IntervalSet {
        self.cut();
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    #[test]
    fn blocks_hang_on_the_highest_of_their_row_that_is_proven() {
        let mut hanging = Hanging::default();
        for at in (1..=9).chain(20..=29).chain(31..=35) {
            hanging.block(number(at));
            if [4, 7, 29].contains(&at) {
                hanging.proves_last();
            }
            if at == 24 {
                hanging.cut();
            }
        }
        let taken: Vec<_> = hanging.finish().iter().collect();
        let range = |from, to| BlockRange::new(number(from), number(to)).unwrap();
        assert_eq!(taken, [range(1, 7), range(25, 29)]);
    }
}
