//! The re-ordering buffer: fetched blocks that wait for their turn.

use std::collections::BTreeMap;

use honeygraph_chain::peer::PeerId;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::fetch::Fetched;

/// Blocks of one peer in a row.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) peer: PeerId,
    pub(super) blocks: Vec<Fetched>,
}

impl Run {
    pub(super) fn range(&self) -> Option<BlockRange> {
        BlockRange::new(self.blocks.first()?.number(), self.blocks.last()?.number()).ok()
    }

    /// The part of the run up to a block; nothing where that stands below it.
    pub(super) fn up_to(&self, last: BlockNumber) -> Self {
        let blocks = self.blocks.iter().take_while(|block| block.number() <= last);
        Self {
            peer: self.peer.clone(),
            blocks: blocks.cloned().collect(),
        }
    }

    /// The part of the run inside a range.
    pub(super) fn part(&self, range: BlockRange) -> Self {
        let blocks = self.blocks.iter().filter(|block| range.contains(block.number()));
        Self {
            peer: self.peer.clone(),
            blocks: blocks.cloned().collect(),
        }
    }
}

/// Fetched blocks by their first number; runs never overlap.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    runs: BTreeMap<BlockNumber, Run>,
}

impl Buffer {
    /// Puts blocks in; what was there in their place goes.
    pub(super) fn put(&mut self, run: Run) {
        if let Some(range) = run.range() {
            self.discard(range);
            self.runs.insert(range.start(), run);
        }
    }

    /// Throws blocks out.
    pub(super) fn discard(&mut self, range: BlockRange) {
        let overlapping: Vec<_> = self
            .runs
            .range(..=range.end())
            .rev()
            .take_while(|(_, run)| run.range().is_some_and(|held| held.end() >= range.start()))
            .map(|(start, _)| *start)
            .collect();
        for start in overlapping {
            let Some(run) = self.runs.remove(&start) else {
                continue;
            };
            let Some(held) = run.range() else { continue };
            let below = range
                .start()
                .previous()
                .and_then(|end| BlockRange::new(held.start(), end).ok());
            let above = BlockRange::new(range.end().next(), held.end()).ok();
            for kept in [below, above].into_iter().flatten() {
                let part = run.part(kept);
                self.runs.insert(kept.start(), part);
            }
        }
    }

    /// Takes the run that starts at a block.
    pub(super) fn take(&mut self, start: BlockNumber) -> Option<Run> {
        self.runs.remove(&start)
    }

    /// The last of the blocks that are here without a hole from a block on.
    pub(super) fn covered_from(&self, start: BlockNumber) -> Option<BlockNumber> {
        let mut end = None;
        let mut next = start;
        for held in self.runs.values().filter_map(Run::range) {
            if held.contains(next) {
                end = Some(held.end());
                next = held.end().next();
            }
        }
        end
    }

    /// Takes the blocks of a range out, lowest first; the rest of the runs that they are part of stays.
    pub(super) fn take_range(&mut self, range: BlockRange) -> Vec<Run> {
        let parts = self.runs.values().map(|run| run.part(range));
        let taken = parts.filter(|part| !part.blocks.is_empty()).collect();
        self.discard(range);
        taken
    }

    /// Every run, lowest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.runs.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_chain::{at, chain};

    fn run(places: std::ops::Range<usize>) -> Run {
        let blocks = chain().blocks[places]
            .iter()
            .map(|block| Fetched::Linked(block.clone()));
        Run {
            peer: "a".parse().unwrap(),
            blocks: blocks.collect(),
        }
    }

    fn held(buffer: &Buffer) -> Vec<(u64, u64)> {
        buffer
            .iter()
            .filter_map(Run::range)
            .map(|range| (range.start().get() - at(0).get(), range.end().get() - at(0).get()))
            .collect()
    }

    #[test]
    fn discarding_cuts_runs() {
        let mut buffer = Buffer::default();
        buffer.put(run(0..10));
        buffer.put(run(10..20));
        buffer.put(run(30..40));
        buffer.discard(BlockRange::new(at(5), at(12)).unwrap());
        assert_eq!(held(&buffer), [(0, 4), (13, 19), (30, 39)]);
        buffer.put(run(3..35));
        assert_eq!(held(&buffer), [(0, 2), (3, 34), (35, 39)]);
        assert_eq!(buffer.take(at(3)).unwrap().blocks.len(), 32);
        assert!(buffer.take(at(4)).is_none());
        buffer.put(run(40..50));
        assert_eq!(buffer.covered_from(at(37)), Some(at(49)));
        assert_eq!(buffer.covered_from(at(50)), None);
        let taken = buffer.take_range(BlockRange::new(at(37), at(44)).unwrap());
        assert_eq!(
            taken.iter().map(|run| run.blocks.len()).collect::<Vec<_>>(),
            [3, 5]
        );
        assert_eq!(held(&buffer), [(0, 2), (35, 36), (45, 49)]);
        buffer.discard(BlockRange::new(at(0), at(99)).unwrap());
        assert!(held(&buffer).is_empty());
    }
}
