//! Heights of the Hive chain and runs of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Hive block number.
///
/// At most 2^53 - 1, because canonical JSON writes every number as an IEEE double
/// (`docs/protocol.md`, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BlockNumber(u64);

/// A number that no block can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block number {0} is above 2^53 - 1")]
pub struct BlockNumberError(pub u64);

impl BlockNumber {
    /// The highest number that canonical JSON can write exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Seconds between two Hive blocks.
    pub const SECONDS_PER_BLOCK: u64 = 3;

    /// Unix time of Hive block 1: 2016-03-24T16:05:00Z.
    pub const GENESIS_UNIX_SECONDS: u64 = 1_458_835_500;

    /// The number as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one; [`BlockNumber::MAX`] stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        self.saturating_add(1)
    }

    /// The number before this one, if there is one.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// `self + blocks`, never above [`BlockNumber::MAX`].
    #[must_use]
    pub const fn saturating_add(self, blocks: u64) -> Self {
        let sum = self.0.saturating_add(blocks);
        if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
    }

    /// `self - blocks`, never below 0.
    #[must_use]
    pub const fn saturating_sub(self, blocks: u64) -> Self {
        Self(self.0.saturating_sub(blocks))
    }

    /// Blocks from `other` up to `self`; 0 where `other` is higher.
    pub const fn distance_from(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// The highest block that can exist at a wall clock time, since Hive makes one every 3 s
    /// (section 7: a head further than this is ignored).
    pub const fn highest_at(unix_seconds: u64) -> Self {
        let blocks = unix_seconds.saturating_sub(Self::GENESIS_UNIX_SECONDS) / Self::SECONDS_PER_BLOCK + 1;
        if blocks > Self::MAX.0 {
            Self::MAX
        } else {
            Self(blocks)
        }
    }
}

impl TryFrom<u64> for BlockNumber {
    type Error = BlockNumberError;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number > Self::MAX.0 {
            Err(BlockNumberError(number))
        } else {
            Ok(Self(number))
        }
    }
}

impl From<BlockNumber> for u64 {
    fn from(number: BlockNumber) -> Self {
        number.0
    }
}

impl fmt::Display for BlockNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::str::FromStr for BlockNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: u64 = text
            .parse()
            .map_err(|_| format!("`{text}` is not a block number"))?;
        Self::try_from(number).map_err(|error| error.to_string())
    }
}

/// A run of blocks, both ends included, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
pub struct BlockRange {
    start: BlockNumber,
    end: BlockNumber,
}

#[derive(Serialize, Deserialize)]
struct RawRange {
    start: BlockNumber,
    end: BlockNumber,
}

/// A range whose end is before its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("range {start}..={end} ends before it starts")]
pub struct BlockRangeError {
    /// First block asked for.
    pub start: BlockNumber,
    /// Last block asked for.
    pub end: BlockNumber,
}

impl BlockRange {
    /// The blocks `start..=end`.
    pub fn new(start: BlockNumber, end: BlockNumber) -> Result<Self, BlockRangeError> {
        if start > end {
            Err(BlockRangeError { start, end })
        } else {
            Ok(Self { start, end })
        }
    }

    /// The range of one block.
    pub const fn single(number: BlockNumber) -> Self {
        Self {
            start: number,
            end: number,
        }
    }

    /// At most `count` (at least 1) blocks from `start` on.
    pub const fn starting_at(start: BlockNumber, count: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(count.saturating_sub(1)),
        }
    }

    /// First block.
    pub const fn start(self) -> BlockNumber {
        self.start
    }

    /// Last block.
    pub const fn end(self) -> BlockNumber {
        self.end
    }

    /// Number of blocks, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.end.get() - self.start.get() + 1
    }

    /// Whether `number` lies in the range.
    pub fn contains(self, number: BlockNumber) -> bool {
        self.start <= number && number <= self.end
    }

    /// What both ranges hold, if anything.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end)).ok()
    }

    /// Every block number in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = BlockNumber> {
        (self.start.get()..=self.end.get()).map(BlockNumber)
    }
}

impl TryFrom<RawRange> for BlockRange {
    type Error = BlockRangeError;

    fn try_from(raw: RawRange) -> Result<Self, Self::Error> {
        Self::new(raw.start, raw.end)
    }
}

impl From<BlockRange> for RawRange {
    fn from(range: BlockRange) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..={}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_a_double_are_refused() {
        assert_eq!(BlockNumber::try_from(1 << 53), Err(BlockNumberError(1 << 53)));
        assert!(serde_json::from_str::<BlockNumber>("-1").is_err());
        assert!(serde_json::from_str::<BlockNumber>("9007199254740992").is_err());
        assert_eq!(BlockNumber::MAX.next(), BlockNumber::MAX);
    }

    #[test]
    fn a_backward_range_is_refused() {
        assert!(serde_json::from_str::<BlockRange>(r#"{"start":5,"end":4}"#).is_err());
        let range: BlockRange = serde_json::from_str(r#"{"start":4,"end":5}"#).unwrap();
        assert_eq!(range.len(), 2);
    }

    #[test]
    fn a_trillion_is_beyond_the_clock() {
        assert!(BlockNumber::try_from(1_000_000_000_000).unwrap() > BlockNumber::highest_at(4_000_000_000));
    }
}
