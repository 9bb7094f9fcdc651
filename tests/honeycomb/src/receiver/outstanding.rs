//! Which operations are sent and not acknowledged.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use honeygraph_chain::BlockNumber;

/// A frame that waits for its acknowledgement.
#[derive(Debug, Clone)]
struct Sent {
    indexes: RangeInclusive<u64>,
    block: BlockNumber,
}

/// Frames in the order of sending. A node takes them in that order, so an acknowledgement of one covers all
/// before it, and a marker or a batch that is not acknowledged by itself is covered by the next one.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    sent: VecDeque<Sent>,
    operations: u64,
}

impl Outstanding {
    pub(super) const fn operations(&self) -> u64 {
        self.operations
    }

    /// The lowest block with an operation that is not acknowledged.
    pub(super) fn lowest_block(&self) -> Option<BlockNumber> {
        self.sent.iter().map(|sent| sent.block).min()
    }

    pub(super) fn push(&mut self, indexes: RangeInclusive<u64>, block: BlockNumber) {
        self.operations += length(&indexes);
        self.sent.push_back(Sent { indexes, block });
    }

    /// Takes an acknowledgement of the operation `index`; unknown ones change nothing.
    pub(super) fn acknowledge(&mut self, index: u64) {
        let Some(place) = self.sent.iter().position(|sent| sent.indexes.contains(&index)) else {
            return;
        };
        let is_last = self
            .sent
            .get(place)
            .is_some_and(|sent| *sent.indexes.end() == index);
        for sent in self.sent.drain(..place + usize::from(is_last)) {
            self.operations -= length(&sent.indexes);
        }
    }
}

const fn length(indexes: &RangeInclusive<u64>) -> u64 {
    *indexes.end() - *indexes.start() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_covers_what_was_sent_before() {
        let block = |number| BlockNumber::try_from(number).unwrap();
        let mut outstanding = Outstanding::default();
        outstanding.push(10..=10, block(5));
        outstanding.push(11..=14, block(5));
        outstanding.push(15..=15, block(6));
        // Sent again.
        outstanding.push(3..=4, block(2));
        assert_eq!(outstanding.operations(), 8);
        assert_eq!(outstanding.lowest_block(), Some(block(2)));
        outstanding.acknowledge(99);
        assert_eq!(outstanding.operations(), 8);
        outstanding.acknowledge(12);
        assert_eq!(outstanding.operations(), 7);
        outstanding.acknowledge(15);
        assert_eq!(outstanding.operations(), 2);
        outstanding.acknowledge(4);
        assert_eq!(outstanding.operations(), 0);
        assert_eq!(outstanding.lowest_block(), None);
    }
}
