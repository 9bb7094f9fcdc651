//! Parameters of one honeycomb network.

use serde::{Deserialize, Serialize};

use crate::block_number::{BlockNumber, BlockRange};

/// The two kinds of a checkpoint's document, never both at one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// The log since the checkpoint before.
    Delta,
    /// All leaves.
    State,
}

/// Which blocks are checkpoints: every block `n` with `n % interval == offset`.
///
/// Real honeycombs write a delta at n % 100 = 1 and a full state where also n % 28,800 = 18,601
/// (`docs/protocol.md`, section 3); that is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSchedule {
    /// Blocks from one checkpoint to the next; at least 1.
    pub delta_interval: u64,
    /// Remainder of a checkpoint's number.
    pub delta_offset: u64,
    /// Blocks from one full state to the next.
    pub state_interval: u64,
    /// Remainder of a full state's number.
    pub state_offset: u64,
}

impl Default for CheckpointSchedule {
    fn default() -> Self {
        Self {
            delta_interval: 100,
            delta_offset: 1,
            state_interval: 28_800,
            state_offset: 18_601,
        }
    }
}

impl CheckpointSchedule {
    /// The kind of checkpoint at a block, if it is one.
    pub const fn kind_at(&self, number: BlockNumber) -> Option<CheckpointKind> {
        if number.get() % self.delta_interval != self.delta_offset % self.delta_interval {
            None
        } else if number.get() % self.state_interval == self.state_offset % self.state_interval {
            Some(CheckpointKind::State)
        } else {
            Some(CheckpointKind::Delta)
        }
    }

    /// Most deltas between two full states.
    pub const fn deltas_max(&self) -> u64 {
        self.state_interval / self.delta_interval
    }

    /// The last full state before a block, if there is one.
    pub fn last_state_before(&self, number: BlockNumber) -> Option<BlockNumber> {
        let mut checkpoint = self.last_before(number)?;
        for _ in 0..=self.deltas_max() {
            if self.kind_at(checkpoint) == Some(CheckpointKind::State) {
                return Some(checkpoint);
            }
            checkpoint = self.last_before(checkpoint)?;
        }
        None
    }

    /// The first checkpoint at or after a block.
    pub const fn next_at_or_after(&self, number: BlockNumber) -> BlockNumber {
        let remainder = number.get() % self.delta_interval;
        let offset = self.delta_offset % self.delta_interval;
        let ahead = (offset + self.delta_interval - remainder) % self.delta_interval;
        number.saturating_add(ahead)
    }

    /// The last checkpoint before a block, if there is one.
    pub const fn last_before(&self, number: BlockNumber) -> Option<BlockNumber> {
        let Some(before) = number.previous() else {
            return None;
        };
        let offset = self.delta_offset % self.delta_interval;
        let remainder = before.get() % self.delta_interval;
        let back = (remainder + self.delta_interval - offset) % self.delta_interval;
        if back > before.get() {
            None
        } else {
            Some(before.saturating_sub(back))
        }
    }

    /// The schedule under which `number` is a checkpoint of this kind: what a network proved, where it
    /// differs from what was configured. After a delta where a full state was due, no full state is expected
    /// until the network shows one.
    #[must_use]
    pub const fn corrected(self, number: BlockNumber, kind: CheckpointKind) -> Self {
        let delta_offset = number.get() % self.delta_interval;
        let state_offset = match kind {
            CheckpointKind::State => number.get() % self.state_interval,
            CheckpointKind::Delta => match self.kind_at(number) {
                Some(CheckpointKind::Delta) => self.state_offset,
                // No checkpoint has this remainder.
                _ => delta_offset + 1,
            },
        };
        Self {
            delta_offset,
            state_offset,
            ..self
        }
    }

    /// The blocks of the period that a block belongs to: from the block after a checkpoint up to the next
    /// checkpoint.
    pub fn period_of(&self, number: BlockNumber) -> BlockRange {
        let end = self.next_at_or_after(number);
        let start = self
            .last_before(number)
            .map_or(BlockNumber::default(), BlockNumber::next);
        BlockRange::new(start, end).unwrap_or(BlockRange::single(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    #[test]
    fn the_default_is_what_real_honeycombs_write() {
        let schedule = CheckpointSchedule::default();
        assert_eq!(schedule.kind_at(number(28_559_201)), Some(CheckpointKind::Delta));
        assert_eq!(schedule.kind_at(number(28_559_401)), Some(CheckpointKind::State));
        assert_eq!(schedule.kind_at(number(28_559_400)), None);
    }

    #[test]
    fn a_network_corrects_its_schedule() {
        let schedule = CheckpointSchedule::default();
        let moved = schedule.corrected(number(28_559_350), CheckpointKind::Delta);
        assert_eq!(moved.kind_at(number(28_559_350)), Some(CheckpointKind::Delta));
        assert_eq!(moved.kind_at(number(28_559_301)), None);
        let state = schedule.corrected(number(28_559_301), CheckpointKind::State);
        assert_eq!(state.kind_at(number(28_559_301)), Some(CheckpointKind::State));
        assert_eq!(state.kind_at(number(28_559_401)), Some(CheckpointKind::Delta));
        let delta = schedule.corrected(number(28_559_401), CheckpointKind::Delta);
        assert_eq!(delta.kind_at(number(28_559_401)), Some(CheckpointKind::Delta));
        assert_eq!(
            delta.kind_at(number(28_559_401 + 28_800)),
            Some(CheckpointKind::Delta)
        );
    }

    #[test]
    fn periods_tile_the_chain() {
        let schedule = CheckpointSchedule::default();
        for at in [2, 50, 101, 102, 1_000, 28_559_201, 28_559_202] {
            let period = schedule.period_of(number(at));
            assert!(period.contains(number(at)));
            assert!(schedule.kind_at(period.end()).is_some());
            assert_eq!(schedule.period_of(period.end()), period);
            assert_eq!(
                schedule.period_of(period.end().next()).start(),
                period.end().next()
            );
        }
        assert_eq!(schedule.last_before(number(1)), None);
        assert_eq!(schedule.last_before(number(2)), Some(number(1)));
        let state = number(28_559_401);
        assert_eq!(schedule.last_state_before(state.next()), Some(state));
        let before = number(28_559_401 - 28_800);
        assert_eq!(schedule.last_state_before(state), Some(before));
        assert_eq!(schedule.last_state_before(number(100)), None);
    }
}
