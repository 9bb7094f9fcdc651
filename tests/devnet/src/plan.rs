//! What happens to which node, and when the chain grows: decided before anything starts.

use honeygraph_chain::{BlockNumber, BlockRange};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Blocks from one checkpoint to the next on the devnet's chain: the schedule of real honeycombs.
pub(crate) const PERIOD: u64 = 100;

/// Where a node's blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Honeycombs push to it.
    Honeycombs,
    /// Peers alone.
    Peers,
}

/// What a node goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Healthy,
    /// It is killed and misses blocks.
    Offline,
    /// It is stopped and loses ranges of blocks.
    Holes,
    /// It is killed and loses everything.
    Wiped,
}

/// A node of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedNode {
    /// Where its blocks come from.
    pub feed: Feed,
    /// What it goes through.
    pub fate: Fate,
}

/// The nodes of a network of this size, at least 3. Honeycombs feed two of them, or one where two would leave
/// too few to break; those are never broken, so that the voters of the others stay.
pub(crate) fn nodes(count: u16) -> Vec<PlannedNode> {
    let fed = if count >= 5 { 2 } else { 1 };
    let fates: &[Fate] = if count >= 4 {
        &[Fate::Offline, Fate::Holes, Fate::Wiped]
    } else {
        // Of three nodes one is fed: the second is both offline and damaged.
        &[Fate::Holes, Fate::Wiped]
    };
    (0..count)
        .map(|place| PlannedNode {
            feed: if place < fed {
                Feed::Honeycombs
            } else {
                Feed::Peers
            },
            fate: place
                .checked_sub(fed)
                .and_then(|place| fates.get(usize::from(place)))
                .copied()
                .unwrap_or(Fate::Healthy),
        })
        .collect()
}

/// How far the chain goes in each part of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Head when the offline node has missed enough.
    pub offline_until: BlockNumber,
    /// Head when all are brought back.
    pub damaged_until: BlockNumber,
    /// The last block: a checkpoint, so that its state hash covers everything.
    pub end: BlockNumber,
}

impl Growth {
    /// Divides the growth after the recorded chain: half of it while a node is offline, a fifth while others are
    /// damaged, the rest while all heal. `recorded` must be a checkpoint.
    pub(crate) const fn after(recorded: BlockNumber, blocks: u64) -> Self {
        let blocks = blocks.div_ceil(PERIOD).saturating_mul(PERIOD);
        Self {
            offline_until: recorded.saturating_add(blocks / 2),
            damaged_until: recorded.saturating_add(blocks / 2 + blocks / 5),
            end: recorded.saturating_add(blocks),
        }
    }
}

/// Ranges of blocks to take from a node that holds `held`: a single block, and four runs of up to a twelfth each,
/// apart from each other.
pub(crate) fn holes(held: BlockRange, seed: u64) -> Vec<BlockRange> {
    const RUNS: u64 = 5;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let share = held.len() / RUNS;
    let longest = (held.len() / 12).max(1);
    (0..RUNS)
        .filter_map(|run| {
            let length = if run == 0 {
                1
            } else {
                random.random_range(longest.div_ceil(2)..=longest)
            };
            // One block stays on either side, so that holes never touch.
            let room = share.checked_sub(length + 1)?;
            let start = held
                .start()
                .saturating_add(run * share + random.random_range(0..=room));
            Some(BlockRange::starting_at(start, length))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    #[test]
    fn five_nodes_have_every_fate_once() {
        let nodes = nodes(5);
        let fates: Vec<_> = nodes.iter().map(|node| node.fate).collect();
        assert_eq!(
            fates,
            [
                Fate::Healthy,
                Fate::Healthy,
                Fate::Offline,
                Fate::Holes,
                Fate::Wiped
            ]
        );
    }

    #[test]
    fn growth_ends_at_a_checkpoint() {
        let growth = Growth::after(number(28_559_601), 2_950);
        assert_eq!(growth.end, number(28_562_601));
        assert_eq!(growth.offline_until, number(28_561_101));
        assert_eq!(growth.damaged_until, number(28_561_701));
    }

    proptest! {
        #[test]
        fn what_is_fed_is_never_broken(count in 3_u16..=16) {
            let nodes = nodes(count);
            prop_assert_eq!(nodes.len(), usize::from(count));
            for node in &nodes {
                prop_assert!(node.feed == Feed::Peers || node.fate == Fate::Healthy);
            }
            for fate in [Fate::Holes, Fate::Wiped] {
                prop_assert_eq!(nodes.iter().filter(|node| node.fate == fate).count(), 1);
            }
        }

        #[test]
        fn holes_are_apart_and_inside(start in 1_u64..1_000, length in 1_u64..5_000, seed in any::<u64>()) {
            let held = BlockRange::starting_at(number(start), length);
            let holes = holes(held, seed);
            for hole in &holes {
                prop_assert_eq!(hole.intersection(held), Some(*hole));
            }
            for pair in holes.windows(2) {
                prop_assert!(pair[0].end().next() < pair[1].start());
            }
            if length >= 100 {
                prop_assert_eq!(holes.len(), 5);
            }
        }
    }
}
