//! Indexes of a source's operations.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A source's running operation index: counts every operation it ever logged, write markers included,
/// from 0. At most 2^53 - 1, which is what a JavaScript source can count to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct OperationIndex(u64);

/// A number that no running index can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("operation index {0} is above 2^53 - 1")]
pub struct OperationIndexError(pub u64);

impl OperationIndex {
    /// The highest index.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The index as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index after this one; [`OperationIndex::MAX`] stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        self.saturating_add(1)
    }

    /// The index before this one, if there is one.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// `self + operations`, never above [`OperationIndex::MAX`].
    #[must_use]
    pub const fn saturating_add(self, operations: u64) -> Self {
        let sum = self.0.saturating_add(operations);
        if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
    }

    /// Operations from `other` up to `self`; 0 where `other` is higher.
    pub const fn distance_from(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl TryFrom<u64> for OperationIndex {
    type Error = OperationIndexError;

    fn try_from(index: u64) -> Result<Self, Self::Error> {
        if index > Self::MAX.0 {
            Err(OperationIndexError(index))
        } else {
            Ok(Self(index))
        }
    }
}

impl From<OperationIndex> for u64 {
    fn from(index: OperationIndex) -> Self {
        index.0
    }
}

impl fmt::Display for OperationIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Index of a source's newest operation; none before its first, which the wire writes as -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastIndex(pub Option<OperationIndex>);

impl LastIndex {
    /// The newest operation before `next`.
    pub const fn before(next: OperationIndex) -> Self {
        Self(next.previous())
    }

    /// The index that the next operation will have.
    pub const fn next(self) -> OperationIndex {
        match self.0 {
            Some(index) => index.next(),
            None => OperationIndex(0),
        }
    }
}

impl Serialize for LastIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(index) => index.serialize(serializer),
            None => serializer.serialize_i64(-1),
        }
    }
}

impl<'de> Deserialize<'de> for LastIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let number = i64::deserialize(deserializer)?;
        if number == -1 {
            return Ok(Self(None));
        }
        let index = u64::try_from(number)
            .map_err(|_| D::Error::custom(format!("last index {number} is below -1")))
            .and_then(|index| OperationIndex::try_from(index).map_err(D::Error::custom))?;
        Ok(Self(Some(index)))
    }
}
